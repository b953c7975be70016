"""The memory engine: the same contract with nothing behind it, for tests and for programs that keep nothing.

Commits at the end of the loop's turn, so that receipts come in batches, as from a real disk. No frames. Segments are
pieces of memory, so that a log which is trimmed gives memory back.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
from dataclasses import dataclass, field

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, OnCommit, OnRead
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import (
    START,
    LogConfig,
    LogFailed,
    LogListener,
    OnGap,
    OnRecord,
    Position,
    Recovered,
    SegmentInfo,
    stamp,
)


@dataclass(slots=True)
class _Piece:
    """Bytes of the log from `base` on."""

    base: LogOffset
    begun_at_ms: EpochMs
    data: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> LogOffset:
        return LogOffset(self.base + len(self.data))


class MemoryLog:
    """See `engine.Log` for the promises."""

    def __init__(self, host: Host, listener: LogListener, config: LogConfig | None = None) -> None:
        self._clock = host.clock
        self._listener = listener
        self._segment_bytes = (config or LogConfig()).segment_bytes
        self._pieces = [_Piece(LogOffset(0), EpochMs(0))]
        self._bases = [0]
        self._committed = LogOffset(0)
        self._receipts: list[object] = []
        self._opening = False
        self._room_from = LogOffset(0)  # where the newest segment's bytes are counted from
        self._closed = False

    @property
    def first_offset(self) -> LogOffset:
        return self._pieces[0].base

    @property
    def end_offset(self) -> LogOffset:
        return self._pieces[-1].end

    @property
    def committed_offset(self) -> LogOffset:
        return self._committed

    @property
    def durable_offset(self) -> LogOffset:
        """As durable as memory is."""
        return self._committed

    @property
    def committed_position(self) -> Position:
        return Position(self._committed, 0)

    @property
    def waiting_bytes(self) -> int:
        return self.end_offset - self._committed

    @property
    def segments(self) -> list[SegmentInfo]:
        committed = self._committed
        return [
            SegmentInfo(piece.base, min(piece.end, committed), piece.begun_at_ms)
            for piece in self._pieces
            if piece.base < committed
        ]

    def room_for(self, size: int) -> LogOffset:
        end = self.end_offset
        if not self._opening and end > self._bases[-1] and end + size - self._room_from > self._segment_bytes:
            self._pieces.append(_Piece(end, EpochMs(0)))
            self._bases.append(end)
            self._opening = True
            try:
                self._listener.on_segment(end)
            finally:
                self._opening = False
            self._room_from = self.end_offset
        return self.end_offset

    def append(self, record: Buffer, receipt: object, sync: bool = True) -> LogOffset:
        if self._closed:
            raise LogFailed("the log is closed")
        piece = self._pieces[-1]
        if not piece.data:
            before = self._pieces[-2].begun_at_ms if len(self._pieces) > 1 else EpochMs(0)
            piece.begun_at_ms = stamp(self._clock.now_ms(), before)
        offset = piece.end
        piece.data += record
        self._receipts.append(receipt)
        if len(self._receipts) == 1:
            asyncio.get_running_loop().call_soon(self._commit)
        return offset

    def _commit(self) -> None:
        receipts, self._receipts = self._receipts, []
        self._committed = self.end_offset
        if receipts:
            self._listener.on_commit(receipts, True)

    def sync(self, done: OnCommit) -> None:
        asyncio.get_running_loop().call_soon(done, None)

    def same_segment(self, first: LogOffset, last: LogOffset) -> bool:
        return bisect.bisect_right(self._bases, first) == bisect.bisect_right(self._bases, last)

    def read(self, offset: LogOffset, size: int) -> bytes | None:
        return self.read_wait(offset, size)

    def read_later(self, offset: LogOffset, size: int, done: OnRead) -> None:
        outcome: bytes | OSError
        try:
            outcome = self.read_wait(offset, size)
        except OSError as error:
            outcome = error
        asyncio.get_running_loop().call_soon(done, outcome)

    def read_wait(self, offset: LogOffset, size: int) -> bytes:
        assert offset + size <= self._committed, "a read beyond the committed end"
        if offset < self.first_offset:
            raise OSError(errno.ENOENT, f"log offset {offset} was deleted; the log begins at {self.first_offset}")
        piece = self._pieces[bisect.bisect_right(self._bases, offset) - 1]
        return bytes(memoryview(piece.data)[offset - piece.base : offset - piece.base + size])

    def trim(self, before: LogOffset) -> None:
        while len(self._pieces) > 1 and self._pieces[0].end <= before and self._bases[1] < self._committed:
            del self._pieces[0], self._bases[0]

    def open(self) -> Position:
        return START

    def recover(self, after: Position, on_record: OnRecord, on_gap: OnGap) -> Recovered:
        assert after == START, "a memory log has no past"
        return Recovered(START, 0, 0)

    async def close(self) -> None:
        self._commit()
        self._closed = True
