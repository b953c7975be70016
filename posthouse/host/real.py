"""This machine: `Host.real()`. The only module that touches the operating system.

The disk has one writer thread, so commits are done in the order given, and a small pool for reads that must
wait for the device. Both call back on the loop that was running when the work was given. `read` asks the
kernel not to wait (RWF_NOWAIT) where it can say so; elsewhere a read is a plain one.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, Disk, DiskBusy, OnCommit, OnRead
from posthouse.host.memory import MemoryDisk
from posthouse.host.net import Address, Listener

_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_BACKLOG = 128
"""Connections that wait to be accepted. asyncio accepts this many in one go, each with a descriptor."""
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def real_host(data: str | None) -> Host:
    disk: Disk = MemoryDisk() if data is None else RealDisk(data)
    return Host(RealClock(), disk, RealNet(), RealRandomness())


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
        return EpochMs(time.time_ns() // 1_000_000)


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
    __slots__ = ("_disk", "_fd", "_name")

    def __init__(self, disk: RealDisk, name: str, fd: int) -> None:
        self._disk, self._name, self._fd = disk, name, fd

    @property
    def name(self) -> str:
        return self._name

    def size_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        self._disk._give(lambda: self._commit(offset, buffers, sync), done)

    def _commit(self, offset: int, buffers: Sequence[Buffer], sync: bool) -> None:
        for buffer in buffers:
            view = memoryview(buffer)
            while len(view):
                written = os.pwrite(self._fd, view, offset)
                offset += written
                view = view[written:]
        if sync:
            _sync_data(self._fd)

    def read(self, offset: int, size: int) -> bytes | None:
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

        def work() -> None:
            outcome: bytes | OSError
            try:
                outcome = self.read_wait(offset, size)
            except OSError as error:
                outcome = error
            _call_back(loop, done, outcome)

        self._disk.readers.submit(work)

    def read_wait(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(self._fd, size, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1  # a late use fails with EBADF and never meets another file of that number
        if fd >= 0:
            os.close(fd)


class RealDisk:
    """A folder of this machine's file system."""

    def __init__(self, place: str) -> None:
        self._root = os.path.abspath(place)
        self.nowait = bool(_NOWAIT)
        self._lock_fd: int | None = None
        self._work: queue.SimpleQueue[tuple[Callable[[], None], OnCommit, asyncio.AbstractEventLoop] | None]
        self._work = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def place(self) -> str:
        return self._root

    @property
    def readers(self) -> ThreadPoolExecutor:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(2, thread_name_prefix="posthouse-read")
        return self._readers

    def _path(self, name: str) -> str:
        path = os.path.normpath(os.path.join(self._root, name))
        assert path == self._root or path.startswith(self._root + os.sep), f"{name!r} leaves the data folder"
        return path

    def _give(self, work: Callable[[], None], done: OnCommit) -> None:
        if self._closed:  # the folder may be another process's by now
            asyncio.get_running_loop().call_soon(done, OSError(errno.EBADF, f"{self._root} was closed"))
            return
        if self._writer is None:
            self._writer = threading.Thread(target=self._run_writer, name="posthouse-disk", daemon=True)
            self._writer.start()
        self._work.put((work, done, asyncio.get_running_loop()))

    def _run_writer(self) -> None:
        while (given := self._work.get()) is not None:
            work, done, loop = given
            failure: OSError | None = None
            try:
                work()
            except OSError as error:
                failure = error
            except Exception as error:  # our own mistake; a thread that ends in silence would be worse
                failure = OSError(errno.EIO, f"the disk's thread: {error!r}")
            _call_back(loop, done, failure)

    def lock(self) -> None:
        _make_folder(self._root)
        fd = os.open(self._path("lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
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
        _make_folder(self._path(name))

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(folder)))
        except FileNotFoundError:
            return []

    def open(self, name: str, create: bool = False) -> RealFile:
        path = self._path(name)
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            _sync_folder(os.path.dirname(path))
        else:
            fd = os.open(path, flags)
        return RealFile(self, name, fd)

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        path = self._path(name)
        self._give(lambda: self._replace(path, data), done)

    def _replace(self, path: str, data: bytes) -> None:
        temporary = path + ".new"
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(os.path.dirname(path))

    def read_file(self, name: str) -> bytes:
        with open(self._path(name), "rb") as file:
            return file.read()

    def remove(self, name: str, sync: bool = False) -> None:
        path = self._path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        if sync:
            _sync_folder(os.path.dirname(path))

    def usage(self) -> tuple[int, int]:
        found = shutil.disk_usage(self._root)
        return found.used, found.total

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
