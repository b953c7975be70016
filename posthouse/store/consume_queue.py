"""Consume queues: from a queue offset to the place of its record, a fold over the log.

An entry is 20 bytes: i64 log offset, i32 size, i64 hash of the tag. Entries are appended when their record is
committed, so what is here is visible. The newest entries of a queue are in memory (its tail); older ones are in
run files, each of which holds the entries of all queues for one stretch of the log. Files are made at checkpoints
and never changed.

An entry of size 0 stands for a message that was lost: a repair cut it out of the log, its offset stays taken.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable
from typing import NamedTuple

from posthouse.host.disk import File
from posthouse.model.offsets import LogOffset, QueueOffset

_ENTRY = struct.Struct(">qiq")
ENTRY_BYTES = _ENTRY.size
assert ENTRY_BYTES == 20


class Entry(NamedTuple):
    """Where a message is. `tag_hash` is Java's hash of its tag, 0 for none."""

    log_offset: LogOffset
    size: int
    tag_hash: int


class Stretch(NamedTuple):
    """Entries of one queue in a run file: `entries` of them from `first`, at byte `position` of `file`."""

    first: QueueOffset
    entries: int
    file: File
    position: int


class _Place(NamedTuple):
    file: File
    position: int
    size: int


def _entries(data: bytes | bytearray | None) -> list[Entry] | None:
    return None if data is None else [Entry(LogOffset(a), b, c) for a, b, c in _ENTRY.iter_unpack(data)]


