"""A real disk that fails on order: the seam over RealDisk, with an error at the n-th operation, or no room for a while.

Operations are counted where they are given: each write, sync, create, replace, remove, truncate, move, new folder.
An operation that meets a fault is either half done (a write has half of its bytes, a sync has saved nothing) or done
all the same, and only the answer is the error: both happen. `lose_unsynced` is the power cut after it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from posthouse.host import Host, real
from posthouse.host.disk import Buffer, DiskFull, File, OnCommit, OnFile, OnRead
from posthouse.host.real import RealClock, RealDisk, RealNet, RealRandomness

NEED_ROOM = frozenset({"write", "create", "replace", "folder"})


class FaultInjectingFile:
    """A file of the disk below."""

    def __init__(self, disk: FaultInjectingDisk, file: File) -> None:
        self._disk, self._file = disk, file

    @property
    def name(self) -> str:
        return self._file.name

    def size_bytes(self) -> int:
        return self._file.size_bytes()

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        data = b"".join(buffers)
        error = self._disk.meet("write", self.name) if data else None
        if error is not None:
            part = data if self._disk.does_it_anyway else data[: len(data) // 2]
            self._file.commit(offset, (part,), False, lambda _: done(error))
        elif sync and (error := self._disk.meet("sync", self.name)) is not None:
            self._file.commit(offset, (data,), self._disk.does_it_anyway, lambda _: done(error))
        else:
            written = self._disk.written_bytes
            end = written[self.name] = max(written.get(self.name, 0), offset + len(data))
            self._file.commit(offset, buffers, sync, lambda error: self._committed(end, sync, error, done))

    def _committed(self, end: int, sync: bool, error: OSError | None, done: OnCommit) -> None:
        if sync and error is None:
            self._disk.synced_bytes[self.name] = max(end, self._disk.synced_bytes.get(self.name, 0))
        done(error)

    def read(self, offset: int, size: int) -> bytes | None:
        return self._file.read(offset, size)

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        self._file.read_later(offset, size, done)

    def read_wait(self, offset: int, size: int) -> bytes:
        return self._file.read_wait(offset, size)

    def truncate(self, size: int) -> None:
        with self._disk.meeting("truncate", self.name):
            self._file.truncate(size)
            self._disk.synced_bytes[self.name] = self._disk.written_bytes[self.name] = size

    def write_wait(self, offset: int, data: Buffer) -> None:
        size = offset + len(memoryview(data))
        kind = "write again" if size <= self.size_bytes() else "write"  # the first needs no room
        with self._disk.meeting(kind, self.name):
            self._file.write_wait(offset, data)
            self._disk.synced_bytes[self.name] = max(size, self._disk.synced_bytes.get(self.name, 0))

    def close(self) -> None:
        self._file.close()


class FaultInjectingDisk:
    """`fail_at`: the operation with this number, from 1 on, is an EIO. `is_full`: what needs room is a DiskFull."""

    def __init__(self, disk: RealDisk, *, fail_at: int | None = None, does_it_anyway: bool = False) -> None:
        self._disk = disk
        self.fail_at = fail_at
        self.does_it_anyway = does_it_anyway
        self.is_full = False
        self.full_for = 0
        """Further operations that find no room, then there is some again."""
        self.operations: list[str] = []
        self.met: str | None = None
        """The operation that failed."""
        self.written_bytes: dict[str, int] = {}
        self.synced_bytes: dict[str, int] = {}
        self.on_operation: Callable[[str], None] = lambda what: None

    def meet(self, kind: str, name: str) -> OSError | None:
        """The error that this operation is to end with."""
        what = f"{kind} {name}"
        self.operations.append(what)
        self.on_operation(what)
        if len(self.operations) == self.fail_at:
            self.met = what
            return OSError(errno.EIO, os.strerror(errno.EIO))
        if kind in NEED_ROOM and (self.is_full or self.full_for > 0):
            self.full_for -= self.full_for > 0
            self.met = what
            return DiskFull(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return None

    @contextmanager
    def meeting(self, kind: str, name: str) -> Iterator[None]:
        """Around work that is done at once."""
        error = self.meet(kind, name)
        if error is None or (self.does_it_anyway and not isinstance(error, DiskFull)):
            yield
        if error is not None:
            raise error

    def lose_unsynced(self) -> None:
        """What a power cut may take: the bytes of the log that no sync without an error has covered."""
        for name, size in self.synced_bytes.items():
            path = Path(self._disk.place, name)
            if path.exists() and path.stat().st_size > size:
                os.truncate(path, size)

    @property
    def place(self) -> str:
        return self._disk.place

    @property
    def writable(self) -> bool:
        return self._disk.writable

    def lock(self) -> None:
        self._disk.lock()

    def folder(self, name: str) -> None:
        if not Path(self.place, name).is_dir():
            error = self.meet("folder", name)
            if error is not None:
                raise error
        self._disk.folder(name)

    def list(self, folder: str) -> list[str]:
        return self._disk.list(folder)

    def open(self, name: str, create: bool = False) -> File:
        if create and (error := self.meet("create", name)) is not None:
            raise error
        file = self._disk.open(name, create)
        size = 0 if create else file.size_bytes()
        self.synced_bytes.setdefault(name, size)
        self.written_bytes.setdefault(name, size)
        return FaultInjectingFile(self, file)

    def create(self, name: str, done: OnFile) -> None:
        error = self.meet("create", name)
        self.synced_bytes.setdefault(name, 0)
        if error is None or (self.does_it_anyway and not isinstance(error, DiskFull)):
            self._disk.create(name, lambda made: done(self._made(made, error)))
        else:
            asyncio.get_running_loop().call_soon(done, error)

    def _made(self, made: File | OSError, error: OSError | None) -> File | OSError:
        if isinstance(made, OSError):
            return made
        if error is not None:
            made.close()
            return error
        return FaultInjectingFile(self, made)

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        self._later("replace", name, lambda told: self._disk.replace(name, data, told), done)

    def remove_later(self, name: str, done: OnCommit) -> None:
        self._later("remove", name, lambda told: self._disk.remove_later(name, told), done)

    def _later(self, kind: str, name: str, give: Callable[[OnCommit], None], done: OnCommit) -> None:
        error = self.meet(kind, name)
        if error is None:
            give(done)
        elif self.does_it_anyway and not isinstance(error, DiskFull):
            give(lambda _: done(error))
        else:
            asyncio.get_running_loop().call_soon(done, error)

    def write_file(self, name: str, data: bytes) -> None:
        with self.meeting("replace", name):
            self._disk.write_file(name, data)

    def read_file(self, name: str) -> bytes:
        return self._disk.read_file(name)

    def remove(self, name: str, sync: bool = False) -> None:
        if Path(self.place, name).exists():
            with self.meeting("remove", name):
                self._disk.remove(name, sync)

    def move(self, name: str, to: str) -> None:
        with self.meeting("move", name):
            self._disk.move(name, to)

    def usage(self) -> tuple[int, int]:
        return self._disk.usage()

    def close(self) -> None:
        self._disk.close()


def faulty_host(data: Path, *, fail_at: int | None = None, does_it_anyway: bool = False) -> Host:
    """This machine, but for the disk, which is `disk_of` it."""
    disk = FaultInjectingDisk(RealDisk(str(data)), fail_at=fail_at, does_it_anyway=does_it_anyway)
    return Host(RealClock(), disk, RealNet(), RealRandomness())


def disk_of(host: Host) -> FaultInjectingDisk:
    assert isinstance(host.disk, FaultInjectingDisk)
    return host.disk


@contextmanager
def slow_syncs(seconds: float) -> Iterator[None]:
    """Every sync of data takes so long, in the thread that does it."""
    sync = real._sync_data

    def slow(fd: int) -> None:
        time.sleep(seconds)
        sync(fd)

    with patch.object(real, "_sync_data", slow):
        yield


@contextmanager
def short_writes(bytes_max: int) -> Iterator[list[int]]:
    """The system writes no more than this at a time, as it may. The sizes that were asked for."""
    pwrite = os.pwrite
    asked: list[int] = []

    def short(fd: int, data: memoryview, offset: int) -> int:
        asked.append(len(data))
        return pwrite(fd, data[:bytes_max], offset)

    with patch.object(os, "pwrite", short):
        yield asked
