from __future__ import annotations

import pytest

from posthouse.store.log import format as formats
from posthouse.store.log.engine import LogDamaged
from tests.store.disks import FaultyDisk
from tests.store.log.logs import FIRST, damage, segment_files, written
from tests.store.log.recorder import open_local


def test_a_folder_of_another_format_is_refused_and_left_alone() -> None:
    for content, said in (
        (b"posthouse 7\n", "a faulty disk holds format 7; this version of Posthouse reads format 2: start the version"),
        (b"posthouse 1\n", "a faulty disk holds format 1;"),
        (b"", "format in a faulty disk is damaged"),
        (b"posthouse two\n", "format in a faulty disk is damaged"),
        (b"\xff\xfe", "format in a faulty disk is damaged"),
    ):
        assert said in damage({formats.NAME: content})


@pytest.mark.asyncio
async def test_segments_without_a_format_are_of_a_development_version() -> None:
    files = segment_files(await written(3))
    disk = FaultyDisk(files)
    with pytest.raises(LogDamaged, match="holds format 1, of a development version"):
        open_local(disk)
    assert disk.files() == files


def test_the_format_is_written_before_the_first_segment_is_made() -> None:
    disk = FaultyDisk()
    open_local(disk)
    assert disk.changes == ["replace format", f"create {FIRST}"]
    assert disk.read_file("format") == b"posthouse 2\n"
