"""The local engine over disks that hold back, fail and forget. What all engines share is in test_engine."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from pathlib import Path

import pytest

from posthouse.host.memory import MemoryDisk
from posthouse.host.real import RealDisk
from posthouse.model.offsets import LogOffset
from posthouse.store.log import local
from posthouse.store.log.batch import HEADER_BYTES, BatchHeader, decode_header, encode_batch
from posthouse.store.log.engine import START, LogDamaged, LogFailed, Position, Recovered
from posthouse.store.log.local import LocalLog, segment_name
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.log.recorder import Recorder, host_on, open_local, put, record, settled, turns

FIRST = segment_name(LogOffset(0))


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


def headers(disk: FaultyDisk) -> list[BatchHeader]:
    """All batches of the log on `disk`, in order."""
    found = []
    for name in sorted(disk.files()):
        data, at = disk.files()[name], 0
        while (header := decode_header(data, at)) is not None:
            found.append(header)
            at += header.size
        assert at == len(data)
    return found


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
    files = disk.files()
    assert len(files) > 5
    end = 0
    for file, data in sorted(files.items()):
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
async def test_a_record_larger_than_a_segment_has_one_of_its_own() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=500)
    offsets = [put(log, name, size) for name, size in enumerate((40, 2000, 40))]
    await settled(log)
    assert sorted(len(data) for data in disk.files().values()) == [88, 88, 2048]
    assert log.read_wait(LogOffset(offsets[1]), 2000) == record(1, 2000)
    await log.close()


@pytest.mark.asyncio
async def test_the_next_segment_is_made_only_when_the_one_before_it_is_durable() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    put(log, 1, 100, sync=False)
    await settled(log)
    disk.hold()
    put(log, 2, 100, sync=False)
    await turns()
    assert [given[0] for given in disk.held] == [f"sync {FIRST}"]
    assert list(disk.files()) == [FIRST]
    disk.release(1)
    await turns()
    assert len(disk.files()) == 2
    disk.release()
    await settled(log)
    assert recorder.receipts == [1, 2]
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
    assert list(disk.files()) == [FIRST]
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
    assert "No space left" in str(recorder.failures[0])
    await log.close()


@pytest.mark.asyncio
async def test_a_failed_sync_of_the_segment_left_behind_is_a_failure() -> None:
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk, segment_bytes=200)
    put(log, 0, 100, sync=False)
    await settled(log)
    disk.failing = lambda done: done == f"sync {FIRST}"
    put(log, 1, 100, sync=False)
    await turns(10)
    assert recorder.lost == [1]
    assert len(recorder.failures) == 1
    assert list(disk.files()) == [FIRST]
    await log.close()


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


# Recovery


async def written(names: int = 10, *, segment_bytes: int = 1 << 30, size: int = 40) -> FaultyDisk:
    """A disk with a log of synced batches, one record each."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=segment_bytes)
    for name in range(names):
        put(log, name, size)
        await settled(log)
    await log.close()
    return disk


def reopened(files: dict[str, bytes], **options: int) -> tuple[list[bytes], Recovered, FaultyDisk]:
    disk = FaultyDisk(files)
    _, _, replayed, recovered = open_local(disk, **options)  # type: ignore[arg-type]
    return [data for data, _ in replayed], recovered, disk


@pytest.mark.asyncio
async def test_an_empty_disk_is_an_empty_log() -> None:
    records, recovered, disk = reopened({})
    assert (records, recovered) == ([], (START, 0, 0))
    assert disk.files() == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("segment_bytes", [1 << 30, 200])
async def test_a_clean_log_comes_back_whole_and_unchanged(segment_bytes: int) -> None:
    disk = await written(segment_bytes=segment_bytes)
    files = disk.files()
    records, recovered, again = reopened(files)
    assert records == [record(name) for name in range(10)]
    assert recovered.cut_bytes == 0
    assert recovered.records == 10
    assert recovered.end.offset == sum(map(len, files.values()))
    assert again.files() == files


