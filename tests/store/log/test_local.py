"""The local engine over disks that hold back, fail and forget. What all engines share is in test_engine."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.log import local
from posthouse.store.log.batch import HEADER_BYTES, FrameKind
from posthouse.store.log.engine import LogConfig, LogFailed, LogFull
from posthouse.store.log.segments import segment_name
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.log.logs import FIRST, frames, headers, segment_files
from tests.store.log.recorder import (
    OPENING,
    Recorder,
    host_on,
    is_opening,
    open_local,
    put,
    record,
    recover_empty,
    settled,
    turns,
)

# Group commit


@pytest.mark.asyncio
async def test_one_sync_covers_what_came_before_it_and_nothing_that_came_after() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    disk.hold()
    for name in range(5):
        put(log, name)
    await turns()
    assert [given[0] for given in disk.held] == [f"write sync {FIRST}"]
    for name in range(5, 9):
        put(log, name)
    await turns()
    assert len(disk.held) == 1, "a second commit was given while the first was under way"
    assert recorder.receipts == []
    assert log.committed_offset == 0
    disk.release(1)
    await turns()
    assert recorder.commits == [[0, 1, 2, 3, 4]]
    assert len(disk.held) == 1
    disk.release(1)
    await turns()
    assert recorder.commits == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    await log.close()


@pytest.mark.asyncio
async def test_records_of_one_turn_cost_one_write() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    for name in range(500):
        put(log, name)
    await settled(log)
    assert [what for what in disk.changes if "write" in what] == [f"write sync {FIRST}"]
    assert len(recorder.commits) == 1
    await log.close()


@pytest.mark.asyncio
async def test_a_sync_is_asked_for_only_if_some_record_wants_it() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk)
    put(log, 1, sync=False)
    await settled(log)
    assert disk.changes[-1] == f"write {FIRST}"
    put(log, 2, sync=False)
    put(log, 3, sync=True)
    await settled(log)
    assert disk.changes[-1] == f"write sync {FIRST}"
    await log.close()


@pytest.mark.asyncio
async def test_sync_makes_unsynced_records_durable() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk)
    put(log, 1)
    put(log, 2, sync=False)
    await settled(log)
    put(log, 3, sync=False)
    await settled(log)
    end = log.committed_offset
    told: list[OSError | None] = []
    log.sync(told.append)
    await turns()
    assert told == [None]
    assert disk.changes[-1] == f"sync {FIRST}"
    log.sync(told.append)
    await turns()
    assert disk.changes.count(f"sync {FIRST}") == 1, "there was nothing left to sync"
    for seed in range(20):
        files = FaultyDisk(disk.files()).crash(random.Random(seed)).files()
        assert len(files[FIRST]) == end
    await log.close()


@pytest.mark.asyncio
async def test_an_unsynced_record_may_be_lost_in_a_power_cut_and_nothing_before_it() -> None:
    lost = 0
    for seed in range(40):
        disk = FaultyDisk()
        log, _, _, _ = open_local(disk)
        put(log, 1)
        await settled(log)
        put(log, 2, sync=False)
        await settled(log)
        _, _, replayed, _ = open_local(disk.crash(random.Random(seed)))
        found = [data for data, _ in replayed]
        assert found in ([record(1)], [record(1), record(2)])
        lost += len(found) == 1
    assert 0 < lost < 40


@pytest.mark.asyncio
async def test_a_batch_is_sealed_when_it_is_full() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, batch_bytes=1000)
    for name in range(50):
        put(log, name, 100)
    await settled(log)
    sizes = [header.size for header in headers(disk)]
    assert all(size <= 1000 for size in sizes)
    assert len(sizes) == 6
    await log.close()


# Segments


@pytest.mark.asyncio
async def test_segments_are_named_by_their_first_offset_and_no_batch_spans_two() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=1000, batch_bytes=300)
    offsets = {}
    for name in range(100):
        offsets[name] = put(log, name, 60)
        if name % 7 == 0:
            await turns()
    await settled(log)
    files = segment_files(disk)
    assert len(files) > 5
    end = 0
    for file, data in files.items():
        assert file == f"log/{end:020d}.log"
        assert len(data) <= 1000
        end += len(data)
    assert end == log.committed_offset
    assert sum(header.records for header in headers(disk)) == 100
    for number, offset in offsets.items():
        assert log.read_wait(LogOffset(offset), 60) == record(number, 60)
    first, last = LogOffset(offsets[0]), LogOffset(offsets[99])
    assert log.same_segment(first, first)
    assert not log.same_segment(first, last)
    assert recorder.receipts == list(range(100))
    await log.close()


@pytest.mark.asyncio
async def test_each_segment_but_the_last_ends_with_a_mark_and_the_chain_goes_through_it() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=300)
    for name in range(9):
        put(log, name, 60)
        await settled(log)
    found, names = frames(disk), list(segment_files(disk))
    assert len(names) > 2
    ends = [header for header in found if header.kind is FrameKind.END]
    assert [segment_name(header.end) for header in ends] == names[1:]
    assert found[-1].kind is FrameKind.BATCH
    for before, after in pairwise(found):
        assert (after.offset, after.previous) == (before.end, before.checksum)
    for header in ends:
        after = found[found.index(header) + 1]
        assert after.durable == header.end, "the mark was synced before the next segment's first batch"
    await log.close()


@pytest.mark.asyncio
async def test_a_record_larger_than_a_segment_has_one_of_its_own() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=500)
    offsets = [put(log, name, size) for name, size in enumerate((40, 2000, 40))]
    await settled(log)
    assert [len(data) for data in segment_files(disk).values()] == [88 + 48, 2048 + 48, 88]
    assert log.read_wait(LogOffset(offsets[1]), 2000) == record(1, 2000)
    await log.close()


@pytest.mark.asyncio
async def test_a_roll_makes_the_file_then_syncs_the_end_mark_and_only_then_goes_on() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    put(log, 1, 100, sync=False)
    await settled(log)
    disk.hold()
    put(log, 2, 100, sync=False)
    put(log, 3, 100, sync=False)
    second, third = (segment_name(LogOffset(base)) for base in (196, 392))
    steps = []
    for _ in range(6):
        await turns()
        assert len(disk.held) == 1
        steps.append(disk.held[0][0])
        disk.release(1)
    assert steps == [
        f"create {second}",
        f"write sync {FIRST}",
        f"write sync {second}",
        f"create {third}",
        f"write sync {second}",
        f"write sync {third}",
    ]
    disk.release()
    await settled(log)
    assert recorder.receipts == [1, 2, 3]
    await log.close()


@pytest.mark.asyncio
async def test_the_first_commit_of_a_segment_is_synced_although_nobody_asked_for_it() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=300)
    for name in range(4):
        put(log, name, 100, sync=False)
        await settled(log)
    assert recorder.synced == [1, 2, 3]
    assert f"write {FIRST}" in disk.changes, "the first segment of all has no opening, so it need not be"
    assert log.durable_offset == log.committed_offset
    await log.close()


@pytest.mark.asyncio
async def test_a_crash_at_any_moment_around_a_new_segment_leaves_a_log_that_opens() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        disk = FaultyDisk()
        log, _, _, _ = open_local(disk, segment_bytes=300, batch_bytes=150)
        disk.hold()
        for name in range(12):
            put(log, name, rng.randint(40, 90), sync=rng.random() < 0.5)
            await turns(2)
            disk.release(rng.randint(0, len(disk.held)))
            await turns(2)
        survivor = disk.crash(rng) if seed % 2 else disk.kill()
        _, _, replayed, _ = open_local(survivor, segment_bytes=300, batch_bytes=150)
        assert [data[11] for data, _ in replayed] == list(range(len(replayed))), f"seed {seed}"


@pytest.mark.asyncio
async def test_a_log_goes_on_in_its_last_segment() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=1000)
    put(log, 1)
    await log.close()
    log, _, _, _ = open_local(disk, segment_bytes=1000)
    put(log, 2)
    await log.close()
    assert list(segment_files(disk)) == [FIRST]
    _, _, replayed, _ = open_local(disk, segment_bytes=1000)
    assert [data for data, _ in replayed] == [record(1), record(2)]


# Failure


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["write", "sync"])
async def test_a_failed_commit_is_final(what: str) -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, batch_bytes=100)
    put(log, 0)
    await settled(log)
    committed = log.committed_position
    disk.hold()
    disk.failing = lambda done: what in done
    for name in range(1, 4):
        put(log, name)
    await turns()
    put(log, 4)  # is not in the commit that fails, and is lost with it
    disk.release()
    disk.failing = lambda done: False  # it would go well now, but nobody asks again
    await turns(20)
    assert recorder.receipts == [0]
    assert len(recorder.failures) == 1
    assert recorder.lost == [1, 2, 3, 4]
    assert log.committed_position == committed
    error = str(recorder.failures[0])
    assert FIRST in error
    assert disk.place in error
    assert "Input/output error" in error
    changes = list(disk.changes)
    for _ in range(2):
        with pytest.raises(LogFailed) as caught:
            put(log, 5)
        assert caught.value is recorder.failures[0]
    await turns()
    await asyncio.wait_for(log.close(), 10)
    assert (recorder.receipts, len(recorder.failures), disk.changes) == ([0], 1, changes)
    assert log.read_wait(LogOffset(HEADER_BYTES), 40) == record(0), "what is committed stays readable"


@pytest.mark.asyncio
async def test_a_segment_that_cannot_be_made_is_a_failure_and_nobodys_exception() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    put(log, 0, 100)
    await settled(log)
    disk.failing = lambda done: done.startswith("create")
    put(log, 1, 100)
    put(log, 2, 100)
    await turns(10)
    assert recorder.receipts == [0]
    assert recorder.lost == [1, 2]
    assert f"writing {segment_name(LogOffset(196))}" in str(recorder.failures[0])
    await log.close()


@pytest.mark.asyncio
async def test_an_end_mark_that_cannot_be_synced_is_a_failure() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    put(log, 0, 100, sync=False)
    await settled(log)
    disk.failing = lambda done: done == f"write sync {FIRST}"
    put(log, 1, 100, sync=False)
    await turns(10)
    assert recorder.lost == [1]
    assert len(recorder.failures) == 1
    await log.close()
    _, _, replayed, _ = open_local(FaultyDisk(disk.files()))
    assert [data for data, _ in replayed] == [record(0, 100)]


@pytest.mark.asyncio
async def test_a_failed_sync_that_was_asked_for_is_a_failure_of_what_is_under_way() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    put(log, 0, sync=False)
    await settled(log)
    disk.hold()
    disk.failing = lambda done: done == f"sync {FIRST}"
    told: list[OSError | None] = []
    log.sync(told.append)
    put(log, 1)
    await turns()
    disk.release()
    await turns(10)
    assert isinstance(told[0], OSError)
    assert recorder.lost == [1]
    assert recorder.receipts == [0]
    assert len(recorder.failures) == 1
    await log.close()


@pytest.mark.asyncio
async def test_close_waits_for_the_commit_under_way_also_over_several_segments() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    disk.hold()
    for name in range(5):
        put(log, name, 100, sync=False)
    closing = asyncio.ensure_future(log.close())
    for _ in range(20):
        await turns()
        if disk.held:
            assert not closing.done()
            disk.release(1)
    await asyncio.wait_for(closing, 10)
    assert recorder.receipts == list(range(5))


@pytest.mark.asyncio
async def test_close_ends_also_when_the_commit_under_way_fails() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    disk.hold()
    put(log, 0)
    closing = asyncio.ensure_future(log.close())
    await turns()
    disk.failing = lambda done: True
    disk.release()
    await asyncio.wait_for(closing, 10)
    assert len(recorder.failures) == 1


# Openings


@pytest.mark.asyncio
async def test_each_segment_but_the_very_first_begins_with_an_opening() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=400, opening=[40, 70])
    for name in range(17):
        put(log, name)
        if name % 3 == 0:
            await settled(log)
    await settled(log)
    bases = [int(name[4:24]) for name in segment_files(disk)]
    assert len(bases) > 3
    assert recorder.begun == bases[1:]
    found = frames(disk)
    for base in bases[1:]:
        at = next(number for number, header in enumerate(found) if header.offset == base)
        kinds = [header.kind for header in found[at : at + 2]]
        assert kinds == [FrameKind.OPENING, FrameKind.BATCH]
        assert found[at].records == 2
    assert recorder.receipts == list(range(17))
    await log.close()
    log, recorder, replayed, _ = open_local(disk, segment_bytes=400, opening=[40, 70])
    assert [data for data, _ in replayed if not is_opening(data)] == [record(name) for name in range(17)]
    put(log, 17)
    assert recorder.begun == [], "the log went on in a segment that has its opening"
    await log.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("opening", [[30] * 100, [500], [3000, 20, 5000]])
async def test_an_opening_may_be_larger_than_a_segment_or_a_batch(opening: list[int]) -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=400, batch_bytes=150, opening=opening)
    offsets = {}
    for name in range(12):
        offsets[name] = put(log, name)
    await settled(log)
    assert len(segment_files(disk)) == 12 // 4
    assert recorder.begun == [int(name[4:24]) for name in segment_files(disk)][1:]
    assert recorder.receipts == list(range(12))
    for name, offset in offsets.items():
        assert log.read_wait(LogOffset(offset), 40) == record(name)
    await log.close()
    again, _, replayed, _ = open_local(disk, segment_bytes=400, batch_bytes=150, opening=opening)
    assert [data for data, _ in replayed if not is_opening(data)] == [record(name) for name in range(12)]
    assert sum(is_opening(data) for data, _ in replayed) == 2 * len(opening)
    await again.close()


@pytest.mark.asyncio
async def test_the_group_that_begins_a_segment_lies_in_one_batch_after_the_opening() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=400, batch_bytes=100, opening=[60, 60])
    put(log, 0, 200)
    at = first = log.room_for(5 * 50)
    for name in range(1, 6):
        assert log.append(record(name, 50), name) == at
        at = LogOffset(at + 50)
    await settled(log)
    assert recorder.begun == [200 + 2 * HEADER_BYTES]
    last = headers(disk)[-1]
    assert (last.records, last.offset + HEADER_BYTES) == (5, first)
    assert [header.kind for header in frames(disk)] == [
        FrameKind.BATCH,
        FrameKind.END,
        FrameKind.OPENING,
        FrameKind.OPENING,
        FrameKind.BATCH,
    ]
    await log.close()


@pytest.mark.asyncio
async def test_an_opening_and_what_follows_it_are_one_commit() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=300, batch_bytes=100, opening=[60] * 5)
    put(log, 0, 200)
    put(log, 1)
    await settled(log)
    second = list(segment_files(disk))[1]
    assert [what for what in disk.changes if second in what] == [f"create {second}", f"write sync {second}"]
    await log.close()


@pytest.mark.asyncio
async def test_room_in_a_new_segment_that_is_not_used_tells_of_it_once_and_makes_no_file() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    put(log, 0, 100)
    await settled(log)
    for _ in range(3):
        log.room_for(100)
    assert recorder.begun == [196]
    assert (log.end_offset, log.waiting_bytes) == (148, 0)
    await turns()
    assert list(segment_files(disk)) == [FIRST]
    put(log, 1, 20)
    await settled(log)
    assert recorder.begun == [196]
    assert len(segment_files(disk)) == 2
    await log.close()


@pytest.mark.asyncio
async def test_an_opening_that_cannot_be_made_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200, opening=[50])
    put(log, 0, 100)

    def mistaken(offset: LogOffset) -> None:
        put(log, OPENING)
        raise RuntimeError("our own mistake")

    with monkeypatch.context() as patched:
        patched.setattr(recorder, "on_segment", mistaken)
        with pytest.raises(RuntimeError):
            put(log, 1, 100)
    put(log, 1, 100)
    await settled(log)
    assert recorder.begun == [196]
    assert recorder.receipts == [0, 1]
    assert [header.kind for header in frames(disk)][2:] == [FrameKind.OPENING] * 2 + [FrameKind.BATCH]
    await log.close()


@pytest.mark.asyncio
async def test_a_half_written_opening_is_cut_and_written_anew() -> None:
    """At every byte of a segment's first commit: the opening is there whole or not at all."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=300, batch_bytes=100, opening=[60] * 4)
    put(log, 0, 200)
    put(log, 1)
    await settled(log)
    await log.close()
    (_, whole), (second, data) = segment_files(disk).items()
    base = len(whole)
    for size in range(len(data)):
        torn = FaultyDisk(disk.files() | {second: data[:size]})
        log, recorder, replayed, recovered = open_local(torn, segment_bytes=300, batch_bytes=100, opening=[60] * 4)
        assert [found for found, _ in replayed] == [record(0, 200)]
        assert (recovered.end.offset, recovered.cut_bytes, torn.files()[second]) == (base, size, b"")
        if size % 50 == 0:
            put(log, 1)
            await settled(log)
            assert recorder.begun == [base]
            assert len(torn.files()[second]) == len(data)
        await log.close()


