"""The log contract, asked of every engine: in memory, local on a disk of memory, local on real files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk
from posthouse.host.memory import MemoryDisk
from posthouse.host.real import RealDisk
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import GROUP_BYTES_MAX, Log, LogConfig, LogFailed, stamp
from posthouse.store.log.local import LocalLog
from posthouse.store.log.memory import MemoryLog
from tests.store.log.recorder import OPENING, Recorder, host_on, put, record, recover_empty, settled, turns


@pytest.fixture(params=["memory", "local in memory", "local on files"])
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recorder]:
    found = Recorder()
    disk: Disk | None = None
    if request.param == "memory":
        found.log = MemoryLog(host_on(MemoryDisk()), found, LogConfig(segment_bytes=2000))
    else:
        disk = MemoryDisk() if request.param == "local in memory" else RealDisk(str(tmp_path))
        disk.lock()
        found.log = LocalLog(host_on(disk), found, LogConfig(segment_bytes=2000, batch_bytes=500))
    recover_empty(found.log)
    yield found
    if disk is not None:
        disk.close()


@pytest.fixture
def log(recorder: Recorder) -> Log:
    assert recorder.log is not None
    return recorder.log


@pytest.mark.asyncio
async def test_receipts_come_in_append_order_and_never_inside_append(log: Log, recorder: Recorder) -> None:
    for name in range(200):
        before = len(recorder.receipts)
        put(log, name, 40 + name % 60)
        assert len(recorder.receipts) == before
        if name % 13 == 0:
            await asyncio.sleep(0)
    await settled(log)
    assert recorder.receipts == list(range(200))
    assert len(recorder.commits) < 200, "every record had a commit of its own"
    await log.close()


@pytest.mark.asyncio
async def test_an_offset_once_given_is_the_records_for_ever(log: Log, recorder: Recorder) -> None:
    offsets = {}
    for name in range(150):
        offsets[name] = put(log, name, 30 + 7 * (name % 40))
        if name % 11 == 0:
            await asyncio.sleep(0)
    await settled(log)
    assert sorted(offsets.values()) == list(offsets.values())
    for name, offset in offsets.items():
        data = record(name, 30 + 7 * (name % 40))
        assert log.read_wait(LogOffset(offset), len(data)) == data
        assert log.read(LogOffset(offset), len(data)) in (data, None)
        assert log.same_segment(LogOffset(offset), LogOffset(offset + len(data) - 1))
    await log.close()


@pytest.mark.asyncio
async def test_a_record_is_readable_when_its_receipt_comes_and_not_before(log: Log, recorder: Recorder) -> None:
    seen: list[bytes] = []
    offset = LogOffset(put(log, 1))
    recorder.then = lambda receipts: seen.append(log.read_wait(offset, 40))
    assert log.committed_offset == 0
    assert log.end_offset == offset + 40
    assert log.waiting_bytes >= 40
    with pytest.raises(AssertionError, match="beyond the committed end"):
        log.read(offset, 40)
    await settled(log)
    assert seen == [record(1)]
    assert recorder.committed_offsets == [offset + 40]
    assert log.committed_position.offset == log.committed_offset == log.end_offset
    await log.close()


@pytest.mark.asyncio
async def test_the_records_of_a_group_lie_together_and_are_committed_together(log: Log, recorder: Recorder) -> None:
    put(log, 0)
    for first in range(1, 91, 9):
        group = [record(name) for name in range(first, first + 9)]
        at = log.room_for(sum(map(len, group)))
        for name, data in enumerate(group, first):
            assert log.append(data, name) == at
            at = LogOffset(at + len(data))
    await settled(log)
    for first in range(1, 91, 9):
        holding = [commit for commit in recorder.commits if set(range(first, first + 9)) & set(commit)]
        assert len(holding) == 1
    await log.close()


@pytest.mark.asyncio
async def test_committed_never_goes_back(log: Log, recorder: Recorder) -> None:
    for name in range(100):
        put(log, name)
        await asyncio.sleep(0)
    await settled(log)
    assert recorder.committed_offsets == sorted(recorder.committed_offsets)
    await log.close()


@pytest.mark.asyncio
async def test_what_a_commit_leads_to_is_committed_too(log: Log, recorder: Recorder) -> None:
    def more(receipts: list[object]) -> None:
        for receipt in receipts:
            assert isinstance(receipt, int)
            if receipt < 20:
                put(log, receipt + 1)

    recorder.then = more
    put(log, 0)
    async with asyncio.timeout(10):
        while len(recorder.receipts) < 21:
            await asyncio.sleep(0)
    assert recorder.receipts == list(range(21))
    await log.close()


@pytest.mark.asyncio
async def test_the_last_byte_may_be_read_and_the_next_one_may_not(log: Log, recorder: Recorder) -> None:
    put(log, 1)
    await settled(log)
    end = log.committed_offset
    assert log.read_wait(LogOffset(end - 1), 1) == record(1)[-1:]
    with pytest.raises(AssertionError, match="beyond the committed end"):
        log.read_wait(LogOffset(end - 1), 2)
    await log.close()


@pytest.mark.asyncio
async def test_a_later_read_calls_back_on_the_loop(log: Log, recorder: Recorder) -> None:
    offset = LogOffset(put(log, 1))
    await settled(log)
    found: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()
    log.read_later(offset, 40, found.set_result)
    assert not found.done()
    assert await asyncio.wait_for(found, 10) == record(1)
    await log.close()


@pytest.mark.asyncio
async def test_sync_calls_back_without_an_error(log: Log, recorder: Recorder) -> None:
    for sync in (True, False):
        put(log, 1, sync=sync)
        await settled(log)
        found: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        log.sync(found.set_result)
        assert await asyncio.wait_for(found, 10) is None
    await log.close()


@pytest.mark.asyncio
async def test_close_commits_what_was_appended_and_the_log_takes_no_more(log: Log, recorder: Recorder) -> None:
    for name in range(40):
        put(log, name, 100)
    await asyncio.wait_for(log.close(), 10)
    assert recorder.receipts == list(range(40))
    with pytest.raises(LogFailed, match="closed"):
        put(log, 41)
    await turns()
    assert recorder.receipts == list(range(40))


@pytest.mark.asyncio
async def test_a_log_that_nothing_was_appended_to_is_closed_at_once(log: Log, recorder: Recorder) -> None:
    log.room_for(100)
    await asyncio.wait_for(log.close(), 10)
    assert (log.end_offset, recorder.receipts) == (0, [])


@pytest.mark.asyncio
async def test_room_that_is_not_used_leaves_no_hole(log: Log, recorder: Recorder) -> None:
    put(log, 1)
    end = log.end_offset
    log.room_for(400)
    log.room_for(4000)
    assert log.end_offset == end
    offset = put(log, 2)
    await settled(log)
    assert log.read_wait(LogOffset(offset), 40) == record(2)
    await log.close()


def test_stored_times_never_go_back() -> None:
    assert stamp(EpochMs(5), EpochMs(3)) == 5
    assert stamp(EpochMs(3), EpochMs(5)) == 5


def test_a_group_that_no_engine_could_commit_together_is_our_own_mistake() -> None:
    found = Recorder()
    log = LocalLog(host_on(MemoryDisk()), found)
    recover_empty(log)
    assert log.room_for(GROUP_BYTES_MAX)
    with pytest.raises(AssertionError, match="would not believe"):
        log.room_for(GROUP_BYTES_MAX + 1)


@pytest.mark.asyncio
async def test_a_new_segment_is_told_and_its_opening_comes_before_the_record_that_begins_it(
    log: Log, recorder: Recorder
) -> None:
    recorder.opening = [30, 40]
    offsets = []
    for name in range(100):
        told = len(recorder.begun)
        offsets.append(put(log, name, 90))
        if len(recorder.begun) > told:
            assert recorder.begun[-1] <= offsets[-1] - 70
        if name % 9 == 0:
            await settled(log)
    await settled(log)
    assert len(recorder.begun) > 3
    assert recorder.begun == [segment.base for segment in log.segments[1:]]
    everything = [receipt for commit in recorder.commits for receipt in commit]
    assert everything.count(OPENING) == everything.count(OPENING + 1) == len(recorder.begun)
    assert recorder.receipts == list(range(100))
    for name, offset in enumerate(offsets):
        assert log.read_wait(LogOffset(offset), 90) == record(name, 90)
    await log.close()


@pytest.mark.asyncio
async def test_segments_follow_one_another_and_hold_everything_that_is_committed(log: Log, recorder: Recorder) -> None:
    assert log.segments == []
    for name in range(60):
        put(log, name, 120)
        await settled(log)
    segments = log.segments
    assert len(segments) > 3
    assert (segments[0].base, segments[-1].end) == (log.first_offset, log.committed_offset)
    for before, after in pairwise(segments):
        assert before.end == after.base
        assert before.begun_at_ms <= after.begun_at_ms
    put(log, 60)
    assert log.segments == segments, "what is not committed is in none"
    await log.close()


@pytest.mark.asyncio
async def test_what_is_trimmed_is_gone_and_the_rest_stays(log: Log, recorder: Recorder) -> None:
    offsets = []
    for name in range(60):
        offsets.append(LogOffset(put(log, name, 120)))
        await settled(log)
    segments = log.segments
    log.trim(LogOffset(segments[2].end - 1))
    assert log.first_offset == segments[2].base
    assert log.segments == segments[2:]
    told: list[bytes | OSError] = []
    for name, offset in enumerate(offsets):
        if offset < segments[2].base:
            with pytest.raises(OSError, match="was deleted"):
                log.read(offset, 120)
            with pytest.raises(OSError, match="was deleted"):
                log.read_wait(offset, 120)
            log.read_later(offset, 120, told.append)
        else:
            assert log.read_wait(offset, 120) == record(name, 120)
    await turns()
    assert told
    assert all(isinstance(found, OSError) for found in told)
    log.trim(log.end_offset)
    assert log.segments == segments[-1:], "the newest is always kept"
    put(log, 60)
    await settled(log)
    assert recorder.receipts == list(range(61))
    await log.close()


@pytest.mark.asyncio
async def test_what_was_appended_with_sync_is_durable_when_its_receipt_comes(log: Log, recorder: Recorder) -> None:
    for name in range(40):
        offset = put(log, name, 100, sync=name % 3 != 0)
        await settled(log)
        assert log.durable_offset <= log.committed_offset
        if name % 3:
            assert recorder.synced[-1] == name
            assert log.durable_offset >= offset + 100
    await log.close()
