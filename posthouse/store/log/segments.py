"""Segments: the files of the log, named by the log offset of their first byte, in 20 digits.

The next segment begins where the one before it ends, so a log offset is found by the name of its file. Other names
in the folder are not ours and are left alone; `.lost` files are what a repair put aside.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk, File
from posthouse.model.offsets import LogOffset

log = logging.getLogger(__name__)

FOLDER = "log"
LOST_SUFFIX = ".lost"
REMOVE_AGAIN_S = 10.0
_SUFFIX = ".log"


@dataclass(slots=True)
class Segment:
    """One file: bytes [base, end) of the log, at file position offset - base."""

    base: LogOffset
    end: LogOffset
    file: File
    begun_at_ms: EpochMs
    """From the first frame; 0 as long as it is not known."""


def segment_name(base: LogOffset) -> str:
    return f"{FOLDER}/{base:020d}{_SUFFIX}"


def segment_bases(disk: Disk) -> list[LogOffset]:
    """The bases of the segment files that are there, in order. Other files are named in the process's log."""
    found: list[LogOffset] = []
    for name in disk.list(FOLDER):
        digits = name.removesuffix(_SUFFIX)
        base = LogOffset(int(digits) if digits.isascii() and digits.isdecimal() else 0)
        if segment_name(base) == f"{FOLDER}/{name}":
            found.append(base)
        elif not name.endswith(LOST_SUFFIX):
            log.warning("%s/%s in %s is not a segment of this log; it is left alone", FOLDER, name, disk.place)
    return found


def open_segments(disk: Disk) -> list[Segment]:
    """The segments as they lie there, in order; nothing of them is read. Raises OSError."""
    found: list[Segment] = []
    for base in segment_bases(disk):
        file = disk.open(segment_name(base))
        found.append(Segment(base, LogOffset(base + file.size_bytes()), file, EpochMs(0)))
    return found


class Removal:
    """Removes segment files in the disk's thread, one after another, the oldest first: a crash leaves no hole."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._names: list[str] = []
        self._busy = False
        self._again: asyncio.TimerHandle | None = None

    def add(self, names: list[str]) -> None:
        """More files to remove, in order, all newer than those before. Also tries again what failed."""
        self._names += names
        if self._names and not self._busy:
            self._busy = True
            self._disk.remove_later(self._names[0], self._removed)

    def _removed(self, error: OSError | None) -> None:
        self._busy = False
        if error is None:
            del self._names[:1]
            self.add([])
        elif self._names:
            log.error(
                "removing %s in %s failed: %s; it is tried again in %d s",
                self._names[0],
                self._disk.place,
                error.strerror or error,
                REMOVE_AGAIN_S,
            )
            self._again = asyncio.get_running_loop().call_later(REMOVE_AGAIN_S, self.add, [])

    def stop(self) -> None:
        """Begins no further removal; the files that are left are part of the log again when it is opened."""
        self._names.clear()
        if self._again is not None:
            self._again.cancel()
