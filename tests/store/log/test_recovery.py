"""Recovery: what a crash leaves is cut, what was safe once is never cut, and everything else is told."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from pathlib import Path

import pytest

from posthouse.host.real import RealDisk
from posthouse.model.offsets import LogOffset
from posthouse.store.log import local, scan
from posthouse.store.log.batch import HEADER_BYTES, FrameHeader, FrameKind, encode_batch, encode_end, encode_gap
from posthouse.store.log.engine import START, LogConfig, LogDamaged, Position
from posthouse.store.log.local import LocalLog
from posthouse.store.log.segments import segment_name
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.log.logs import FIRST, FORMAT, damage, frames, headers, reopened, segment_files, written
from tests.store.log.recorder import (
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


@pytest.mark.asyncio
async def test_an_empty_disk_is_an_empty_log() -> None:
    disk = FaultyDisk()
    for _ in range(2):
        log, _, replayed, recovered = open_local(disk)
        assert (replayed, recovered) == ([], (START, 0, 0))
        assert (log.first_offset, log.segments, log.end_offset) == (0, [], 0)
        assert disk.files() == {FIRST: b""} | FORMAT


@pytest.mark.asyncio
@pytest.mark.parametrize("segment_bytes", [1 << 30, 200])
async def test_a_clean_log_comes_back_whole_and_unchanged(segment_bytes: int) -> None:
    disk = await written(segment_bytes=segment_bytes)
    files = disk.files()
    records, recovered, again = reopened(files)
    assert records == [record(name) for name in range(10)]
    assert recovered.cut_bytes == 0
    assert recovered.records == 10
    assert recovered.end.offset == sum(map(len, segment_files(disk).values()))
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


def place_of(header: FrameHeader, files: dict[str, bytes]) -> tuple[str, int]:
    """The file that holds a frame, and where in it."""
    name = max(name for name in files if name <= segment_name(header.offset))
    return name, header.offset - int(name[4:24])


@pytest.mark.asyncio
async def test_a_flipped_bit_in_what_was_durable_is_damage_and_nothing_is_changed() -> None:
    disk = await written(6, segment_bytes=230)
    files = segment_files(disk)
    assert len(files) == 3
    found = frames(disk)
    assert [header.kind for header in found].count(FrameKind.END) == 2
    for bad in found[:-1]:
        name, at = place_of(bad, files)
        for byte in {0, 5, 9, 17, 30, 40, 47, min(50, bad.size - 1), bad.size - 1}:
            data = bytearray(files[name])
            data[at + byte] ^= 4
            text = damage(files | {name: bytes(data)})
            assert f"{name} is damaged at log offset {bad.offset} (byte {at} of the file): " in text
            assert "Nothing was changed" in text
            assert f"`posthouse check {disk.place}` shows what is damaged" in text
            assert f"`posthouse repair {disk.place}` moves what cannot be saved into a .lost file" in text


@pytest.mark.asyncio
async def test_damage_before_the_last_segment_needs_no_other_proof() -> None:
    """The next segment has bytes, so all of this one was on disk, even if nobody had asked for it."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=400)
    for name in range(5):
        put(log, name, sync=False)
        await settled(log)
    await log.close()
    (first, data), (second, last) = segment_files(disk).items()
    for at in range(0, len(data), 7):
        bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert f"{first} is damaged at" in damage({first: bad, second: last})
        assert f"{first} is damaged at" in damage({first: bad, second: bytes(len(last))})


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
        monkeypatch.setattr(scan, "READ_BYTES", size)
        with pytest.raises(LogDamaged) as caught:
            reopened({FIRST: bytes(torn)})
        good.add(str(caught.value).split("follow at ")[1].split(".")[0])
    assert good == {str(found[1].offset)}


@pytest.mark.asyncio
async def test_batches_longer_than_one_read_are_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = await written(6, size=900)
    for size in (48, 100, 947, 948, 949, 2000):
        monkeypatch.setattr(scan, "READ_BYTES", size)
        records, _, _ = reopened(disk.files())
        assert records == [record(name, 900) for name in range(6)]


@pytest.mark.asyncio
async def test_a_missing_segment_in_the_middle_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = segment_files(disk)
    names = list(files)
    for gone in names[1:-1]:
        text = damage({name: data for name, data in files.items() if name != gone})
        assert "a segment is missing, cut or doubled" in text
        assert names[names.index(gone) - 1] in text


