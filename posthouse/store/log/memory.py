"""The memory engine: the same contract with nothing behind it, for tests and for programs that keep nothing.

Commits at the end of the loop's turn, so that receipts come in batches, as from a real disk. No batch framing.
"""

from __future__ import annotations

import asyncio

from posthouse.host.disk import Buffer, OnCommit, OnRead
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import START, LogFailed, LogListener, OnRecord, Position, Recovered


class MemoryLog:
    """See `engine.Log` for the promises."""

    def __init__(self, listener: LogListener) -> None:
        self._listener = listener
        self._data = bytearray()
        self._committed = 0
        self._receipts: list[object] = []
        self._closed = False

    @property
    def first_offset(self) -> LogOffset:
        return LogOffset(0)

    @property
    def end_offset(self) -> LogOffset:
        return LogOffset(len(self._data))

    @property
    def committed_offset(self) -> LogOffset:
        return LogOffset(self._committed)

    @property
    def committed_position(self) -> Position:
        return Position(LogOffset(self._committed), 0)

    @property
    def waiting_bytes(self) -> int:
        return len(self._data) - self._committed

    def room_for(self, size: int) -> LogOffset:
        return self.end_offset

    def append(self, record: Buffer, receipt: object, sync: bool = True) -> LogOffset:
        if self._closed:
            raise LogFailed("the log is closed")
        offset = self.end_offset
        self._data += record
        self._receipts.append(receipt)
        if len(self._receipts) == 1:
            asyncio.get_running_loop().call_soon(self._commit)
        return offset

    def _commit(self) -> None:
        receipts, self._receipts = self._receipts, []
        self._committed = len(self._data)
        if receipts:
            self._listener.on_commit(receipts)

    def sync(self, done: OnCommit) -> None:
        asyncio.get_running_loop().call_soon(done, None)

    def same_segment(self, first: LogOffset, last: LogOffset) -> bool:
        return True

    def read(self, offset: LogOffset, size: int) -> bytes | None:
        assert offset + size <= self._committed, "a read beyond the committed end"
        return bytes(memoryview(self._data)[offset : offset + size])

    def read_later(self, offset: LogOffset, size: int, done: OnRead) -> None:
        asyncio.get_running_loop().call_soon(done, self.read_wait(offset, size))

    def read_wait(self, offset: LogOffset, size: int) -> bytes:
        found = self.read(offset, size)
        assert found is not None
        return found

    def recover(self, after: Position, on_record: OnRecord) -> Recovered:
        assert after == START, "a memory log has no past"
        return Recovered(START, 0, 0)

    async def close(self) -> None:
        self._commit()
        self._closed = True