# A full disk


@pytest.fixture
def _retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETRY_S", 0.002)


at_once = pytest.mark.usefixtures("_retries_at_once")


@at_once
@pytest.mark.asyncio
async def test_without_room_a_commit_is_held_and_told_and_goes_through_when_there_is_room() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, batch_bytes=100)
    put(log, 0)
    await settled(log)
    disk.full = lambda what: True
    for name in range(1, 6):
        put(log, name)
    await turns(10)
    assert recorder.held == [1, 2, 3, 4, 5]
    assert len(recorder.full) == 1
    assert isinstance(recorder.full[0], LogFull)
    assert disk.place in str(recorder.full[0])
    assert "No space left" in str(recorder.full[0])
    assert (recorder.receipts, recorder.rooms, recorder.failures) == ([0], 0, [])
    await asyncio.sleep(0.02)
    assert len(recorder.full) == 1, "told again although nothing new was appended"
    disk.full = lambda what: False
    await settled(log)
    assert recorder.receipts == [0, 1, 2, 3, 4, 5]
    assert recorder.rooms == 1
    await log.close()
    _, _, replayed, recovered = open_local(FaultyDisk(disk.files()))
    assert [data for data, _ in replayed] == [record(name) for name in range(6)]
    assert recovered.cut_bytes == 0


