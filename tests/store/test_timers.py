"""What waits, until when: the fold by itself against a plain model, and over a log that is killed and read again."""

from __future__ import annotations

import asyncio
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.codec.record import decode_record
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.message import NewMessage
from posthouse.model.names import SCHEDULE_TOPIC, WHEEL_TIMER_TOPIC
from posthouse.model.offsets import LogOffset
from posthouse.model.properties import encode_properties
from posthouse.store.message_store import LinkedPut
from posthouse.store.snapshot import decode_snapshot, encode_snapshot
from posthouse.store.state_record import Kind
from posthouse.store.timers import ENTRY_BYTES, STRETCH_MS, Timers, Waiting
from tests.store.clean import check
from tests.store.disks import FaultyDisk
from tests.store.stores import HERE, Opened, message, open_store

NOW = 1_700_000_000_000
NONE = LogOffset(0)


def add(timers: Timers, at: int, due_ms: int, replaces: int = 0) -> Waiting:
    timers.apply_message(SCHEDULE_TOPIC, LogOffset(at), 100, due_ms, LogOffset(replaces))
    return Waiting(EpochMs(due_ms), LogOffset(at), 100)


def delivered(timers: Timers, waiting: Waiting) -> None:
    timers.apply_message("real", LogOffset(1 << 40), 100, waiting.due_ms, waiting.log_offset)


def pour_all(timers: Timers, now_ms: int) -> None:
    while timers.pour(now_ms, 7):
        pass


def take_all(timers: Timers, now_ms: int, count: int = 3) -> list[Waiting]:
    pour_all(timers, now_ms)
    found: list[Waiting] = []
    while some := timers.take(now_ms, count):
        assert len(some) <= count
        found += some
    return found


def test_nothing_is_taken_before_it_is_due_and_everything_then() -> None:
    timers = Timers()
    first, second = add(timers, 10, NOW + 100), add(timers, 20, NOW + 200)
    assert take_all(timers, NOW + 99) == []
    assert timers.next_ms() == NOW + 100
    assert take_all(timers, NOW + 100) == [first]
    assert take_all(timers, NOW + 199) == []
    assert take_all(timers, NOW + 5000) == [second]
    assert take_all(timers, NOW + 5000) == []


def test_what_is_due_at_one_time_comes_in_the_order_of_the_log() -> None:
    timers = Timers()
    waiting = [add(timers, at, NOW + 100 * (at % 2)) for at in range(1, 200)]
    found = take_all(timers, NOW + 100, 17)
    assert found == sorted(waiting)


def test_one_that_is_taken_waits_for_others_until_its_replacement_is_committed() -> None:
    timers = Timers()
    waiting = add(timers, 10, NOW)
    (taken,) = take_all(timers, NOW)
    assert taken == waiting
    assert timers.entries() == [waiting]
    assert not timers.is_empty
    assert timers.is_taken_below(LogOffset(11))
    assert not timers.is_taken_below(LogOffset(10))
    delivered(timers, waiting)
    assert timers.entries() == []
    assert timers.is_empty


def test_one_that_is_given_back_is_taken_again() -> None:
    timers = Timers()
    waiting = add(timers, 10, NOW)
    timers.give_back(take_all(timers, NOW)[0])
    assert take_all(timers, NOW) == [waiting]
    delivered(timers, waiting)
    timers.give_back(waiting)
    assert take_all(timers, NOW) == []


def test_messages_of_other_topics_do_not_wait_whatever_their_properties_say() -> None:
    timers = Timers()
    timers.apply_message("topic", LogOffset(10), 100, NOW, NONE)
    timers.apply_message(SCHEDULE_TOPIC, LogOffset(20), 100, 0, NONE)
    assert timers.is_empty


def test_who_sleeps_is_woken_only_by_what_is_due_before() -> None:
    timers = Timers()
    woken: list[int] = []
    timers.on_sooner = lambda: woken.append(1)
    timers.alarm_ms = NOW + 1000
    add(timers, 10, NOW + 1000)
    assert not woken
    add(timers, 20, NOW + 900)
    assert woken == [1]


def test_a_message_that_ended_by_a_state_record_waits_no_more() -> None:
    timers = Timers()
    waiting, other = add(timers, 10, NOW), add(timers, 20, NOW)
    timers.apply(Kind.TIMERS_ENDED, Timers.ended_body((waiting,)), LogOffset(30))
    assert take_all(timers, NOW) == [other]


def test_what_is_below_the_beginning_of_the_log_is_not_looked_for() -> None:
    timers = Timers()
    timers.floor = LogOffset(100)
    add(timers, 200, NOW)
    timers.apply_message("real", LogOffset(300), 100, NOW, LogOffset(50))
    assert len(timers) == 1


