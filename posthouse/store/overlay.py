"""A disk over another one: reads go through, changes stay in memory. For rehearsals: what would a start find?

So the very code of a start, which cuts and removes, can be run on a store that must not be touched. Nothing is
written to the disk below, and it is not locked from here.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from posthouse.host.disk import Buffer, Disk, File, OnCommit, OnFile, OnRead


@dataclass
class _Content:
    """A file as it is seen: `kept` bytes of the one below, then zeros up to `size`, and over both what was written."""

    below: File | None
    kept: int
    size: int
    written: list[tuple[int, Buffer]] = field(default_factory=list)

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        data = b""
        if self.below is not None and offset < self.kept:
            data = self.below.read_wait(offset, min(end, self.kept) - offset)
        if len(data) == end - offset and not self.written:
            return data
        found = bytearray(data.ljust(end - offset, b"\0"))
        for begin, buffer in self.written:
            first, last = max(begin, offset), min(begin + len(buffer), end)
            if first < last:
                found[first - offset : last - offset] = memoryview(buffer)[first - begin : last - begin]
        return bytes(found)

    def write(self, offset: int, buffer: Buffer) -> None:
        self.written.append((offset, buffer))
        self.size = max(self.size, offset + len(buffer))

    def resize(self, size: int) -> None:
        self.kept = min(self.kept, size)
        self.written = [(at, memoryview(buffer)[: size - at]) for at, buffer in self.written if at < size]
        self.size = size


class OverlayFile:
    def __init__(self, name: str, content: _Content) -> None:
        self._name, self._content = name, content

    @property
    def name(self) -> str:
        return self._name

    def size_bytes(self) -> int:
        return self._content.size

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        for buffer in buffers:
            self._content.write(offset, buffer)
            offset += len(buffer)
        _tell(done, None)

    def read(self, offset: int, size: int) -> bytes | None:
        return self._content.read(offset, size)

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        _tell(done, self._content.read(offset, size))

    def read_wait(self, offset: int, size: int) -> bytes:
        return self._content.read(offset, size)

    def write_wait(self, offset: int, data: Buffer) -> None:
        if self._content.read(offset, len(data)) != data:  # a start writes again what may not have reached the disk
            self._content.write(offset, data)

    def truncate(self, size: int) -> None:
        self._content.resize(size)

    def close(self) -> None:
        pass  # the file below is closed with the disk: others may look at it yet


class OverlayDisk:
    """See the module's text. `close` closes what was opened below, not the disk below."""

    def __init__(self, below: Disk) -> None:
        self._below = below
        self._contents: dict[str, _Content] = {}
        self._gone: set[str] = set()

    @property
    def place(self) -> str:
        return self._below.place

    @property
    def writable(self) -> bool:
        return True

    def lock(self) -> None:
        pass

    def folder(self, name: str) -> None:
        pass

    def list(self, folder: str) -> list[str]:
        start = folder + "/"
        below = {name for name in self._below.list(folder) if start + name not in self._gone}
        above = {name.removeprefix(start) for name in self._contents if name.startswith(start)}
        return sorted(below | {name for name in above if "/" not in name})

    def _find(self, name: str) -> _Content:
        found = self._contents.get(name)
        if found is None:
            if name in self._gone:
                raise FileNotFoundError(errno.ENOENT, "No such file", name)
            file = self._below.open(name)
            size = file.size_bytes()
            found = self._contents[name] = _Content(file, size, size)
        return found

    def _is_there(self, name: str) -> bool:
        try:
            self._find(name)
        except FileNotFoundError:
            return False
        return True

    def open(self, name: str, create: bool = False) -> OverlayFile:
        if create:
            if self._is_there(name):
                raise FileExistsError(errno.EEXIST, "File exists", name)
            self._contents[name] = _Content(None, 0, 0)
        return OverlayFile(name, self._find(name))

    def create(self, name: str, done: OnFile) -> None:
        if self._is_there(name) and self._find(name).size:
            _tell(done, FileExistsError(errno.EEXIST, "File exists", name))
            return
        self._contents.setdefault(name, _Content(None, 0, 0))
        _tell(done, OverlayFile(name, self._contents[name]))

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        self.write_file(name, data)
        _tell(done, None)

    def write_file(self, name: str, data: bytes) -> None:
        self._contents[name] = _Content(None, 0, len(data), [(0, data)])

    def read_file(self, name: str) -> bytes:
        content = self._find(name)
        return content.read(0, content.size)

    def remove(self, name: str, sync: bool = False) -> None:
        self._contents.pop(name, None)
        self._gone.add(name)

    def remove_later(self, name: str, done: OnCommit) -> None:
        self.remove(name)
        _tell(done, None)

    def move(self, name: str, to: str) -> None:
        content = self._find(name)
        self.remove(name)
        self._contents[to] = content

    def usage(self) -> tuple[int, int]:
        return self._below.usage()

    def close(self) -> None:
        for content in self._contents.values():
            if content.below is not None:
                content.below.close()
        self._contents.clear()


def _tell(done: Callable[..., None], outcome: object) -> None:
    """On the loop, as every disk does; at once where there is none: a rehearsal may be a plain function."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        done(outcome)
    else:
        loop.call_soon(done, outcome)