@at_once
@pytest.mark.asyncio
async def test_what_is_appended_while_the_disk_is_full_is_held_in_order_and_told_once() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, batch_bytes=100)
    disk.full = lambda what: True
    for name in range(9):
        put(log, name)
        await asyncio.sleep(0.003)
    await turns()
    assert recorder.held == list(range(9))
    disk.full = lambda what: False
    await settled(log)
    assert recorder.receipts == list(range(9))
    put(log, 9)
    await settled(log)
    assert (recorder.held, recorder.rooms) == (list(range(9)), 1)
    await log.close()


@at_once
@pytest.mark.asyncio
@pytest.mark.parametrize("step", ["create", "write sync " + FIRST, "write sync log/00000000000000000196"])
async def test_a_roll_waits_for_room_at_each_of_its_steps(step: str) -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200, opening=[30])
    put(log, 0, 100)
    await settled(log)
    disk.full = lambda what: what.startswith(step)
    put(log, 1, 100)
    await asyncio.sleep(0.01)
    assert recorder.held == [OPENING, 1]
    assert log.read_wait(LogOffset(HEADER_BYTES), 100) == record(0, 100)
    survivor = FaultyDisk(disk.files())
    disk.full = lambda what: False
    await settled(log)
    assert (recorder.receipts, recorder.rooms) == ([0, 1], 1)
    await log.close()
    for left in (survivor, FaultyDisk(disk.files())):
        _, _, replayed, _ = open_local(left, segment_bytes=200)
        assert [data for data, _ in replayed if not is_opening(data)][:1] == [record(0, 100)]