def test_a_far_stretch_is_poured_before_it_is_due_and_in_portions() -> None:
    timers = Timers()
    begin = NOW // STRETCH_MS * STRETCH_MS + 5 * STRETCH_MS
    for at in range(1, 101):
        add(timers, at, begin + at % 600 * 100)
    assert timers.next_ms() == begin - STRETCH_MS
    assert not timers.pour(begin - STRETCH_MS - 1, 10)
    portions = 0
    while timers.pour(begin - STRETCH_MS, 10):
        portions += 1
    assert portions == 10
    assert timers.next_ms() == begin + 100
    late = add(timers, 1000, begin + 50)  # behind what was poured already
    assert late.log_offset in {each.log_offset for each in take_all(timers, begin + 100)}


# Against a model

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "take", "deliver", "back", "end", "carry", "restart", "clock"]),
        st.integers(0, 10_000),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_fold_is_what_a_plain_model_says_whatever_happens(steps: list[tuple[str, int]]) -> None:
    timers, now_ms, at = Timers(), NOW, 1
    model: dict[int, Waiting] = {}
    taken: list[Waiting] = []
    for what, number in steps:
        if what == "add":
            at += 1
            due_ms = NOW + number % 3000 * 1000
            model[at] = add(timers, at, due_ms)
        elif what == "clock":
            now_ms += number * 100 - 200_000
        elif what == "take":
            due = take_all(timers, now_ms, 5)
            assert all(each.due_ms <= now_ms for each in due)
            assert [each.due_ms for each in due] == sorted(each.due_ms for each in due)
            assert set(due) == {each for each in model.values() if each.due_ms <= now_ms} - set(taken)
            taken += due
        elif taken and what in ("deliver", "back"):
            waiting = taken.pop(number % len(taken))
            if what == "deliver":
                delivered(timers, waiting)
                del model[waiting.log_offset]
            else:
                timers.give_back(waiting)
        elif model and what == "end":
            waiting = model.pop(sorted(model)[number % len(model)])
            timers.apply(Kind.TIMERS_ENDED, Timers.ended_body((waiting,)), LogOffset(0))
            taken = [each for each in taken if each != waiting]
        elif what == "carry":
            before = number % (at + 2)
            found = [each for some in timers.take_below(LogOffset(before), 3) for each in some]
            assert set(found) == {each for each in model.values() if each.log_offset < before} - set(taken)
            for waiting in found:
                at += 1
                del model[waiting.log_offset]
                model[at] = add(timers, at, waiting.due_ms, waiting.log_offset)
        elif what == "restart":
            state, timers = timers.snapshot(), Timers()
            timers.restore(state)
            taken = []
        assert timers.entries() == sorted(model.values())
        assert timers.is_empty == (not model)


def test_entries_may_come_and_go_while_others_are_carried_forward() -> None:
    rng = random.Random(4)
    timers = Timers()
    model = {at: add(timers, at, NOW + rng.randrange(2000) * 100) for at in range(1, 2000)}
    carried: set[int] = set()
    at = 10_000
    for found in timers.take_below(LogOffset(1500), 10):
        carried |= {each.log_offset for each in found}
        at += 1
        add(timers, at, NOW + rng.randrange(2000) * 100)
        now_ms = NOW + at % 300 * 100
        pour_all(timers, now_ms)
        for waiting in timers.take(now_ms, 5):
            model.pop(waiting.log_offset, None)
            delivered(timers, waiting)
    left = {each.log_offset for each in timers.entries()}
    assert {each for each in model if each < 1500} <= carried
    assert not {each for each in left if each < 1500} - carried


