from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest

from posthouse.codec.record import decode_record
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk
from posthouse.host.real import RealDisk
from posthouse.model.filter import parse_subscription
from posthouse.model.limits import PULL_SCAN_MAX, UNSYNCED_BYTES_MAX
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store import message_store
from posthouse.store.log.batch import HEADER_BYTES
from posthouse.store.log.engine import LogFailed
from posthouse.store.log.segments import segment_name
from posthouse.store.message_store import LogError, Put, StoreBroken
from posthouse.store.reading import Found
from posthouse.store.state_record import Kind
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.log.recorder import turns
from tests.store.stores import HERE, THERE, Opened, message, open_store

Q = QueueOffset
FIRST = segment_name(LogOffset(0))


async def reopened(opened: Opened, disk: Disk, **options: int) -> Opened:
    await asyncio.wait_for(opened.store.close(), 20)
    return open_store(disk, opened.clock, **options)


# Messages


@pytest.mark.asyncio
async def test_a_message_is_stored_as_it_was_put() -> None:
    opened = open_store(FaultyDisk())
    opened.clock.at_ms = 1_700_000_000_123
    opened.put("t", b"zero", 2)
    put = opened.put("t", b"\x00\xff body", 2, "TagA")
    await opened.settled()
    found = opened.read("t", 2)[1]
    assert (found.topic, found.queue_id, found.queue_offset, found.log_offset) == ("t", 2, 1, put.log_offset)
    assert (found.body, found.tag, found.flag, found.reconsume_times) == (b"\x00\xff body", "TagA", 0, 0)
    assert (found.born_host, found.store_host) == (THERE, HERE)
    assert (found.born_at_ms, found.stored_at_ms) == (1_600_000_000_000, 1_700_000_000_123)
    assert found.store_size_bytes == put.size
    assert decode_record(opened.store.log.read_wait(put.log_offset, put.size)) == found
    await opened.store.close()


@pytest.mark.asyncio
async def test_queue_offsets_are_dense_for_each_queue() -> None:
    opened = open_store(FaultyDisk())
    rng = random.Random(1)
    want: dict[tuple[str, int], list[bytes]] = {}
    for number in range(300):
        where = rng.choice("ab"), rng.randrange(3)
        body = b"%d" % number
        put = opened.put(where[0], body, where[1])
        want.setdefault(where, []).append(body)
        assert put.queue_offset == len(want[where]) - 1
        if rng.random() < 0.1:
            await turns(rng.randrange(4))
    await opened.settled()
    for (topic, queue_id), bodies in want.items():
        assert opened.bodies(topic, queue_id) == bodies
        queue = opened.store.topics.live[topic].queue(queue_id)
        assert (queue.min_offset, queue.max_offset, queue.next_offset) == (0, len(bodies), len(bodies))
    await opened.store.close()


@pytest.mark.asyncio
async def test_acknowledgements_come_in_append_order_after_the_arrivals() -> None:
    opened = open_store(FaultyDisk())
    opened.topic("t")
    seen: list[int] = []
    opened.store._on_arrivals = lambda puts: seen.append(len(opened.acknowledged))  # before the first of its commit
    puts = [opened.put("t", b"%d" % number, number % 3) for number in range(50)]
    await opened.settled()
    assert opened.acknowledged == puts
    assert seen == [0]
    await opened.store.close()


@pytest.mark.asyncio
async def test_who_waits_for_arrivals_is_told_a_whole_commit_at_once() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.topic("t")
    disk.hold()
    first = [opened.put("t") for _ in range(3)]
    await turns()
    second = [opened.put("t") for _ in range(4)]
    await turns()
    assert opened.arrivals == []
    disk.release(1)
    await turns()
    assert opened.arrivals == [first]
    disk.release()
    await opened.settled()
    assert opened.arrivals == [first, second]
    await opened.store.close()