@at_once
@pytest.mark.asyncio
async def test_a_disk_that_is_full_again_is_told_again() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    for name in range(3):
        disk.full = lambda what: True
        put(log, name)
        await turns(10)
        disk.full = lambda what: False
        await settled(log)
    assert (len(recorder.full), recorder.held, recorder.rooms) == (3, [0, 1, 2], 3)
    await log.close()


@at_once
@pytest.mark.asyncio
async def test_an_error_after_the_disk_was_full_is_final() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    disk.full = lambda what: True
    put(log, 0)
    put(log, 1)
    await turns(10)
    disk.failing = lambda what: True
    await asyncio.sleep(0.02)
    assert (recorder.lost, recorder.rooms, len(recorder.failures)) == ([0, 1], 0, 1)
    with pytest.raises(LogFailed):
        put(log, 2)
    await asyncio.wait_for(log.close(), 10)


@pytest.mark.asyncio
async def test_a_sync_that_fails_while_the_disk_is_full_is_final_and_ends_the_tries() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    put(log, 0, sync=False)
    await settled(log)
    disk.full = lambda what: True
    put(log, 1)
    await turns(10)
    disk.failing = lambda what: what.startswith("sync")
    told: list[OSError | None] = []
    log.sync(told.append)
    await turns(10)
    assert isinstance(told[0], OSError)
    assert recorder.lost == [1]
    changes = list(disk.changes)
    await asyncio.wait_for(log.close(), 10)
    assert disk.changes == changes


