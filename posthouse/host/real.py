"""This machine: `Host.real()`. The only module that touches the operating system.

The disk has one writer thread, so commits are done in the order given, and a small pool for reads that must
wait for the device. Both call back on the loop that was running when the work was given. `read` asks the
kernel not to wait (RWF_NOWAIT) where it can say so; elsewhere a read is a plain one.

ENOSPC and EDQUOT mean DiskFull where nothing is lost by giving the same again: opening, writing, renaming. From the
sync of a commit or of a folder they are errors like any other, because the kernel may have dropped what it had.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import queue
import random
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, Disk, DiskBusy, DiskFull, OnCommit, OnFile, OnRead
from posthouse.host.memory import MemoryDisk
from posthouse.host.net import Address, Listener

_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_BACKLOG = 128
"""Connections that wait to be accepted. asyncio accepts this many in one go, each with a descriptor."""
_READ_AND_WRITE = os.O_RDWR | os.O_CLOEXEC
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def real_host(data: str | None, read_only: bool = False) -> Host:
    disk: Disk = MemoryDisk() if data is None else RealDisk(data, read_only)
    return Host(RealClock(), disk, RealNet(), RealRandomness())


def state_folder() -> str:
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "posthouse")


def raise_open_files_limit(wanted: int) -> int:
    """How many files and connections this process may have open now: raised to `wanted`, or as far as is allowed.

    For the command line only: a library leaves the limits of its process alone.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted if soft == unlimited else soft
    soft = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft


class RealClock:
    def now_ms(self) -> EpochMs:
        return time.time_ns() // 1_000_000  # type: ignore[return-value]  # a NewType is a call

    def hour_of_day(self, at_ms: EpochMs) -> int:
        return time.localtime(at_ms / 1000).tm_hour


class RealRandomness:
    def __init__(self) -> None:
        self._random = random.Random()

    def below(self, limit: int) -> int:
        return self._random.randrange(limit)

    def token_bytes(self, size: int) -> bytes:
        return os.urandom(size)


class _RealListener:
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        host, port = server.sockets[0].getsockname()[:2]
        self._address = Address(host, port)

    @property
    def address(self) -> Address:
        return self._address

    def close(self) -> None:
        self._server.close()


class RealNet:
    async def serve(self, factory: Callable[[], asyncio.Protocol], address: Address) -> Listener:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(factory, address.host, address.port, backlog=_BACKLOG)
        except OSError as error:
            raise _plain(error) from error
        return _RealListener(server)

    async def dial(self, factory: Callable[[], asyncio.Protocol], address: Address) -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_connection(factory, address.host, address.port)
        except OSError as error:
            raise _plain(error) from error
        return protocol

    def local_ip(self) -> str:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(("192.0.2.1", 9))  # no packet is sent: this only asks for the route
                return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"

    def process_id(self) -> int:
        return os.getpid()


