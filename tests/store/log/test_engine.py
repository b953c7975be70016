"""The log contract, asked of every engine: in memory, local on a disk of memory, local on real files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk
from posthouse.host.memory import MemoryDisk
from posthouse.host.real import RealDisk
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import GROUP_BYTES_MAX, START, Log, LogConfig, LogFailed, stamp
from posthouse.store.log.local import LocalLog
from posthouse.store.log.memory import MemoryLog
from tests.store.log.recorder import Recorder, host_on, put, record, settled, turns


@pytest.fixture(params=["memory", "local in memory", "local on files"])
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recorder]:
    found = Recorder()
    disk: Disk | None = None
    if request.param == "memory":
        found.log = MemoryLog(found)
    else:
        disk = MemoryDisk() if request.param == "local in memory" else RealDisk(str(tmp_path))
        disk.lock()
        found.log = LocalLog(host_on(disk), found, LogConfig(segment_bytes=2000, batch_bytes=500))
    found.log.recover(START, lambda data, at, size, offset: None)
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
    log.recover(START, lambda data, at, size, offset: None)
    assert log.room_for(GROUP_BYTES_MAX)
    with pytest.raises(AssertionError, match="would not believe"):
        log.room_for(GROUP_BYTES_MAX + 1)
