from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.in_flight import GroupQueue, InFlight, Order, Popped, Row, offsets_of, rows_of, runs
from posthouse.store.message_store import MessageStore
from posthouse.store.state_record import Kind
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import turns
from tests.store.stores import HERE, Opened, message, open_store

AT = LogOffset(0)
QUEUE = GroupQueue("g", "t", 0)


def row(
    *offsets: int, at_ms: int = 1000, for_ms: int = 60_000, queue: GroupQueue = QUEUE, to: int | None = None
) -> Row:
    return Row(*queue, next_offset=to, popped=[(at_ms, for_ms, runs(offsets))])


def popped(*offsets: int, **changes: Any) -> InFlight:
    found = InFlight()
    change(found, Kind.POPPED, [row(*offsets, **changes)])
    return found


def change(fold: InFlight, kind: Kind, body: Any) -> None:
    """As a record that is appended and committed at once."""
    fold.decide(kind, body, AT)
    fold.apply(kind, body, AT)


def on_disk(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def committed(fold: InFlight) -> list[Row]:
    """What a snapshot would bring back."""
    again = InFlight()
    again.restore(on_disk(fold.snapshot()))
    return list(again.live.rows())


@given(st.sets(st.integers(0, 2**40)))
def test_runs_give_back_the_offsets_that_they_were_made_of(offsets: set[int]) -> None:
    assert list(offsets_of(runs(sorted(offsets)))) == sorted(offsets)


def test_runs_are_short_where_offsets_follow_one_another() -> None:
    assert runs([5, 6, 7, 9, 20, 21]) == [5, 3, 9, 1, 20, 2]


def test_popped_messages_are_in_flight_until_they_are_acknowledged() -> None:
    fold = popped(5, 6, 7)
    assert fold.live.messages == 3
    assert fold.find(QUEUE, QueueOffset(6)) == Popped(EpochMs(1000), 60_000)
    fold.end(QUEUE, QueueOffset(6))
    assert fold.find(QUEUE, QueueOffset(6)) is None
    assert fold.live.messages == 2


def test_an_acknowledgement_is_written_once_and_committed_then() -> None:
    fold = popped(5, 6, 7)
    fold.end(QUEUE, QueueOffset(5))
    fold.end(QUEUE, QueueOffset(7))
    assert [each.popped for each in committed(fold)] == [[(1000, 60_000, [5, 3])]]
    body = fold.take_changes()
    assert fold.take_changes() is None
    change(fold, Kind.POP_CHANGED, body)
    assert committed(fold) == list(fold.live.rows()) == [row(6)]


def test_a_renewal_has_a_new_time_and_ends_what_was_to_be_written_of_the_order() -> None:
    fold = popped(5, 6)
    change(fold, Kind.POP_CHANGED, on_disk([row(6, at_ms=2000, for_ms=10_000)]))
    again = InFlight()
    again.restore(on_disk(fold.snapshot()))
    assert again.live.queues[QUEUE] == {5: Popped(EpochMs(1000), 60_000), 6: Popped(EpochMs(2000), 10_000)}
    first = Order(1000, 60_000, "a", (1, 2), (61_000, 61_000), (0, 0), (False, False))
    fold.set_order(QUEUE, first)
    later = msgspec.structs.replace(first, due_ms=(61_000, 99_000))
    change(fold, Kind.POP_CHANGED, [Row(*QUEUE, order=later)])
    assert fold.take_changes() is None, "the older one would be written after the newer one"


def test_a_new_pop_takes_back_what_was_not_written_of_an_older_one() -> None:
    fold = popped(5)
    fold.end(QUEUE, QueueOffset(5))
    change(fold, Kind.POPPED, [row(5, at_ms=9000)])
    assert fold.take_changes() is None, "the acknowledgement would end the second delivery"
    assert fold.find(QUEUE, QueueOffset(5)) == Popped(EpochMs(9000), 60_000)


def test_a_revived_message_is_not_in_flight_and_nothing_more_is_written_of_it() -> None:
    fold = popped(5, 6)
    fold.end(QUEUE, QueueOffset(5))
    change(fold, Kind.REVIVED, [Row(*QUEUE, ended=[5, 1])])
    assert fold.take_changes() is None
    assert committed(fold) == list(fold.live.rows()) == [row(6)]


def test_the_last_order_of_a_queue_counts_and_an_empty_one_ends_it() -> None:
    fold = InFlight()
    first = Order(1000, 60_000, "a", (1, 2), (61_000, 61_000), (0, 0), (False, False))
    change(fold, Kind.POPPED, [Row(*QUEUE, order=first)])
    acked = msgspec.structs.replace(first, acked=(True, False))
    fold.set_order(QUEUE, acked)
    assert fold.live.orders == {QUEUE: acked}
    assert committed(fold) == [Row(*QUEUE, order=first)]
    change(fold, Kind.POP_CHANGED, on_disk(fold.take_changes()))
    assert committed(fold) == [Row(*QUEUE, order=acked)]
    fold.set_order(QUEUE, Order(0, 0, ""))
    change(fold, Kind.POP_CHANGED, on_disk(fold.take_changes()))
    assert committed(fold) == [] == list(fold.live.rows())


@pytest.mark.parametrize("gone", [{"topic": "t"}, {"group": "g"}])
def test_a_deleted_topic_or_group_takes_all_of_it_with_it(gone: dict[str, str]) -> None:
    fold = popped(5, 6)
    other = GroupQueue("h", "u", 3)
    change(fold, Kind.POPPED, [row(1, queue=other)])
    fold.end(QUEUE, QueueOffset(5))
    fold.set_order(QUEUE, Order(1, 1, "", (1,), (2,), (0,), (False,)))
    fold.drop_live(**gone)
    assert fold.live.messages == 1
    assert fold.take_changes() is None
    assert len(committed(fold)) == 2
    fold.drop_committed(**gone)
    assert committed(fold) == list(fold.live.rows()) == [row(1, queue=other)]


queues = st.builds(GroupQueue, st.sampled_from("gh"), st.sampled_from("tu"), st.integers(0, 1))
acts = st.one_of(
    st.tuples(st.just("pop"), queues, st.sets(st.integers(0, 9), min_size=1), st.integers(1, 5)),
    st.tuples(st.just("ack"), queues, st.integers(0, 9)),
    st.tuples(st.just("renew"), queues, st.integers(0, 9), st.integers(6, 9)),
    st.tuples(st.just("revive"), queues, st.integers(0, 9)),
    st.tuples(st.just("write")),
    st.tuples(st.just("open")),
)


@settings(max_examples=200)
@given(st.lists(acts, max_size=30))
def test_what_is_written_says_what_is_so(script: list[Any]) -> None:
    """From the beginning or from any opening on, the records give the live view when all is written."""
    fold = InFlight()
    written: list[tuple[Kind, Any]] = []
    begins = [0]

    def record(kind: Kind, body: Any) -> None:
        fold.decide(kind, body, AT)
        fold.apply(kind, body, AT)
        written.append((kind, on_disk(body)))

    for act, *rest in [*script, ("write",)]:
        if act == "pop":
            queue, offsets, at_ms = rest
            record(Kind.POPPED, [row(*sorted(offsets), at_ms=at_ms, queue=queue)])
        elif act == "write":
            changes = fold.take_changes()
            if changes is not None:
                record(Kind.POP_CHANGED, changes)
        elif act == "open":
            rows = list(fold.opening())
            fold.apply_opening(rows, 0)
            begins.append(len(written))
            written.append((Kind.OPENING, on_disk(rows)))
        elif fold.find(held := GroupQueue(*rest[0]), rest[1]) is not None:
            if act == "ack":
                fold.end(held, rest[1])
            elif act == "renew":
                record(Kind.POP_CHANGED, [row(rest[1], at_ms=rest[2], for_ms=1, queue=held)])
            else:
                record(Kind.REVIVED, [Row(*held, ended=[rest[1], 1])])
    assert committed(fold) == list(fold.live.rows())
    assert fold.live.messages == sum(map(len, fold.live.queues.values()))
    for begin in begins:
        again = InFlight()
        for kind, body in written[begin:]:
            if kind is Kind.OPENING:
                again.replay_opening(rows_of(body), 0)
            else:
                change(again, kind, body)
        assert list(again.live.rows()) == committed(again) == committed(fold)


# In a store


def take(store: Opened, *offsets: int, to: int) -> None:
    store.store.record(Kind.POPPED, [row(*offsets, to=to)], lambda error: None, sync=False)


def write(store: Opened) -> None:
    """What the store does every second."""
    store.store._append_offsets()


def state(store: MessageStore) -> object:
    return list(store.in_flight.live.rows()), store.offsets.find(*QUEUE), store.in_flight.snapshot()


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["close", "kill"])
async def test_receipts_and_the_offset_of_the_group_survive_together(end: str) -> None:
    disk = FaultyDisk()
    store = open_store(disk)
    for _ in range(5):
        store.put("t")
    take(store, 0, 1, 2, to=3)
    await store.settled()
    store.store.in_flight.end(QUEUE, QueueOffset(1))
    if end == "close":
        await store.store.close()
        again = open_store(disk)
        assert state(again.store) == ([row(0, 2)], 3, [row(0, 2)])
    else:  # the acknowledgement of the last second is lost, nothing else
        again = open_store(disk.kill())
        assert state(again.store) == ([row(0, 1, 2)], 3, [row(0, 1, 2)])
    assert again.store.in_flight.live.messages == (2 if end == "close" else 3)