@pytest.mark.asyncio
async def test_a_torn_tail_is_dropped_at_every_byte_of_the_last_batch() -> None:
    disk = await written(3)
    data = disk.files()[FIRST]
    last = headers(disk)[-1]
    for size in range(last.offset, len(data)):
        records, recovered, cut = reopened({FIRST: data[:size]})
        assert records == [record(0), record(1)]
        assert (recovered.end.offset, recovered.cut_bytes) == (last.offset, size - last.offset)
        assert cut.files()[FIRST] == data[: last.offset]


@pytest.mark.asyncio
async def test_a_torn_group_is_dropped_whole() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk)
    put(log, 0)
    await settled(log)
    group = [record(name) for name in range(1, 6)]
    at = log.room_for(200)
    for data in group:
        log.append(data, None)
    await settled(log)
    data = disk.files()[FIRST]
    for size in range(at - HEADER_BYTES, len(data)):
        records, _, _ = reopened({FIRST: data[:size]})
        assert records == [record(0)]
    assert reopened({FIRST: data})[0] == [record(0), *group]
    await log.close()


@pytest.mark.asyncio
async def test_every_flipped_bit_of_the_last_batch_cuts_it() -> None:
    disk = await written(3)
    last = headers(disk)[-1]
    for bit in range(last.size * 8):
        data = bytearray(disk.files()[FIRST])
        data[last.offset + bit // 8] ^= 1 << bit % 8
        records, recovered, _ = reopened({FIRST: bytes(data)})
        assert records == [record(0), record(1)]
        assert recovered.cut_bytes == last.size


@pytest.mark.asyncio
async def test_a_flipped_bit_in_what_was_durable_is_damage_and_nothing_is_changed() -> None:
    disk = await written(4, segment_bytes=200)
    files = disk.files()
    assert len(files) == 2
    found = headers(disk)
    for bad in found[:-1]:
        for at in (0, 5, 9, 17, 30, 47, 50, bad.size - 1):
            base = bad.offset // 176 * 176
            name = segment_name(LogOffset(base))
            data = bytearray(files[name])
            data[bad.offset - base + at] ^= 4
            damaged = FaultyDisk(files | {name: bytes(data)})
            with pytest.raises(LogDamaged) as caught:
                open_local(damaged, segment_bytes=200)
            text = str(caught.value)
            assert name in text
            assert f"log offset {bad.offset} " in text
            assert f"byte {bad.offset - base} " in text
            assert "Nothing was changed" in text
            assert damaged.changes == []
            assert damaged.files() == files | {name: bytes(data)}


@pytest.mark.asyncio
async def test_a_tail_of_zeros_is_dropped() -> None:
    disk = await written(3)
    data = disk.files()[FIRST]
    for zeros in (1, 47, 48, 100, 5000):
        records, recovered, cut = reopened({FIRST: data + bytes(zeros)})
        assert len(records) == 3
        assert recovered.cut_bytes == zeros
        assert cut.files()[FIRST] == data
    last = headers(disk)[-1]
    records, _, _ = reopened({FIRST: data[: last.offset] + bytes(last.size)})
    assert len(records) == 2


@pytest.mark.asyncio
async def test_zeros_where_durable_bytes_were_are_damage() -> None:
    disk = await written(4)
    data, found = disk.files()[FIRST], headers(disk)
    holed = data[: found[1].offset] + bytes(found[1].size) + data[found[2].offset :]
    with pytest.raises(LogDamaged, match=f"log offset {found[1].offset} "):
        reopened({FIRST: holed})


@pytest.mark.asyncio
async def test_a_write_that_only_left_its_later_part_is_dropped() -> None:
    """Several batches of one commit: the good ones after the bad one were never durable either."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, batch_bytes=150)
    put(log, 0)
    await settled(log)
    for name in range(1, 10):
        put(log, name)
    await settled(log)
    data, found = disk.files()[FIRST], headers(disk)
    assert len(found) > 3
    assert len({header.durable for header in found[1:]}) == 1
    torn = bytearray(data)
    torn[found[1].offset + 60] ^= 1
    records, recovered, cut = reopened({FIRST: bytes(torn)})
    assert records == [record(0)]
    assert recovered.cut_bytes == len(data) - found[1].offset
    assert cut.files()[FIRST] == data[: found[1].offset]
    await log.close()


@pytest.mark.asyncio
async def test_a_message_that_looks_like_a_batch_is_not_taken_for_one() -> None:
    """The tail holds, inside a body, a batch that claims another place: no proof that anything was durable."""
    disk = await written(2)
    data = disk.files()[FIRST]
    forged, _ = encode_batch(LogOffset(5), 9, 9, 9, LogOffset(1 << 40), [record(7)], 40)
    here = len(data) + 30
    future, _ = encode_batch(LogOffset(here), 9, 9, 9, LogOffset(1 << 40), [record(7)], 40)
    for body in (forged, future, b"PHB1" * 50):
        records, recovered, _ = reopened({FIRST: data + bytes(30) + body})
        assert len(records) == 2
        assert recovered.cut_bytes == 30 + len(body)


@pytest.mark.asyncio
async def test_proof_of_damage_is_found_wherever_it_lies_in_the_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = await written(12)
    data, found = disk.files()[FIRST], headers(disk)
    torn = bytearray(data)
    torn[60] ^= 1
    good = set()
    for size in range(50, 400, 7):
        monkeypatch.setattr(local, "_READ_BYTES", size)
        with pytest.raises(LogDamaged) as caught:
            reopened({FIRST: bytes(torn)})
        good.add(str(caught.value).split("follow at ")[1].split(".")[0])
    assert good == {str(found[1].offset)}


@pytest.mark.asyncio
async def test_batches_longer_than_one_read_are_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = await written(6, size=900)
    for size in (48, 100, 947, 948, 949, 2000):
        monkeypatch.setattr(local, "_READ_BYTES", size)
        records, _, _ = reopened(disk.files())
        assert records == [record(name, 900) for name in range(6)]


@pytest.mark.asyncio
async def test_a_missing_segment_in_the_middle_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = disk.files()
    names = sorted(files)
    for gone in names[1:-1]:
        with pytest.raises(LogDamaged, match="a segment is missing, cut or doubled"):
            reopened({name: data for name, data in files.items() if name != gone})


@pytest.mark.asyncio
async def test_a_missing_first_segment_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = disk.files()
    del files[FIRST]
    with pytest.raises(LogDamaged, match="segments are missing"):
        reopened(files)


@pytest.mark.asyncio
async def test_a_segment_that_was_cut_in_the_middle_of_the_log_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = disk.files()
    files[FIRST] = files[FIRST][:-1]
    with pytest.raises(LogDamaged, match="a segment is missing, cut or doubled"):
        reopened(files)


@pytest.mark.asyncio
async def test_files_that_are_no_segments_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    disk = await written(10, segment_bytes=200)
    files = disk.files()
    foreign = {
        "log/notes.txt": b"hello",
        "log/old.log": b"hello",
        "log/0.log": files[FIRST],  # a copy under a name that is not ours
        "log/00000000000000000000 (copy).log": files[FIRST],
        "log/0000000000000000000a.log": b"",
        "log/٠.log": b"",
        FIRST + ".bak": b"x",
    }
    with caplog.at_level(logging.WARNING):
        records, _, again = reopened(files | foreign, segment_bytes=200)
    assert len(records) == 10
    assert again.files() == files | foreign
    assert "log/old.log" in caplog.text


@pytest.mark.asyncio
async def test_a_doubled_stretch_of_the_log_is_damage() -> None:
    """The same bytes twice, the second time at another place."""
    disk = await written(4, segment_bytes=200)
    files = disk.files()
    with pytest.raises(LogDamaged, match="doubled"):
        reopened(files | {segment_name(LogOffset(88)): files[FIRST][88:]})


@pytest.mark.asyncio
async def test_a_segment_of_another_log_is_not_believed() -> None:
    """Same place, good checksums, another chain. It follows what is ours, so it looks like a torn tail at first."""
    ours, theirs = await written(8, segment_bytes=200), FaultyDisk()
    log, _, _, _ = open_local(theirs, segment_bytes=200)
    for name in range(100, 108):
        put(log, name)
        await settled(log)
    await log.close()
    files = ours.files()
    last = sorted(files)[-2]
    with pytest.raises(LogDamaged, match=last):
        reopened(files | {last: theirs.files()[last]})


@pytest.mark.asyncio
async def test_a_tail_that_spans_segments_is_cut_from_the_end_back() -> None:
    """A crash in the middle of the cutting leaves no hole behind."""
    disk = await written(8, segment_bytes=200)
    files = disk.files()
    names = sorted(files)
    assert len(names) == 4
    found = headers(disk)
    torn = bytearray(files[names[1]])
    torn[60] ^= 1
    # Nothing after the bad batch says that it had been durable.
    rest: dict[str, bytes] = {}
    previous = found[1].checksum
    for header in found[2:]:
        name = segment_name(LogOffset(header.offset // 176 * 176))
        data, previous = encode_batch(
            header.offset, 1, previous, header.stored_at_ms, found[2].offset, [record(header.offset // 88)], 40
        )
        rest[name] = rest.get(name, b"") + data
    rest[names[1]] = rest[names[1]][:60] + b"?" + rest[names[1]][61:]
    records, recovered, cut = reopened({FIRST: files[FIRST]} | rest)
    assert records == [record(0), record(1)]
    assert recovered.cut_bytes == 6 * 88
    assert [change for change in cut.changes if change.startswith("remove")] == [
        f"remove {names[3]}",
        f"remove {names[2]}",
    ]
    assert cut.files() == {FIRST: files[FIRST], names[1]: b""}


@pytest.mark.asyncio
async def test_a_power_cut_is_never_taken_for_damage_and_loses_nothing_synced() -> None:
    """Bursts of several batches in one commit, kills and power cuts, one after the other on the same files."""
    cut = 0
    for seed in range(150):
        rng = random.Random(seed)
        disk, name, durable = FaultyDisk(), 0, 0
        for _ in range(4):
            log, recorder, replayed, recovered = open_local(disk, segment_bytes=3000, batch_bytes=600)
            assert [data for data, _ in replayed] == [record(n, 300) for n in range(len(replayed))], f"seed {seed}"
            assert len(replayed) >= durable, f"seed {seed}"
            cut += recovered.cut_bytes > 0
            durable = name = len(replayed)
            synced: set[object] = set()
            disk.hold()
            for _ in range(rng.randint(1, 6)):
                for _ in range(rng.randint(1, 8)):
                    if rng.random() < 0.6:
                        synced.add(name)
                    put(log, name, 300, sync=name in synced)
                    name += 1
                await turns(3)
                disk.release(rng.randint(0, len(disk.held)))
                await turns(3)
            for number, receipt in enumerate(recorder.receipts, len(replayed) + 1):
                if receipt in synced:
                    durable = number
            disk = disk.kill() if rng.random() < 0.3 else disk.crash(rng)
    assert cut > 50


@pytest.mark.asyncio
async def test_recovery_twice_gives_the_same() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        disk = FaultyDisk()
        log, _, _, _ = open_local(disk, segment_bytes=300)
        disk.hold()
        for name in range(rng.randint(1, 15)):
            put(log, name, rng.randint(30, 120), sync=rng.random() < 0.7)
            await turns(3)
            disk.release(rng.randint(0, len(disk.held)))
            await turns(2)
        crashed = disk.crash(rng)
        once, _, first = reopened(crashed.files(), segment_bytes=300)
        twice, recovered, second = reopened(first.files(), segment_bytes=300)
        assert once == twice
        assert recovered.cut_bytes == 0
        assert first.files() == second.files()


@pytest.mark.asyncio
async def test_what_was_recovered_is_durable_before_anything_follows_it() -> None:
    """After a kill the tail may be in memory only; new batches will claim that it is durable."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk)
    put(log, 0, sync=False)
    await settled(log)
    _, _, replayed, _ = open_local(survivor := disk.kill())
    assert len(replayed) == 1
    assert survivor.changes == [f"truncate {FIRST} 88"]


@pytest.mark.asyncio
async def test_the_epoch_grows_with_every_start_also_after_a_snapshot() -> None:
    disk = FaultyDisk()
    after = START
    for start in range(1, 6):
        log, _, _, recovered = open_local(disk, after=after)
        assert recovered.end.epoch == start - 1
        put(log, start)
        await log.close()
        after = log.committed_position if start > 2 else START
        assert log.committed_position.epoch == start
    assert [header.epoch for header in headers(disk)] == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_a_replay_begins_at_any_position_that_the_log_gave() -> None:
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=300)
    positions: list[Position] = [START]
    for name in range(12):
        put(log, name)
        await settled(log)
        positions.append(log.committed_position)
    await log.close()
    for done, position in enumerate(positions):
        _, _, replayed, recovered = open_local(FaultyDisk(disk.files()), after=position, segment_bytes=300)
        assert [data for data, _ in replayed] == [record(name) for name in range(done, 12)]
        assert recovered.end == positions[-1]


