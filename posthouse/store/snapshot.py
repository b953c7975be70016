"""Snapshots: the folds' small state at one place of the log, so that a start replays little.

A snapshot is a file named by its log offset: a line with the CRC-32 of the rest in hex, then JSON. It is written
whole or not at all, and only after the runs that it names are on disk. The newest valid one that is not older than the
log counts; two are kept.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterator

import msgspec

from posthouse.host.disk import Disk
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import START, Position

log = logging.getLogger(__name__)

FOLDER = "snapshots"
_SUFFIX = ".json"
_NAME = re.compile(r"[0-9]{20}\.json")
FORMAT = 2


class Snapshot(msgspec.Struct, kw_only=True):
    """`offset`, `checksum` and `epoch` are the Position up to which everything is contained."""

    format: int = FORMAT
    offset: int
    checksum: int
    epoch: int = 0
    stored_at_ms: int = 0  # no record up to here has a later time
    runs: list[str] = []
    queues: list[tuple[int, int, int, int]] = []  # topic id, queue id, min queue offset, next queue offset
    topics: msgspec.Raw = msgspec.Raw(b"[]")
    groups: msgspec.Raw = msgspec.Raw(b"[]")
    offsets: msgspec.Raw = msgspec.Raw(b"{}")
    resets: msgspec.Raw = msgspec.Raw(b"{}")
    rules: msgspec.Raw = msgspec.Raw(b"[]")
    locks: msgspec.Raw = msgspec.Raw(b"[]")
    in_flight: msgspec.Raw = msgspec.Raw(b"[]")
    timers: list[tuple[int, bytes]] = []  # packed entries of what is due, by the number of their stretch: see timers

    @property
    def position(self) -> Position:
        return Position(LogOffset(self.offset), self.checksum, self.epoch)


EMPTY = Snapshot(offset=START.offset, checksum=START.checksum)


def snapshot_name(offset: int) -> str:
    return f"{FOLDER}/{offset:020d}{_SUFFIX}"


def encode_snapshot(snapshot: Snapshot) -> bytes:
    body = msgspec.json.encode(snapshot)
    return b"%08x\n%s" % (zlib.crc32(body), body)


def decode_snapshot(data: bytes) -> Snapshot | None:
    """None if this is not a whole snapshot of a format that we know."""
    line, _, body = data.partition(b"\n")
    try:
        if int(line, 16) != zlib.crc32(body):
            return None
        found = msgspec.json.decode(body, type=Snapshot)
    except (ValueError, msgspec.MsgspecError):
        return None
    return found if found.format == FORMAT else None


def valid_snapshots(disk: Disk, first_offset: LogOffset = START.offset) -> Iterator[Snapshot]:
    """The valid snapshots, newest first, and EMPTY at last: then the whole log is replayed.

    Those below `first_offset`, where the log begins, are passed over: what follows them is not there.
    """
    for name in reversed(_names(disk)):
        if int(name.removesuffix(_SUFFIX)) < first_offset:
            break
        found = decode_snapshot(disk.read_file(f"{FOLDER}/{name}"))
        if found is not None and snapshot_name(found.offset) == f"{FOLDER}/{name}":
            yield found
        else:
            log.warning("snapshot %s is not valid; an older one is used", name)
    yield EMPTY


def old_files(disk: Disk, keep: int = 2) -> list[str]:
    """The files of all but the newest `keep`, and of what interrupted writes left."""
    leftovers = [name for name in disk.list(FOLDER) if name.endswith(_SUFFIX + ".new")]
    return [f"{FOLDER}/{name}" for name in (*_names(disk)[:-keep], *leftovers)]


def _names(disk: Disk) -> list[str]:
    """The files that are named as snapshots are, oldest first."""
    return [name for name in disk.list(FOLDER) if _NAME.fullmatch(name)]