@pytest.mark.asyncio
async def test_nothing_is_visible_before_it_is_committed() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t", b"before")
    await opened.settled()
    disk.hold()
    put = opened.put("t", b"held back")
    await turns()
    queue = put.queue
    assert put.queue_offset == 1
    assert (queue.max_offset, queue.next_offset) == (1, 2)
    assert opened.bodies("t") == [b"before"]
    assert opened.store.get(queue, Q(1), 32, 1000) == Found([], 0, 0, Q(1))
    assert await opened.store.stored_at_ms(queue, Q(1)) is None
    assert await opened.store.search(queue, EpochMs(1 << 50)) == 1
    assert len(opened.acknowledged) == 1
    disk.release()
    await opened.settled()
    assert opened.bodies("t") == [b"before", b"held back"]
    assert opened.acknowledged[1] is put
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_batch_has_consecutive_offsets_and_one_acknowledgement() -> None:
    opened = open_store(FaultyDisk(), batch_bytes=1000)
    opened.put("t", b"x")
    puts = opened.put_many("t", [b"%d" % number for number in range(5)])
    opened.put("t", b"y")
    await opened.settled()
    assert [put.queue_offset for put in puts] == [1, 2, 3, 4, 5]
    for before, after in pairwise(puts):
        assert before.log_offset + before.size == after.log_offset
    assert [put.queue_offset for put in opened.acknowledged] == [0, 5, 6]
    assert opened.bodies("t") == [b"x", b"0", b"1", b"2", b"3", b"4", b"y"]
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_batch_is_there_whole_or_not_at_all_after_a_crash() -> None:
    counts = set()
    for seed in range(60):
        rng = random.Random(seed)
        disk = FaultyDisk()
        opened = open_store(disk, batch_bytes=3000)
        opened.put("t", b"first")
        await opened.settled()
        disk.hold()
        for _ in range(4):
            opened.put_many("t", [b"x" * 300] * 5)
        await turns()
        if rng.random() < 0.3:
            disk.release()
        again = open_store(disk.crash(rng), batch_bytes=3000)
        bodies = again.bodies("t")
        assert bodies[0] == b"first"
        assert (len(bodies) - 1) % 5 == 0
        counts.add(len(bodies) - 1)
    assert {0, 20} <= counts


@pytest.mark.asyncio
async def test_a_message_for_a_topic_that_is_gone_is_our_own_mistake() -> None:
    opened = open_store(FaultyDisk())
    old = opened.topic("t")
    opened.delete("t")
    for again in (False, True):
        if again:
            opened.topic("t")
        with pytest.raises(AssertionError, match="poison"):
            opened.store.put(old, message("t"), 0, HERE, None)
        with pytest.raises(AssertionError):
            opened.store.put_many(old, [(message("t"), 0)], HERE, opened.done)
    await opened.store.close()


# Reading


@pytest.mark.asyncio
async def test_a_read_stops_at_its_count_and_its_bytes_but_gives_at_least_one() -> None:
    opened = open_store(FaultyDisk())
    for _ in range(10):
        opened.put("t", b"x" * 900)
    await opened.settled()
    queue = opened.store.topics.live["t"].queue(0)
    size = opened.acknowledged[0].size

    def get(begin: int, count: int, bytes_max: int) -> tuple[int, int, int]:
        found = opened.store.get(queue, Q(begin), count, bytes_max)
        assert found is not None
        assert sum(map(len, found.buffers)) == found.size
        return found.messages, found.size, found.next_offset

    assert get(0, 3, 1 << 20) == (3, 3 * size, 3)
    assert get(0, 32, 3 * size) == (3, 3 * size, 3)
    assert get(0, 32, 3 * size - 1) == (2, 2 * size, 2)
    assert get(4, 32, 1) == (1, size, 5)
    assert get(8, 32, 1 << 20) == (2, 2 * size, 10)
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_filter_gives_what_it_wants_and_says_how_far_it_looked() -> None:
    opened = open_store(FaultyDisk())
    for number in range(1000):
        opened.put("t", b"%d" % number, tag="TagA" if number % 100 == 99 else "TagB")
    await opened.settled()
    queue = opened.store.topics.live["t"].queue(0)
    wants = parse_subscription("t", "TagA").wants_hash

    def get(begin: int, count: int = 32, bytes_max: int = 1 << 20) -> tuple[list[bytes], int]:
        found = opened.store.get(queue, Q(begin), count, bytes_max, wants)
        assert found is not None
        assert found.messages == len(found.buffers) or found.messages == 0
        return [decode_record(buffer).body for buffer in found.buffers], found.next_offset

    assert get(0) == ([b"%d" % number for number in range(99, PULL_SCAN_MAX, 100)], PULL_SCAN_MAX)
    assert get(0, count=3) == ([b"99", b"199", b"299"], 399)
    assert get(0, bytes_max=1) == ([b"99"], 199)
    assert get(100, count=1) == ([b"199"], 299)
    assert get(900) == ([b"999"], 1000)
    assert get(901, bytes_max=0) == ([b"999"], 1000)
    nothing = opened.store.get(queue, Q(0), 32, 1000, lambda tag_hash: False)
    assert nothing == Found([], 0, 0, Q(PULL_SCAN_MAX))
    await opened.store.close()


