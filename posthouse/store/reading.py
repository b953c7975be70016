"""Reading messages: from a queue offset to slices of the log, without waiting where memory has them.

`get` never waits: it gives None when the device has to be asked, and `warm` asks it. An entry of size 0 is of a message
that was lost and cut out by a repair; reads pass over it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import NamedTuple

from posthouse.codec.record import HEAD_BYTES_MAX, LOG_OFFSET_AT, peek_stored_at_ms
from posthouse.host.clock import EpochMs
from posthouse.model.limits import PULL_BYTES_MAX, PULL_SCAN_MAX
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue, Entry
from posthouse.store.log.engine import Log

SPAN_BYTES_MAX = 1024 * 1024
"""The most that one read takes to have several records that lie apart."""
_PLACE = struct.Struct(f">I{LOG_OFFSET_AT - 4}xq")  # a record's size and log offset
_REMEDY = "stop the broker and run `posthouse check` on its data folder"
_LOST_AT_ONCE = 512
"""Entries looked at in one go for one that was not lost."""


class Found(NamedTuple):
    """What a read gave: records as they are in the log, their bytes in all, how many, and where to read on."""

    buffers: list[bytes | memoryview]
    size: int
    messages: int
    next_offset: QueueOffset


class Reader:
    """Reads of one log. Has no state of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def get(
        self,
        queue: ConsumeQueue,
        queue_offset: QueueOffset,
        count_max: int,
        bytes_max: int,
        wants: Callable[[int], bool] | None = None,
    ) -> Found | None:
        """The records of a queue from `queue_offset` on whose tag hash `wants` takes, as slices of the log.

        At least one is given if one is wanted, whatever its size. `queue_offset` is below the queue's max offset.
        None when the device must be waited for: call `warm` and try again. Raises OSError.
        """
        entries = queue.read(queue_offset, count_max if wants is None else PULL_SCAN_MAX)
        if entries is None:
            return None
        chosen, total, scanned = _choose(entries, count_max, bytes_max, wants)
        buffers = self._slices(chosen, total)
        if buffers is None:
            return None
        return Found(buffers, total, len(chosen), QueueOffset(queue_offset + scanned))

    def _slices(self, entries: list[Entry], total: int) -> list[bytes | memoryview] | None:
        """Records as views: one read if they lie close together in one segment, else one each."""
        if not entries:
            return []
        span = self._span(entries, total)
        if span:
            start = entries[0].log_offset
            self._check_kept(start, span)
            data = self._log.read(start, span)
            if data is None:
                return None
            for entry in entries:
                _check(data, entry.log_offset - start, entry)
            if span == total:
                return [data]
            view = memoryview(data)
            return [view[e.log_offset - start : e.log_offset - start + e.size] for e in entries]
        slices: list[bytes | memoryview] = []
        for entry in entries:
            self._check_kept(entry.log_offset, entry.size)
            data = self._log.read(entry.log_offset, entry.size)
            if data is None:
                return None
            _check(data, 0, entry)
            slices.append(data)
        return slices

    def _check_kept(self, log_offset: LogOffset, size: int) -> None:
        """Raises Refused(FAILED). Places come from files, and reads go on while old segments are deleted."""
        if log_offset < self._log.first_offset:
            raise Refused(Reason.FAILED, "the message was deleted, being too old, while it was read; read on behind it")
        if size < 0 or log_offset + size > self._log.committed_offset:
            raise Refused(Reason.FAILED, f"a consume queue is damaged: it says log offset {log_offset}; {_REMEDY}")

    def _span(self, entries: list[Entry], total: int) -> int:
        """Bytes of the one read that takes all these records, 0 if each needs its own."""
        first, last = entries[0], entries[-1]
        span = last.log_offset + last.size - first.log_offset
        near = 0 < span <= SPAN_BYTES_MAX and span <= 8 * total
        return span if near and self._log.same_segment(first.log_offset, last.log_offset) else 0

    async def warm(
        self,
        queue: ConsumeQueue,
        queue_offset: QueueOffset,
        count_max: int,
        bytes_max: int = PULL_BYTES_MAX,
        wants: Callable[[int], bool] | None = None,
    ) -> None:
        """Waits until the device has given what a `get` of the same would read. Raises Refused(FAILED)."""
        entries = await self._entries(queue, queue_offset, count_max if wants is None else PULL_SCAN_MAX)
        chosen, total, _ = _choose(entries, count_max, bytes_max, wants)
        span = self._span(chosen, total) if chosen else 0
        if span:
            await self.read_record(chosen[0].log_offset, span)
        else:
            for entry in chosen:
                await self.read_record(entry.log_offset, entry.size)

    async def _entries(self, queue: ConsumeQueue, queue_offset: QueueOffset, count: int) -> list[Entry]:
        """Entries of a queue, waiting for the device if need be. Raises Refused(FAILED)."""
        found = queue.read(queue_offset, count)
        if found is not None:
            return found
        waiting: asyncio.Future[list[Entry] | OSError] = asyncio.get_running_loop().create_future()
        queue.read_later(queue_offset, count, lambda found: None if waiting.done() else waiting.set_result(found))
        outcome = await waiting
        if isinstance(outcome, OSError):
            raise Refused(Reason.FAILED, f"reading a queue at {queue_offset} failed: {outcome}")
        return outcome

    async def stored_at_ms(self, queue: ConsumeQueue, queue_offset: QueueOffset) -> EpochMs | None:
        """When the message at `queue_offset` was stored, or the next one that was not lost; None if there is none."""
        count = 1
        while entries := await self._entries(queue, queue_offset, count):
            for entry in entries:
                if entry.size:
                    head = await self.read_record(entry.log_offset, min(entry.size, HEAD_BYTES_MAX))
                    return peek_stored_at_ms(head)
            queue_offset = QueueOffset(queue_offset + len(entries))
            count = _LOST_AT_ONCE
        return None

    async def read_record(self, log_offset: LogOffset, size: int) -> bytes:
        """`size` bytes of the log, waiting for the device if need be. Raises Refused(FAILED) when it cannot be read."""
        self._check_kept(log_offset, size)
        data = self._log.read(log_offset, size)
        if data is not None:
            return data
        waiting: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()
        self._log.read_later(log_offset, size, lambda found: None if waiting.done() else waiting.set_result(found))
        outcome = await waiting
        if isinstance(outcome, OSError):
            raise Refused(Reason.FAILED, f"reading the log at {log_offset} failed: {outcome}")
        return outcome

    async def search(self, queue: ConsumeQueue, at_ms: EpochMs, upper: bool = False) -> QueueOffset:
        """The first message stored at or after `at_ms`, max offset if none.

        `upper`: the last one at or before it, min offset if none. Stored times never go back in a queue, so this is
        a binary search.
        """
        low, high = queue.min_offset, queue.max_offset
        while low < high:
            middle = QueueOffset((low + high) // 2)
            stored_at_ms = await self.stored_at_ms(queue, middle)
            if middle < queue.min_offset:  # the retention has taken it meanwhile
                low = queue.min_offset
            elif stored_at_ms is not None and (stored_at_ms < at_ms or (upper and stored_at_ms == at_ms)):
                low = QueueOffset(middle + 1)
            else:
                high = middle
        return QueueOffset(max(queue.min_offset, low - 1)) if upper else low


def _check(data: bytes, at: int, entry: Entry) -> None:
    """Raises Refused(FAILED) if the record is not the one that the queue means: nobody is given another's message.

    A cheap look at what a record says of itself, for every message that is given; `posthouse check` looks at all of it.
    """
    if (
        at < 0
        or len(data) - at < max(entry.size, _PLACE.size)
        or _PLACE.unpack_from(data, at) != (entry.size, entry.log_offset)
    ):
        raise Refused(
            Reason.FAILED,
            f"there is another record at log offset {entry.log_offset} than the queue says: {_REMEDY}",
        )


def _choose(
    entries: list[Entry], count_max: int, bytes_max: int, wants: Callable[[int], bool] | None
) -> tuple[list[Entry], int, int]:
    """The entries to give, their bytes in all, and how many were looked at."""
    chosen: list[Entry] = []
    total, scanned = 0, 0
    for entry in entries:
        if entry.size and (wants is None or wants(entry.tag_hash)):
            if chosen and (total + entry.size > bytes_max or len(chosen) >= count_max):
                break
            chosen.append(entry)
            total += entry.size
        scanned += 1
    return chosen, total, scanned