@pytest.mark.asyncio
async def test_acknowledgements_are_written_within_the_period_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.store.message_store.TICK_S", 0.01)
    disk = FaultyDisk()
    store = open_store(disk)
    store.store.start()
    store.put("t")
    take(store, 0, to=1)
    await store.settled()
    store.store.in_flight.end(QUEUE, QueueOffset(0))
    async with asyncio.timeout(5):
        while store.store.in_flight.snapshot():
            await asyncio.sleep(0.005)
    again = open_store(disk.kill())
    assert state(again.store) == ([], 1, [])


@pytest.mark.asyncio
async def test_a_commit_before_a_pop_is_not_written_after_it() -> None:
    disk = FaultyDisk()
    store = open_store(disk)
    for _ in range(5):
        store.put("t")
    store.store.offsets.commit("g", "t", 0, QueueOffset(1))
    take(store, 1, 2, to=3)
    write(store)
    await store.settled()
    assert state(open_store(disk.kill()).store) == ([row(1, 2)], 3, [row(1, 2)])


@pytest.mark.asyncio
async def test_a_message_stored_again_and_the_end_of_its_entry_are_committed_together() -> None:
    rng = random.Random(7)
    outcomes = set()
    for _ in range(60):
        disk = FaultyDisk()
        store = open_store(disk)
        store.put("t")
        topic = store.topic("r")
        take(store, 0, to=1)
        await store.settled()
        disk.hold()
        ended = [(Kind.REVIVED, [Row(*QUEUE, ended=[0, 1])])]
        store.store.put_linked(topic, message("r"), HERE, None, sync=False, states=ended)
        await turns()
        again = open_store(disk.crash(rng)).store
        there = again.topics.live["r"].queue(0).max_offset if "r" in again.topics.live else 0
        outcomes.add((there, again.in_flight.live.messages))
    assert outcomes <= {(0, 0), (1, 0), (0, 1)}, "in flight and waiting, at the same time"
    assert (0, 1) in outcomes