@pytest.mark.asyncio
async def test_a_missing_last_segment_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = segment_files(disk)
    names = list(files)
    del files[names[-1]]
    assert f"{names[-2]} ends with an end mark, so {names[-1]} was there: a segment is missing" in damage(files)


@pytest.mark.asyncio
async def test_a_missing_last_segment_is_seen_also_by_a_replay_that_begins_at_it() -> None:
    disk = await written(10, segment_bytes=200)
    files = segment_files(disk)
    gone = list(files)[-1]
    mark = [header for header in frames(disk) if header.kind is FrameKind.END][-1]
    del files[gone]
    with pytest.raises(LogDamaged, match="a segment is missing"):
        open_local(FaultyDisk(FORMAT | files), after=Position(mark.end, mark.checksum, mark.epoch))


@pytest.mark.asyncio
async def test_a_replay_after_segments_that_are_gone_is_damage() -> None:
    """The oldest segment is missing without a trim: a snapshot of it would say so."""
    disk = await written(10, segment_bytes=200)
    files = disk.files()
    del files[FIRST]
    with pytest.raises(LogDamaged, match="segments are missing"):
        open_local(FaultyDisk(files), after=Position(LogOffset(88), 5))


@pytest.mark.asyncio
async def test_a_segment_that_was_cut_or_grew_in_the_middle_of_the_log_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = segment_files(disk)
    for name in list(files)[:-1]:
        for changed in (files[name][:-1], files[name][:-48], b"", files[name] + b"\0", files[name] * 2):
            assert "a segment is missing, cut or doubled" in damage(files | {name: changed})


@pytest.mark.asyncio
async def test_a_segment_under_a_wrong_name_is_damage() -> None:
    disk = await written(10, segment_bytes=200)
    files = segment_files(disk)
    for name in files:
        if name == FIRST:
            continue
        wrong = segment_name(LogOffset(int(name[4:24]) + 8))
        renamed = {wrong if each == name else each: data for each, data in files.items()}
        assert "a segment is missing, cut or doubled" in damage(renamed)


@pytest.mark.asyncio
async def test_two_segments_that_changed_places_are_damage() -> None:
    disk = await written(10, segment_bytes=230)
    files = segment_files(disk)
    second, third = list(files)[1:3]
    assert len(files[second]) == len(files[third])
    text = damage(files | {second: files[third], third: files[second]})
    assert f"{second} is damaged at log offset {int(second[4:24])} (byte 0 of the file)" in text
    assert "says that it belongs at log offset" in text


@pytest.mark.asyncio
@pytest.mark.parametrize("more", [b"x", bytes(48), bytes(500)])
async def test_bytes_after_the_last_end_mark_are_damage(more: bytes) -> None:
    disk = await written(10, segment_bytes=200)
    files = segment_files(disk)
    names = list(files)
    del files[names[-1]]
    text = damage(files | {names[-2]: files[names[-2]] + more})
    assert f"{len(more)} bytes follow the end mark" in text


@pytest.mark.asyncio
@pytest.mark.parametrize("opening", [(), (40, 50)])
async def test_a_last_segment_of_zeros_or_nothing_is_begun_anew(opening: tuple[int, ...]) -> None:
    """What a crash leaves between the end mark and the first commit of the next segment."""
    disk = await written(8, segment_bytes=300, opening=opening)
    files = segment_files(disk)
    last = list(files)[-1]
    base = int(last[4:24])
    for size in (0, 1, 48, len(files[last]), 5000):
        again = FaultyDisk(FORMAT | files | {last: bytes(size)})
        log, recorder, replayed, recovered = open_local(again, segment_bytes=300, opening=opening)
        assert (recovered.end.offset, recovered.cut_bytes) == (base, size)
        found = [data for data, _ in replayed if not is_opening(data)]
        assert found == [record(name) for name in range(len(found))]
        put(log, len(found))
        assert recorder.begun == [base], "the segment has no opening yet"
        await settled(log)
        await log.close()
        _, _, replayed, _ = open_local(again, segment_bytes=300, opening=opening)
        assert [data for data, _ in replayed if not is_opening(data)] == [*found, record(len(found))]


