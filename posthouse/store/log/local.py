"""The local engine: segment files and group commit.

Appends fill an open batch. At the end of the loop's turn the batch is sealed and given to the disk's thread, one
commit at a time; what is appended meanwhile makes the next batch, so one sync covers everything that came before
it. Segments are named by their first log offset, a batch never spans two of them, and the next begins where the
last ends, so a log offset is found by the name of its file.

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
from posthouse.host.disk import Buffer, File, OnRead
from posthouse.model.offsets import LogOffset
from posthouse.store.log import batch as batches
from posthouse.store.log.batch import HEADER_BYTES
from posthouse.store.log.engine import (
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


@dataclass(slots=True)
class Segment:
    """One file: bytes [base, end) of the log, at file position offset - base."""

    base: LogOffset
    end: LogOffset
    file: File


@dataclass(slots=True)
class _Batch:
    """Appended records that share a commit; `start` is where its header will be."""

    start: LogOffset
    segment: Segment
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
        self._end = LogOffset(0)
        self._committed = Position(LogOffset(0), 0)
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
        """See the seam. Seals the open batch if it has no room, and rolls the segment if that has none."""
        open_batch = self._open
        if open_batch is not None:
            if open_batch.end - open_batch.start + size <= self._config.batch_bytes and self._fits(
                open_batch.end, size
            ):
                return open_batch.end
            self._seal()
        segment = self._segments[-1] if self._segments else self._roll()
        if self._end > segment.base and not self._fits(self._end, HEADER_BYTES + size):
            segment = self._roll()
        start = self._end
        self._open = _Batch(start, segment, LogOffset(start + HEADER_BYTES))
        return self._open.end

    def _fits(self, end: LogOffset, size: int) -> bool:
        return end + size - self._segments[-1].base <= self._config.segment_bytes

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

    def _roll(self) -> Segment:
        base = self._end
        file = self._disk.open(segment_name(base), create=True)
        segment = Segment(base, base, file)
        self._segments.append(segment)
        self._bases.append(base)
        return segment

    # Committing

    def _flush(self) -> None:
        """Gives what is appended to the disk: the batches of one segment, in one write and one sync."""
        self._flush_is_due = False
        if self._committing or self._failure is not None:
            return
        self._seal()
        if not self._sealed:
            self._rest()
            return
        segment = self._sealed[0].segment
        self._sync_left_behind(segment)
        count = sum(1 for sealed in self._sealed if sealed.segment is segment)
        self._committing, self._sealed = self._sealed[:count], self._sealed[count:]
        sync = any(sealed.sync for sealed in self._committing)
        self._stored_at_ms = stamp(self._clock.now_ms(), self._stored_at_ms)
        buffers = [self._encode(sealed) for sealed in self._committing]
        position = self._committing[0].start - segment.base
        segment.file.commit(position, buffers, sync, self._synced if sync else self._written)

    def _sync_left_behind(self, segment: Segment) -> None:
        """The segment before must be durable before the first batch of the next one can say so."""
        if self._durable < segment.base:
            before = self._segments[bisect.bisect_left(self._bases, segment.base) - 1]
            self._durable = segment.base
            before.file.commit(0, (), True, self._left_behind)

    def _left_behind(self, error: OSError | None) -> None:
        if error is not None and self._failure is None:
            done, self._committing = self._committing, []
            self._fail(error, done)

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
        last = done[-1]
        last.segment.end = last.end
        self._committed = Position(last.end, self._previous)
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
        where = done[0].segment.file.name if done else FOLDER
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
            self._epoch = max(self._epoch, scan.epoch)
            self._stored_at_ms = max(self._stored_at_ms, scan.stored_at_ms)
            if position.offset < segment.end:
                cut_bytes = self._cut(at, position)
                break
        if self._segments:  # what survived a killed process may not have reached the disk yet
            self._segments[-1].file.truncate(position.offset - self._segments[-1].base)
        self._end = position.offset
        self._committed, self._previous, self._durable = position, position.checksum, position.offset
        self._epoch += 1
        return Recovered(position, cut_bytes, records)

    def _open_segments(self, after: Position) -> None:
        for name in self._disk.list(FOLDER):
            if not name.endswith(_SUFFIX):
                continue
            file = self._disk.open(f"{FOLDER}/{name}")
            base = LogOffset(int(name.removesuffix(_SUFFIX)))
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
        for later in self._segments[at + 1 :]:
            later.file.close()
            self._disk.remove(later.file.name)
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
        self.epoch = 0
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
        self.epoch = max(self.epoch, header.epoch)
        self.stored_at_ms = EpochMs(max(self.stored_at_ms, header.stored_at_ms))
        self.position = Position(LogOffset(header.offset + header.size), header.checksum)


def _durable_after(segment: Segment, start: LogOffset, bad: LogOffset) -> LogOffset | None:
    """The offset of a good batch at or after `start` that was written when bytes beyond `bad` were durable."""
    data = segment.file.read_wait(start - segment.base, segment.end - start)
    at = data.find(batches.MAGIC)
    while at >= 0:
        header = batches.decode_header(data, at)
        offset = LogOffset(start + at)
        if (
            header is not None
            and header.offset == offset
            and header.durable > bad
            and batches.checksum_holds(data, at, header)
        ):
            return offset
        at = data.find(batches.MAGIC, at + 1)
    return None