@pytest.mark.asyncio
async def test_a_log_that_is_closed_while_the_disk_is_full_gives_up_what_it_holds() -> None:
    """With the wait of a whole second before the next try: closing does not wait for it."""
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, batch_bytes=100)
    put(log, 0)
    await settled(log)
    disk.full = lambda what: True
    for name in range(1, 6):
        put(log, name)
    await turns(10)
    await asyncio.wait_for(log.close(), 0.3)
    assert (recorder.receipts, recorder.failures, recorder.rooms) == ([0], [], 0)
    with pytest.raises(LogFailed, match="closed"):
        put(log, 6)
    records = [data for data, _ in open_local(FaultyDisk(disk.files()))[2]]
    assert records == [record(name) for name in range(len(records))]
    assert records


@pytest.mark.asyncio
@pytest.mark.parametrize("is_full", [False, True])
async def test_closing_waits_for_the_try_that_is_under_way(is_full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETRY_S", 0.001)
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    disk.full = lambda what: True
    put(log, 0)
    await turns(10)
    disk.hold()
    await asyncio.sleep(0.02)
    assert len(disk.held) == 1
    closing = asyncio.ensure_future(log.close())
    await turns()
    assert not closing.done()
    disk.full = lambda what: is_full
    disk.release()
    await asyncio.wait_for(closing, 10)
    assert recorder.receipts == ([] if is_full else [0])


@at_once
@pytest.mark.asyncio
async def test_a_crash_while_the_disk_is_full_leaves_a_log_that_opens() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        disk = FaultyDisk()
        log, recorder, _, _ = open_local(disk, segment_bytes=400, batch_bytes=150, opening=[40, 40])
        for name in range(15):
            full = rng.random() < 0.5
            disk.full = lambda what, full=full: full  # type: ignore[misc]
            put(log, name, rng.randint(40, 90), sync=rng.random() < 0.5)
            await turns(rng.randint(0, 12))
            if rng.random() < 0.3:
                await asyncio.sleep(0.003)
        synced = [name for name in recorder.synced if isinstance(name, int) and name < OPENING]
        survivor = disk.crash(rng) if seed % 2 else disk.kill()
        _, _, replayed, _ = open_local(survivor, segment_bytes=400, batch_bytes=150, opening=[40, 40])
        found = [data[11] for data, _ in replayed if not is_opening(data)]
        assert found == list(range(len(found))), f"seed {seed}"
        assert len(found) > max(synced, default=-1), f"seed {seed}"


# Trimming


async def long_log(disk: FaultyDisk, names: int = 20) -> tuple[local.LocalLog, list[int]]:
    """A log of several segments, each with an opening; the log and the offsets of its records."""
    log, _, _, _ = open_local(disk, segment_bytes=400, opening=[50])
    offsets = []
    for name in range(names):
        offsets.append(put(log, name))
        await settled(log)
    return log, offsets


@pytest.mark.asyncio
async def test_trimmed_segments_are_gone_at_once_and_their_files_one_after_another() -> None:
    disk = FaultyDisk()
    log, offsets = await long_log(disk)
    names = list(segment_files(disk))
    assert len(names) > 4
    segments = log.segments
    assert [segment_name(segment.base) for segment in segments] == names
    disk.hold()
    log.trim(segments[2].end)
    assert log.first_offset == segments[3].base
    assert log.segments == segments[3:]
    for name, offset in enumerate(offsets):
        if offset < segments[3].base:
            with pytest.raises(FileNotFoundError, match="was deleted"):
                log.read_wait(LogOffset(offset), 40)
        else:
            assert log.read_wait(LogOffset(offset), 40) == record(name)
    for file in names[:3]:
        assert [given[0] for given in disk.held] == [f"remove {file}"]
        disk.release(1)
        await turns()
    assert not disk.held
    assert list(segment_files(disk)) == names[3:]
    disk.release()
    await log.close()


@pytest.mark.asyncio
async def test_only_whole_segments_below_are_trimmed_and_never_the_newest() -> None:
    disk = FaultyDisk()
    log, _ = await long_log(disk)
    segments = log.segments
    log.trim(LogOffset(segments[1].end - 1))
    assert log.first_offset == segments[1].base
    log.trim(segments[0].base)
    assert log.first_offset == segments[1].base
    log.trim(LogOffset(log.end_offset + 1000))
    assert log.first_offset == segments[-1].base
    await turns(20)
    assert list(segment_files(disk)) == [segment_name(segments[-1].base)]
    put(log, 99)
    await settled(log)
    await log.close()


@pytest.mark.asyncio
async def test_a_trimmed_log_opens_at_its_first_segment_and_tells_its_opening() -> None:
    disk = FaultyDisk()
    log, offsets = await long_log(disk)
    segments = log.segments
    log.trim(segments[2].base)
    await turns(20)
    await log.close()
    log, recorder, replayed, _ = open_local(disk, segment_bytes=400, opening=[50])
    assert log.first_offset == segments[2].base
    assert log.segments == segments[2:]
    assert is_opening(replayed[0][0])
    kept = [offset for offset in offsets if offset >= segments[2].base]
    assert [offset for data, offset in replayed if not is_opening(data)] == kept
    put(log, 20)
    await settled(log)
    assert recorder.receipts == [20]
    await log.close()


@pytest.mark.asyncio
async def test_a_segment_stays_until_the_opening_of_the_next_one_is_durable() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=200, opening=[50])
    put(log, 0, 100)
    await settled(log)
    disk.hold()
    put(log, 1, 100)
    for _ in range(3):
        log.trim(LogOffset(1 << 40))
        assert log.first_offset == 0
        await turns()
        disk.release(1)
    await settled(log)
    log.trim(LogOffset(1 << 40))
    assert log.first_offset == 196
    disk.release()
    await log.close()