@pytest.mark.asyncio
async def test_every_segment_alone_says_what_is_in_flight() -> None:
    """Also where acknowledgements were not yet written when it began."""
    disk, rng = FaultyDisk(), random.Random(3)
    store = open_store(disk, segment_bytes=4000, batch_bytes=1000, checkpoint_bytes=3000)
    held: list[int] = []
    for number in range(120):
        store.put("t", b"x" * 40)
        take(store, number, to=number + 1)
        held.append(number)
        if len(held) > 6:
            store.store.in_flight.end(QUEUE, QueueOffset(held.pop(rng.randrange(len(held)))))
        if number % 7 == 0:
            write(store)
        await store.settled()
    write(store)
    await store.settled()
    assert len(store.store.log.segments) > 5
    expected = state(store.store)
    await store.store.trim(store.store.log.segments[3].base)
    await turns()
    assert state(open_store(disk.kill(), segment_bytes=4000, batch_bytes=1000).store) == expected


@pytest.mark.asyncio
async def test_a_deleted_group_takes_what_it_holds_with_it() -> None:
    disk = FaultyDisk()
    store = open_store(disk)
    store.group("g")
    store.put("t")
    take(store, 0, to=1)
    store.change(Kind.GROUP_DELETED, {"name": "g", "clean_offsets": False})
    await store.settled()
    assert not store.store.in_flight.live.messages
    assert state(open_store(disk.kill()).store)[0] == []  # type: ignore[index]