def test_ten_million_waiting_messages_fit_in_four_hundred_megabytes() -> None:
    """Reckoned from a hundredth, spread over thirty days."""
    rng = random.Random(1)
    tracemalloc.start()
    timers = Timers()
    minutes = [rng.randrange(30 * 24 * 60) for _ in range(100_000)]
    before, _ = tracemalloc.get_traced_memory()
    for at, minute in enumerate(minutes):
        add(timers, at + 1, NOW + minute * 60_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fixed = 30 * 24 * 6 * 400  # of the stretches of a month; it does not grow with the messages
    assert (after - before - fixed) / len(minutes) < 2 * ENTRY_BYTES
    assert fixed + 10_000_000 * 2 * ENTRY_BYTES < 400_000_000


# Over a log


def timed(due_ms: int, body: bytes = b"late", topic: str = SCHEDULE_TOPIC) -> NewMessage:
    text = {names.REAL_TOPIC: "t", names.REAL_QID: "0", names.TIMER_OUT_MS: str(due_ms)}
    return message(topic, body)._replace(properties=encode_properties(text))


def put_timed(opened: Opened, due_ms: int, body: bytes = b"late") -> LinkedPut:
    topic = opened.topic(SCHEDULE_TOPIC, 18)
    return opened.store.put_linked(topic, timed(due_ms, body), HERE, opened.done)


def put_due(opened: Opened, waiting: Waiting | LinkedPut, body: bytes = b"late", *, sync: bool = True) -> LinkedPut:
    due = message("t", body)._replace(properties=encode_properties({names.TIMER_OUT_MS: str(waiting.due_ms)}))
    topic, place = opened.topic("t"), waiting.log_offset
    return opened.store.put_linked(topic, due, HERE, opened.done, sync=sync, replaces=place)


def waiting_in(opened: Opened) -> list[Waiting]:
    return opened.store.folds.timers.entries()


@pytest.mark.asyncio
async def test_a_message_waits_from_its_commit_to_that_of_its_replacement() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.topic("t")
    opened.topic(SCHEDULE_TOPIC)
    await opened.settled()
    disk.hold()
    put = put_timed(opened, NOW)
    assert waiting_in(opened) == []
    disk.release()
    await opened.settled()
    assert waiting_in(opened) == [Waiting(EpochMs(NOW), put.log_offset, put.size)]
    disk.hold()
    put_due(opened, put)
    assert len(waiting_in(opened)) == 1
    disk.release()
    await opened.settled()
    assert waiting_in(opened) == []
    (found,) = opened.read("t")
    assert found.prepared_transaction_offset == put.log_offset
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("checkpoint", [False, True])
async def test_a_start_knows_what_waits_from_the_log_alone_or_from_a_snapshot(checkpoint: bool) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    first, second = put_timed(opened, NOW + 1000), put_timed(opened, NOW + 90_000_000)
    await opened.settled()
    if checkpoint:
        await opened.store.checkpoint()
    put_due(opened, first)
    third = put_timed(opened, NOW + 50)
    await opened.settled()
    before = waiting_in(opened)
    assert {each.log_offset for each in before} == {second.log_offset, third.log_offset}
    opened = open_store(disk.kill())
    assert waiting_in(opened) == before
    await opened.store.close()


@pytest.mark.asyncio
async def test_one_that_is_taken_and_not_committed_waits_after_a_crash() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    put = put_timed(opened, NOW)
    opened.topic("t")
    await opened.settled()
    timers = opened.store.folds.timers
    assert [each.log_offset for each in take_all(timers, NOW)] == [put.log_offset]
    await opened.store.checkpoint()
    disk.hold()
    put_due(opened, put)
    opened = open_store(disk.kill())
    assert [each.log_offset for each in waiting_in(opened)] == [put.log_offset]
    assert opened.bodies("t") == []
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(8))
async def test_after_any_crash_each_message_waits_or_is_delivered_and_never_both(seed: int) -> None:
    rng = random.Random(seed)
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=20_000, checkpoint_bytes=15_000)
    acknowledged: set[bytes] = set()
    sent = 0
    for _ in range(6):
        opened.topic("t")
        for _ in range(rng.randrange(60)):
            if rng.random() < 0.6:
                body, sent = b"%d" % sent, sent + 1
                topic = opened.topic(SCHEDULE_TOPIC, 18)
                due = timed(NOW + rng.randrange(100) * 100, body)
                opened.store.put_linked(topic, due, HERE, lambda put, error, body=body: acknowledged.add(body))  # type: ignore[misc]
            for waiting in take_all(opened.store.folds.timers, NOW + rng.randrange(3000)):
                put_due(opened, waiting, body_of(opened, waiting))
            await asyncio.sleep(0)
        disk = disk.crash(rng) if rng.random() < 0.5 else disk.kill()
        opened = open_store(disk, segment_bytes=20_000, checkpoint_bytes=15_000)
        opened.topic("t")
        waits = [body_of(opened, each) for each in waiting_in(opened)]
        bodies = opened.bodies("t")
        assert len(set(bodies + waits)) == len(bodies + waits), "twice"
        assert acknowledged <= set(bodies + waits), "lost"
    await opened.settled()
    await opened.store.close()


def body_of(opened: Opened, waiting: Waiting) -> bytes:
    return decode_record(opened.store.log.read_wait(waiting.log_offset, waiting.size)).body


@pytest.mark.asyncio
async def test_wheel_timers_wait_as_levels_do() -> None:
    opened = open_store(FaultyDisk())
    topic = opened.topic(WHEEL_TIMER_TOPIC, 1)
    opened.store.put_linked(topic, timed(NOW + 5, topic=WHEEL_TIMER_TOPIC), HERE, None)
    await opened.settled()
    assert [each.due_ms for each in waiting_in(opened)] == [NOW + 100]
    await opened.store.close()


@pytest.mark.asyncio
async def test_check_compares_what_waits_with_what_the_log_says() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    put_timed(opened, NOW + 1000)
    put_timed(opened, NOW + 2000)
    await opened.store.close()
    name = next(name for name in disk.files() if name.startswith("snapshots/"))
    snapshot = decode_snapshot(disk.files()[name])
    assert snapshot is not None
    snapshot.timers = [(number, data[:ENTRY_BYTES]) for number, data in snapshot.timers]
    disk.edit(name, lambda data: data.__setitem__(slice(None), encode_snapshot(snapshot)))
    assert any("what is due later" in each.what for each in check(disk).findings)