@pytest.mark.asyncio
async def test_a_read_that_was_begun_before_a_trim_ends_well_and_a_later_one_is_an_error() -> None:
    disk = FaultyDisk()
    log, offsets = await long_log(disk)
    told: list[bytes | OSError] = []
    log.read_later(LogOffset(offsets[0]), 40, told.append)
    log.trim(LogOffset(1 << 40))
    log.read_later(LogOffset(offsets[1]), 40, told.append)
    await turns(20)
    assert told[0] == record(0)
    assert isinstance(told[1], FileNotFoundError)
    await log.close()


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_removed_is_tried_again_with_the_next_trim() -> None:
    disk = FaultyDisk()
    log, _ = await long_log(disk)
    names, segments = list(segment_files(disk)), log.segments
    disk.failing = lambda what: what == f"remove {names[1]}"
    log.trim(segments[2].base)
    await turns(20)
    assert list(segment_files(disk)) == names[1:], "nothing newer goes before the older one"
    log.trim(segments[3].base)
    await turns(20)
    assert list(segment_files(disk)) == names[1:]
    disk.failing = lambda what: False
    log.trim(segments[3].base)
    await turns(20)
    assert list(segment_files(disk)) == names[3:]
    await log.close()


@pytest.mark.asyncio
async def test_a_crash_while_files_are_removed_leaves_a_log_that_opens() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        disk = FaultyDisk()
        log, offsets = await long_log(disk, 25)
        segments = log.segments
        disk.hold()
        log.trim(LogOffset(rng.choice(segments).end))
        for name in range(rng.randint(0, 6)):
            put(log, 100 + name, 40)
            await turns(2)
            disk.release(rng.randint(0, len(disk.held)))
            await turns(2)
        again, _, replayed, _ = open_local(disk.crash(rng), segment_bytes=400, opening=[50])
        found = [offset for data, offset in replayed if not is_opening(data)]
        assert set(offsets) - set(found) == {offset for offset in offsets if offset < again.first_offset}
        assert again.first_offset <= log.first_offset


