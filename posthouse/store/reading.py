"""Reading messages: from a queue offset to slices of the log, without waiting where memory has them.

`get` never waits: it gives None when the device has to be asked, and `warm` asks it. An entry of size 0 is of a message
that was lost and cut out by a repair; reads pass over it.

Filters come in two kinds. A test of the tag's hash needs the queue only: the log is not read for what does not pass.
A test of properties has to look into the record: of a large one only its head and what follows the body are read; small
ones that lie together are taken in one read, which is cheaper than leaving their bodies out. Such a read looks at
PULL_SCAN_MAX messages at most, and stops early, with what it has, where memory ends.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from posthouse.codec.record import (
    HEAD_BYTES_MAX,
    LOG_OFFSET_AT,
    RecordError,
    peek_stored_at_ms,
    record_properties_bytes,
    tail_at,
    tail_properties,
)
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
SMALL_RECORD_BYTES = 8 * 1024
"""Up to here a filter reads a record whole: that costs less than a second read."""
_TOGETHER_BYTES_MAX = 32 * 1024
_TOGETHER_GAP_BYTES_MAX = 4 * 1024
"""Small records are read together, up to so many bytes, over gaps of up to so many."""

WantsHash = Callable[[int], bool]
WantsProperties = Callable[[bytes], bool]


class Found(NamedTuple):
    """What a read gave: records as they are in the log, their bytes in all, how many, and where to read on.

    `offsets` has the queue offset of each record.
    """

    buffers: list[bytes | memoryview]
    size: int
    messages: int
    next_offset: QueueOffset
    offsets: Sequence[QueueOffset] = ()


class _Choice(NamedTuple):
    """Of a stretch of a queue: the entries to give, which ones of it they are, their bytes, and how many were seen."""

    entries: list[Entry]
    positions: list[int]
    total: int
    seen: int

    def offsets(self, first: QueueOffset) -> Sequence[QueueOffset]:
        if len(self.positions) == self.seen:
            return range(first, first + self.seen)  # type: ignore[return-value]  # numbers are what a NewType is
        return [QueueOffset(first + position) for position in self.positions]


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
        wants: WantsHash | None = None,
        wants_properties: WantsProperties | None = None,
    ) -> Found | None:
        """The records of a queue from `queue_offset` on that pass, as slices of the log.

        `wants` is asked with the hash of the tag, `wants_properties` with the encoded properties; None takes all. At
        least one record is given if one is wanted, whatever its size. `queue_offset` is below the queue's max offset.
        None when the device must be waited for: call `warm` and try again. Raises OSError, Refused(FAILED).
        """
        if wants is None and wants_properties is None:
            entries = queue.read(queue_offset, count_max)
            choice = None if entries is None else _choose(entries, count_max, bytes_max, None)
        else:
            rows = queue.scan(queue_offset, PULL_SCAN_MAX)
            if rows is None:
                choice = None
            elif wants_properties is None:
                choice = _choose(rows, count_max, bytes_max, wants)
            else:
                choice = self._choose_now(
                    _by_properties(rows, count_max, bytes_max, wants, wants_properties, self._log)
                )
        if choice is None:
            return None
        buffers = self._slices(choice.entries, choice.total)
        if buffers is None:
            return None
        return Found(
            buffers,
            choice.total,
            len(choice.entries),
            QueueOffset(queue_offset + choice.seen),
            choice.offsets(queue_offset) if buffers else (),
        )

    def _choose_now(self, choosing: _Choosing) -> _Choice | None:
        """What can be chosen by reads that do not wait. None if nothing could be looked at."""
        try:
            log_offset, size = next(choosing)
            while True:
                self._check_kept(log_offset, size)
                log_offset, size = choosing.send(self._log.read(log_offset, size))
        except StopIteration as ended:
            choice: _Choice = ended.value
            return choice if choice.seen else None

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
        wants: WantsHash | None = None,
        wants_properties: WantsProperties | None = None,
    ) -> None:
        """Waits until the device has given what a `get` of the same would read. Raises Refused(FAILED)."""
        takes_all = wants is None and wants_properties is None
        entries = await self._entries(queue, queue_offset, count_max if takes_all else PULL_SCAN_MAX)
        if wants_properties is None:
            choice = _choose(entries, count_max, bytes_max, wants)
        else:
            choosing = _by_properties(entries, count_max, bytes_max, wants, wants_properties, self._log)
            try:
                place = next(choosing)
                while True:
                    place = choosing.send(await self.read_record(*place))
            except StopIteration as ended:
                choice = ended.value
        chosen = choice.entries
        span = self._span(chosen, choice.total) if chosen else 0
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

    async def log_offset_of(self, queue: ConsumeQueue, queue_offset: QueueOffset) -> LogOffset | None:
        """Where the record of a message is; 0 for one that was lost, None if it is not kept. Raises Refused(FAILED)."""
        found = await self._entries(queue, queue_offset, 1)
        return found[0].log_offset if found else None

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
        raise _other_record(entry)


def _check_head(head: bytes, entry: Entry) -> None:
    """The same, of a record of which only the head is read."""
    if len(head) < HEAD_BYTES_MAX or _PLACE.unpack_from(head) != (entry.size, entry.log_offset):
        raise _other_record(entry)


def _other_record(entry: Entry) -> Refused:
    return Refused(
        Reason.FAILED, f"there is another record at log offset {entry.log_offset} than the queue says: {_REMEDY}"
    )


def _choose(
    entries: Sequence[tuple[int, int, int]], count_max: int, bytes_max: int, wants: WantsHash | None
) -> _Choice:
    """By the hash of the tag. What does not pass behind the last that fits is passed over as well."""
    positions: list[int] = []
    total, seen = 0, 0
    for _, size, tag_hash in entries:
        if size and (wants is None or wants(tag_hash)):
            if positions and (total + size > bytes_max or len(positions) >= count_max):
                break
            positions.append(seen)
            total += size
        seen += 1
    return _Choice([_entry(entries[position]) for position in positions], positions, total, seen)


def _entry(row: tuple[int, int, int]) -> Entry:
    return row if isinstance(row, Entry) else Entry(LogOffset(row[0]), row[1], row[2])


_Choosing = Generator[tuple[LogOffset, int], bytes | None, _Choice]
"""Yields what it wants to read of the log, log offset and size; is sent the bytes, or None where memory ends."""


def _by_properties(
    rows: Sequence[tuple[int, int, int]],
    count_max: int,
    bytes_max: int,
    wants: WantsHash | None,
    wants_properties: WantsProperties,
    log: Log,
) -> _Choosing:
    """Looks at the records, in order, until enough are chosen."""
    at_hand = [position for position, row in enumerate(rows) if row[1] and (wants is None or wants(row[2]))]
    chosen: list[Entry] = []
    positions: list[int] = []
    total, at = 0, 0
    while at < len(at_hand):
        together = _together(rows, at_hand, at, log)
        properties = yield from _properties_of([_entry(rows[position]) for position in together])
        if properties is None:
            return _Choice(chosen, positions, total, at_hand[at])
        for position, text in zip(together, properties, strict=True):
            size = rows[position][1]
            if chosen and total + size > bytes_max:
                return _Choice(chosen, positions, total, position)
            if wants_properties(text):
                chosen.append(_entry(rows[position]))
                positions.append(position)
                total += size
                if len(chosen) >= count_max:
                    return _Choice(chosen, positions, total, position + 1)
        at += len(together)
    return _Choice(chosen, positions, total, len(rows))


def _together(rows: Sequence[tuple[int, int, int]], at_hand: Sequence[int], at: int, log: Log) -> Sequence[int]:
    """The next records to look at: one that is large, or small ones that one read can have."""
    first, size, _ = rows[at_hand[at]]
    end, until = first + size, at + 1
    while end - first <= _TOGETHER_BYTES_MAX and size <= SMALL_RECORD_BYTES and until < len(at_hand):
        log_offset, size, _ = rows[at_hand[until]]
        if (
            not 0 <= log_offset - end <= _TOGETHER_GAP_BYTES_MAX
            or not 0 < size <= SMALL_RECORD_BYTES
            or not log.same_segment(LogOffset(first), LogOffset(log_offset))
        ):
            break
        end, until = log_offset + size, until + 1
    return at_hand[at:until]


def _properties_of(entries: list[Entry]) -> Generator[tuple[LogOffset, int], bytes | None, list[bytes] | None]:
    """The encoded properties of records that lie together, or of one; None where memory ends. Raises Refused."""
    first, last = entries[0], entries[-1]
    try:
        if len(entries) == 1 and first.size > SMALL_RECORD_BYTES:
            head = yield first.log_offset, HEAD_BYTES_MAX
            if head is None:
                return None
            _check_head(head, first)
            behind = tail_at(head)
            tail = yield LogOffset(first.log_offset + behind), first.size - behind
            return None if tail is None else [tail_properties(head, tail)]
        data = yield first.log_offset, last.log_offset + last.size - first.log_offset
        if data is None:
            return None
        for entry in entries:
            _check(data, entry.log_offset - first.log_offset, entry)
        return [record_properties_bytes(data, entry.log_offset - first.log_offset) for entry in entries]
    except RecordError as error:
        raise Refused(
            Reason.FAILED, f"the record at log offset {first.log_offset} is damaged: {error}; {_REMEDY}"
        ) from error
