"""What a simulated disk holds: of each file the bytes that the operating system has, and those that are on the medium.

A write is in the operating system's memory at once and on the medium after a sync, or whenever the system feels like
it. So a power cut leaves of what was not synced any of its pages, in no order, and a length between the old and the new
one; where nothing was written there are zeros. A failed sync leaves its pages in memory, marked as written though they
are not, so that a later sync does not save them.

Names are a matter of their own: one that was made, moved or removed is on the medium when its folder was synced; of
the other changes a power cut leaves the first few.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from posthouse.testing.sim.randomness import Stream


class Inode:
    """A file without its name. `dirty` and `lost` are pages whose bytes in memory the medium does not have."""

    __slots__ = ("data", "dirty", "lost", "medium", "page_bytes", "settled", "synced_bytes")

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.data = bytearray()
        self.medium = bytearray()
        self.dirty: dict[int, None] = {}
        self.lost: dict[int, None] = {}
        self.synced_bytes = 0  # the size at the last sync
        self.settled = 0
        """What was there before the last sync: old data, of which what came later may say that it is durable."""

    def write(self, offset: int, data: bytes) -> None:
        size = len(self.data)
        if offset > size:
            self.data.extend(bytes(offset - size))
            offset_dirty = size
        else:
            offset_dirty = offset
        self.data[offset : offset + len(data)] = data
        page = self.page_bytes
        for at in range(offset_dirty // page, (offset + len(data) - 1) // page + 1):
            self.dirty[at] = None
            if self.lost:
                self.lost.pop(at, None)

    def truncate(self, size: int) -> None:
        if size > len(self.data):
            self.write(len(self.data), bytes(size - len(self.data)))
            return
        del self.data[size:]
        self.dirty = {at: None for at in self.dirty if at * self.page_bytes < size}
        self.synced_bytes, self.settled = min(self.synced_bytes, size), min(self.settled, size)

    def sync(self) -> None:
        page, data, medium = self.page_bytes, self.data, self.medium
        _resize(medium, len(data))
        for at in self.dirty:
            medium[at * page : (at + 1) * page] = data[at * page : (at + 1) * page]
        self.dirty.clear()
        if self.synced_bytes != len(data):
            self.settled, self.synced_bytes = self.synced_bytes, len(data)

    def sync_fails(self, stream: Stream) -> None:
        """Some of the pages are written, the others are not and never will be."""
        for at in [at for at in self.dirty if stream.random() < 0.5]:
            del self.dirty[at]
            self._to_medium(at)
        self.lost.update(self.dirty)
        self.dirty.clear()

    def power_cut(self, stream: Stream) -> int:
        """What is left is what the medium has. How many of the pages that were not synced are gone."""
        unsynced = {**self.lost, **self.dirty}
        if not unsynced and len(self.data) == len(self.medium):
            return 0
        old, new = len(self.medium), len(self.data)
        lost = 0
        size: int = stream.choice((old, new, stream.randint(min(old, new), max(old, new))))
        likely = stream.choice((0.0, 0.5, 0.9, 1.0))
        for at in unsynced:
            if at not in self.lost and stream.random() < likely:
                self._to_medium(at)
            else:
                lost += 1
        _resize(self.medium, size)
        self.data = bytearray(self.medium)
        self.synced_bytes, self.settled = min(self.synced_bytes, size), min(self.settled, size)
        self.dirty.clear()
        self.lost.clear()
        return lost

    def _to_medium(self, at: int) -> None:
        page = self.page_bytes
        piece = self.data[at * page : (at + 1) * page]
        if len(self.medium) < at * page + len(piece):
            _resize(self.medium, at * page + len(piece))
        self.medium[at * page : at * page + len(piece)] = piece

    def flip(self, at: int, bit: int) -> None:
        """A bit of what was written long ago is another one now, on the medium and in memory."""
        self.medium[at] ^= 1 << bit
        self.data[at] ^= 1 << bit


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


class _Change(NamedTuple):
    """Of names: `inode` is what the name means from now on, None for nothing."""

    folders: tuple[str, ...]
    names: tuple[tuple[str, Inode | None], ...]


class Platter:
    """All files of one disk. Names are whole paths; folders are not kept, as the seam makes them durable."""

    def __init__(self, page_bytes: int = 512) -> None:
        self.page_bytes = page_bytes
        self.names: dict[str, Inode] = {}
        self._medium_names: dict[str, Inode] = {}
        self._pending: list[_Change] = []

    def create(self, name: str) -> Inode:
        inode = self.names[name] = Inode(self.page_bytes)
        self._pending.append(_Change((posixpath.dirname(name),), ((name, inode),)))
        return inode

    def remove(self, name: str) -> None:
        if self.names.pop(name, None) is not None:
            self._pending.append(_Change((posixpath.dirname(name),), ((name, None),)))

    def move(self, name: str, to: str) -> None:
        inode = self.names.pop(name)
        self.names[to] = inode
        folders = (posixpath.dirname(name), posixpath.dirname(to))
        self._pending.append(_Change(folders, ((name, None), (to, inode))))

    def sync_folder(self, folder: str) -> None:
        """All changes of names in it are on the medium now."""
        kept: list[_Change] = []
        for change in self._pending:
            if folder in change.folders:
                self._settle(change)
            else:
                kept.append(change)
        self._pending = kept

    def _settle(self, change: _Change) -> None:
        for name, inode in change.names:
            if inode is None:
                self._medium_names.pop(name, None)
            else:
                self._medium_names[name] = inode

    def power_cut(self, stream: Stream) -> int:
        """Forgets what was only in memory; how many pages and names that was."""
        survive = stream.randint(0, len(self._pending))
        for change in self._pending[:survive]:
            self._settle(change)
        lost = len(self._pending) - survive
        self._pending = []
        lost += sum(inode.power_cut(stream) for inode in self._medium_names.values())
        self.names = dict(self._medium_names)
        return lost

    def files(self, durable: bool = False) -> dict[str, bytes]:
        """Name -> bytes: as the operating system has them, or as they are on the medium for sure."""
        if durable:
            return {name: bytes(inode.medium) for name, inode in sorted(self._medium_names.items())}
        return {name: bytes(inode.data) for name, inode in sorted(self.names.items())}

    def used_bytes(self) -> int:
        return sum(len(inode.data) for inode in self.names.values())
