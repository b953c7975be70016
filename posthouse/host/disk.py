"""The disk seam: files under one root folder, one writer thread.

Promises: after `commit(..., sync=True)` has called back without an error the bytes survive a power cut; before,
any part of them may. What is given to one disk is done in the order in which it was given. A failed sync is final
for its file: nobody tries it again. Only `DiskFull` says that nothing of the work counts, so that it may be given
again. `read` never makes the caller wait for the device.

Names are relative to the root with "/" between folders, and are made by us, never from what a client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview
OnCommit = Callable[[OSError | None], None]
OnRead = Callable[["bytes | OSError"], None]
OnFile = Callable[["File | OSError"], None]


class DiskBusy(Exception):
    """Another process holds this folder."""


class DiskFull(OSError):
    """There was no room for what was to be written (ENOSPC, EDQUOT): nothing of it counts, give the same again later.

    A part of it may be there. An error of a sync is never this one: it is final.
    """


class File(Protocol):
    @property
    def name(self) -> str: ...

    def size_bytes(self) -> int: ...

    def commit(self, offset: int, buffers: Sequence[Buffer], sync: bool, done: OnCommit) -> None:
        """Writes `buffers` one after another at `offset`, then syncs the data if asked; `done` on the loop.

        Returns at once; the disk's thread does the work. Short writes are continued there. DiskFull when there was no
        room for the write; any other error is final.
        """

    def read(self, offset: int, size: int) -> bytes | None:
        """Up to `size` bytes at `offset` (fewer at the end of the file), or None when the device must be waited for.

        Raises OSError.
        """

    def read_later(self, offset: int, size: int, done: OnRead) -> None:
        """The same read in a thread of the disk that does not write; `done` on the loop with bytes or the error."""

    def read_wait(self, offset: int, size: int) -> bytes:
        """The same read, waiting for the device: for start-up and tools only. Raises OSError."""

    def truncate(self, size: int) -> None:
        """Cuts (or grows with zeros) and syncs; waits for the device: for recovery only. Raises OSError."""

    def write_wait(self, offset: int, data: Buffer) -> None:
        """Writes and syncs, waiting here: for recovery and tools. Raises DiskFull, OSError."""

    def close(self) -> None:
        """Commits and reads given before still end well; later ones are errors (EBADF)."""


class Disk(Protocol):
    @property
    def place(self) -> str:
        """What a person would call it: the folder's path, or "memory"."""

    @property
    def writable(self) -> bool:
        """False: opened for reading only. Nothing is created or changed; whatever would do so is an OSError (EROFS)."""

    def lock(self) -> None:
        """Takes the folder for this process until `close`. Raises DiskBusy, OSError."""

    def folder(self, name: str) -> None:
        """Makes the folder (and its parents) if it is not there. It and the names in it are durable on return.

        Also names that were there: who made them may have been killed before they were durable. Raises OSError.
        """

    def list(self, folder: str) -> list[str]:
        """Names in it, sorted; empty if the folder is not there."""

    def open(self, name: str, create: bool = False) -> File:
        """Opens for reading and writing; a created file's name is durable on return. Waits. Raises OSError."""

    def create(self, name: str, done: OnFile) -> None:
        """Makes an empty file whose name is durable, in the disk's thread; `done` on the loop with it or the error.

        An empty file of that name that is there already is taken; one with bytes is a FileExistsError. DiskFull when
        there is no room for it.
        """

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        """Whole-file replacement that is either the old or the new: temporary, sync, rename, sync of the folder.

        In the disk's thread, after the commits given before; `done` on the loop. DiskFull when there is no room: the
        old file is as it was.
        """

    def write_file(self, name: str, data: bytes) -> None:
        """The same, waiting here: for start-up and tools only. Raises DiskFull, OSError."""

    def read_file(self, name: str) -> bytes:
        """The whole file; waits for the device: for start-up only. Raises FileNotFoundError, OSError."""

    def remove(self, name: str, sync: bool = False) -> None:
        """Removes the file if it is there; without `sync` it may be back after a power cut. Raises OSError."""

    def remove_later(self, name: str, done: OnCommit) -> None:
        """Removes the file if it is there, in the disk's thread; `done` on the loop when that is durable."""

    def move(self, name: str, to: str) -> None:
        """Gives a file another name, durable on return; waits: for repair only. The folder of `to` is there.

        Raises FileExistsError if `to` is there already, OSError.
        """

    def usage(self) -> tuple[int, int]:
        """(bytes used, bytes that this process could use) of the file system that holds the root."""

    def close(self) -> None:
        """Waits for the commits under way, then lets the folder go."""