@pytest.mark.asyncio
async def test_the_empty_file_of_an_interrupted_roll_is_removed() -> None:
    disk = await written(3)
    data = disk.files()[FIRST]
    last = headers(disk)[-1]
    mark, _ = encode_end(last.end, 1, last.checksum, 5, last.end)
    after = segment_name(LogOffset(last.end + HEADER_BYTES))
    for size in range(HEADER_BYTES):
        again = FaultyDisk(FORMAT | {FIRST: data + mark[:size], after: b""})
        log, recorder, replayed, recovered = open_local(again)
        assert [found for found, _ in replayed] == [record(name) for name in range(3)]
        assert (recovered.end.offset, recovered.cut_bytes) == (last.end, size)
        assert segment_files(again) == {FIRST: data}
        put(log, 3)
        await settled(log)
        assert recorder.begun == []
        await log.close()
    records, recovered, whole = reopened({FIRST: data + mark, after: b""})
    assert (len(records), recovered.end.offset) == (3, last.end + HEADER_BYTES)
    assert segment_files(whole) == {FIRST: data + mark, after: b""}


@pytest.mark.asyncio
async def test_what_was_not_synced_may_be_torn_before_an_end_mark_that_was_not_synced_either() -> None:
    """A power cut in the sync of the mark: its page is there, an earlier one is not. The empty file goes first."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=400)
    for name in range(4):
        put(log, name, sync=name == 0)
        await settled(log)
    disk.hold()
    put(log, 4)
    for _ in range(2):
        await turns()
        disk.release(1)
    await turns()
    (first, data), (second, nothing) = segment_files(disk).items()
    assert nothing == b""
    torn = data[:100] + bytes(40) + data[140:]
    records, recovered, cut = reopened({first: torn, second: b""})
    assert records == [record(0)]
    assert recovered.end.offset == 88
    assert segment_files(cut) == {first: data[:88]}
    assert cut.changes == [f"remove {second}", f"truncate {first} 88", f"write again {first}"]
    assert f"{first} is damaged at log offset 0 " in damage({first: b"x" + data[1:], second: b""})


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
    files = segment_files(await written(4, segment_bytes=230))
    assert "doubled" in damage(files | {segment_name(LogOffset(88)): files[FIRST][88:]})


@pytest.mark.asyncio
async def test_a_segment_of_another_log_is_not_believed() -> None:
    """Same place, good checksums, another chain."""
    ours = segment_files(await written(8, segment_bytes=230))
    theirs = segment_files(await written(8, first=100, segment_bytes=230))
    assert list(ours) == list(theirs)
    for name in ours:
        assert "is damaged at" in damage(ours | {name: theirs[name]})


# A log without its oldest segments


@pytest.mark.asyncio
async def test_a_log_whose_oldest_segments_were_trimmed_opens_at_its_first() -> None:
    disk = await written(12, segment_bytes=230, opening=(40,))
    files = segment_files(disk)
    names = list(files)
    for first in range(1, len(names)):
        kept = FaultyDisk(FORMAT | {name: files[name] for name in names[first:]})
        log, recorder, replayed, recovered = open_local(kept, segment_bytes=230, opening=(40,))
        assert log.first_offset == int(names[first][4:24])
        assert is_opening(replayed[0][0])
        assert replayed[-1][0] == record(11)
        assert recovered.cut_bytes == 0
        put(log, 12)
        await settled(log)
        assert recorder.receipts == [12]
        await log.close()


@pytest.mark.asyncio
async def test_damage_in_the_first_frame_of_a_trimmed_log_is_refused() -> None:
    """It would be a torn tail if the log were not trimmed; here the state of everything would be lost with it."""
    files = segment_files(await written(6, segment_bytes=230, opening=(40,)))
    for first in range(1, len(files)):
        names = list(files)[first:]
        kept = {name: files[name] for name in names}
        data = kept[names[0]]
        for changed in (b"", bytes(len(data)), b"x" + data[1:], data[:60] + b"?" + data[61:], data[:50]):
            if len(names) > 1 and len(changed) != len(data):
                assert "cut or doubled" in damage(kept | {names[0]: changed})
            else:
                assert f"{names[0]} is damaged at log offset {int(names[0][4:24])} " in damage(
                    kept | {names[0]: changed}
                )


@pytest.mark.asyncio
async def test_a_replay_of_a_trimmed_log_begins_at_its_snapshot_and_not_before_its_first_byte() -> None:
    disk = await written(8, segment_bytes=230)
    files, found = disk.files(), headers(disk)
    base = int(list(segment_files(disk))[1][4:24])
    del files[FIRST]
    for header in found:
        position = Position(header.end, header.checksum, header.epoch)
        if header.end < base:
            with pytest.raises(LogDamaged, match="segments are missing"):
                open_local(FaultyDisk(files), after=position)
        else:
            _, _, replayed, _ = open_local(FaultyDisk(files), after=position)
            assert [offset for _, offset in replayed] == [h.offset + 48 for h in found if h.offset >= header.end]


# Gaps


def with_gap(files: dict[str, bytes], found: list[FrameHeader], first: int, last: int) -> dict[str, bytes]:
    """The files with a gap in place of the frames `first` to `last`, which lie in one file."""
    name, at = place_of(found[first], files)
    size = found[last].end - found[first].offset
    gap = encode_gap(found[first].offset, size, 9, found[first].previous, 7, found[last].checksum).ljust(size, b"\0")
    return files | {name: files[name][:at] + gap + files[name][at + size :]}


@pytest.mark.asyncio
async def test_a_gap_is_told_and_the_log_goes_on_after_it() -> None:
    disk = await written(6)
    files, found = segment_files(disk), frames(disk)
    for first, last in ((0, 0), (2, 3), (0, 4), (5, 5), (0, 5)):
        again = FaultyDisk(FORMAT | with_gap(files, found, first, last))
        log, _, replayed, recovered = open_local(again)
        gap = [(b"gap", found[first].offset), (b"", found[last].end)]
        before = [(record(name), found[name].offset + 48) for name in range(first)]
        after = [(record(name), found[name].offset + 48) for name in range(last + 1, 6)]
        assert replayed == before + gap + after
        assert (recovered.cut_bytes, recovered.records) == (0, len(before + after))
        put(log, 6)
        await settled(log)
        await log.close()
        assert open_local(again)[2][-1][0] == record(6)


@pytest.mark.asyncio
async def test_gaps_may_be_neighbours_and_may_end_a_segment_or_be_all_of_it() -> None:
    disk = await written(8, segment_bytes=230)
    files, found = segment_files(disk), frames(disk)
    ends = [number for number, header in enumerate(found) if header.kind is FrameKind.END]
    changed = with_gap(with_gap(files, found, 0, 0), found, 1, 1)  # neighbours
    changed = with_gap(changed, found, ends[1], ends[1])  # in place of an end mark
    changed = with_gap(changed, found, ends[1] + 1, ends[2])  # all of a segment
    records, recovered, _ = reopened(changed)
    lost = {0, 1, *range(ends[1] + 1, ends[2])}
    batches = [number for number, header in enumerate(found) if header.kind is FrameKind.BATCH]
    assert [data for data in records if data not in (b"gap", b"")] == [
        record(name) for name, number in enumerate(batches) if number not in lost
    ]
    assert records.count(b"gap") == 4
    assert recovered.end.offset == found[-1].end


@pytest.mark.asyncio
async def test_a_gap_whose_head_is_damaged_is_damage() -> None:
    disk = await written(6)
    files, found = segment_files(disk), frames(disk)
    data = bytearray(with_gap(files, found, 1, 2)[FIRST])
    data[found[1].offset + 6] ^= 1
    assert f"log offset {found[1].offset} " in damage({FIRST: bytes(data)})


@pytest.mark.asyncio
async def test_a_segment_without_an_end_mark_that_another_one_follows_is_damage() -> None:
    disk = await written(3)
    data, last = disk.files()[FIRST], headers(disk)[-1]
    follows, _ = encode_batch(last.end, 1, last.checksum, 5, last.end, [record(3)], 40)
    text = damage({FIRST: data, segment_name(last.end): follows})
    assert f"{FIRST} has no end mark at log offset {last.end} (byte {last.end} of the file)" in text


# Crashes


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
    assert cut > 40


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
    assert survivor.changes == [f"truncate {FIRST} 88", f"write again {FIRST}"]


@pytest.mark.asyncio
async def test_a_segment_that_was_left_behind_is_durable_before_anything_follows_it() -> None:
    """A kill between the writing of the end mark and its sync: the empty next file is there."""
    disk = await written(3)
    data, last = disk.files()[FIRST], headers(disk)[-1]
    mark, _ = encode_end(last.end, 1, last.checksum, 5, last.end)
    _, _, again = reopened({FIRST: data + mark, segment_name(LogOffset(last.end + 48)): b""})
    assert f"write again {FIRST}" in again.changes


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
    log = recorder.log = LocalLog(host_on(disk, clock), recorder, LogConfig())
    recover_empty(log)
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
async def test_a_log_that_cannot_be_read_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk((await written(3)).files())

    def broken(name: str, create: bool = False) -> object:
        raise OSError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(disk, "open", broken)
    with pytest.raises(PermissionError):
        open_local(disk)


def test_a_disk_without_room_for_a_new_log_is_an_os_error() -> None:
    for what in ("replace format", f"create {FIRST}"):
        disk = FaultyDisk()
        disk.full = disk.failing = lambda done, what=what: done == what  # type: ignore[misc]
        with pytest.raises(OSError):
            open_local(disk)
        disk.full = disk.failing = lambda done: False
        open_local(disk)


SEEDS = 80
"""More were run by hand."""


async def live(disk: FaultyDisk, rng: random.Random, acknowledged: dict[int, int]) -> None:
    """One life of a log: opens it, checks it against what was acknowledged as synced, then goes on until a crash."""
    log, recorder, replayed, _ = open_local(disk, segment_bytes=500, batch_bytes=100, opening=[40, 60])
    sync_rate, trim_rate = rng.choice((0.05, 0.6)), rng.choice((0.1, 0.5))
    if log.first_offset:
        assert [is_opening(data) for data, _ in replayed[:2]] == [True, True]
    found = {int.from_bytes(data[4:12], "big"): offset for data, offset in replayed if not is_opening(data)}
    assert list(found) == sorted(found)
    assert found.items() >= {(n, offset) for n, offset in acknowledged.items() if offset >= log.first_offset}
    openings = [int.from_bytes(data[4:12], "big") for data, _ in replayed if is_opening(data)]
    assert openings == sorted(set(openings)) * (len(openings) // 2), "half an opening"
    name = first = max(found, default=-1) + 1
    given: dict[int, int] = {}
    disk.hold()
    for _ in range(rng.randint(1, 25)):
        full = rng.random() < 0.2
        disk.full = lambda what, full=full: full  # type: ignore[misc]
        for _ in range(rng.randint(0, 3)):
            given[name] = put(log, name, rng.randint(40, 150), sync=rng.random() < sync_rate)
            name += 1
        if rng.random() < trim_rate and log.segments:
            log.trim(rng.choice(log.segments).end)
        await turns(2)
        disk.release(rng.randint(0, len(disk.held)))
        await turns(2)
        if recorder.full and rng.random() < 0.5:
            await asyncio.sleep(0.002)
    assert recorder.receipts == list(range(first, first + len(recorder.receipts)))
    assert recorder.failures == []
    synced = [n for n in recorder.synced if isinstance(n, int) and n in given]
    for each in range(first, max(synced, default=-1) + 1):
        acknowledged[each] = given[each]
    for each, offset in found.items():  # what a start found it has made durable
        acknowledged[each] = offset


@pytest.mark.asyncio
async def test_any_mix_of_trims_full_disks_and_crashes_leaves_a_log_that_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETRY_S", 0.001)
    for seed in range(SEEDS):
        rng = random.Random(seed)
        disk, acknowledged = FaultyDisk(), dict[int, int]()
        for _ in range(4):
            try:
                await live(disk, rng, acknowledged)
            except (AssertionError, LogDamaged) as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            disk = disk.kill() if rng.random() < 0.3 else disk.crash(rng)


@pytest.mark.asyncio
async def test_what_a_failed_sync_left_in_memory_is_written_again_before_the_log_goes_on() -> None:
    """The system takes the bytes of a failed sync for written; to sync once more would not save them."""
    disk = FaultyDisk()
    log, recorder, _, _ = open_local(disk)
    put(log, 0)
    await settled(log)
    disk.failing_sync = lambda name: True
    put(log, 1)
    await turns()
    assert recorder.failures, "the sync failed"
    disk = disk.kill()
    log, _, replayed, _ = open_local(disk)
    assert [data for data, _ in replayed] == [record(0), record(1)], "the system still has them"
    put(log, 2)
    await settled(log)
    only_synced = FaultyDisk({name: inode.synced for name, inode in disk._inodes.items()})
    _, _, replayed, _ = open_local(only_synced)
    assert [data for data, _ in replayed] == [record(0), record(1), record(2)], (
        "a power cut must not make a hole before what was synced"
    )
