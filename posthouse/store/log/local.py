"""The local engine: segment files and group commit.

Appends fill an open batch. At the end of the loop's turn the batch is sealed and given to the disk's thread, one
commit at a time; what is appended meanwhile makes the next batch, so one sync covers everything that came before
it. Segments are named by their first log offset, a batch never spans two of them, and the next begins where the
last ends, so a log offset is found by the name of its file. A segment's file is made when its first batch is
committed, and only after the segment before it is durable: a file that is there vouches for everything before it.

Recovery reads on from a known position and believes a batch only if its place, its chain and its checksum hold.
Where belief ends it cuts, unless a good batch further on says that those bytes had been durable: then it refuses.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from dataclasses import dataclass, field

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, File, OnCommit, OnRead
from posthouse.model.offsets import LogOffset
from posthouse.store.log import batch as batches
from posthouse.store.log.batch import BATCH_BYTES_MAX, HEADER_BYTES
from posthouse.store.log.engine import (
    GROUP_BYTES_MAX,
    START,
    LogConfig,
    LogDamaged,
    LogFailed,
    LogListener,
    OnRecord,
    Position,
    Recovered,
    stamp,
)

log = logging.getLogger(__name__)

FOLDER = "log"
_SUFFIX = ".log"
_READ_BYTES = 8 * 1024 * 1024
assert HEADER_BYTES + GROUP_BYTES_MAX <= BATCH_BYTES_MAX


@dataclass(slots=True)
class Segment:
    """One file: bytes [base, end) of the log, at file position offset - base."""

    base: LogOffset
    end: LogOffset
    file: File


@dataclass(slots=True)
class _Batch:
    """Appended records that share a commit; `start` is where its header will be, in the segment of that `base`."""

    start: LogOffset
    base: LogOffset
    end: LogOffset
    sync: bool = False
    records: list[Buffer] = field(default_factory=list)
    receipts: list[object] = field(default_factory=list)


def segment_name(base: LogOffset) -> str:
    return f"{FOLDER}/{base:020d}{_SUFFIX}"


class LocalLog:
    """See `engine.Log` for the promises. Everything runs on one loop; only the disk has threads."""

    def __init__(self, host: Host, listener: LogListener, config: LogConfig | None = None) -> None:
        self._disk = host.disk
        self._clock = host.clock
        self._listener = listener
        self._config = config or LogConfig()
        self._segments: list[Segment] = []
        self._bases: list[int] = []
        self._open: _Batch | None = None
        self._sealed: list[_Batch] = []
        self._committing: list[_Batch] = []
        self._rolling = False  # the last segment is being synced, so that the next may be made
        self._base = LogOffset(0)  # of the segment that takes the next batch; its file may not be there yet
        self._end = LogOffset(0)
        self._committed = START
        self._durable = LogOffset(0)
        self._previous = 0
        self._epoch = 0
        self._stored_at_ms = EpochMs(0)
        self._flush_is_due = False
        self._failure: LogFailed | None = None
        self._idle: asyncio.Future[None] | None = None

    @property
    def first_offset(self) -> LogOffset:
        return self._segments[0].base if self._segments else self._end

    @property
    def end_offset(self) -> LogOffset:
        return self._end

    @property
    def committed_offset(self) -> LogOffset:
        return self._committed.offset

    @property
    def committed_position(self) -> Position:
        return self._committed

    @property
    def waiting_bytes(self) -> int:
        return self._end - self._committed.offset

    # Appending

    def room_for(self, size: int) -> LogOffset:
        """See the seam. Seals the open batch if it has no room, and goes to a new segment if that has none."""
        assert size <= GROUP_BYTES_MAX, f"a group of {size} bytes, which recovery would not believe"
        open_batch = self._open
        if open_batch is not None:
            if open_batch.end - open_batch.start + size <= self._config.batch_bytes and self._fits(
                open_batch.end, size
            ):
                return open_batch.end
            self._seal()
        start = self._end
        if start > self._base and not self._fits(start, HEADER_BYTES + size):
            self._base = start
        self._open = _Batch(start, self._base, LogOffset(start + HEADER_BYTES))
        return self._open.end

    def _fits(self, end: LogOffset, size: int) -> bool:
        return end + size - self._base <= self._config.segment_bytes

    def append(self, record: Buffer, receipt: object, sync: bool = True) -> LogOffset:
        if self._failure is not None:
            raise self._failure
        into = self._open
        assert into is not None, "append without room_for"
        offset = into.end
        into.records.append(record)
        into.receipts.append(receipt)
        into.sync = into.sync or sync
        into.end = self._end = LogOffset(offset + len(record))
        if not self._flush_is_due and not self._committing:
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
        if self._committing or self._rolling or self._failure is not None:
            return
        self._seal()
        if not self._sealed:
            self._rest()
            return
        base = self._sealed[0].base
        if (not self._segments or self._segments[-1].base != base) and not self._begin_segment(base):
            return
        segment = self._segments[-1]
        count = sum(1 for sealed in self._sealed if sealed.base == base)
        self._committing, self._sealed = self._sealed[:count], self._sealed[count:]
        sync = any(sealed.sync for sealed in self._committing)
        self._stored_at_ms = stamp(self._clock.now_ms(), self._stored_at_ms)
        buffers = [self._encode(sealed) for sealed in self._committing]
        position = self._committing[0].start - segment.base
        segment.file.commit(position, buffers, sync, self._synced if sync else self._written)

    def _begin_segment(self, base: LogOffset) -> bool:
        """Makes the file of the next segment; False if the one before it must become durable first, or on failure."""
        if self._durable < base:
            self._rolling = True
            self.sync(self._left_behind)
            return False
        try:
            file = self._disk.open(segment_name(base), create=True)
        except OSError as error:
            self._fail(error, [])
            return False
        self._segments.append(Segment(base, base, file))
        self._bases.append(base)
        return True

    def _left_behind(self, error: OSError | None) -> None:
        self._rolling = False
        if error is None:
            self._flush()

    def sync(self, done: OnCommit) -> None:
        """See the seam. Only the last segment can hold bytes that are committed and not yet durable."""
        end = self._committed.offset

        def synced(error: OSError | None) -> None:
            if error is None:
                self._durable = max(self._durable, end)
            elif self._failure is None:
                lost, self._committing = self._committing, []
                self._fail(error, lost)
            done(error)

        if self._durable >= end:
            asyncio.get_running_loop().call_soon(done, None)
        else:
            self._segments[-1].file.commit(0, (), True, synced)

    def _encode(self, sealed: _Batch) -> bytes:
        data, self._previous = batches.encode_batch(
            sealed.start,
            self._epoch,
            self._previous,
            self._stored_at_ms,
            self._durable,
            sealed.records,
            sealed.end - sealed.start - HEADER_BYTES,
        )
        return data

    def _synced(self, error: OSError | None) -> None:
        if error is None and self._committing:
            self._durable = self._committing[-1].end
        self._written(error)

    def _written(self, error: OSError | None) -> None:
        if self._failure is not None:
            return  # already told
        done, self._committing = self._committing, []
        if error is not None:
            self._fail(error, done)
            return
        end = self._segments[-1].end = done[-1].end
        self._committed = Position(end, self._previous, self._epoch)
        receipts = done[0].receipts if len(done) == 1 else [r for sealed in done for r in sealed.receipts]
        self._listener.on_commit(receipts)
        if self._open is not None or self._sealed:
            self._flush()
        else:
            self._rest()

    def _rest(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _fail(self, error: OSError, done: list[_Batch]) -> None:
        where = segment_name(done[0].base if done else self._base)
        failure = LogFailed(f"writing {where} in {self._disk.place} failed: {error.strerror or error}")
        self._failure = failure
        self._seal()
        lost, self._sealed = done + self._sealed, []
        self._listener.on_failure(failure, [receipt for sealed in lost for receipt in sealed.receipts])
        self._rest()

    # Reading

    def _at(self, offset: LogOffset, size: int) -> tuple[File, int]:
        assert offset + size <= self._committed.offset, "a read beyond the committed end"
        segment = self._segments[bisect.bisect_right(self._bases, offset) - 1]
        return segment.file, offset - segment.base

    def read(self, offset: LogOffset, size: int) -> bytes | None:
        file, at = self._at(offset, size)
        return file.read(at, size)

    def read_later(self, offset: LogOffset, size: int, done: OnRead) -> None:
        file, at = self._at(offset, size)
        file.read_later(at, size, done)

    def read_wait(self, offset: LogOffset, size: int) -> bytes:
        file, at = self._at(offset, size)
        return file.read_wait(at, size)

    def same_segment(self, first: LogOffset, last: LogOffset) -> bool:
        """Whether both bytes are in one segment, so that one read can have them."""
        return bisect.bisect_right(self._bases, first) == bisect.bisect_right(self._bases, last)

    # Recovering

    def recover(self, after: Position, on_record: OnRecord) -> Recovered:
        self._disk.folder(FOLDER)
        self._open_segments(after)
        position, records, cut_bytes = after, 0, 0
        for at, segment in enumerate(self._segments):
            if segment.end <= position.offset and at + 1 < len(self._segments):
                continue
            scan = _Scan(segment, position, on_record)
            scan.run()
            position, records = scan.position, records + scan.records
            self._stored_at_ms = max(self._stored_at_ms, scan.stored_at_ms)
            if position.offset < segment.end:
                cut_bytes = self._cut(at, position)
                break
        if self._segments:  # what survived a killed process may not have reached the disk yet
            self._segments[-1].file.truncate(position.offset - self._segments[-1].base)
        self._end = position.offset
        self._base = self._segments[-1].base if self._segments else position.offset
        self._committed, self._previous, self._durable = position, position.checksum, position.offset
        self._epoch = position.epoch + 1
        return Recovered(position, cut_bytes, records)

    def _open_segments(self, after: Position) -> None:
        for name in self._disk.list(FOLDER):
            digits = name.removesuffix(_SUFFIX)
            base = LogOffset(int(digits) if digits.isascii() and digits.isdecimal() else 0)
            if segment_name(base) != f"{FOLDER}/{name}":
                log.warning(
                    "%s/%s in %s is not a segment of this log; it is left alone", FOLDER, name, self._disk.place
                )
                continue
            file = self._disk.open(f"{FOLDER}/{name}")
            if self._segments and self._segments[-1].end != base:
                last = self._segments[-1]
                raise LogDamaged(
                    f"{file.name} begins at {base}, but {last.file.name} ends at {last.end}: "
                    f"a segment is missing, cut or doubled in {self._disk.place}"
                )
            self._segments.append(Segment(base, LogOffset(base + file.size_bytes()), file))
            self._bases.append(base)
        end = self._segments[-1].end if self._segments else LogOffset(0)
        if not self.first_offset <= after.offset <= end:
            raise LogDamaged(
                f"the newest snapshot is of log offset {after.offset}, but the log in {self._disk.place} "
                f"holds {self.first_offset} to {end}: segments are missing"
            )

    def _cut(self, at: int, position: Position) -> int:
        """Cuts the torn tail that begins at `position`. Raises LogDamaged if it had been durable."""
        segment = self._segments[at]
        for later in self._segments[at:]:
            start = max(later.base, position.offset)
            found = _durable_after(later, start, position.offset)
            if found is not None:
                raise LogDamaged(
                    f"{segment.file.name} is damaged at log offset {position.offset} (byte "
                    f"{position.offset - segment.base} of the file): bytes that had been on disk are not as they were "
                    f"written, and good records follow at {found}. Nothing was changed. Restore {self._disk.place} "
                    f"from a copy, or move it away and start empty"
                )
        cut_bytes = self._segments[-1].end - position.offset
        log.warning(
            "%s: cut %d bytes after log offset %d: the tail of a write that a crash interrupted, never acknowledged",
            segment.file.name,
            cut_bytes,
            position.offset,
        )
        for later in reversed(self._segments[at + 1 :]):  # the last first: a crash on the way must leave no hole
            later.file.close()
            self._disk.remove(later.file.name, sync=True)
        del self._segments[at + 1 :], self._bases[at + 1 :]
        segment.file.truncate(position.offset - segment.base)
        segment.end = position.offset
        return cut_bytes

    async def close(self) -> None:
        if self._failure is None and (self._open is not None or self._sealed or self._committing):
            self._idle = asyncio.get_running_loop().create_future()
            if not self._committing:
                self._flush()
            await self._idle
        for segment in self._segments:
            segment.file.close()
        self._failure = self._failure or LogFailed("the log is closed")


class _Scan:
    """Reads one segment's batches from a position on, as far as they can be believed."""

    def __init__(self, segment: Segment, position: Position, on_record: OnRecord) -> None:
        self._segment = segment
        self._on_record = on_record
        self.position = position
        self.records = 0
        self.stored_at_ms = EpochMs(0)

    def run(self) -> None:
        wanted = _READ_BYTES
        while self.position.offset < self._segment.end:
            data = self._segment.file.read_wait(self.position.offset - self._segment.base, wanted)
            at = 0
            while (header := self._next(data, at)) is not None:
                self._replay(data, at, header)
                at += header.size
            if at:
                wanted = _READ_BYTES
                continue
            header = batches.decode_header(data, 0)
            if header is None or header.size <= len(data):
                return
            if self.position.offset + header.size > self._segment.end:
                return
            wanted = header.size  # a batch larger than one read

    def _next(self, data: bytes, at: int) -> batches.BatchHeader | None:
        header = batches.decode_header(data, at)
        if header is None or header.offset != self.position.offset or header.previous != self.position.checksum:
            return None
        return header if batches.checksum_holds(data, at, header) else None

    def _replay(self, data: bytes, at: int, header: batches.BatchHeader) -> None:
        record_at, end = at + HEADER_BYTES, at + header.size
        for _ in range(header.records):
            size = int.from_bytes(data[record_at : record_at + 4], "big")
            assert 8 <= size <= end - record_at, "a batch whose checksum holds has records that do not fit"
            self._on_record(data, record_at, size, LogOffset(header.offset + record_at - at))
            record_at += size
        assert record_at == end
        self.records += header.records
        self.stored_at_ms = EpochMs(max(self.stored_at_ms, header.stored_at_ms))
        self.position = Position(LogOffset(header.offset + header.size), header.checksum, header.epoch)