@pytest.mark.asyncio
async def test_records_that_lie_far_apart_are_read_one_by_one() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=4000)
    for number in range(12):
        opened.put("t", b"%d" % number)
        opened.put("other", b"y" * 3000)
        await opened.settled()
    assert len(disk.list("log")) > 6
    assert opened.bodies("t") == [b"%d" % number for number in range(12)]
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_queue_reads_on_from_its_runs_into_its_tail() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for part in range(4):
        for number in range(10):
            opened.put("t", b"%d" % (part * 10 + number), number % 2, "TagA" if number < 2 else "")
        await opened.settled()
        if part < 3:
            await opened.store.checkpoint()
    for queue_id in (0, 1):
        want = [b"%d" % number for number in range(queue_id, 40, 2)]
        assert opened.bodies("t", queue_id) == want
        for begin in range(20):
            assert [each.body for each in opened.read("t", queue_id, begin)] == want[begin:]
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("wanted", [None, "TagA"])
@pytest.mark.parametrize("apart", [0, 700, 5000])
async def test_what_must_be_waited_for_is_warmed_and_then_read_at_once(wanted: str | None, apart: int) -> None:
    """In runs and in the tail, close together and apart, with and without a filter that lets few pass."""
    disk = FaultyDisk()
    opened = open_store(disk)
    for number in range(120):
        opened.put("t", b"%d" % number + b"x" * 300, tag="TagA" if number % 40 == 39 else "TagB")
        if apart:
            opened.put("other", b"y" * apart)
        if number == 90:
            await opened.settled()
            await opened.store.checkpoint()
    await opened.settled()
    disk.is_cold = True
    queue = opened.store.topics.live["t"].queue(0)
    wants = parse_subscription("t", wanted).wants_hash if wanted else None
    at = Q(0)
    found: list[int] = []
    while at < queue.max_offset:
        got = opened.store.get(queue, at, 32, 40_000, wants)
        if got is None:
            await opened.store.warm(queue, at, 32, 40_000, wants)
            got = opened.store.get(queue, at, 32, 40_000, wants)
            assert got is not None, "still cold after it was warmed"
        found += [decode_record(buffer).queue_offset for buffer in got.buffers] if wanted else [got.messages]
        at = got.next_offset
    assert found == [39, 79, 119] if wanted else sum(found) == 120
    assert disk.later_reads > 0
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_read_that_fails_is_refused_with_why() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t", b"one")
    await opened.settled()
    await opened.store.checkpoint()
    opened.put("t", b"two")
    await opened.settled()
    disk.is_cold = True
    disk.read_error = OSError(5, "Input/output error")
    queue = opened.store.topics.live["t"].queue(0)
    for at in (0, 1):
        with pytest.raises(Refused, match="Input/output error") as caught:
            await opened.store.warm(queue, Q(at), 32)
        assert caught.value.reason is Reason.FAILED
        with pytest.raises(Refused, match="Input/output error"):
            await opened.store.stored_at_ms(queue, Q(at))
    disk.is_cold, disk.read_error = False, None
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_queue_is_searched_by_time() -> None:
    opened = open_store(FaultyDisk())
    times = [10, 20, 20, 20, 30, 50]
    for at_ms in times:
        opened.clock.at_ms = at_ms
        opened.put("t")
        await opened.settled()
        if at_ms == 20:
            await opened.store.checkpoint()
    queue = opened.store.topics.live["t"].queue(0)

    async def search(at_ms: int, upper: bool = False) -> int:
        return await opened.store.search(queue, EpochMs(at_ms), upper)

    for at_ms in range(60):
        assert await search(at_ms) == sum(1 for each in times if each < at_ms)
        assert await search(at_ms, upper=True) == max(0, sum(1 for each in times if each <= at_ms) - 1)
    empty = opened.topic("t").queue(3)
    assert await opened.store.search(empty, EpochMs(5)) == 0
    assert await opened.store.search(empty, EpochMs(5), upper=True) == 0
    await opened.store.close()