@pytest.mark.asyncio
async def test_segments_say_when_they_were_begun_also_after_a_restart() -> None:
    disk, clock = FaultyDisk(), ManualClock(1000)
    recorder = Recorder()
    log = recorder.log = local.LocalLog(host_on(disk, clock), recorder, LogConfig(segment_bytes=250))
    recover_empty(log)
    assert log.segments == []
    for name in range(6):
        put(log, name, 100)
        await settled(log)
        clock.at_ms += 1000
    assert [segment.begun_at_ms for segment in log.segments] == [1000, 2000, 3000, 4000, 5000, 6000]
    assert log.segments[-1].end == log.committed_offset
    segments = log.segments
    await log.close()
    again, _, _, _ = open_local(disk, segment_bytes=250)
    assert again.segments == segments
    await again.close()


@pytest.mark.asyncio
async def test_a_sync_that_follows_a_failed_one_is_not_believed() -> None:
    """The system has taken the pages of the failed one for written, so the next sync has nothing to do and succeeds."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk)
    put(log, 0, sync=False)
    await settled(log)
    disk.hold()
    outcomes: list[OSError | None] = []
    log.sync(outcomes.append)
    log.sync(outcomes.append)
    disk.failing_sync = lambda name: True
    disk.release(1)
    disk.failing_sync = lambda name: False
    disk.release()
    await turns()
    assert [type(error) for error in outcomes] == [OSError, OSError]
    assert log.durable_offset == 0
