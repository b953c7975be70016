from __future__ import annotations

import pytest

from posthouse.store.overlay import OverlayDisk
from tests.store.disks import FaultyDisk


def below() -> FaultyDisk:
    return FaultyDisk({"log/a": b"0123456789", "log/b": b"b"})


def test_changes_are_seen_above_and_not_below() -> None:
    disk = below()
    over = OverlayDisk(disk)
    file = over.open("log/a")
    file.commit(8, [b"xy", b"z"], True, lambda error: None)
    assert file.read_wait(0, 100) == b"01234567xyz"
    file.truncate(4)
    assert file.read_wait(0, 100) == b"0123"
    file.truncate(6)
    assert file.read_wait(0, 100) == b"0123\0\0"
    assert file.size_bytes() == 6
    over.remove("log/b")
    over.move("log/a", "log/c")
    over.write_file("log/d", b"new")
    over.open("log/e", create=True)
    assert over.list("log") == ["c", "d", "e"]
    assert over.read_file("log/c") == b"0123\0\0"
    assert disk.files() == below().files()


def test_reads_cross_what_was_written() -> None:
    over = OverlayDisk(below())
    file = over.open("log/a")
    file.commit(2, [b"AB"], False, lambda error: None)
    file.commit(3, [b"c"], False, lambda error: None)
    assert file.read_wait(1, 4) == b"1Ac4"
    assert file.read(9, 5) == b"9"
    assert file.read_wait(20, 5) == b""


def test_removed_file_is_gone_and_may_be_made_again() -> None:
    over = OverlayDisk(below())
    over.remove("log/a")
    with pytest.raises(FileNotFoundError):
        over.open("log/a")
    over.open("log/a", create=True)
    assert over.read_file("log/a") == b""
    with pytest.raises(FileExistsError):
        over.open("log/b", create=True)


def test_calls_back_at_once_where_there_is_no_loop() -> None:
    over = OverlayDisk(below())
    told: list[object] = []
    over.replace("log/a", b"1", told.append)
    over.remove_later("log/b", told.append)
    over.create("log/new", told.append)
    over.create("log/a", told.append)
    assert told[:2] == [None, None]
    assert isinstance(told[3], FileExistsError)
    assert over.list("log") == ["a", "new"]


@pytest.mark.asyncio
async def test_calls_back_on_the_loop() -> None:
    over = OverlayDisk(below())
    told: list[object] = []
    over.open("log/a").read_later(0, 2, told.append)
    assert not told
    import asyncio

    await asyncio.sleep(0)
    assert told == [b"01"]