@pytest.mark.asyncio
async def test_stored_times_never_go_back_whatever_the_clock_does_also_over_a_restart() -> None:
    for stop in ("close", "kill"):
        disk, clock = FaultyDisk(), ManualClock(5000)
        opened = open_store(disk, clock)
        opened.put("t")
        clock.at_ms = 4000
        opened.put("t")
        await opened.settled()
        if stop == "kill":
            opened = open_store(disk.kill(), clock)
        else:
            opened = await reopened(opened, disk)
        clock.at_ms = 3000
        opened.put("t")
        await opened.settled()
        assert [each.stored_at_ms for each in opened.read("t")] == [5000, 5000, 5000]
        clock.at_ms = 6000
        opened.put("t")
        await opened.settled()
        assert opened.read("t")[-1].stored_at_ms == 6000
        await opened.store.close()


# State


@pytest.mark.asyncio
async def test_topics_groups_and_offsets_come_back() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for name in ("a", "b", "c"):
        opened.topic(name, 2)
        opened.put(name, name.encode(), 1)
    opened.group("g")
    opened.group("h")
    opened.store.offsets.commit("g", "a", 1, Q(1))
    opened.store.offsets.commit("g", "b", 1, Q(1))
    await opened.settled()
    opened.delete("b")
    opened.change(Kind.GROUP_DELETED, {"name": "h", "clean_offsets": True})
    await opened.settled()
    for _ in range(3):
        opened = await reopened(opened, disk)
        assert sorted(opened.store.topics.live) == ["a", "c"]
        assert list(opened.store.groups.live) == ["g"]
        assert opened.store.offsets.live["g"] == {"a": {1: 1}}
        assert opened.bodies("a", 1) == [b"a"]
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_group_that_is_deleted_may_leave_its_offsets() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.topic("t")
    for name in ("keep", "clean"):
        opened.group(name)
        opened.store.offsets.commit(name, "t", 0, Q(0))
    opened.change(Kind.GROUP_DELETED, {"name": "keep", "clean_offsets": False})
    opened.change(Kind.GROUP_DELETED, {"name": "clean", "clean_offsets": True})
    opened = await reopened(opened, disk)
    assert opened.store.groups.live == {}
    assert list(opened.store.offsets.live) == ["keep"]
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("stop", ["close", "kill", "checkpoint and kill"])
async def test_a_topic_deleted_and_made_again_in_one_turn_with_messages_in_flight(stop: str) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t", b"of the first")
    opened.store.offsets.commit("g", "t", 0, Q(1))
    await opened.settled()
    first = opened.topic("t")
    in_flight = opened.put("t", b"in flight")
    opened.delete("t")
    opened.put("t", b"of the second")
    opened.delete("t")
    opened.store.offsets.commit("g", "t", 0, Q(0))  # of a consumer that does not know yet
    third = opened.topic("t", 2)
    last = [opened.put("t", b"of the third"), opened.put("t", b"and another")]
    await opened.settled()
    assert [put.queue_offset for put in opened.acknowledged] == [0, 1, 0, 0, 1]
    assert in_flight.topic is first
    assert last[0].topic is third
    assert opened.bodies("t") == [b"of the third", b"and another"]
    want = opened.folds()
    if stop == "checkpoint and kill":
        await opened.store.checkpoint()
    again = await reopened(opened, disk) if stop == "close" else open_store(disk.kill())
    assert again.bodies("t") == [b"of the third", b"and another"]
    if stop != "kill":
        assert again.folds()["topics"] == want["topics"]  # type: ignore[index]
    assert again.put("t").queue_offset == 2
    await again.settled()
    await again.store.close()