def _durable_after(segment: Segment, start: LogOffset, bad: LogOffset) -> LogOffset | None:
    """The offset of a good batch at or after `start` that was written when bytes beyond `bad` were durable."""
    while start < segment.end:
        data = segment.file.read_wait(start - segment.base, _READ_BYTES)
        at = data.find(batches.MAGIC)
        while at >= 0:
            if _is_durable_after(segment, LogOffset(start + at), data, at, bad):
                return LogOffset(start + at)
            at = data.find(batches.MAGIC, at + 1)
        if len(data) < _READ_BYTES:
            return None
        start = LogOffset(start + len(data) - len(batches.MAGIC) + 1)
    return None


def _is_durable_after(segment: Segment, offset: LogOffset, data: bytes, at: int, bad: LogOffset) -> bool:
    """Whether the bytes at `offset` of the log, which are at `at` in `data`, are such a batch."""
    file, position = segment.file, offset - segment.base
    whole = len(data) - at >= HEADER_BYTES
    header = (
        batches.decode_header(data, at) if whole else batches.decode_header(file.read_wait(position, HEADER_BYTES), 0)
    )
    if header is None or header.offset != offset or not bad < header.durable <= offset:
        return False
    return batches.checksum_holds(file.read_wait(position, header.size), 0, header)
