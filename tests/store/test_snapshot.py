from __future__ import annotations

import msgspec
import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import Position
from posthouse.store.snapshot import (
    EMPTY,
    FORMAT,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    old_files,
    snapshot_name,
    valid_snapshots,
)
from tests.store.disks import FaultyDisk


def snapshot(offset: int, **others: object) -> Snapshot:
    return msgspec.structs.replace(
        Snapshot(offset=offset, checksum=7, epoch=3, stored_at_ms=99, runs=["a"], queues=[(1, 2, 3, 4)]), **others
    )


def disk_with(*offsets: int) -> FaultyDisk:
    return FaultyDisk({snapshot_name(offset): encode_snapshot(snapshot(offset)) for offset in offsets})


def offsets_of(disk: FaultyDisk) -> list[int]:
    return [found.offset for found in valid_snapshots(disk)]


def test_a_snapshot_is_decoded_as_it_was_encoded() -> None:
    found = snapshot(12, topics=msgspec.Raw(b'[[1,{"name":"t"}]]'))
    again = decode_snapshot(encode_snapshot(found))
    assert again == found
    assert again is not None
    assert again.position == Position(12, 7, 3)  # type: ignore[arg-type]


def test_every_cut_and_every_flipped_bit_is_seen() -> None:
    data = encode_snapshot(snapshot(12))
    for size in range(len(data)):
        assert decode_snapshot(data[:size]) is None
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        found = decode_snapshot(bytes(flipped))
        assert found is None or found == snapshot(12), "only the case of a hex digit may differ"


def test_another_format_is_not_used() -> None:
    assert decode_snapshot(encode_snapshot(snapshot(12, format=FORMAT + 1))) is None


def test_the_newest_comes_first_and_nothing_at_last() -> None:
    assert offsets_of(disk_with(5, 1000, 30)) == [1000, 30, 5, 0]
    assert list(valid_snapshots(FaultyDisk())) == [EMPTY]
    assert EMPTY.position == (0, 0, 0)


def test_a_damaged_one_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    disk = disk_with(5, 30, 1000)
    disk.edit(snapshot_name(1000), lambda data: data.__setitem__(20, data[20] ^ 1))
    assert offsets_of(disk) == [30, 5, 0]
    assert f"{1000:020d}.json" in caplog.text
    disk.edit(snapshot_name(30), bytearray.clear)
    assert offsets_of(disk) == [5, 0]


def test_a_snapshot_under_another_name_is_not_used() -> None:
    assert offsets_of(FaultyDisk({snapshot_name(50): encode_snapshot(snapshot(40))})) == [0]


def test_one_that_is_older_than_the_log_is_passed_over() -> None:
    disk = disk_with(5, 30, 1000)
    assert [found.offset for found in valid_snapshots(disk, LogOffset(30))] == [1000, 30, 0]
    assert [found.offset for found in valid_snapshots(disk, LogOffset(31))] == [1000, 0]
    assert list(valid_snapshots(disk, LogOffset(1001))) == [EMPTY]


def test_all_but_the_two_newest_are_old_and_foreign_files_do_not_count() -> None:
    disk = disk_with(5, 30, 1000)
    others = ("zzz.json", "notes.txt", f"{2000:020d}.json.new", "half.new")
    for name in others:
        disk = FaultyDisk(disk.files() | {f"snapshots/{name}": b""})
    assert set(old_files(disk)) == {snapshot_name(5), f"snapshots/{2000:020d}.json.new"}
