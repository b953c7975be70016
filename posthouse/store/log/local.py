"""The local engine: segment files and group commit.

Appends fill an open batch. At the end of the loop's turn the batch is sealed and given to the disk's thread, one
commit at a time; what is appended meanwhile makes the next batch, so one sync covers everything that came before
it. Segments are named by their first log offset and a batch never spans two of them (`segments`).

A roll: the next file is made, then the end mark is written to the old one and synced, and only then the first batch
goes to the new one. So a file with bytes vouches for everything before it. The first commit of a segment has its
whole opening and is always synced: from then on the segment can be the log's first (`trim`).

A disk without room holds up the one operation that is under way: the same one is given again every second, and all
that was appended waits behind it. Any other error is final.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, DiskFull, File, OnCommit, OnRead
from posthouse.model.offsets import LogOffset
from posthouse.store.log import batch as batches
from posthouse.store.log.batch import BATCH_BYTES_MAX, HEADER_BYTES
from posthouse.store.log.engine import (
    GROUP_BYTES_MAX,
    START,
    LogConfig,
    LogFailed,
    LogFull,
    LogListener,
    OnGap,
    OnRecord,
    Position,
    Recovered,
    SegmentInfo,
    stamp,
)
from posthouse.store.log.recovery import Found, Recovery, find_segments
from posthouse.store.log.segments import FOLDER, Removal, Segment, segment_name

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Between two tries of what found no room."""
assert HEADER_BYTES + GROUP_BYTES_MAX <= BATCH_BYTES_MAX

_Give = Callable[[Callable[[Any], None]], None]
"""Gives an operation to the disk; what it is given is called with the outcome."""


@dataclass(slots=True)
class _Batch:
    """Appended records that share a commit; `start` is where its header will be, in the segment of that `base`.

    No further record may bring `end` above `limit`: the batch is full, or its segment.
    """

    start: LogOffset
    base: LogOffset
    end: LogOffset
    limit: int
    opening: bool
    sync: bool = False
    records: list[Buffer] = field(default_factory=list)
    receipts: list[object] = field(default_factory=list)
    told_full: int = 0
    """How many of the receipts were told that there is no room."""


