"""The pieces of a log: every byte is in exactly one, whatever happened to the files."""

from __future__ import annotations

import random

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.survey import Foreign, Gone, Kept, NextMissing, Piece, Survey, Tail, Unused
from tests.store.damage import a_store, frames_of, names, place_of
from tests.store.disks import FaultyDisk


def kinds(disk: FaultyDisk, vouched: int = 0) -> list[type]:
    return [type(piece) for piece in Survey(disk, LogOffset(vouched)) if not isinstance(piece, Kept)]


def span(piece: Piece) -> tuple[int, int]:
    if isinstance(piece, Kept):
        return piece.frame.header.offset, piece.frame.header.end
    assert isinstance(piece, Gone | Tail)
    return piece.first, piece.end


@pytest.mark.asyncio
async def test_whole_log_is_kept_and_the_position_is_its_end() -> None:
    disk = await a_store(messages=20)
    survey = Survey(disk)
    pieces = list(survey)
    assert all(isinstance(piece, Kept) for piece in pieces)
    assert survey.position.offset == span(pieces[-1])[1] == survey.total_bytes


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(30))
async def test_pieces_follow_one_another_without_holes(seed: int) -> None:
    rng = random.Random(seed)
    disk = await a_store(messages=15)
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(names(disk, "log"))
        data = disk.files()[name]
        at = rng.randrange(len(data))
        length = rng.choice((1, 30, 700, 5000))
        if rng.random() < 0.3:
            disk.edit(name, lambda data, at=at: data.__delitem__(slice(at, None)))  # type: ignore[misc]
        else:
            junk = rng.randbytes(min(length, len(data) - at))
            disk.edit(name, lambda data, at=at, junk=junk: data.__setitem__(slice(at, at + len(junk)), junk))  # type: ignore[misc]
    spans = [span(piece) for piece in Survey(disk) if isinstance(piece, Kept | Gone | Tail)]
    end = 0
    for first, after in spans:
        assert first == end
        assert after > first
        end = after


@pytest.mark.asyncio
async def test_bad_end_is_a_tail_unless_a_snapshot_is_newer() -> None:
    disk = await a_store(messages=20)
    last = frames_of(disk)[-1]
    name, at = place_of(last)
    disk.flip(name, at + 60)
    assert kinds(disk) == [Tail]
    assert kinds(disk, vouched=last.frame.header.end) == [Gone]


@pytest.mark.asyncio
async def test_opening_that_is_not_whole_is_a_tail_that_begins_with_the_segment() -> None:
    disk = await a_store(messages=20)
    opened = next(kept for kept in reversed(frames_of(disk)) if kept.frame.kind.name == "OPENING")
    name, at = place_of(opened)
    assert at == 0
    size = opened.frame.header.size
    disk.edit(name, lambda data: data.__delitem__(slice(size, None)))
    tails = [piece for piece in Survey(disk) if isinstance(piece, Tail)]
    assert [span(tail)[0] for tail in tails] == [opened.segment.base]


@pytest.mark.asyncio
async def test_what_a_later_segment_vouches_for_is_gone_not_a_tail() -> None:
    disk = await a_store(messages=20)
    name = names(disk, "log")[0]
    disk.edit(name, lambda data: data.__setitem__(slice(len(data) - 200, None), bytes(200)))
    assert set(kinds(disk)) == {Gone}


@pytest.mark.asyncio
async def test_files_that_are_none_of_the_log_are_foreign() -> None:
    disk = await a_store(messages=20)
    files = disk.files()
    files[f"log/{77:020d}.log"] = files[names(disk, "log")[0]]
    files[f"log/{10**9:020d}.log"] = b"not a frame" * 20
    assert kinds(FaultyDisk(files)) == [Foreign, Foreign]


@pytest.mark.asyncio
async def test_newest_file_that_is_missing_or_not_yet_used() -> None:
    disk = await a_store(messages=20)
    files = disk.files()
    end = frames_of(disk)[-1].frame.header.end
    assert kinds(FaultyDisk(files | {f"log/{end + 48:020d}.log": b""})) == [Unused]
    del files[names(disk, "log")[-1]]
    assert kinds(FaultyDisk(files)) == [NextMissing]
    mark = names(FaultyDisk(files), "log")[-1]
    base = int(mark[4:24]) + len(files[mark])
    assert kinds(FaultyDisk(files | {f"log/{base:020d}.log": b""})) == []


def test_log_without_files_has_no_pieces() -> None:
    survey = Survey(FaultyDisk())
    assert list(survey) == []
    assert survey.position.offset == 0
