"""Logs that lie on a disk: written, looked at frame by frame, opened again."""

from __future__ import annotations

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.log import format as formats
from posthouse.store.log.batch import FrameHeader, FrameKind, decode_header
from posthouse.store.log.engine import LogDamaged, Recovered
from posthouse.store.log.segments import segment_name
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import open_local, put, settled

FIRST = segment_name(LogOffset(0))
FORMAT = {formats.NAME: b"posthouse 2\n"}


def segment_files(disk: FaultyDisk) -> dict[str, bytes]:
    """The files of the log, in order."""
    return {name: data for name, data in sorted(disk.files().items()) if name.startswith("log/")}


def frames(disk: FaultyDisk) -> list[FrameHeader]:
    """All frames of the log on `disk`, in order."""
    found = []
    for data in segment_files(disk).values():
        at = 0
        while (header := decode_header(data, at)) is not None:
            found.append(header)
            at += header.size
        assert at == len(data)
    return found


def headers(disk: FaultyDisk) -> list[FrameHeader]:
    """All batches of the log on `disk`, in order."""
    return [header for header in frames(disk) if header.kind is FrameKind.BATCH]


async def written(
    names: int = 10, *, first: int = 0, segment_bytes: int = 1 << 30, size: int = 40, opening: tuple[int, ...] = ()
) -> FaultyDisk:
    """A disk with a log of synced batches, one record each, named from `first` on."""
    disk = FaultyDisk()
    log, _, _, _ = open_local(disk, segment_bytes=segment_bytes, opening=opening)
    for name in range(first, first + names):
        put(log, name, size)
        await settled(log)
    await log.close()
    return disk


def reopened(files: dict[str, bytes], **options: int) -> tuple[list[bytes], Recovered, FaultyDisk]:
    """What a log in these files tells when it is opened; the format's file need not be among them."""
    disk = FaultyDisk(FORMAT | files)
    _, _, replayed, recovered = open_local(disk, **options)  # type: ignore[arg-type]
    return [data for data, _ in replayed], recovered, disk


def damage(files: dict[str, bytes], **options: int) -> str:
    """What a start says that refuses these files; it must have changed none of them."""
    disk = FaultyDisk(FORMAT | files)
    with pytest.raises(LogDamaged) as caught:
        open_local(disk, **options)  # type: ignore[arg-type]
    assert disk.changes == []
    assert disk.files() == FORMAT | files
    return str(caught.value)