@pytest.mark.asyncio
async def test_a_change_lives_at_once_and_is_told_when_it_is_committed() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    disk.hold()
    task = asyncio.ensure_future(opened.store.record_and_wait(Kind.TOPIC_SET, {"config": {"name": "t"}}))
    await turns()
    assert "t" in opened.store.topics.live
    assert not task.done()
    disk.release()
    await asyncio.wait_for(task, 10)
    await opened.store.close()


@pytest.mark.asyncio
async def test_offsets_are_written_within_a_period_and_synced_within_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_store, "TICK_S", 0.05)
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t")
    await opened.settled()
    opened.store.start()
    disk.changes.clear()
    opened.store.offsets.commit("g", "t", 0, Q(1))
    await asyncio.sleep(0.2)
    assert disk.changes == [f"write {FIRST}", f"sync {FIRST}"], "written once, and synced a period later"
    again = open_store(disk.kill())
    assert again.store.offsets.find("g", "t", 0) == 1


def test_the_period_of_offsets_is_a_second() -> None:
    assert message_store.TICK_S <= 1.0


@pytest.mark.asyncio
async def test_offsets_are_written_at_close() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t")
    opened.store.offsets.commit("g", "t", 0, Q(1))
    opened = await reopened(opened, disk)
    assert opened.store.offsets.find("g", "t", 0) == 1
    await opened.store.close()


# Limits and failure


