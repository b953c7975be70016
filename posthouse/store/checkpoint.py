"""Checkpoints: run files for the queues and the keys, and a snapshot for everything else, so that a start replays
little.

What must stay true
- A snapshot is written after the runs that it names, and both after the log that they were made from is durable:
  a snapshot that is there never knows more than the log.
- The runs of the two newest snapshots are kept; so if the newest is damaged, the one before it serves. Also when the
  log has let go of what a run was made from: its file stays until two snapshots do without it.
- There are few runs: a checkpoint takes in the newest runs that are small beside it, so their sizes grow like a
  binary counter, up to MERGED_BYTES_MAX. The entries of deleted topics are left out on the way.
- A checkpoint that fails changes nothing but, at most, which files the store reads from; the next one goes on from
  there.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from posthouse.host.disk import Buffer, Disk, OnCommit
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store import run as runs
from posthouse.store import snapshot as snapshots
from posthouse.store.consume_queue import ENTRY_BYTES, ConsumeQueue, Stretch
from posthouse.store.key_index import KeyBlock, KeyIndex, KeyPart, OpenBlock, join_parts, sort_blocks
from posthouse.store.run import QueueKey, QueuePart, Run
from posthouse.store.snapshot import Snapshot

log = logging.getLogger(__name__)

MERGED_BYTES_MAX = 24 * 1024 * 1024
"""What a merged run holds: 800,000 messages. Putting one together holds up the loop for 5 ms at most."""


class Tail(NamedTuple):
    """The entries of a queue that no run holds, as they were when the checkpoint began."""

    key: QueueKey
    queue: ConsumeQueue
    first: QueueOffset
    data: bytes


class Checkpoints:
    """The runs and snapshots of one disk, and the key index over the runs. `load` once, then any number of `write`,
    one at a time.
    """

    def __init__(self, disk: Disk, keys: KeyIndex) -> None:
        self._disk = disk
        self._keys = keys
        self._runs: list[Run] = []
        self._retired: list[Run] = []  # reads of them may be under way; closed after the next checkpoint
        self._newest: frozenset[str] = frozenset()  # what the newest snapshot names
        self._first_offset = LogOffset(0)
        self._end = snapshots.EMPTY.position.offset  # up to here everything is in runs, or is not kept
        self._writing = False

    @property
    def runs(self) -> tuple[Run, ...]:
        """Oldest first."""
        return tuple(self._runs)

    def load(self, first_offset: LogOffset) -> Snapshot:
        """The newest snapshot that is whole, whose runs are, and that is not older than the log's first offset.

        What it names of older runs is not looked at. The others are open afterwards, and the key index has what is
        in them. If there is no such snapshot it is the empty one: then everything in the log is replayed. Waits for
        the disk. Raises OSError.
        """
        self._first_offset = first_offset
        for folder in (runs.FOLDER, snapshots.FOLDER):
            self._disk.folder(folder)
        for snapshot in snapshots.valid_snapshots(self._disk, first_offset):
            if self._open_runs(snapshot):
                self._newest = frozenset(snapshot.runs)
                self._end = self._runs[-1].end if self._runs else min(first_offset, snapshot.position.offset)
                self._keys.place(self._key_blocks(), snapshot.position.offset)
                self._remove_unnamed()
                return snapshot
            log.warning("snapshot at log offset %d names a run that is not valid; it is not used", snapshot.offset)
        raise AssertionError("the empty snapshot is always valid")

    def _open_runs(self, snapshot: Snapshot) -> bool:
        for name in snapshot.runs:
            end = runs.run_end(name)
            if end is not None and end <= self._first_offset:
                continue
            found = None if end is None else runs.open_run(self._disk, name)
            if found is None:
                self.close()
                return False
            self._runs.append(found)
        return True

    def stretches(self) -> dict[QueueKey, list[Stretch]]:
        """What the runs hold of each queue, oldest first."""
        found: dict[QueueKey, list[Stretch]] = {}
        for run in self._runs:
            for key, stretch in run.stretches.items():
                found.setdefault(key, []).append(stretch)
        return found

    def _key_blocks(self) -> list[KeyBlock]:
        return [block for run in self._runs for block in run.keys]

    def drop_before(self, first_offset: LogOffset) -> None:
        """The log has let go of what is below: forgets runs that hold nothing else, and their keys.

        The caller has trimmed the queues. While a checkpoint is being written this waits for its end.
        """
        self._first_offset = max(self._first_offset, first_offset)
        if not self._writing:
            self._drop()

    def _drop(self) -> None:
        gone = [run for run in self._runs if run.end <= self._first_offset]
        if gone:
            self._retired += gone
            del self._runs[: len(gone)]
            self._keys.place(self._key_blocks(), gone[-1].end)

    async def write(self, snapshot: Snapshot, tails: list[Tail], keys: Sequence[OpenBlock]) -> None:
        """Writes what the tails of the queues and of the key index hold as a run, then the snapshot with the names of
        all runs. Raises OSError; then the next one makes up for it.
        """
        assert not self._writing, "one checkpoint at a time"
        self._writing = True
        position = snapshot.position.offset
        retired = len(self._retired)
        try:
            if keys or any(tail.data for tail in tails):
                await self._write_run(position, tails, await sort_blocks(keys, position))
            snapshot.runs = [run.short_name for run in self._runs]
            snapshot.queues = _trimmed(snapshot.queues, tails)
            await self._commit(snapshots.snapshot_name(snapshot.offset), snapshots.encode_snapshot(snapshot))
        finally:
            self._writing = False
            self._drop()
        before, self._newest = self._newest, frozenset(snapshot.runs)
        for run in self._retired[:retired]:
            run.file.close()
        del self._retired[:retired]
        removed = [self._remove(name) for name in snapshots.old_files(self._disk)]
        if all(removed):  # a snapshot that stays keeps its runs until it goes
            self._remove_all_but(before | self._newest)

    async def _write_run(self, end: LogOffset, tails: list[Tail], keys: list[KeyPart]) -> None:
        size = sum(len(tail.data) for tail in tails) + sum(len(part.data) for part in keys)
        taken = self._to_merge(size)
        older = await self._read(taken)
        if older is None:
            taken, older = [], Older({}, [])
        queues = [_whole(tail, older.entries.get(tail.key, [])) for tail in tails]
        parts = await join_parts(older.keys + keys)
        start = taken[0].start if taken else self._end
        name = runs.run_name(start, end)
        await self._commit(name, await runs.encode_run(start, end, queues, parts))
        run = runs.open_run(self._disk, name.removeprefix(f"{runs.FOLDER}/"))
        if run is None:
            raise OSError(errno.EIO, f"{name} is not as it was written")
        self._runs = [*self._runs[: len(self._runs) - len(taken)], run]
        self._retired += taken
        self._end = end
        for tail in tails:
            if tail.key in run.stretches:
                tail.queue.add_stretch(run.stretches[tail.key])
        self._keys.place(self._key_blocks(), end)

    def _to_merge(self, size: int) -> list[Run]:
        """The newest runs that a run of `size` bytes takes in, oldest first."""
        first = len(self._runs)
        while first and (held := self._runs[first - 1].bytes_held) <= 2 * size and size + held <= MERGED_BYTES_MAX:
            size += held
            first -= 1
        return self._runs[first:]

    async def _read(self, taken: list[Run]) -> Older | None:
        """What these runs hold together, or None if one of them is damaged."""
        found = Older({}, [])
        for run in taken:
            parts = await runs.read_run(run)
            if parts is None:
                log.error("%s in %s is damaged; it is not merged", run.file.name, self._disk.place)
                return None
            for key, part in parts.entries.items():
                found.entries.setdefault(key, []).append(part)
            found.keys.extend(parts.keys)
        return found

    async def _commit(self, name: str, data: bytes) -> None:
        """Writes the file whole. Raises OSError; then nothing is left of it."""
        try:
            await committed(lambda done: self._disk.replace(name, data, done))
        except OSError:
            self._remove(f"{name}.new")
            raise

    # Files that are not needed any more

    def _remove_unnamed(self) -> None:
        """Removes what interrupted checkpoints left: runs that no snapshot names."""
        if not self._newest.issuperset(runs.run_files(self._disk)):
            every = snapshots.valid_snapshots(self._disk)
            self._remove_all_but(frozenset(name for snapshot in every for name in snapshot.runs))

    def _remove_all_but(self, named: frozenset[str]) -> None:
        for name in runs.run_files(self._disk):
            if name not in named:
                self._remove(f"{runs.FOLDER}/{name}")

    def _remove(self, name: str) -> bool:
        """Whether it is gone."""
        try:
            self._disk.remove(name)
        except OSError as error:
            log.warning("%s in %s cannot be removed: %s", name, self._disk.place, error)
            return False
        return True

    def close(self) -> None:
        for run in (*self._runs, *self._retired):
            run.file.close()
        self._runs.clear()
        self._retired.clear()


class Older(NamedTuple):
    """What is taken into a new run from older ones."""

    entries: dict[QueueKey, list[Buffer]]
    keys: list[KeyPart]


def _whole(tail: Tail, older: list[Buffer]) -> QueuePart:
    """The tail with the entries before it, but for those of messages that are not kept any more."""
    pieces = [*older, tail.data]
    first = tail.first - sum(map(len, older)) // ENTRY_BYTES
    while len(pieces) > 1 and first + len(pieces[0]) // ENTRY_BYTES <= tail.queue.min_offset:
        first += len(pieces.pop(0)) // ENTRY_BYTES
    return QueuePart(tail.key, QueueOffset(first), pieces)


def _trimmed(queues: list[tuple[int, int, int, int]], tails: list[Tail]) -> list[tuple[int, int, int, int]]:
    """The queues of a snapshot, as they begin now: runs may have been dropped since they were written down."""
    begin = {tail.key: tail.queue.min_offset for tail in tails}
    return [
        (topic_id, queue_id, min(max(first, begin[QueueKey(topic_id, queue_id)]), following), following)
        for topic_id, queue_id, first, following in queues
    ]


async def committed(give: Callable[[OnCommit], None]) -> None:
    """Waits for what `give` gives to the disk. Raises OSError."""
    waiting: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    give(lambda error: None if waiting.done() else waiting.set_result(error))
    error = await waiting
    if error is not None:
        raise error
