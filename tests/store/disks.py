"""Disks that do what real ones may: hold commits back, fail, fill up, forget what was not synced, make readers wait.

`FaultyDisk` is the disk seam over memory with every one of these as a switch, all off at first. It knows of each
file what the operating system has (`data`) and what a power cut would leave for sure (`synced`).
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable, Sequence

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, DiskBusy, DiskFull, OnCommit, OnFile, OnRead

SECTOR_BYTES = 512


class ManualClock:
    """A clock that moves when told, also backwards. It hangs in Greenwich."""

    def __init__(self, at_ms: int = 1_700_000_000_000) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> EpochMs:
        return EpochMs(self.at_ms)

    def hour_of_day(self, at_ms: EpochMs) -> int:
        return at_ms // 3_600_000 % 24


class _Inode:
    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.synced = bytes(data)
        self.dirty: list[tuple[int, int]] = []  # what a sync would bring from `data` to `synced`
        self.warm: set[int] = set()  # pages that a read need not wait for

    def write(self, offset: int, data: Buffer) -> None:
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.dirty.append((offset, offset + len(data)))

    def flush(self) -> None:
        """Only what is dirty: after a failed sync the system takes pages for clean that never reached the disk."""
        found = bytearray(self.synced[: len(self.data)].ljust(len(self.data), b"\0"))
        for start, end in self.dirty:
            found[start:end] = self.data[start:end]
        self.synced = bytes(found)
        self.dirty.clear()


class FaultyFile:
    def __init__(self, disk: FaultyDisk, name: str, inode: _Inode) -> None:
        self._disk, self._name, self._inode = disk, name, inode

    @property
    def name(self) -> str:
        return self._name

    def size_bytes(self) -> int:
        return len(self._inode.data)

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        data = b"".join(buffers)

        def write() -> None:
            self._inode.write(offset, data)

        def flush() -> None:
            if self._disk.failing_sync(self._name):
                self._inode.dirty.clear()
                raise OSError(errno.EIO, "Input/output error")
            self._inode.flush()

        def part() -> None:
            self._inode.write(offset, data[: len(data) // 2])

        what = ("write " if data else "") + ("sync " if sync else "") + self._name
        self._disk.give(what, write, flush, sync, done, part if data else None)

    def read(self, offset: int, size: int) -> bytes | None:
        self._disk.check_alive()
        pages = self._pages(offset, size)
        if self._disk.is_cold and not pages <= self._inode.warm:
            return None
        return bytes(self._inode.data[offset : offset + size])

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        def read() -> None:
            if self._disk.read_error is not None:
                done(self._disk.read_error)
                return
            self._inode.warm |= self._pages(offset, size)
            done(bytes(self._inode.data[offset : offset + size]))

        self._disk.later_reads += 1
        asyncio.get_running_loop().call_soon(read)

    def _pages(self, offset: int, size: int) -> set[int]:
        return set(range(offset // SECTOR_BYTES, (min(offset + size, len(self._inode.data)) - 1) // SECTOR_BYTES + 1))

    def read_wait(self, offset: int, size: int) -> bytes:
        self._disk.check_alive()
        return bytes(self._inode.data[offset : offset + size])

    def truncate(self, size: int) -> None:
        self._disk.check_alive()
        self._disk.changes.append(f"truncate {self._name} {size}")
        data = self._inode.data
        if size < len(data):
            del data[size:]
        else:
            data.extend(bytes(size - len(data)))
        self._inode.flush()

    def write_wait(self, offset: int, data: Buffer) -> None:
        self._disk.check_alive()
        self._disk.changes.append(f"write again {self._name}")
        self._inode.write(offset, data)
        self._inode.flush()

    def close(self) -> None:
        pass


Part = Callable[[], None] | None
Given = tuple[str, Callable[[], None], Callable[[], None], bool, OnCommit, Part]


class FaultyDisk:
    """See the module's text. After `crash` or `kill` the old object is dead; go on with what they give."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self._inodes = {name: _Inode(data) for name, data in (files or {}).items()}
        self._locked = False
        self._dead = False
        self.holding = False
        self.held: deque[Given] = deque()
        self.failing: Callable[[str], bool] = lambda what: False
        """Asked with what is done, as "write sync log/0", "replace x", "create x"; True makes it an EIO."""
        self.failing_sync: Callable[[str], bool] = lambda name: False
        """Asked at each sync with the name of the file; True: what was written stays in the system's memory only."""
        self.full: Callable[[str], bool] = lambda what: False
        """Asked in the same way of all that needs room: True makes it a DiskFull, with half of the bytes written."""
        self.is_cold = False
        self.read_error: OSError | None = None
        self.later_reads = 0
        self.changes: list[str] = []
        self._removed: dict[str, _Inode] = {}  # and may be back after a power cut

    # Switches

    def hold(self) -> None:
        """From now on nothing that is given is begun, until it is released."""
        self.holding = True

    def release(self, count: int | None = None) -> None:
        """Does the oldest `count` of what is held, or all and stops holding."""
        if count is None:
            self.holding = False
            count = len(self.held)
        for _ in range(count):
            self._do(self.held.popleft())

    def kill(self) -> FaultyDisk:
        """The disk after the process died: what the operating system had is there, what was held is not."""
        self._dead = True
        after = FaultyDisk(self.files())
        for name, inode in self._inodes.items():
            after._inodes[name].synced, after._inodes[name].dirty = inode.synced, list(inode.dirty)
        return after

    def crash(self, rng: random.Random) -> FaultyDisk:
        """The disk after a power cut: what was synced, and of the rest a prefix or any of its sectors."""
        self._dead = True
        for _, write, *_ in list(self.held)[: rng.randint(0, len(self.held))]:
            write()  # begun, not finished
        back = {name: inode for name, inode in self._removed.items() if rng.random() < 0.5}
        return FaultyDisk({name: _torn(inode, rng) for name, inode in (back | self._inodes).items()})

    def files(self) -> dict[str, bytes]:
        return {name: bytes(inode.data) for name, inode in self._inodes.items()}

    def edit(self, name: str, change: Callable[[bytearray], None]) -> None:
        """Changes a file behind everybody's back."""
        inode = self._inodes[name]
        change(inode.data)
        inode.synced = bytes(inode.data)
        inode.dirty.clear()

    def flip(self, name: str, at: int) -> None:
        """Flips a bit of one byte."""
        self.edit(name, lambda data: data.__setitem__(at, data[at] ^ 4))

    # The work

    def check_alive(self) -> None:
        if self._dead:
            raise OSError(errno.EBADF, "this disk is gone")

    def give(
        self,
        what: str,
        write: Callable[[], None],
        flush: Callable[[], None],
        sync: bool,
        done: OnCommit,
        part: Part = None,
    ) -> None:
        """`part`: what it does when there is no room; None for what needs none."""
        given = (what, write, flush, sync, done, part)
        if self.holding:
            self.held.append(given)
        else:
            self._do(given)

    def _do(self, given: Given) -> None:
        what, write, flush, sync, done, part = given
        if self._dead:
            return
        self.changes.append(what)
        error: OSError | None = None
        if self.failing(what):
            error = OSError(errno.EIO, "Input/output error")
        elif part is not None and self.full(what):
            part()
            error = DiskFull(errno.ENOSPC, "No space left on device")
        else:
            try:
                write()
                if sync:
                    flush()
            except OSError as found:
                error = found
        asyncio.get_running_loop().call_soon(done, error)

    # The seam

    @property
    def place(self) -> str:
        return "a faulty disk"

    @property
    def writable(self) -> bool:
        return True

    def lock(self) -> None:
        if self._locked:
            raise DiskBusy("another store is using this disk")
        self._locked = True

    def folder(self, name: str) -> None:
        pass

    def list(self, folder: str) -> list[str]:
        start = folder + "/"
        return sorted(name.removeprefix(start) for name in self._inodes if name.startswith(start))

    def open(self, name: str, create: bool = False) -> FaultyFile:
        self.check_alive()
        if create:
            if name in self._inodes:
                raise FileExistsError(errno.EEXIST, "File exists", name)
            if self.failing(f"create {name}"):
                raise OSError(errno.ENOSPC, "No space left on device")
            self._inodes[name] = _Inode()
            self.changes.append(f"create {name}")
        if name not in self._inodes:
            raise FileNotFoundError(errno.ENOENT, "No such file", name)
        return FaultyFile(self, name, self._inodes[name])

    def create(self, name: str, done: OnFile) -> None:
        def write() -> None:
            if self._inodes.setdefault(name, _Inode()).data:
                raise FileExistsError(errno.EEXIST, "File exists", name)

        def told(error: OSError | None) -> None:
            done(FaultyFile(self, name, self._inodes[name]) if error is None else error)

        self.give(f"create {name}", write, lambda: None, True, told, lambda: None)

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        def write() -> None:
            self._inodes[name] = _Inode(data)

        self.give(f"replace {name}", write, lambda: None, True, done, lambda: None)

    def write_file(self, name: str, data: bytes) -> None:
        self.check_alive()
        what = f"replace {name}"
        self.changes.append(what)
        if self.failing(what):
            raise OSError(errno.EIO, "Input/output error")
        if self.full(what):
            raise DiskFull(errno.ENOSPC, "No space left on device")
        self._inodes[name] = _Inode(data)

    def read_file(self, name: str) -> bytes:
        if name not in self._inodes:
            raise FileNotFoundError(errno.ENOENT, "No such file", name)
        return bytes(self._inodes[name].data)

    def remove(self, name: str, sync: bool = False) -> None:
        self.changes.append(f"remove {name}")
        gone = self._inodes.pop(name, None)
        if gone is not None and not sync:
            self._removed[name] = gone

    def remove_later(self, name: str, done: OnCommit) -> None:
        def write() -> None:
            if (gone := self._inodes.pop(name, None)) is not None:
                self._removed[name] = gone

        def flush() -> None:
            self._removed.pop(name, None)

        self.give(f"remove {name}", write, flush, True, done)

    def move(self, name: str, to: str) -> None:
        self.check_alive()
        if to in self._inodes:
            raise FileExistsError(errno.EEXIST, "File exists", to)
        if name not in self._inodes:
            raise FileNotFoundError(errno.ENOENT, "No such file", name)
        self.changes.append(f"move {name} {to}")
        self._inodes[to] = self._inodes.pop(name)

    def usage(self) -> tuple[int, int]:
        return 0, 1

    def close(self) -> None:
        self._locked = False


def _torn(inode: _Inode, rng: random.Random) -> bytes:
    """A file after a power cut. Its length may be the old or the new one, whatever of its bytes is there."""
    old, new = inode.synced, bytes(inode.data)
    if old == new:
        return new
    between = rng.randint(min(len(old), len(new)), max(len(old), len(new)))
    size = rng.choice((len(old), len(new), between))
    if rng.random() < 0.5 and new.startswith(old):
        return new[:size]  # a prefix
    found = bytearray(old[:size].ljust(size, b"\0"))
    for at in range(0, size, SECTOR_BYTES):
        if rng.random() < 0.5:
            found[at : at + SECTOR_BYTES] = new[at : min(at + SECTOR_BYTES, size)]
    return bytes(found[:size])