@pytest.mark.asyncio
async def test_a_disk_that_is_behind_is_a_busy_store() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.topic("t")
    await opened.settled()
    disk.hold()
    for _ in range(UNSYNCED_BYTES_MAX // (4 << 20)):
        opened.store.check_writable()
        opened.put("t", bytes(4 << 20))
    with pytest.raises(Refused, match=str(UNSYNCED_BYTES_MAX)) as caught:
        opened.store.check_writable()
    assert caught.value.reason is Reason.BUSY
    disk.release()
    await opened.settled()
    opened.store.check_writable()
    assert len(opened.acknowledged) == 16
    await opened.store.close()


@pytest.mark.asyncio
async def test_after_a_failure_nothing_is_acknowledged_visible_or_taken() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t", b"before")
    await opened.settled()
    disk.hold()
    first = opened.put("t", b"in the commit that fails")
    change = asyncio.ensure_future(opened.store.record_and_wait(Kind.TOPIC_SET, {"config": {"name": "u"}}))
    await turns()
    second = opened.put("t", b"after it")
    disk.failing = lambda what: "sync" in what
    disk.release()
    await turns(10)
    assert [put for put, _ in opened.refused] == [first, second]
    assert len(opened.acknowledged) == 1
    assert opened.bodies("t") == [b"before"]
    assert len(opened.broken) == 1
    assert opened.store.failure is opened.broken[0]
    with pytest.raises(Refused, match="Input/output error") as caught:
        await change
    assert caught.value.reason is Reason.NOT_WRITABLE
    with pytest.raises(Refused, match="Input/output error") as caught:
        opened.store.check_writable()
    assert caught.value.reason is Reason.NOT_WRITABLE
    with pytest.raises(LogFailed):
        opened.put("t", b"never")
    opened.store.offsets.commit("g", "t", 0, Q(1))
    changes = list(disk.changes)
    await asyncio.wait_for(opened.store.close(), 10)
    assert disk.changes == changes, "a failed store wrote something at its close"
    assert open_store(FaultyDisk(disk.files())).bodies("t") == [b"before"]


@pytest.mark.asyncio
async def test_what_cannot_be_applied_stops_the_store(caplog: pytest.LogCaptureFixture) -> None:
    """Our own mistake in a fold or in a callback: nothing may be acknowledged after it."""
    disk = FaultyDisk()
    opened = open_store(disk)
    topic = opened.topic("t")
    await opened.settled()

    def wrong(put: Put, error: LogError | None) -> None:
        raise AssertionError("a callback that is wrong")

    opened.store.put(topic, message("t"), 0, HERE, wrong)
    opened.put("t", b"of the same commit")
    await turns(10)
    assert opened.broken == [opened.store.failure]
    assert "a callback that is wrong" in caplog.text
    with pytest.raises(Refused, match="a callback that is wrong"):
        opened.store.check_writable()
    await asyncio.wait_for(opened.store.close(), 10)
    assert opened.acknowledged == []
    assert len(open_store(FaultyDisk(disk.files())).bodies("t")) == 2


@pytest.mark.asyncio
async def test_close_waits_for_the_work_in_flight_and_takes_no_more() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    disk.hold()
    for number in range(5):
        opened.put("t", b"%d" % number)
    closing = asyncio.ensure_future(opened.store.close())
    await turns()
    assert not closing.done()
    with pytest.raises(Refused, match="stopping") as caught:
        opened.store.check_writable()
    assert caught.value.reason is Reason.NOT_WRITABLE
    await asyncio.wait_for(opened.store.close(), 1)  # a second close does nothing
    while not closing.done():
        disk.release(len(disk.held))
        await turns()
    assert len(opened.acknowledged) == 5
    disk.release()
    assert open_store(disk).bodies("t") == [b"%d" % number for number in range(5)]


@pytest.mark.asyncio
async def test_drain_and_close_at_the_same_time_both_end() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    disk.hold()
    opened.put("t")
    draining = asyncio.ensure_future(opened.store.drain())
    await turns()
    closing = asyncio.ensure_future(opened.store.close())
    await turns()
    disk.release()
    await asyncio.wait_for(asyncio.gather(draining, closing), 10)
    assert len(opened.acknowledged) == 1


# Opening


@pytest.mark.asyncio
async def test_a_store_that_cannot_be_opened_says_why_in_one_line(tmp_path: Path) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    with pytest.raises(StoreBroken, match="another store") as caught:
        open_store(disk)
    assert "\n" not in str(caught.value)
    for number in range(3):
        opened.put("t", b"%d" % number)
        await opened.settled()
    files = disk.files()
    files[FIRST] = files[FIRST][:60] + b"?" + files[FIRST][61:]
    damaged = FaultyDisk(files)
    with pytest.raises(StoreBroken, match="log offset 0 ") as caught:
        open_store(damaged)
    assert FIRST in str(caught.value)
    assert damaged.files() == files
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreBroken, match="cannot use"):
        open_store(RealDisk(str(tmp_path / "file")))
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_store_that_could_not_be_opened_lets_the_folder_go_at_close() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for number in range(3):
        opened.put("t", b"%d" % number)
        await opened.settled()
    broken = FaultyDisk(disk.files())
    broken.flip(FIRST, 60)
    store = open_store_unopened(broken)
    with pytest.raises(StoreBroken):
        store.open()
    files = broken.files()
    await asyncio.wait_for(store.close(), 10)
    broken.lock()
    assert broken.files() == files
    await opened.store.close()


def open_store_unopened(disk: Disk) -> message_store.MessageStore:
    from posthouse.host import Host
    from posthouse.host.real import RealNet, RealRandomness

    return message_store.MessageStore(Host(ManualClock(), disk, RealNet(), RealRandomness()))


