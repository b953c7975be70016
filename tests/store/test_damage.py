"""The catalogue of damage: for each kind what a start does, what `check` says, what `repair` saves.

Nowhere are wrong bytes served without a check that names the place, and nothing that had been on disk is lost in
silence.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from posthouse.store.finding import Report, Severity
from posthouse.store.log.batch import HEADER_BYTES, FrameKind, encode_batch
from posthouse.store.log.scan import records_of
from posthouse.store.repair import plan_repair
from posthouse.store.run import FOLDER as RUNS
from posthouse.store.snapshot import FOLDER as SNAPSHOTS
from posthouse.store.snapshot import decode_snapshot, encode_snapshot
from posthouse.store.survey import Kept
from tests.store.clean import assert_clean, check
from tests.store.damage import a_host, a_store, contents_of, frames_of, names, open_later, place_of, repaired, served
from tests.store.disks import FaultyDisk

Change = Callable[[bytearray], None]


def damage_of(report: Report) -> list[str]:
    return [each.file for each in report.findings if each.severity is Severity.DAMAGE]


def notes_of(report: Report) -> str:
    return "\n".join(f"{e.what}; {e.means}" for e in report.findings if e.severity is Severity.NOTE)


def remove(disk: FaultyDisk, name: str) -> FaultyDisk:
    files = disk.files()
    del files[name]
    return FaultyDisk(files)


def add(disk: FaultyDisk, name: str, data: bytes) -> FaultyDisk:
    return FaultyDisk(disk.files() | {name: data})


def messages_in(kept: Kept, contents: dict[tuple[str, int, int], bytes]) -> set[tuple[str, int, int]]:
    """Those whose records are in that frame."""
    frame = kept.frame
    data = frame.data[frame.at : frame.at + frame.header.size]
    return {place for place, record in contents.items() if record in data}


async def assert_only_frames_are_lost(
    disk: FaultyDisk, lost: list[Kept], before: dict[tuple[str, int, int], bytes]
) -> None:
    """Repairs, and everything but the messages of these frames is served at its place; then the store goes on."""
    gone = set().union(*(messages_in(kept, before) for kept in lost))
    plan, after = await repaired(disk)
    assert after == {place: record for place, record in before.items() if place not in gone}
    assert not plan.beyond
    assert sum(plan.topics.values()) <= len(gone)
    assert_clean(disk)
    opened = open_later(disk)
    put = opened.put("orders", b"life goes on")
    await opened.settled()
    assert contents_of(opened)["orders", 0, put.queue_offset]
    await opened.store.close()
    assert_clean(disk)
    again = open_later(disk)
    assert set(after) < set(contents_of(again))
    await again.store.close()


# Segments: the end of the log


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [1, 47, 48, 60, 150])
async def test_truncated_end_is_a_torn_tail_that_the_next_start_cuts(cut: int) -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    last = names(disk, "log")[-1]
    disk.edit(last, lambda data: data.__delitem__(slice(len(data) - cut, None)))
    report = assert_clean(disk)
    assert "were never acknowledged" in notes_of(report) or cut in (48, 150) or not notes_of(report)
    after = await served(disk)
    assert isinstance(after, dict)
    assert isinstance(before, dict)
    assert after.items() <= before.items()
    assert len(before) - len(after) <= 2


@pytest.mark.asyncio
async def test_zeros_behind_the_end_are_a_torn_tail_and_repair_moves_them() -> None:
    disk = await a_store()
    before = await served(disk)
    last = names(disk, "log")[-1]
    size = len(disk.files()[last])
    disk.edit(last, lambda data: data.extend(bytes(700)))
    assert await served(disk) == before
    report = assert_clean(disk)
    assert "the next start cuts 700 bytes that were never acknowledged" in notes_of(report)
    plan, after = await repaired(disk)
    assert after == before
    assert not plan.lost_bytes
    assert len(disk.files()[last]) == size
    (saved,) = names(disk, "lost")
    assert disk.files()[saved] == bytes(700)


@pytest.mark.asyncio
async def test_truncated_end_that_a_snapshot_vouches_for_is_damage() -> None:
    disk = await a_store()
    last = frames_of(disk)[-1]
    name, _ = place_of(last)
    disk.edit(name, lambda data: data.__delitem__(slice(len(data) - 5, None)))
    refused = await served(disk)
    assert isinstance(refused, str)
    assert "posthouse check" in refused
    assert "posthouse repair" in refused
    assert name in damage_of(check(disk))
    plan, after = await repaired(disk)
    assert after
    assert plan.lost_bytes == last.frame.header.size
    assert plan.missing_bytes == 5
    assert_clean(disk)


@pytest.mark.asyncio
async def test_log_that_ends_at_a_frame_before_its_snapshot_is_damage() -> None:
    disk = await a_store()
    frames = frames_of(disk)
    name, at = place_of(frames[-1])
    assert at > 0
    disk.edit(name, lambda data: data.__delitem__(slice(at, None)))
    assert "newest snapshot" in str(await served(disk))
    report = check(disk)
    assert names(disk, SNAPSHOTS)[-1] in damage_of(report)
    plan, after = await repaired(disk)
    assert after
    assert plan.missing_bytes == frames[-1].frame.header.size
    assert_clean(disk)


# Segments: inside the log

HEADER_FIELDS = {
    "magic": 1,
    "size": 6,
    "offset": 14,
    "epoch": 18,
    "previous": 22,
    "records": 26,
    "time": 33,
    "durable": 41,
    "sum": 46,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("field", HEADER_FIELDS)
async def test_frame_with_a_changed_header_refuses_and_only_that_frame_is_lost(field: str) -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    assert isinstance(before, dict)
    victim = frames_of(disk)[-3]
    name, at = place_of(victim)
    disk.flip(name, at + HEADER_FIELDS[field])
    refused = await served(disk)
    assert isinstance(refused, str)
    assert name in refused
    assert str(victim.frame.header.offset) in refused
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, [victim], before)


@pytest.mark.asyncio
@pytest.mark.parametrize("where", [48, 52, 60, 76, 100, 140])
async def test_frame_with_a_changed_record_refuses_and_only_that_frame_is_lost(where: int) -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    assert isinstance(before, dict)
    victim = frames_of(disk)[-4]
    name, at = place_of(victim)
    disk.flip(name, at + where)
    assert name in str(await served(disk))
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, [victim], before)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [1, 5, 12, 20, 33])
async def test_damage_that_no_start_reads_is_found_by_a_check_and_only_that_frame_is_lost(number: int) -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    victim = [kept for kept in frames_of(disk) if kept.frame.kind is FrameKind.BATCH][number]
    name, at = place_of(victim)
    disk.flip(name, at + 50)
    report = check(disk)
    assert (name, victim.frame.header.offset) in [(each.file, each.log_offset) for each in report.findings]
    await assert_only_frames_are_lost(disk, [victim], before)


@pytest.mark.asyncio
async def test_zero_filled_page_refuses_and_only_its_frames_are_lost() -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    assert isinstance(before, dict)
    frames = frames_of(disk)
    first = frames[-5]
    name, at = place_of(first)
    end = at + first.frame.header.size + 20  # into the next frame
    disk.edit(name, lambda data: data.__setitem__(slice(at, end), bytes(end - at)))
    assert name in str(await served(disk))
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, frames[-5:-3], before)


@pytest.mark.asyncio
async def test_frame_of_another_history_refuses_and_is_taken_out() -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    assert isinstance(before, dict)
    victim, follower = frames_of(disk)[-3:-1]
    name, at = place_of(victim)
    header, data = victim.frame.header, victim.frame.data
    records = [data[start : start + size] for start, size, _ in records_of(victim.frame)]
    size = header.size - HEADER_BYTES
    other, _ = encode_batch(header.offset, header.epoch, header.previous, 1, header.durable, records, size)
    disk.edit(name, lambda data: data.__setitem__(slice(at, at + len(other)), other))
    refused = await served(disk)
    assert name in str(refused)
    assert str(follower.frame.header.offset) in str(refused)
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, [victim], before)


# Segments: files


@pytest.mark.asyncio
async def test_truncated_older_segment_refuses_and_what_is_behind_keeps_its_offsets() -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    name = names(disk, "log")[1]
    inside = [kept for kept in frames_of(disk) if kept.segment.file.name == name]
    cut_at = place_of(inside[2])[1] + 30
    disk.edit(name, lambda data: data.__delitem__(slice(cut_at, None)))
    assert name.removesuffix(".log") in str(await served(disk))
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, inside[2:], before)


@pytest.mark.asyncio
async def test_missing_segment_refuses_and_becomes_a_file_with_one_gap() -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    name = names(disk, "log")[2]
    inside = [kept for kept in frames_of(disk) if kept.segment.file.name == name]
    disk = remove(disk, name)
    assert "missing" in str(await served(disk))
    assert damage_of(check(disk))
    await assert_only_frames_are_lost(disk, inside, before)
    (gap,) = [kept for kept in frames_of(disk) if kept.segment.file.name == name]
    assert gap.frame.kind is FrameKind.GAP
    assert not names(disk, "lost") or all(".lost" not in each for each in names(disk, "lost"))


@pytest.mark.asyncio
async def test_segment_full_of_zeros_is_moved_whole_into_a_lost_file() -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    name = names(disk, "log")[1]
    inside = [kept for kept in frames_of(disk) if kept.segment.file.name == name]
    disk.edit(name, lambda data: data.__setitem__(slice(0, None), bytes(len(data))))
    assert name in str(await served(disk))
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, inside, before)


@pytest.mark.asyncio
async def test_missing_newest_segment_refuses_and_an_empty_one_takes_its_place() -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    disk = remove(disk, names(disk, "log")[-1])
    assert "missing" in str(await served(disk))
    assert names(disk, "log")[-1] in damage_of(check(disk))
    plan, after = await repaired(disk)
    assert after.items() < before.items()
    assert plan.missing_bytes > 0
    assert_clean(disk)


@pytest.mark.asyncio
async def test_log_that_is_not_there_at_all_refuses_and_is_begun_anew() -> None:
    disk = await a_store()
    for name in names(disk, "log"):
        disk = remove(disk, name)
    assert isinstance(await served(disk), str)
    assert damage_of(check(disk))
    plan, after = await repaired(disk)
    assert after == {}
    assert plan.missing_bytes > 0


@pytest.mark.asyncio
async def test_oldest_segment_that_is_gone_looks_like_retention_and_is_noted() -> None:
    disk = await a_store()
    disk = remove(disk, names(disk, "log")[0])
    assert "retention took what was before, or it is missing" in notes_of(check(disk))
    assert isinstance(await served(disk), dict)


@pytest.mark.asyncio
async def test_segment_that_is_there_twice_refuses_and_the_copy_is_moved() -> None:
    disk = await a_store()
    before = await served(disk)
    original = names(disk, "log")[1]
    copy = f"log/{int(original[4:24]) + 100:020d}.log"
    disk = add(disk, copy, disk.files()[original])
    assert isinstance(await served(disk), str)
    assert copy in damage_of(check(disk))
    plan, after = await repaired(disk)
    assert after == before
    assert not plan.lost_bytes
    assert names(disk, "lost") == [f"lost/{copy.removeprefix('log/')}"]
    assert_clean(disk)


@pytest.mark.asyncio
async def test_end_mark_that_is_gone_refuses_and_nothing_but_it_is_lost() -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    mark = next(kept for kept in frames_of(disk) if kept.frame.kind is FrameKind.END)
    name, at = place_of(mark)
    disk.edit(name, lambda data: data.__delitem__(slice(at, None)))
    assert isinstance(await served(disk), str)
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, [mark], before)


@pytest.mark.asyncio
async def test_bytes_behind_an_end_mark_refuse_and_are_moved() -> None:
    disk = await a_store()
    before = await served(disk)
    assert isinstance(before, dict)
    name = names(disk, "log")[0]
    disk.edit(name, lambda data: data.extend(b"junk" * 20))
    assert name.removesuffix(".log") in str(await served(disk))
    assert name in damage_of(check(disk))
    await assert_only_frames_are_lost(disk, [], before)


@pytest.mark.asyncio
async def test_empty_segment_of_an_interrupted_roll_is_only_a_note() -> None:
    disk = await a_store()
    before = await served(disk)
    last = frames_of(disk)[-1].frame.header.end
    disk = add(disk, f"log/{last + 48:020d}.log", b"")
    assert await served(disk) == before
    assert "a segment was about to begin" in notes_of(check(disk)) or "about to begin it" in notes_of(check(disk))
    assert_clean(disk)


# Snapshots


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [
    pytest.param(lambda data: data.__setitem__(60, data[60] ^ 1), id="changed"),
    pytest.param(lambda data: data.__delitem__(slice(50, None)), id="truncated"),
    pytest.param(lambda data: data.__setitem__(slice(0, None), bytes(len(data))), id="zeros"),
    pytest.param(lambda data: data.clear(), id="empty"),
])  # fmt: skip
async def test_damaged_snapshot_is_not_used_and_moved(change: Change) -> None:
    disk = await a_store()
    before = await served(disk)
    name = names(disk, SNAPSHOTS)[-1]
    disk.edit(name, change)
    assert await served(disk) == before
    assert damage_of(check(disk)) == [name]
    plan, after = await repaired(disk)
    assert after == before
    assert not plan.lost_bytes
    assert any(name.removeprefix(f"{SNAPSHOTS}/") in each for each in names(disk, "lost"))
    assert_clean(disk)


@pytest.mark.asyncio
async def test_store_without_snapshots_and_runs_is_whole() -> None:
    disk = await a_store()
    before = await served(disk)
    for name in (*names(disk, SNAPSHOTS), *names(disk, RUNS)):
        disk = remove(disk, name)
    assert await served(disk) == before
    assert_clean(disk)


@pytest.mark.asyncio
async def test_snapshot_of_another_log_refuses_and_is_moved() -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    name = names(disk, SNAPSHOTS)[-1]
    snapshot = decode_snapshot(disk.files()[name])
    assert snapshot is not None
    snapshot.checksum ^= 1
    disk.edit(name, lambda data: data.__setitem__(slice(0, None), encode_snapshot(snapshot)))
    assert isinstance(await served(disk), str)
    assert name in damage_of(check(disk))
    plan, after = await repaired(disk)
    assert after == before
    assert not plan.lost_bytes
    assert_clean(disk)


@pytest.mark.asyncio
async def test_snapshot_that_says_something_else_than_the_log_is_found_and_moved() -> None:
    disk = await a_store()
    before = await served(disk)
    name = names(disk, SNAPSHOTS)[-1]
    snapshot = decode_snapshot(disk.files()[name])
    assert snapshot is not None
    text = bytes(snapshot.groups).replace(b"billing", b"bilking")
    snapshot.groups = type(snapshot.groups)(text)
    disk.edit(name, lambda data: data.__setitem__(slice(0, None), encode_snapshot(snapshot)))
    report = check(disk)
    assert name in damage_of(report)
    assert any("groups" in each.what for each in report.findings)
    _, after = await repaired(disk)
    assert after == before
    assert_clean(disk)


# Runs


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [
    pytest.param(lambda data: data.__setitem__(3, data[3] ^ 1), id="magic"),
    pytest.param(lambda data: data.__setitem__(15, data[15] ^ 1), id="stretch"),
    pytest.param(lambda data: data.__setitem__(60, data[60] ^ 1), id="directory"),
    pytest.param(lambda data: data.__delitem__(slice(len(data) - 1, None)), id="truncated"),
    pytest.param(lambda data: data.append(0), id="longer"),
    pytest.param(lambda data: data.__setitem__(slice(0, None), bytes(len(data))), id="zeros"),
])  # fmt: skip
async def test_run_that_is_not_believed_is_made_again_and_moved(change: Change) -> None:
    disk = await a_store()
    before = await served(disk)
    for name in names(disk, RUNS):
        disk.edit(name, change)
    assert await served(disk) == before
    assert set(names(disk, RUNS)) == set(damage_of(check(disk)))
    plan, after = await repaired(disk)
    assert after == before
    assert not plan.lost_bytes
    assert_clean(disk)


@pytest.mark.asyncio
async def test_run_with_changed_entries_is_found_by_a_check_and_made_again() -> None:
    disk = await a_store()
    before = await served(disk)
    for back in (1, 200):  # a key, and an entry of a queue
        damaged = FaultyDisk(disk.files())
        name = names(damaged, RUNS)[-1]
        damaged.flip(name, len(damaged.files()[name]) - back)
        assert name in damage_of(check(damaged))
        _, after = await repaired(damaged)
        assert after == before
        assert_clean(damaged)


@pytest.mark.asyncio
async def test_run_that_is_gone_is_made_again() -> None:
    disk = await a_store()
    before = await served(disk)
    name = names(disk, RUNS)[-1]
    disk = remove(disk, name)
    assert await served(disk) == before
    assert name in damage_of(check(disk))
    _, after = await repaired(disk)
    assert after == before
    assert_clean(disk)


# Other files


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"", b"posthouse 2", b"posthorse 2\n", bytes(12)])
async def test_damaged_format_file_refuses_and_is_written_again(content: bytes) -> None:
    disk = await a_store()
    before = await served(disk)
    disk = add(disk, "format", content)
    assert "format" in str(await served(disk))
    assert "format" in damage_of(check(disk))
    plan, after = await repaired(disk)
    assert after == before
    assert not plan.lost_bytes
    assert_clean(disk)


@pytest.mark.asyncio
async def test_missing_format_file_refuses_and_is_written_again() -> None:
    disk = await a_store()
    before = await served(disk)
    disk = remove(disk, "format")
    assert "format" in str(await served(disk))
    assert "format" in damage_of(check(disk))
    _, after = await repaired(disk)
    assert after == before
    assert_clean(disk)


@pytest.mark.asyncio
async def test_format_of_another_version_is_left_alone() -> None:
    disk = await a_store()
    disk = add(disk, "format", b"posthouse 3\n")
    assert "start the version that wrote it" in str(await served(disk))
    plan = plan_repair(a_host(disk))
    assert not plan.steps
    assert [each.file for each in plan.beyond] == ["format"]


@pytest.mark.asyncio
async def test_stray_files_are_a_warning_and_repair_moves_them() -> None:
    disk = await a_store()
    before = await served(disk)
    strays = ("log/notes.txt", "queues/old.bak", "snapshots/readme")
    for name in strays:
        disk = add(disk, name, b"?")
    assert await served(disk) == before
    report = assert_clean(disk, warnings=True)
    assert sorted(each.file for each in report.findings if each.severity is Severity.WARNING) == sorted(strays)
    _, after = await repaired(disk)
    assert after == before
    assert len(names(disk, "lost")) == 3
    assert_clean(disk)


@pytest.mark.asyncio
async def test_what_interrupted_writes_leave_is_only_noted() -> None:
    disk = await a_store()
    before = await served(disk)
    leftovers = (f"{names(disk, RUNS)[-1]}.new", f"{names(disk, SNAPSHOTS)[-1]}.new")
    for name in leftovers:
        disk = add(disk, name, b"half of it")
    report = assert_clean(disk)
    assert sorted(each.file for each in report.findings if each.severity is Severity.NOTE) == sorted(leftovers)
    assert await served(disk) == before


# Any byte


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(8))
async def test_any_changed_byte_is_served_right_or_refused_or_found_by_a_check(seed: int) -> None:
    rng = random.Random(seed)
    whole = await a_store(closed=seed % 2 == 0, messages=24)
    before = await served(whole)
    assert isinstance(before, dict)
    for _ in range(25):
        disk = FaultyDisk(whole.files())
        name = rng.choice([name for name, data in disk.files().items() if data])
        at = rng.randrange(len(disk.files()[name]))
        bits = rng.randrange(1, 256)
        disk.edit(name, lambda data, at=at, bits=bits: data.__setitem__(at, data[at] ^ bits))  # type: ignore[misc]
        what = f"byte {at} of {name} changed by {bits:#x}"
        report = check(disk)
        after = await served(disk)
        if after != before:
            if report.is_damaged:
                assert name in damage_of(report), what
            else:  # only what no later frame vouches for: the very last write
                assert isinstance(after, dict), what
                assert "never acknowledged" in notes_of(report), what
                assert after.items() <= before.items(), what
                continue
        plan = plan_repair(a_host(disk))
        if plan.beyond:  # a format file that could be of another version
            assert name == "format", what
            continue
        plan, saved = await repaired(disk)
        assert saved.items() <= before.items(), what
        assert saved == before or plan.lost_bytes, what
        assert_clean(disk)