def _plain(error: OSError) -> OSError:
    """The same error in the system's words: an event loop's own text repeats the address."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error
    return OSError(error.errno, os.strerror(error.errno))


class RealFile:
    """An open file. Work in a thread holds it open: closed under a thread, its number may be another's next."""

    __slots__ = ("_closed", "_disk", "_fd", "_lock", "_name", "_working")

    def __init__(self, disk: RealDisk, name: str, fd: int) -> None:
        self._disk, self._name, self._fd = disk, name, fd
        self._lock = threading.Lock()
        self._working = 0
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    def size_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def _begin(self) -> int:
        """The descriptor, for work in a thread; `_end` follows."""
        with self._lock:
            self._working += 1
            return self._fd

    def _end(self) -> None:
        with self._lock:
            self._working -= 1
            last = self._closed and not self._working
        if last:
            self._close()

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        fd = -1 if self._closed else self._begin()

        def work() -> None:
            try:
                try:
                    _write(fd, offset, buffers)
                except OSError as error:
                    raise _told_as_full(error) from None
                if sync:
                    _sync_data(fd)
            finally:
                if fd >= 0:
                    self._end()

        if not self._disk._give(work, done) and fd >= 0:
            self._end()

    def read(self, offset: int, size: int) -> bytes | None:
        if self._closed:
            raise OSError(errno.EBADF, f"{self._name} was closed")
        if not self._disk.nowait:
            return os.pread(self._fd, size, offset)
        buffer = bytearray(size)
        try:
            got = os.preadv(self._fd, (buffer,), offset, _NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            self._disk.nowait = False  # this file system cannot say whether it would wait
            return os.pread(self._fd, size, offset)
        if got == size:
            return bytes(buffer)
        # Short: the end of the file, or the part that is in memory. Only the size can tell which.
        return bytes(buffer[:got]) if offset + got >= self.size_bytes() else None

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        loop = asyncio.get_running_loop()
        fd = -1 if self._closed else self._begin()

        def work() -> None:
            outcome: bytes | OSError
            try:
                outcome = _read(fd, offset, size)
            except OSError as error:
                outcome = error
            finally:
                if fd >= 0:
                    self._end()
            _call_back(loop, done, outcome)

        self._disk.readers.submit(work)

    def read_wait(self, offset: int, size: int) -> bytes:
        return _read(-1 if self._closed else self._fd, offset, size)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def write_wait(self, offset: int, data: Buffer) -> None:
        with _full_is_told():
            _write(self._fd, offset, (data,))
        os.fsync(self._fd)

    def close(self) -> None:
        with self._lock:
            first, self._closed = not self._closed, True
            idle = not self._working
        if first and idle:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # a late use fails with EBADF and never meets another file of that number
        os.close(fd)


_Given = tuple[Callable[[], object], Callable[..., None], asyncio.AbstractEventLoop]
"""(work, done, loop): `done` is called on the loop with what `work` returned or raised."""


class RealDisk:
    """A folder of this machine's file system. `read_only`: nothing there is made or changed."""

    def __init__(self, place: str, read_only: bool = False) -> None:
        self._root = os.path.abspath(place)
        self._read_only = read_only
        self.nowait = bool(_NOWAIT)
        self._lock_fd: int | None = None
        self._work: queue.SimpleQueue[_Given | None]
        self._work = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def place(self) -> str:
        return self._root

    @property
    def writable(self) -> bool:
        return not self._read_only

    @property
    def readers(self) -> ThreadPoolExecutor:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(2, thread_name_prefix="posthouse-read")
        return self._readers

    def _path(self, name: str) -> str:
        path = os.path.normpath(os.path.join(self._root, name))
        assert path == self._root or path.startswith(self._root + os.sep), f"{name!r} leaves the data folder"
        return path

    def _give(self, work: Callable[[], object], done: Callable[..., None]) -> bool:
        """Gives work to the disk's thread; False if it will not be done."""
        loop = asyncio.get_running_loop()
        if self._closed:  # the folder may be another process's by now
            loop.call_soon(done, OSError(errno.EBADF, f"{self._root} was closed"))
            return False
        if self._writer is None:
            self._writer = threading.Thread(target=self._run_writer, name="posthouse-disk", daemon=True)
            self._writer.start()
        self._work.put((work, done, loop))
        return True

    def _run_writer(self) -> None:
        while (given := self._work.get()) is not None:
            work, done, loop = given
            outcome: object
            try:
                outcome = work()
            except OSError as error:
                outcome = error
            except Exception as error:  # our own mistake; a thread that ends in silence would be worse
                outcome = OSError(errno.EIO, f"the disk's thread: {error!r}")
            _call_back(loop, done, outcome)

    def _check_writable(self) -> None:
        if self._read_only:
            raise OSError(errno.EROFS, f"{self._root} was opened for reading only")

    def lock(self) -> None:
        self._check_writable()
        path = self._path("lock")
        with _rights_are_explained(self._root):
            _make_folder(self._root)
        with _rights_are_explained(path):
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise
            raise DiskBusy(f"another process is using the data folder {self._root}") from None
        self._lock_fd = fd
        self._closed = False

    def folder(self, name: str) -> None:
        path = self._path(name)
        if not os.path.isdir(path):
            self._check_writable()
            with _rights_are_explained(path):
                _make_folder(path)
        if self.writable:
            for each in (path, os.path.dirname(path)):
                _sync_folder(each)

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []

    def open(self, name: str, create: bool = False) -> RealFile:
        path = self._path(name)
        with _rights_are_explained(path):
            if create:
                self._check_writable()
                with _full_is_told():
                    fd = os.open(path, _READ_AND_WRITE | os.O_CREAT | os.O_EXCL, 0o644)
                _sync_folder(os.path.dirname(path))
            else:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC if self._read_only else _READ_AND_WRITE)
        return RealFile(self, name, fd)

    def create(self, name: str, done: OnFile) -> None:
        path = self._path(name)

        def work() -> RealFile:
            self._check_writable()
            with _rights_are_explained(path):
                return RealFile(self, name, _make_file(path))

        self._give(work, done)

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        path = self._path(name)
        self._give(lambda: self._replace(path, data), done)

    def write_file(self, name: str, data: bytes) -> None:
        self._replace(self._path(name), data)

    def _replace(self, path: str, data: bytes) -> None:
        self._check_writable()
        temporary = path + ".new"
        try:
            with _rights_are_explained(path), _full_is_told():
                with open(temporary, "wb", buffering=0) as file:
                    _write(file.fileno(), 0, (data,))
                    os.fsync(file.fileno())
                os.replace(temporary, path)
        except OSError:
            _unlink(temporary)
            raise
        _sync_folder(os.path.dirname(path))

    def read_file(self, name: str) -> bytes:
        with open(self._path(name), "rb") as file:
            return file.read()

    def remove(self, name: str, sync: bool = False) -> None:
        path = self._path(name)
        self._check_writable()
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        if sync:
            _sync_folder(os.path.dirname(path))

    def remove_later(self, name: str, done: OnCommit) -> None:
        self._path(name)  # our own mistakes are ours at once
        self._give(lambda: self.remove(name, sync=True), done)

    def move(self, name: str, to: str) -> None:
        path, target = self._path(name), self._path(to)
        self._check_writable()
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, f"{target} is there already")
        with _rights_are_explained(target), _full_is_told():
            os.rename(path, target)
        for folder in sorted({os.path.dirname(path), os.path.dirname(target)}):
            _sync_folder(folder)

    def usage(self) -> tuple[int, int]:
        found = shutil.disk_usage(self._root)
        return found.used, found.used + found.free  # as `df` counts: what is reserved for root is not ours to fill

    def close(self) -> None:
        self._closed = True
        if self._writer is not None:
            self._work.put(None)
            self._writer.join()
            self._writer = None
        if self._readers is not None:
            self._readers.shutdown()
            self._readers = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _call_back(loop: asyncio.AbstractEventLoop, done: Callable[..., None], outcome: object) -> None:
    try:
        loop.call_soon_threadsafe(done, outcome)
    except RuntimeError:
        pass  # the loop is closed: nobody is left to be told