@pytest.mark.asyncio
async def test_a_log_of_a_newer_version_is_refused_and_left_as_it_is() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.topic("t")
    await opened.settled()
    data = disk.files()[FIRST]
    state = bytearray(data[HEADER_BYTES:])
    state[8:10] = (99).to_bytes(2, "big")
    from posthouse.store.log.batch import decode_header, encode_batch

    header = decode_header(data, 0)
    assert header is not None
    newer, _ = encode_batch(LogOffset(0), 1, 0, header.stored_at_ms, LogOffset(0), [bytes(state)], len(state))
    with pytest.raises(StoreBroken, match="newer Posthouse"):
        open_store(FaultyDisk({"format": disk.files()["format"], FIRST: newer}))
    await opened.store.close()


# Restart


async def busy(opened: Opened, seed: int, steps: int = 150) -> None:
    """Messages, batches, topics made and deleted, groups, offsets: whatever a broker does."""
    rng = random.Random(seed)
    store = opened.store
    for step in range(steps):
        name = rng.choice(("a", "b", "c", "%RETRY%g"))
        what = rng.random()
        if what < 0.55:
            opened.put(name, b"%d-%d" % (seed, step) * rng.randint(1, 30), rng.randrange(3), rng.choice(("", "TagA")))
        elif what < 0.65:
            opened.put_many(name, [b"%d" % step] * rng.randint(1, 5), rng.randrange(3))
        elif what < 0.70:
            opened.delete(name)
        elif what < 0.75:
            opened.group(rng.choice("gh"))
        elif what < 0.77:
            opened.change(Kind.GROUP_DELETED, {"name": rng.choice("gh"), "clean_offsets": rng.random() < 0.5})
        elif what < 0.90:
            if name in store.topics.live:
                store.offsets.commit(rng.choice("gh"), name, rng.randrange(3), Q(rng.randint(0, 9)))
        elif what < 0.94:
            opened.write_offsets()
        else:
            await turns(rng.randrange(12))
        opened.clock.at_ms += rng.choice((0, 1, 50, -20))
    await opened.settled()


@pytest.mark.asyncio
@pytest.mark.parametrize("checkpoint_bytes", [300, 3000, 1 << 30])
async def test_a_start_from_a_snapshot_gives_the_same_folds_as_a_replay_of_all(checkpoint_bytes: int) -> None:
    for seed in range(8):
        disk = FaultyDisk()
        opened = open_store(disk, checkpoint_bytes=checkpoint_bytes, segment_bytes=5000, batch_bytes=1500)
        for part in range(3):
            await busy(opened, seed * 10 + part)
            opened.write_offsets()
            await opened.settled()
            want = opened.folds()
            log_only = {name: data for name, data in disk.files().items() if name.startswith(("log/", "format"))}
            assert open_store(FaultyDisk(log_only)).folds() == want
            assert open_store(disk.kill()).folds() == want, "after a kill"
            disk._dead = False
            opened = await reopened(
                opened, disk, checkpoint_bytes=checkpoint_bytes, segment_bytes=5000, batch_bytes=1500
            )
            assert opened.folds() == want, "after a clean stop"
            assert opened.store.recovered is not None
            assert opened.store.recovered.records == 0, "a clean stop left something to replay"
        await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", ["snapshot cut", "snapshot flipped", "run cut", "run gone", "all snapshots", "all"])
