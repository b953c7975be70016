"""The disk of a simulated machine: its platter, how fast it is, and what goes wrong with it.

It outlives the processes that use it, each through a `ProcessDisk` of its own. What a power cut leaves is the
platter's affair; what a killed process leaves is the process's disk's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.host.disk import DiskFull
from posthouse.testing.sim.errors import system_error, words_of
from posthouse.testing.sim.loop import SimLoop
from posthouse.testing.sim.platter import Inode, Platter
from posthouse.testing.sim.randomness import Stream


@dataclass(slots=True)
class DiskTrouble:
    """What goes wrong; all of it off at first. Chances are per operation."""

    sync_s: tuple[float, float] = (0.0005, 0.004)
    write_s: tuple[float, float] = (0.00002, 0.0002)
    slowness: float = 1.0
    """All times are this many times longer."""
    sync_fails: float = 0.0
    write_fails: float = 0.0
    cold_reads: float = 0.0
    """How often a read would have to wait for the device."""
    room_bytes: int | None = None
    """What may yet be written before the disk is full; None: as much as anyone likes."""


class Flip(NamedTuple):
    """A bit that is not as it was written."""

    name: str
    inode: Inode
    at: int
    bit: int


class SimDisk:
    """The disk of one machine."""

    def __init__(self, loop: SimLoop, stream: Stream, name: str = "disk", *, page_bytes: int = 512) -> None:
        self.loop, self.stream, self.name = loop, stream, name
        self.platter = Platter(page_bytes)
        self.trouble = DiskTrouble()
        self.on_step: Callable[[str, str], None] | None = None
        """Hears (step, name of the file): "write", "written", "sync", "synced", "create", "remove", ..."""
        self.steps = 0
        self.locked_by: object = None
        self.was_full = False
        self.flips: list[Flip] = []

    def files(self, durable: bool = False) -> dict[str, bytes]:
        """Name -> bytes as the operating system has them; or, `durable`, as they are on the medium for sure."""
        return self.platter.files(durable)

    def power_cut(self) -> int:
        """After the machine's processes are gone: how many pages and names were lost."""
        self.locked_by = None
        return self.platter.power_cut(self.stream)

    def flip_a_bit(self, stream: Stream, folder: str = "") -> Flip | None:
        """In data that was synced long ago, in a file whose name begins with `folder`; None if there is none yet."""
        found = [
            (name, inode)
            for name, inode in sorted(self.platter.names.items())
            if name.startswith(folder) and inode.settled and not inode.dirty and not inode.lost
        ]
        if not found:
            return None
        name, inode = stream.choice(found)
        flip = Flip(name, inode, stream.randrange(inode.settled), stream.randrange(8))
        inode.flip(flip.at, flip.bit)
        self.flips.append(flip)
        return flip

    def restore(self) -> list[Flip]:
        """Somebody puts the bits back that were flipped, from a copy; those that are still there."""
        flips, self.flips = self.flips, []
        there = [flip for flip in flips if flip.at < len(flip.inode.data)]
        for flip in there:
            flip.inode.flip(flip.at, flip.bit)
        return there

    def heal(self) -> None:
        """No more trouble; what it has done stays done."""
        fast = self.trouble
        self.trouble = DiskTrouble(sync_s=fast.sync_s, write_s=fast.write_s)

    # What processes do to it

    def step(self, what: str, name: str) -> None:
        self.steps += 1
        if self.on_step is not None:
            self.on_step(what, name)

    def write(self, inode: Inode, name: str, offset: int, data: bytes) -> None:
        """Raises OSError: no room (something of it may have been written), or a failed write."""
        grows = offset + len(data) - len(inode.data)
        if grows > 0:
            room = self.trouble.room_bytes
            if room is not None:
                if grows > room:
                    part = data[: max(0, len(data) - grows + room)]
                    if part:
                        inode.write(offset, part)
                    self.trouble.room_bytes = 0
                    raise self.full(name)
                self.trouble.room_bytes = room - grows
        if self.trouble.write_fails and self.stream.random() < self.trouble.write_fails:
            raise system_error(errno.EIO, name)
        inode.write(offset, data)

    def full(self, name: str) -> OSError:
        self.was_full = True
        return DiskFull(errno.ENOSPC, words_of(errno.ENOSPC), name)

    def check_room(self, name: str) -> None:
        if self.trouble.room_bytes == 0:
            raise self.full(name)

    def sync(self, inode: Inode, name: str) -> None:
        """Raises OSError; then a later sync will not help."""
        if self.trouble.sync_fails and self.stream.random() < self.trouble.sync_fails:
            inode.sync_fails(self.stream)
            raise system_error(errno.EIO, name)
        inode.sync()

    def seconds(self, between: tuple[float, float]) -> float:
        low, high = between
        return (low + (high - low) * self.stream.random()) * self.trouble.slowness
