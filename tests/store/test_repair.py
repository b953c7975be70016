"""Repair as a procedure: what it may touch, that it can be killed anywhere. What it saves of what is in test_damage."""

from __future__ import annotations

import random

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.finding import Severity
from posthouse.store.log.batch import FrameKind, encode_batch
from posthouse.store.overlay import OverlayDisk
from posthouse.store.repair import FillGap, MoveFile, carry_out, plan_repair, rehearse
from posthouse.store.state_record import Kind, encode_state_body, encode_state_record, state_record_size
from tests.store.clean import assert_clean, check
from tests.store.damage import a_host, a_store, frames_of, names, place_of, repaired, served
from tests.store.disks import FaultyDisk


class Killed(BaseException):
    """The process ends here."""


class KilledAt(FaultyDisk):
    """A disk whose process is killed before its n-th change."""

    def __init__(self, files: dict[str, bytes], number: int) -> None:
        super().__init__(files)
        self.changes = _Counted(number)


class _Counted(list[str]):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def append(self, what: str) -> None:
        if len(self) + 1 == self._number:
            raise Killed(what)
        super().append(what)


async def damaged_store() -> FaultyDisk:
    """With every kind of step to do."""
    disk = await a_store(closed=False)
    frames = frames_of(disk)
    name, at = place_of(frames[len(frames) // 2])
    disk.flip(name, at + 60)
    files = disk.files()
    del files[names(disk, "log")[1]]
    files["log/stray"] = b"?"
    files["format"] = b"?"
    last = names(disk, "log")[-1]
    files[last] += bytes(300)
    return FaultyDisk(files)


@pytest.mark.asyncio
async def test_whole_store_needs_no_repair() -> None:
    disk = await a_store()
    files = disk.files()
    plan = plan_repair(a_host(disk))
    assert (plan.steps, plan.beyond, plan.lost_bytes) == ([], [], 0)
    await carry_out(disk, plan)
    assert disk.files() == files


@pytest.mark.asyncio
async def test_plan_and_rehearsal_change_nothing_and_tell_what_will_be() -> None:
    disk = await damaged_store()
    files = disk.files()
    plan = plan_repair(a_host(disk))
    report = await rehearse(a_host(disk), plan)
    assert disk.files() == files
    assert not report.is_damaged
    await carry_out(disk, plan)
    assert check(disk).figures == report.figures


@pytest.mark.asyncio
async def test_nothing_is_deleted() -> None:
    disk = await damaged_store()
    before = disk.files()
    await repaired(disk)
    after = disk.files()
    saved = {name: data for name, data in after.items() if name.startswith("lost/")}
    for name, data in before.items():
        if after.get(name) != data and data not in saved.values():
            assert name.startswith("log/")
            assert with_what_was_saved(int(name[4:24]), after[name], saved) == data, name


def with_what_was_saved(base: int, kept: bytes, saved: dict[str, bytes]) -> bytes:
    """A segment as it was, put together from what it is and what is in .lost files."""
    whole = bytearray(kept)
    for name, data in saved.items():
        if name.endswith(".lost"):
            at = int(name[5:25]) - base
            if 0 <= at <= len(whole):
                whole[at : at + len(data)] = data
    return bytes(whole)


@pytest.mark.asyncio
async def test_lost_bytes_are_saved_as_they_were() -> None:
    disk = await a_store(closed=False)
    victim = frames_of(disk)[-3]
    name, at = place_of(victim)
    disk.flip(name, at + 70)
    header = victim.frame.header
    raw = disk.files()[name][at : at + header.size]
    await repaired(disk)
    assert disk.files()[f"lost/{header.offset:020d}-{header.end:020d}.lost"] == raw
    gap = next(kept for kept in frames_of(disk) if kept.frame.kind is FrameKind.GAP)
    assert (gap.frame.header.offset, gap.frame.header.size) == (header.offset, header.size)
    assert not any(disk.files()[name][at + 48 : at + header.size])


@pytest.mark.asyncio
async def test_messages_that_are_lost_are_counted_by_topic() -> None:
    disk = await a_store(closed=False)
    before = await served(disk)
    assert isinstance(before, dict)
    victim = frames_of(disk)[-2]
    name, at = place_of(victim)
    disk.flip(name, at + 9)  # the header, so that all its records can be recognised
    plan, after = await repaired(disk)
    gone = before.keys() - after.keys()
    assert sum(plan.topics.values()) == len(gone) > 0
    assert set(plan.topics) == {topic for topic, _, _ in gone}


@pytest.mark.asyncio
async def test_repair_that_is_killed_anywhere_can_be_begun_again() -> None:
    source = await damaged_store()
    whole = FaultyDisk(source.files())
    await carry_out(whole, plan_repair(a_host(whole)))
    expected = await served(whole)
    assert isinstance(expected, dict)
    number, rng = 0, random.Random(5)
    while True:
        number += 1
        disk = KilledAt(source.files(), number)
        try:
            await carry_out(disk, plan_repair(a_host(disk)))
        except Killed:
            again = disk.crash(rng)
            assert await served(again) == expected or check(again).is_damaged, "a half repair looks like a whole one"
            plan, found = await repaired(again)
            assert found == expected, f"killed before change {number}"
            assert not plan.beyond
            assert_clean(again)
            assert not any(name.endswith(".new") for name in again.list("lost")) or number
        else:
            break
    assert number > 15


@pytest.mark.asyncio
async def test_repair_that_runs_out_of_disk_can_be_begun_again() -> None:
    source = await damaged_store()
    disk = FaultyDisk(source.files())
    disk.full = lambda what: "lost/" in what
    plan = plan_repair(a_host(disk))
    with pytest.raises(OSError, match="No space left"):
        await carry_out(disk, plan)
    disk.full = lambda what: False
    await repaired(disk)
    assert_clean(disk)


@pytest.mark.asyncio
async def test_names_in_lost_are_never_taken_twice() -> None:
    disk = await a_store()
    for content in (b"first", b"second"):
        disk = FaultyDisk(disk.files() | {"log/stray": content})
        await repaired(disk)
    assert disk.files()["lost/stray"] == b"first"
    assert disk.files()["lost/stray.2"] == b"second"


@pytest.mark.asyncio
async def test_steps_on_snapshots_come_before_those_on_the_log() -> None:
    disk = await a_store()
    name, at = place_of(frames_of(disk)[3])
    disk.flip(name, at + 60)
    steps = plan_repair(a_host(disk)).steps
    kinds = [type(step) for step in steps]
    assert FillGap in kinds
    assert MoveFile not in kinds[kinds.index(FillGap) :]


@pytest.mark.asyncio
async def test_gap_of_many_gigabytes_is_made_of_several_frames() -> None:
    far = LogOffset(5 << 30)
    body = encode_state_body({"name": "nobody"})
    size = state_record_size(body)
    record = encode_state_record(Kind.GROUP_DELETED, body, LogOffset(48), 5)  # type: ignore[arg-type]
    first, _ = encode_batch(LogOffset(0), 1, 0, 5, LogOffset(0), [record], size)
    record = encode_state_record(Kind.GROUP_DELETED, body, LogOffset(far + 48), 6)  # type: ignore[arg-type]
    last, _ = encode_batch(far, 1, 77, 6, far, [record], size)
    files = {"format": b"posthouse 2\n", f"log/{0:020d}.log": first, f"log/{far:020d}.log": last}
    disk = OverlayDisk(FaultyDisk(files))
    plan = plan_repair(a_host(disk))
    await carry_out(disk, plan)
    report = check(disk)
    assert not report.is_damaged
    assert report.figures.gaps == 5
    assert report.figures.gap_bytes == far - len(first)
    assert report.end == far + len(last)
    assert {each.severity for each in report.findings} == {Severity.NOTE}