@contextmanager
def _full_is_told() -> Iterator[None]:
    """Around work that may be given again when there was no room for it."""
    try:
        yield
    except OSError as error:
        told = _told_as_full(error)
        if told is error:
            raise
        raise told from error


def _told_as_full(error: OSError) -> OSError:
    """The error itself, or DiskFull in its place."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return DiskFull(error.errno, error.strerror or os.strerror(error.errno))


@contextmanager
def _rights_are_explained(path: str) -> Iterator[None]:
    """A right that is missing is an error that says whose, where, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EROFS:
            text = f"the file system of {path} is read-only; mount it for writing, or name another data folder"
        elif error.errno in (errno.EACCES, errno.EPERM):
            text = f"user {os.geteuid()} may not write {path}; give it the right (chown, chmod), or name another folder"
        else:
            raise
        raise OSError(error.errno, text) from error


def _read(fd: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(fd: int, offset: int, buffers: Sequence[Buffer]) -> None:
    for buffer in buffers:
        view = memoryview(buffer)
        while len(view):
            written = os.pwrite(fd, view, offset)
            offset += written
            view = view[written:]


def _make_file(path: str) -> int:
    """The descriptor of an empty file whose name is durable; one that is there already must be empty."""
    with _full_is_told():
        fd = os.open(path, _READ_AND_WRITE | os.O_CREAT, 0o644)
    try:
        if os.fstat(fd).st_size:
            raise FileExistsError(errno.EEXIST, f"{path} is there already, and not empty")
        _sync_folder(os.path.dirname(path))
    except OSError:
        os.close(fd)
        raise
    return fd


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # what was wrong before is told; a temporary harms nobody


def _make_folder(path: str) -> None:
    """Makes a folder and its parents; each is durable in the one above it."""
    if not os.path.isdir(path):
        above = os.path.dirname(path)
        _make_folder(above)
        os.makedirs(path, exist_ok=True)
        _sync_folder(above)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