async def test_a_damaged_checkpoint_costs_time_and_nothing_else(damage: str) -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=5000)
    for part in range(4):
        await busy(opened, part)
        await opened.store.checkpoint()
    await busy(opened, 5)
    opened.write_offsets()
    await opened.settled()
    want = opened.folds()
    files = disk.files()
    snapshots = sorted(name for name in files if name.startswith("snapshots/"))
    runs = sorted(name for name in files if name.startswith("queues/"))
    assert len(snapshots) == 2
    match damage:
        case "snapshot cut":
            files[snapshots[-1]] = files[snapshots[-1]][:-1]
        case "snapshot flipped":
            data = bytearray(files[snapshots[-1]])
            data[len(data) // 2] ^= 1
            files[snapshots[-1]] = bytes(data)
        case "run cut":
            files[runs[-1]] = files[runs[-1]][:-1]
        case "run gone":
            del files[runs[-1]]
        case "all snapshots":
            files = {name: data for name, data in files.items() if name not in snapshots}
        case "all":
            files = {name: b"" if name in (*snapshots, *runs) else data for name, data in files.items()}
    survivor = FaultyDisk(files)
    again = open_store(survivor, segment_bytes=5000)
    assert again.folds() == want
    again.put("a", b"goes on")
    await again.settled()
    want = again.folds()
    again = await reopened(again, survivor, segment_bytes=5000)
    assert again.folds() == want
    await again.store.close()


@pytest.mark.asyncio
async def test_a_checkpoint_under_load_is_made_at_its_size_and_disturbs_nobody() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, checkpoint_bytes=20_000)
    for number in range(600):
        opened.put("t", b"%d" % number + bytes(100), number % 3)
        if number % 5 == 0:
            await turns(3)
    await opened.settled()
    assert len(disk.list("snapshots")) == 2
    assert len([what for what in disk.changes if what.startswith("replace snapshots")]) >= 4
    for queue_id in range(3):
        assert [body[:-100] for body in opened.bodies("t", queue_id)] == [b"%d" % n for n in range(queue_id, 600, 3)]
    want = opened.folds()
    again = open_store(disk.kill())
    assert again.folds() == want
    assert again.store.recovered is not None
    assert again.store.recovered.records < 300
    await again.store.close()


@pytest.mark.asyncio
async def test_a_snapshot_never_knows_more_than_the_log() -> None:
    """Offsets are committed without a sync; the snapshot that holds them must not outlive them."""
    for seed in range(150):
        rng = random.Random(seed)
        disk = FaultyDisk()
        opened = open_store(disk)
        opened.put("t")
        await opened.settled()
        opened.store.offsets.commit("g", "t", 0, Q(1))
        if seed % 2:
            closing = asyncio.ensure_future(opened.store.close())
        else:
            opened.write_offsets()
            await opened.settled()
            closing = asyncio.ensure_future(opened.store.checkpoint())
        disk.hold()
        for _ in range(rng.randrange(12)):
            await turns(3)
            disk.release(min(1, len(disk.held)))
        again = open_store(disk.crash(rng))
        assert again.bodies("t") == [b"body"]
        closing.cancel()
        await turns()
        await again.store.close()


@pytest.mark.asyncio
async def test_a_store_on_real_files_comes_back(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path / "data"))
    opened = open_store(disk, checkpoint_bytes=20_000, segment_bytes=50_000)
    for seed in range(4):
        await busy(opened, seed, 300)
    opened.write_offsets()
    await opened.settled()
    want = opened.folds()
    await asyncio.wait_for(opened.store.close(), 20)
    opened = open_store(RealDisk(str(tmp_path / "data")))
    assert opened.folds() == want
    await asyncio.wait_for(opened.store.close(), 20)


@pytest.mark.asyncio
async def test_the_age_of_the_oldest_message_is_known() -> None:
    disk, clock = FaultyDisk(), ManualClock(5000)
    opened = open_store(disk, clock)
    assert opened.store.earliest_stored_at_ms is None
    opened.put("t")
    await opened.settled()
    clock.at_ms = 9000
    opened.put("u")
    opened = await reopened(opened, disk)
    assert opened.store.earliest_stored_at_ms == 5000
    await opened.store.close()


@pytest.mark.asyncio
async def test_who_waits_for_what_is_decided_does_not_wait_for_what_others_send_meanwhile() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    opened.put("t", b"first")
    await opened.settled()
    disk.hold()
    opened.put("t", b"before")
    waiting = asyncio.create_task(opened.store.settled())
    await turns(5)
    for _ in range(3):  # a sender that never leaves the log without something to write
        opened.put("t", b"after")
        disk.release(1)
        await turns(5)
        assert opened.store.log.waiting_bytes
    assert waiting.done()
    await waiting
    disk.release()
    await asyncio.wait_for(opened.store.close(), 20)
