"""Checkpoints: run files for the queues and a snapshot for everything else, so that a start replays little.

What must stay true
- A snapshot is written after the runs that it names, and both after the log that they were made from is durable:
  a snapshot that is there never knows more than the log.
- The runs of the two newest snapshots are kept; so if the newest is damaged, the one before it serves.
- There are few runs: a checkpoint takes in the newest runs that are small beside it, so their sizes grow like a
  binary counter, up to MERGED_BYTES_MAX. The entries of deleted topics are left out on the way.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import NamedTuple

from posthouse.host.disk import Disk, OnCommit
from posthouse.model.offsets import QueueOffset
from posthouse.store import run as runs
from posthouse.store import snapshot as snapshots
from posthouse.store.consume_queue import ENTRY_BYTES, ConsumeQueue
from posthouse.store.run import QueueKey, Run
from posthouse.store.snapshot import Snapshot

log = logging.getLogger(__name__)

MERGED_BYTES_MAX = 16 * 1024 * 1024
"""Entries of a merged run: 800,000 messages. Larger ones would hold up the loop while they are put together."""


class Tail(NamedTuple):
    """The entries of a queue that no run holds, as they were when the checkpoint began."""

    key: QueueKey
    queue: ConsumeQueue
    first: QueueOffset
    data: bytes


class Checkpoints:
    """The runs and snapshots of one disk. `load` once, then any number of `write`, one at a time."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._runs: list[Run] = []
        self._newest: frozenset[str] = frozenset()  # what the newest snapshot names

    @property
    def runs(self) -> tuple[Run, ...]:
        """Oldest first."""
        return tuple(self._runs)

    def load(self) -> Snapshot:
        """The newest snapshot that is whole and whose runs are; they are open afterwards. Waits. Raises OSError."""
        for folder in (runs.FOLDER, snapshots.FOLDER):
            self._disk.folder(folder)
        for snapshot in snapshots.valid_snapshots(self._disk):
            opened = [runs.open_run(self._disk, name) for name in snapshot.runs]
            self._runs = [run for run in opened if run is not None]
            if None not in opened:
                self._newest = frozenset(snapshot.runs)
                self._remove_unnamed()
                return snapshot
            log.warning("snapshot at log offset %d names a run that is not valid; it is not used", snapshot.offset)
            self.close()
        raise AssertionError("the empty snapshot is always valid")

    async def write(self, snapshot: Snapshot, tails: list[Tail]) -> None:
        """Writes what the tails hold as a run, then the snapshot with the names of all runs. Raises OSError."""
        taken = self._to_merge(sum(len(tail.data) for tail in tails))
        if any(tail.data for tail in tails):
            entries = await self._entries_of(taken)
            if entries is None:
                taken, entries = [], {}
            await self._write_run(snapshot, tails, taken, entries)
        snapshot.runs = [run.short_name for run in self._runs]
        await committed(lambda done: snapshots.write(self._disk, snapshot, done))
        snapshots.remove_old(self._disk)
        before, self._newest = self._newest, frozenset(snapshot.runs)
        self._remove_all_but(before | self._newest)

    def _to_merge(self, size: int) -> list[Run]:
        """The newest runs that a run of `size` bytes takes in, oldest first."""
        first = len(self._runs)
        while first and (held := self._runs[first - 1].entry_bytes) <= 2 * size and size + held <= MERGED_BYTES_MAX:
            size += held
            first -= 1
        return self._runs[first:]

    async def _entries_of(self, taken: list[Run]) -> dict[QueueKey, list[bytes]] | None:
        """The entries of each queue in these runs, or None if one of them is damaged."""
        found: dict[QueueKey, list[bytes]] = {}
        for run in taken:
            data = await _read(run)
            parts = runs.run_entries(run, data)
            if parts is None:
                log.error("%s in %s is damaged; it is not merged", run.file.name, self._disk.place)
                return None
            for key, part in parts.items():
                found.setdefault(key, []).append(part)
        return found

    async def _write_run(
        self, snapshot: Snapshot, tails: list[Tail], taken: list[Run], entries: dict[QueueKey, list[bytes]]
    ) -> None:
        merged: list[tuple[QueueKey, QueueOffset, bytes]] = []
        for tail in tails:
            data = b"".join((*entries.get(tail.key, ()), tail.data))
            held = (len(data) - len(tail.data)) // ENTRY_BYTES
            merged.append((tail.key, QueueOffset(tail.first - held), data))
        kept = self._runs[: len(self._runs) - len(taken)]
        start = kept[-1].end if kept else snapshots.EMPTY.position.offset
        name = runs.run_name(start, snapshot.position.offset)
        data = runs.encode_run(start, snapshot.position.offset, merged)
        await committed(lambda done: self._disk.replace(name, data, done))
        run = runs.open_run(self._disk, name.removeprefix(f"{runs.FOLDER}/"))
        if run is None:
            raise OSError(errno.EIO, f"{name} is not as it was written")
        self._runs = [*kept, run]
        for tail in tails:
            if tail.key in run.stretches:
                tail.queue.add_stretch(run.stretches[tail.key])
        for old in taken:
            old.file.close()

    def _remove_unnamed(self) -> None:
        """Removes what interrupted checkpoints left: runs that no snapshot names."""
        if not self._newest.issuperset(runs.run_files(self._disk)):
            every = snapshots.valid_snapshots(self._disk)
            self._remove_all_but(frozenset(name for snapshot in every for name in snapshot.runs))

    def _remove_all_but(self, named: frozenset[str]) -> None:
        for name in runs.run_files(self._disk):
            if name not in named:
                self._disk.remove(f"{runs.FOLDER}/{name}")

    def close(self) -> None:
        for run in self._runs:
            run.file.close()
        self._runs.clear()


async def committed(give: Callable[[OnCommit], None]) -> None:
    """Waits for what `give` gives to the disk. Raises OSError."""
    waiting: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    give(lambda error: None if waiting.done() else waiting.set_result(error))
    error = await waiting
    if error is not None:
        raise error


async def _read(run: Run) -> bytes:
    waiting: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()

    def done(found: bytes | OSError) -> None:
        if not waiting.done():
            waiting.set_result(found)

    run.file.read_later(run.file.size_bytes() - run.entry_bytes, run.entry_bytes, done)
    outcome = await waiting
    if isinstance(outcome, OSError):
        raise outcome
    return outcome
