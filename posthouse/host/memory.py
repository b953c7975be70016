"""A disk that is memory: for tests and for programs that embed a broker and keep nothing.

It keeps every promise of the seam except that it outlives the process; callbacks come on the loop, never at once,
as a real disk's would.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence

from posthouse.host.disk import Buffer, DiskBusy, OnCommit, OnFile, OnRead


class MemoryFile:
    __slots__ = ("_data", "_name")

    def __init__(self, name: str, data: bytearray) -> None:
        self._name, self._data = name, data

    @property
    def name(self) -> str:
        return self._name

    def size_bytes(self) -> int:
        return len(self._data)

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        if offset > len(self._data):
            self._data.extend(bytes(offset - len(self._data)))
        for buffer in buffers:
            self._data[offset : offset + len(buffer)] = buffer
            offset += len(buffer)
        asyncio.get_running_loop().call_soon(done, None)

    def read(self, offset: int, size: int) -> bytes | None:
        return bytes(self._data[offset : offset + size])

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        asyncio.get_running_loop().call_soon(done, self.read_wait(offset, size))

    def read_wait(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def truncate(self, size: int) -> None:
        if size < len(self._data):
            del self._data[size:]
        else:
            self._data.extend(bytes(size - len(self._data)))

    def write_wait(self, offset: int, data: Buffer) -> None:
        self._data[offset : offset + len(data)] = data

    def close(self) -> None:
        pass


class MemoryDisk:
    """Files by name. Two stores over one MemoryDisk, one after the other, are a restart."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}
        self._locked = False

    @property
    def place(self) -> str:
        return "memory"

    @property
    def writable(self) -> bool:
        return True

    def lock(self) -> None:
        if self._locked:
            raise DiskBusy("another store is using this memory disk")
        self._locked = True

    def folder(self, name: str) -> None:
        pass

    def list(self, folder: str) -> list[str]:
        start = _inside(folder) + "/"
        inside = (name.removeprefix(start) for name in self._files if name.startswith(start))
        return sorted(name for name in inside if "/" not in name)

    def open(self, name: str, create: bool = False) -> MemoryFile:
        if create:
            if _inside(name) in self._files:
                raise FileExistsError(name)
            self._files[name] = bytearray()
        if _inside(name) not in self._files:
            raise FileNotFoundError(name)
        return MemoryFile(name, self._files[name])

    def create(self, name: str, done: OnFile) -> None:
        data = self._files.setdefault(_inside(name), bytearray())
        made = FileExistsError(errno.EEXIST, "File exists", name) if data else MemoryFile(name, data)
        asyncio.get_running_loop().call_soon(done, made)

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        self.write_file(name, data)
        asyncio.get_running_loop().call_soon(done, None)

    def write_file(self, name: str, data: bytes) -> None:
        self._files[_inside(name)] = bytearray(data)

    def read_file(self, name: str) -> bytes:
        if _inside(name) not in self._files:
            raise FileNotFoundError(name)
        return bytes(self._files[name])

    def remove(self, name: str, sync: bool = False) -> None:
        self._files.pop(_inside(name), None)

    def remove_later(self, name: str, done: OnCommit) -> None:
        self.remove(name)
        asyncio.get_running_loop().call_soon(done, None)

    def move(self, name: str, to: str) -> None:
        if _inside(to) in self._files:
            raise FileExistsError(errno.EEXIST, "File exists", to)
        if _inside(name) not in self._files:
            raise FileNotFoundError(errno.ENOENT, "No such file", name)
        self._files[to] = self._files.pop(name)

    def usage(self) -> tuple[int, int]:
        used = sum(map(len, self._files.values()))
        return used, max(used, 1) * 1000

    def close(self) -> None:
        self._locked = False


def _inside(name: str) -> str:
    assert not name.startswith("/") and ".." not in name.split("/"), f"{name!r} leaves the data folder"  # noqa: PT018
    return name
