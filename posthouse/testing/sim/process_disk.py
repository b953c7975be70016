"""A process's own view of its machine's disk: the disk seam, for one life of one process.

It has one writer "thread": what is given to it is done in order, each step taking its time. A killed process's disk is
dead: what had been begun is left as it is (a write perhaps in part), what had not is forgotten, and the operating
system keeps the rest.

Each step is told to the machine's disk before it is done and after, so that a nemesis can strike at the moments that
matter. The process may be gone when it has: then the step is not done.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
from collections import deque
from collections.abc import Callable, Generator, Sequence

from posthouse.host.disk import Buffer, DiskBusy, File, OnCommit, OnRead
from posthouse.testing.sim.disk import SimDisk
from posthouse.testing.sim.errors import system_error
from posthouse.testing.sim.platter import Inode
from posthouse.testing.sim.process import Process

_CAPACITY_BYTES = 10 * 1024**3
_Work = Generator[float, None, None]
"""A step in the disk's thread: yields how many seconds go by, raises OSError."""


class SimFile:
    """An open file of one process."""

    __slots__ = ("_disk", "_inode", "_is_open", "_name")

    def __init__(self, disk: ProcessDisk, name: str, inode: Inode) -> None:
        self._disk, self._name, self._inode = disk, name, inode
        self._is_open = True

    @property
    def name(self) -> str:
        return self._name

    def size_bytes(self) -> int:
        self._check()
        return len(self._inode.data)

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        if not self._is_open:
            asyncio.get_running_loop().call_soon(done, system_error(errno.EBADF, self._name))
            return
        self._disk.give(self._commit(offset, b"".join(buffers), sync), done)

    def _commit(self, offset: int, data: bytes, sync: bool) -> _Work:
        """Goes on when the file is closed meanwhile: what was given before still ends well."""
        disk, machine = self._disk, self._disk.machine_disk
        trouble = machine.trouble
        if data:
            disk.stepped("write", self._name)
            size = len(self._inode.data)
            machine.write(self._inode, self._name, offset, data)
            disk.under_way = (self._inode, size)
            yield machine.seconds(trouble.write_s)
            disk.under_way = None
            disk.stepped("written", self._name)
        if sync:
            disk.stepped("sync", self._name)
            yield machine.seconds(trouble.sync_s)
            machine.sync(self._inode, self._name)
            disk.stepped("synced", self._name)
        elif not data:
            yield 0.0

    def read(self, offset: int, size: int) -> bytes | None:
        self._check()
        machine = self._disk.machine_disk
        if machine.trouble.cold_reads and machine.stream.random() < machine.trouble.cold_reads:
            return None
        return bytes(self._inode.data[offset : offset + size])

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        machine = self._disk.machine_disk
        given_in_time = self._is_open

        def read() -> None:
            if given_in_time:
                done(bytes(self._inode.data[offset : offset + size]))
            else:
                done(system_error(errno.EBADF, self._name))

        delay = machine.seconds(machine.trouble.sync_s)
        machine.loop.call_later(delay, read, context=self._disk.process.context)

    def read_wait(self, offset: int, size: int) -> bytes:
        self._check()
        return bytes(self._inode.data[offset : offset + size])

    def write_wait(self, offset: int, data: Buffer) -> None:
        """Writes and syncs, in no time: for recovery, which holds up its whole process. Raises OSError."""
        self._check()
        self._disk.stepped("write", self._name)
        self._disk.machine_disk.write(self._inode, self._name, offset, bytes(data))
        self._disk.stepped("sync", self._name)
        self._disk.machine_disk.sync(self._inode, self._name)
        self._disk.stepped("synced", self._name)

    def truncate(self, size: int) -> None:
        self._check()
        self._disk.stepped("truncate", self._name)
        self._inode.truncate(size)
        self._disk.machine_disk.sync(self._inode, self._name)
        self._disk.stepped("truncated", self._name)

    def close(self) -> None:
        self._is_open = False

    def _check(self) -> None:
        self._disk.check_alive()
        if not self._is_open:
            raise system_error(errno.EBADF, self._name)


