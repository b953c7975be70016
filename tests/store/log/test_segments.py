from __future__ import annotations

import logging

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.log.segments import Removal, open_segments, segment_bases, segment_name
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import turns


def test_names_sort_as_their_offsets() -> None:
    bases = [0, 9, 10, 1 << 30, 1 << 40, (1 << 63) - 1]
    names = [segment_name(LogOffset(base)) for base in bases]
    assert names[2] == "log/00000000000000000010.log"
    assert names == sorted(names)


def test_segments_are_listed_in_order_and_other_names_are_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    ours = {segment_name(LogOffset(base)): bytes(base) for base in (200, 5, 0)}
    foreign = ["log/1.log", "log/old.log", "log/0000000000000000000a.log", "log/notes"]
    disk = FaultyDisk(ours | dict.fromkeys(foreign, b"x") | {"log/00000000000000000007.log.lost": b"", "other": b""})
    with caplog.at_level(logging.WARNING):
        assert segment_bases(disk) == [0, 5, 200]
    assert all(name in caplog.text for name in foreign)
    assert ".lost" not in caplog.text
    found = [(segment.base, segment.end, segment.file.name) for segment in open_segments(disk)]
    assert found == [(base, 2 * base, segment_name(LogOffset(base))) for base in (0, 5, 200)]


@pytest.mark.asyncio
async def test_files_are_removed_in_order_and_the_next_only_when_the_one_before_is_gone() -> None:
    disk = FaultyDisk(dict.fromkeys("abcd", b"x"))
    disk.hold()
    removal = Removal(disk)
    removal.add(["a", "b"])
    removal.add(["c"])
    seen = []
    while disk.held:
        assert len(disk.held) == 1
        seen.append(disk.held[0][0])
        disk.release(1)
        await turns()
    assert seen == ["remove a", "remove b", "remove c"]
    assert list(disk.files()) == ["d"]


@pytest.mark.asyncio
async def test_a_removal_that_is_stopped_begins_no_other() -> None:
    disk = FaultyDisk(dict.fromkeys("abc", b"x"))
    disk.hold()
    removal = Removal(disk)
    removal.add(["a", "b"])
    removal.stop()
    disk.release()
    await turns()
    assert list(disk.files()) == ["b", "c"]