@pytest.mark.asyncio
async def test_a_position_beyond_the_log_is_damage() -> None:
    disk = await written(3)
    with pytest.raises(LogDamaged, match="segments are missing"):
        open_local(disk, after=Position(LogOffset(1000), 5))


@pytest.mark.asyncio
async def test_stored_times_of_batches_never_go_back() -> None:
    disk = FaultyDisk()
    clock, recorder = ManualClock(), Recorder()
    log = recorder.log = LocalLog(host_on(disk, clock), recorder)
    log.recover(START, lambda data, at, size, offset: None)
    for name, at_ms in enumerate((1000, 2000, 500, 3000)):
        clock.at_ms = at_ms
        put(log, name)
        await settled(log)
    assert [header.stored_at_ms for header in headers(disk)] == [1000, 2000, 2000, 3000]
    await log.close()


@pytest.mark.asyncio
async def test_a_log_on_real_files_comes_back_after_a_torn_write(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    disk.lock()
    log, _, _, _ = open_local(disk, segment_bytes=1000)
    for name in range(50):
        put(log, name)
    await log.close()
    assert len(disk.list("log")) > 2
    last = disk.open(f"log/{disk.list('log')[-1]}")
    last.truncate(last.size_bytes() - 1)
    last.close()
    _, _, replayed, recovered = open_local(disk, segment_bytes=1000)
    assert [data for data, _ in replayed] == [record(name) for name in range(len(replayed))]
    assert 0 < len(replayed) < 50
    assert recovered.cut_bytes > 0
    disk.close()


@pytest.mark.asyncio
async def test_a_log_that_cannot_be_read_is_an_os_error() -> None:
    disk = MemoryDisk()

    def broken(name: str, create: bool = False) -> object:
        raise OSError(errno.EACCES, "Permission denied", name)

    recorder = Recorder()
    log = LocalLog(host_on(disk), recorder)
    disk.replace(FIRST, b"", lambda error: None)
    disk.open = broken  # type: ignore[assignment,method-assign]
    with pytest.raises(PermissionError):
        log.recover(START, lambda data, at, size, offset: None)