class ConsumeQueue:
    """One queue of one topic. `next_offset` is given to the next message; below `max_offset` all are visible."""

    __slots__ = (
        "_firsts", "_stretches", "_tail", "_tail_first", "max_offset", "min_offset", "next_offset", "queue_id",
    )  # fmt: skip

    def __init__(self, queue_id: int, max_offset: QueueOffset = QueueOffset(0)) -> None:  # noqa: B008
        self.queue_id = queue_id
        self.min_offset = QueueOffset(0)
        self.max_offset = max_offset
        self.next_offset = max_offset
        self._tail = bytearray()
        self._tail_first = max_offset
        self._stretches: list[Stretch] = []
        self._firsts: list[int] = []

    def apply(self, queue_offset: QueueOffset, log_offset: LogOffset, size: int, tag_hash: int) -> bool:
        """Makes a committed message visible; False if it was already. Queue offsets are dense."""
        if queue_offset < self.max_offset:
            return False
        assert queue_offset == self.max_offset, f"queue offset {queue_offset} after {self.max_offset - 1}"
        self._tail += _ENTRY.pack(log_offset, size, tag_hash)
        self.max_offset = queue_offset + 1  # type: ignore[assignment]  # a NewType is a call
        if self.next_offset < self.max_offset:
            self.next_offset = self.max_offset
        return True

    # What begins later than at 0, or has holes

    @property
    def is_fresh(self) -> bool:
        """Whether no entry of it is kept."""
        return self.min_offset == self.max_offset and not self._stretches and not self._tail

    def begin_at(self, queue_offset: QueueOffset) -> None:
        """The first entry of this empty queue will be `queue_offset`: what was before is not kept."""
        assert self.is_fresh, "the queue is not empty"
        self.min_offset = self.max_offset = self.next_offset = self._tail_first = queue_offset

    def lose_until(self, queue_offset: QueueOffset) -> None:
        """The messages from here up to `queue_offset` were lost; their offsets stay taken."""
        lost = queue_offset - self.max_offset
        assert lost > 0
        self._tail += _ENTRY.pack(0, 0, 0) * lost
        self.max_offset = queue_offset
        self.next_offset = max(self.next_offset, queue_offset)

    def trim(self, min_offset: QueueOffset) -> None:
        """Messages below `min_offset` are not kept any more. Never goes back."""
        self.min_offset = max(self.min_offset, min(min_offset, self.max_offset))
        whole = 0
        for stretch in self._stretches:
            if stretch.first + stretch.entries > self.min_offset:
                break
            whole += 1
        del self._stretches[:whole], self._firsts[:whole]

    def read(self, queue_offset: QueueOffset, count: int) -> list[Entry] | None:
        """Up to `count` entries from `queue_offset` on, at least one if there is one.

        None when the device must be waited for: see `read_later`. Raises OSError.
        """
        if queue_offset < self._tail_first:
            place = self._place(queue_offset, count)
            return [] if place is None else _entries(place.file.read(place.position, place.size))
        if not self.min_offset <= queue_offset < self.max_offset:
            return []
        at = (queue_offset - self._tail_first) * ENTRY_BYTES
        return _entries(self._tail[at : at + count * ENTRY_BYTES])

    def scan(self, queue_offset: QueueOffset, count: int) -> list[tuple[int, int, int]] | None:
        """What `read` gives, as plain tuples of log offset, size and tag hash: for filters, which look at many.

        None when the device must be waited for. Raises OSError.
        """
        if queue_offset < self._tail_first:
            place = self._place(queue_offset, count)
            data = b"" if place is None else place.file.read(place.position, place.size)
            return None if data is None else list(_ENTRY.iter_unpack(data))
        if not self.min_offset <= queue_offset < self.max_offset:
            return []
        at = (queue_offset - self._tail_first) * ENTRY_BYTES
        return list(_ENTRY.iter_unpack(self._tail[at : at + count * ENTRY_BYTES]))

    def read_later(self, queue_offset: QueueOffset, count: int, done: Callable[[list[Entry] | OSError], None]) -> None:
        """The same for entries that `read` could not give at once; `done` on the loop."""

        def arrived(data: bytes | OSError) -> None:
            found = data if isinstance(data, OSError) else _entries(data)
            assert found is not None
            done(found)

        place = self._place(queue_offset, count)
        assert place is not None, "only entries in a file may have to be waited for"
        place.file.read_later(place.position, place.size, arrived)

    def read_wait(self, queue_offset: QueueOffset, count: int) -> list[Entry]:
        """The same, waiting here: for start-up and tools. Raises OSError."""
        found = self.read(queue_offset, count)
        if found is None:
            place = self._place(queue_offset, count)
            assert place is not None
            found = _entries(place.file.read_wait(place.position, place.size))
            assert found is not None
        return found

    def _place(self, queue_offset: QueueOffset, count: int) -> _Place | None:
        """Where in which run file the entries are; None if there are none from `queue_offset` on in one."""
        if not self.min_offset <= queue_offset < self._tail_first:
            return None
        stretch = self._stretches[bisect.bisect_right(self._firsts, queue_offset) - 1]
        skip = queue_offset - stretch.first
        assert 0 <= skip < stretch.entries, "a hole between the runs of a queue"
        size = min(count, stretch.entries - skip) * ENTRY_BYTES
        return _Place(stretch.file, stretch.position + skip * ENTRY_BYTES, size)

    # Checkpoints

    def tail(self) -> tuple[QueueOffset, bytes]:
        """The entries that no run holds: the offset of the first, and their bytes."""
        return self._tail_first, bytes(self._tail)

    def add_stretch(self, stretch: Stretch) -> None:
        """The entries of `stretch` are in a file now; the tail and the stretches that it contains let go of them."""
        held = QueueOffset(stretch.first + stretch.entries)
        while self._firsts and self._firsts[-1] >= stretch.first:
            del self._firsts[-1], self._stretches[-1]
        before = self._stretches[-1] if self._stretches else None
        assert before is None or before.first + before.entries == stretch.first, "a hole between the runs of a queue"
        self._stretches.append(stretch)
        self._firsts.append(stretch.first)
        if held > self._tail_first:
            del self._tail[: (held - self._tail_first) * ENTRY_BYTES]
            self._tail_first = held
        if held > self.max_offset:
            self.max_offset = held
            self.next_offset = held