class ProcessDisk:
    """The disk seam of one process; see the module's text."""

    def __init__(self, machine_disk: SimDisk, process: Process) -> None:
        self.machine_disk, self.process = machine_disk, process
        self.under_way: tuple[Inode, int] | None = None
        """A write that the thread is at: the file, and its size before."""
        self._platter = machine_disk.platter
        self._work: deque[tuple[_Work, OnCommit]] = deque()
        self._busy = False
        self._closed = False
        self._dead = False
        process.on_kill[self.die] = None

    # The thread

    def give(self, work: _Work, done: OnCommit) -> None:
        if self._closed or self._dead:
            error = OSError(errno.EBADF, f"{self.place} was closed")
            asyncio.get_running_loop().call_soon(done, error)
            return
        self._work.append((work, done))
        if not self._busy:
            self._busy = True
            self._go_on()

    def _go_on(self) -> None:
        """Does work until some of it takes time."""
        loop = self.machine_disk.loop
        while self._work and not self._dead:
            work, done = self._work[0]
            error: OSError | None = None
            try:
                delay = next(work)
            except StopIteration:
                pass
            except OSError as failed:
                error = failed
            else:
                loop.call_later(delay, self._go_on, context=self.process.context)
                return
            if not self._dead:
                self._work.popleft()
                loop.call_soon(done, error, context=self.process.context)
        self._busy = False

    def die(self) -> None:
        """The process is gone."""
        self._dead = True
        self._work.clear()
        if self.under_way is not None:
            inode, size = self.under_way
            if len(inode.data) > size and self.machine_disk.stream.random() < 0.5:
                inode.truncate(self.machine_disk.stream.randint(size, len(inode.data)))
        if self.machine_disk.locked_by is self:
            self.machine_disk.locked_by = None

    def check_alive(self) -> None:
        if self._dead:
            raise OSError(errno.EBADF, "this process is gone")

    def stepped(self, what: str, name: str) -> None:
        """Tells of a step. Raises OSError if the process is gone after that."""
        self.check_alive()
        self.machine_disk.step(what, name)
        self.check_alive()

    # The seam

    @property
    def place(self) -> str:
        return f"/{self.machine_disk.name}"

    @property
    def writable(self) -> bool:
        return True

    def lock(self) -> None:
        self.check_alive()
        if self.machine_disk.locked_by is not None:
            raise DiskBusy(f"another process is using the data folder {self.place}")
        self.machine_disk.locked_by = self
        self._closed = False

    def folder(self, name: str) -> None:
        self.stepped("sync folder", name)
        self._platter.sync_folder(name)

    def list(self, folder: str) -> list[str]:
        self.check_alive()
        start = folder + "/"
        inside = (name.removeprefix(start) for name in self._platter.names if name.startswith(start))
        return sorted(name for name in inside if "/" not in name)

    def open(self, name: str, create: bool = False) -> SimFile:
        self.check_alive()
        _check_name(name)
        inode = self._platter.names.get(name)
        if create:
            if inode is not None:
                raise system_error(errno.EEXIST, name)
            inode = self._create(name)
        if inode is None:
            raise system_error(errno.ENOENT, name)
        return SimFile(self, name, inode)

    def _create(self, name: str) -> Inode:
        self.stepped("create", name)
        self.machine_disk.check_room(name)
        inode = self._platter.create(name)
        self.stepped("sync folder", name)
        self._platter.sync_folder(posixpath.dirname(name))
        return inode

    def create(self, name: str, done: Callable[[File | OSError], None]) -> None:
        """In the disk's thread: an empty file with a durable name; one that is there already is taken if empty."""
        made: list[File] = []

        def work() -> _Work:
            inode = self._platter.names.get(name)
            if inode is not None and inode.data:
                raise system_error(errno.EEXIST, name)
            yield self.machine_disk.seconds(self.machine_disk.trouble.sync_s)
            if inode is None:
                inode = self._create(name)
            made.append(SimFile(self, name, inode))

        self.give(work(), lambda error: done(made[0] if error is None else error))

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        _check_name(name)
        self.give(self._replace(name, data), done)

    def _replace(self, name: str, data: bytes) -> _Work:
        machine, platter, temporary = self.machine_disk, self._platter, name + ".new"
        self.stepped("replace", name)
        machine.check_room(temporary)
        inode = platter.names.get(temporary)
        if inode is None:
            inode = platter.create(temporary)
        inode.truncate(0)
        machine.write(inode, temporary, 0, data)
        self.stepped("written", temporary)
        yield machine.seconds(machine.trouble.write_s) + machine.seconds(machine.trouble.sync_s)
        machine.sync(inode, temporary)
        self.stepped("rename", name)
        platter.move(temporary, name)
        yield machine.seconds(machine.trouble.sync_s)
        self.stepped("sync folder", name)
        platter.sync_folder(posixpath.dirname(name))

    def write_file(self, name: str, data: bytes) -> None:
        """`replace`, waiting: for start-up and tools. Raises OSError."""
        self.check_alive()
        for _ in self._replace(_check_name(name), data):
            pass

    def read_file(self, name: str) -> bytes:
        self.check_alive()
        inode = self._platter.names.get(_check_name(name))
        if inode is None:
            raise system_error(errno.ENOENT, name)
        return bytes(inode.data)

    def remove(self, name: str, sync: bool = False) -> None:
        self.stepped("remove", name)
        self._platter.remove(_check_name(name))
        if sync:
            self.stepped("sync folder", name)
            self._platter.sync_folder(posixpath.dirname(name))

    def remove_later(self, name: str, done: OnCommit) -> None:
        """In the disk's thread; durable when done."""

        def work() -> _Work:
            yield self.machine_disk.seconds(self.machine_disk.trouble.sync_s)
            self.remove(name, sync=True)

        self.give(work(), done)

    def move(self, name: str, to: str) -> None:
        """Renames within the root, durably. Raises OSError."""
        self.stepped("rename", name)
        if name not in self._platter.names:
            raise system_error(errno.ENOENT, name)
        if to in self._platter.names:
            raise system_error(errno.EEXIST, to)
        self._platter.move(name, _check_name(to))
        self.stepped("sync folder", to)
        for folder in (posixpath.dirname(name), posixpath.dirname(to)):
            self._platter.sync_folder(folder)

    def usage(self) -> tuple[int, int]:
        used = self._platter.used_bytes()
        room = self.machine_disk.trouble.room_bytes
        return used, _CAPACITY_BYTES if room is None else used + room

    def close(self) -> None:
        """Ends what was given, at once: whoever closes waits for the thread, and the world cannot wait with him."""
        if self._closed or self._dead:
            return
        self._closed = True
        work, self._work = self._work, deque()
        for steps, done in work:
            error: OSError | None = None
            try:
                for _ in steps:
                    pass
            except OSError as failed:
                error = failed
            self.machine_disk.loop.call_soon(done, error, context=self.process.context)
        if self.machine_disk.locked_by is self:
            self.machine_disk.locked_by = None


def _check_name(name: str) -> str:
    assert not name.startswith("/") and ".." not in name.split("/"), f"{name!r} leaves the data folder"  # noqa: PT018
    return name