class LocalLog:
    """See `engine.Log` for the promises. Everything runs on one loop; only the disk has threads."""

    def __init__(self, host: Host, listener: LogListener, config: LogConfig | None = None) -> None:
        self._disk = host.disk
        self._clock = host.clock
        self._listener = listener
        self._config = config or LogConfig()
        self._found: Found | None = None
        self._segments: list[Segment] = []
        self._bases: list[int] = []
        self._removal = Removal(host.disk)
        self._open: _Batch | None = None
        self._sealed: list[_Batch] = []
        self._committing: list[_Batch] = []
        self._busy = False  # an operation of the disk is under way, or waits for room
        self._retry: asyncio.TimerHandle | None = None
        self._full: LogFull | None = None
        self._base = LogOffset(0)  # of the segment that takes the next batch; its file may not be there yet
        self._room_from = LogOffset(0)  # that segment's bytes are counted from here: the opening is not
        self._opening_due = False
        self._opening = False
        self._end = LogOffset(0)
        self._committed = START
        self._durable = LogOffset(0)
        self._previous = 0
        self._epoch = 0
        self._stored_at_ms = EpochMs(0)
        self._flush_is_due = False
        self._failure: LogFailed | None = None
        self._closing = False
        self._idle: asyncio.Future[None] | None = None

    @property
    def first_offset(self) -> LogOffset:
        return self._segments[0].base

    @property
    def end_offset(self) -> LogOffset:
        return self._end

    @property
    def committed_offset(self) -> LogOffset:
        return self._committed.offset

    @property
    def durable_offset(self) -> LogOffset:
        return self._durable

    @property
    def committed_position(self) -> Position:
        return self._committed

    @property
    def waiting_bytes(self) -> int:
        return self._end - self._committed.offset

    @property
    def segments(self) -> list[SegmentInfo]:
        return [SegmentInfo(each.base, each.end, each.begun_at_ms) for each in self._segments if each.end > each.base]

    # Appending

    def room_for(self, size: int) -> LogOffset:
        """See the seam. Seals the open batch if it has no room, and goes to a new segment if that has none."""
        assert size <= GROUP_BYTES_MAX, f"a group of {size} bytes, which recovery would not believe"
        into = self._open
        if into is not None and into.end + size <= into.limit and into.opening == self._opening:
            return into.end
        self._seal()
        start = self._end
        if start > self._base and not self._opening_due and not self._fits(start, HEADER_BYTES + size):
            self._base = self._room_from = LogOffset(start + HEADER_BYTES)  # the end mark is between
            self._opening_due = True
        if self._opening_due and not self._opening:
            self._append_opening()
        start = max(self._end, self._base)
        limit = start + self._config.batch_bytes
        if not self._opening:
            limit = min(limit, self._room_from + self._config.segment_bytes - HEADER_BYTES)
        self._open = _Batch(start, self._base, LogOffset(start + HEADER_BYTES), limit, self._opening)
        return self._open.end

    def _fits(self, end: LogOffset, size: int) -> bool:
        """Whether `size` bytes at `end` and an end mark have room in the segment. An opening always has."""
        return self._opening or end + size + HEADER_BYTES - self._room_from <= self._config.segment_bytes

    def _append_opening(self) -> None:
        self._opening = True
        try:
            self._listener.on_segment(self._base)
        finally:
            self._opening = False
        self._opening_due = False
        self._seal()
        self._room_from = max(self._end, self._base)

    def append(self, record: Buffer, receipt: object, sync: bool = True) -> LogOffset:
        if self._failure is not None:
            raise self._failure
        into = self._open
        assert into is not None, "append without room_for"
        offset = into.end
        into.records.append(record)
        into.receipts.append(receipt)
        if sync:
            into.sync = True
        into.end = self._end = offset + len(record)  # type: ignore[assignment]  # a NewType is a call
        if not self._flush_is_due and (not self._committing or self._full is not None):
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        return offset

    def _seal(self) -> None:
        if self._open is not None and self._open.records:
            self._sealed.append(self._open)
        self._open = None

    # Committing

    def _flush(self) -> None:
        """Gives what is appended to the disk: the batches of one segment, in one write and one sync."""
        self._flush_is_due = False
        if self._failure is not None:
            return
        if self._busy:
            self._tell_full()
            return
        self._seal()
        if not self._sealed:
            self._rest()
            return
        base, segment = self._sealed[0].base, self._segments[-1]
        if base != segment.base:
            self._give(partial(self._disk.create, segment_name(base)), partial(self._end_segment, base))
            return
        count = sum(1 for sealed in self._sealed if sealed.base == base)
        self._committing, self._sealed = self._sealed[:count], self._sealed[count:]
        begins = segment.end == segment.base
        sync = (begins and base > 0) or any(sealed.sync for sealed in self._committing)
        self._stored_at_ms = stamp(self._clock.now_ms(), self._stored_at_ms)
        if begins:
            segment.begun_at_ms = self._stored_at_ms
        buffers = [self._encode(sealed) for sealed in self._committing]
        position = self._committing[0].start - base
        self._give(partial(segment.file.commit, position, buffers, sync), partial(self._written, sync))

    def _end_segment(self, base: LogOffset, made: File | OSError) -> None:
        """The file of the next segment is there: the end mark may be written to the one before it."""
        if isinstance(made, OSError):
            self._fail(made, segment_name(base))
            return
        last = self._segments[-1]
        offset = LogOffset(base - HEADER_BYTES)
        assert last.end == offset, "a segment ends where its last batch does"
        self._stored_at_ms = stamp(self._clock.now_ms(), self._stored_at_ms)
        mark, checksum = batches.encode_end(offset, self._epoch, self._previous, self._stored_at_ms, self._durable)
        after = Segment(base, base, made, EpochMs(0))
        self._give(
            partial(last.file.commit, offset - last.base, (mark,), True), partial(self._begin_segment, after, checksum)
        )

    def _begin_segment(self, segment: Segment, checksum: int, error: OSError | None) -> None:
        if error is not None:
            segment.file.close()
            self._fail(error, self._segments[-1].file.name)
            return
        self._previous = checksum
        self._durable = self._segments[-1].end = segment.base
        self._segments.append(segment)
        self._bases.append(segment.base)
        self._flush()

    def _encode(self, sealed: _Batch) -> bytes:
        data, self._previous = batches.encode_batch(
            sealed.start,
            self._epoch,
            self._previous,
            self._stored_at_ms,
            self._durable,
            sealed.records,
            sealed.end - sealed.start - HEADER_BYTES,
            opening=sealed.opening,
        )
        return data

    def _written(self, synced: bool, error: OSError | None) -> None:
        done = self._committing
        if error is not None:
            self._fail(error, self._segments[-1].file.name)
            return
        self._committing = []
        end = self._segments[-1].end = done[-1].end
        if synced:
            self._durable = end
        self._committed = Position(end, self._previous, self._epoch)
        receipts = done[0].receipts if len(done) == 1 else [r for sealed in done for r in sealed.receipts]
        if self._full is not None:
            self._full = None
            log.warning("there is room again in %s", self._disk.place)
            self._listener.on_room()
        self._listener.on_commit(receipts, synced)
        if self._open is not None or self._sealed:
            self._flush()
        else:
            self._rest()

    def sync(self, done: OnCommit) -> None:
        """See the seam. Only the last segment can hold bytes that are committed and not yet durable."""
        end, segment = self._committed.offset, self._segments[-1]

        def synced(error: OSError | None) -> None:
            if error is None and self._failure is not None:
                # A sync before this one failed, and the system has taken its pages for written since.
                error = OSError(errno.EIO, str(self._failure))
            if error is None:
                self._durable = max(self._durable, end)
            elif self._failure is None:
                self._fail(error, segment.file.name)
            done(error)

        if self._durable >= end:
            asyncio.get_running_loop().call_soon(done, None)
        else:
            segment.file.commit(0, (), True, synced)

    # One operation of the disk at a time

    def _give(self, give: _Give, done: Callable[[Any], None]) -> None:
        """Gives an operation to the disk, again and again while it says that there is no room for it."""
        self._busy, self._retry = True, None
        give(partial(self._told, give, done))

    def _told(self, give: _Give, done: Callable[[Any], None], outcome: object) -> None:
        if self._failure is not None:
            return  # it failed meanwhile, and that was told
        if not isinstance(outcome, DiskFull):
            self._busy = False
            done(outcome)
        elif self._closing:
            self._give_up()
        else:
            self._hold(outcome)
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._give, give, done)

    def _hold(self, error: DiskFull) -> None:
        if self._full is None:
            self._full = LogFull(
                f"there is no room for the log in {self._disk.place}: {error.strerror or error}; "
                f"what was taken is held and written when there is room"
            )
            log.error("%s", self._full)
            self._tell_full(always=True)
        else:
            self._tell_full()

    def _tell_full(self, always: bool = False) -> None:
        """Tells the receipts that were not told yet that they are held, if there is no room."""
        if self._full is None:
            return
        receipts: list[object] = []
        for batch in self._waiting():
            receipts += batch.receipts[batch.told_full :]
            batch.told_full = len(batch.receipts)
        if receipts or always:
            self._listener.on_full(self._full, receipts)

    def _waiting(self) -> list[_Batch]:
        """All that is appended and not committed, in order."""
        return [*self._committing, *self._sealed, *([self._open] if self._open is not None else [])]

    def _rest(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _fail(self, error: OSError, name: str) -> None:
        """The end of all writing: whatever waits has an unknown outcome."""
        lost = self._waiting()
        self._failure = LogFailed(f"writing {name} in {self._disk.place} failed: {error.strerror or error}")
        self._drop()
        self._listener.on_failure(self._failure, [receipt for batch in lost for receipt in batch.receipts])
        self._rest()

    def _give_up(self) -> None:
        """Closed while there is no room: what is held was never acknowledged, and is dropped."""
        self._failure = LogFailed("the log is closed")
        self._drop()
        self._rest()

    def _drop(self) -> None:
        self._open, self._sealed, self._committing = None, [], []
        if self._retry is not None:
            self._retry.cancel()
            self._retry, self._busy = None, False

    # Reading

    def _at(self, offset: LogOffset, size: int) -> tuple[File, int]:
        assert offset + size <= self._committed.offset, "a read beyond the committed end"
        if offset < self._bases[0]:
            raise OSError(errno.ENOENT, f"log offset {offset} was deleted; the log begins at {self._bases[0]}")
        segment = self._segments[bisect.bisect_right(self._bases, offset) - 1]
        return segment.file, offset - segment.base

    def read(self, offset: LogOffset, size: int) -> bytes | None:
        file, at = self._at(offset, size)
        return file.read(at, size)

    def read_later(self, offset: LogOffset, size: int, done: OnRead) -> None:
        try:
            file, at = self._at(offset, size)
        except OSError as error:
            asyncio.get_running_loop().call_soon(done, error)
        else:
            file.read_later(at, size, done)

    def read_wait(self, offset: LogOffset, size: int) -> bytes:
        file, at = self._at(offset, size)
        return file.read_wait(at, size)

    def same_segment(self, first: LogOffset, last: LogOffset) -> bool:
        """Whether both bytes are in one segment, so that one read can have them."""
        return bisect.bisect_right(self._bases, first) == bisect.bisect_right(self._bases, last)

    # Trimming

    def trim(self, before: LogOffset) -> None:
        """See the seam. A segment whose first commit is not done may not be the first: its opening is not durable."""
        segments, count = self._segments, 0
        while count + 1 < len(segments) and segments[count].end <= before:
            if segments[count + 1].end == segments[count + 1].base:
                break
            count += 1
        for segment in segments[:count]:
            segment.file.close()
        self._removal.add([segment.file.name for segment in segments[:count]])
        del segments[:count], self._bases[:count]

    # Opening and closing

    def open(self) -> Position:
        self._found = find_segments(self._disk)
        return self._found.begin

    def recover(self, after: Position, on_record: OnRecord, on_gap: OnGap) -> Recovered:
        assert self._found is not None, "recover before open"
        self._disk.folder(FOLDER)
        recovery = Recovery(self._disk, self._found, on_record, on_gap)
        recovered = recovery.run(after)
        end = recovered.end
        self._segments = self._found.segments
        if not self._segments:
            assert end == START, "an empty log ends where it begins"
            first = self._disk.open(segment_name(end.offset), create=True)
            self._segments.append(Segment(end.offset, end.offset, first, EpochMs(0)))
        self._bases = [segment.base for segment in self._segments]
        last = self._segments[-1]
        self._base = self._room_from = last.base
        self._opening_due = last.base == end.offset > START.offset
        self._stored_at_ms = max(recovery.stored_at_ms, last.begun_at_ms)
        self._end = self._durable = end.offset
        self._committed, self._previous, self._epoch = end, end.checksum, end.epoch + 1
        return recovered

    async def close(self) -> None:
        self._closing = True
        self._removal.stop()
        if self._retry is not None:
            self._give_up()
        if self._failure is None and (self._busy or self._open is not None or self._sealed):
            self._idle = asyncio.get_running_loop().create_future()
            if not self._busy:
                self._flush()
            await self._idle
        for segment in self._segments:
            segment.file.close()
        self._failure = self._failure or LogFailed("the log is closed")
