"""The log seam: one append-only sequence of bytes, in records, that gives receipts in append order.

What every engine promises
- an offset, once given by `room_for`, is the record's offset for ever;
- records become readable when they are committed, and `committed_offset` never goes back;
- receipts are handed to `on_commit` in append order, after their bytes are as durable as was asked;
- a failed commit is final: `on_failure` is called once, later appends raise LogFailed, and only a restart helps;
- a disk without room is no failure: what was appended is held and written when there is room again.
Records of one `room_for` group are committed together or, after a crash, not at all.

The log is kept in segments. Each but the very first begins with an opening, which the listener appends when it is
told of the segment (`on_segment`): records that hold the whole state, so that a log without its oldest segments
still tells everything. An opening is there whole or not at all: recovery never gives half of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, OnCommit, OnRead
from posthouse.model.offsets import LogOffset


class LogFailed(Exception):
    """The log takes no more writes; the remark says why. The process should end and recover from disk."""


class LogFull(Exception):
    """The disk has no room. What was appended is held, and written as soon as there is room."""


class LogDamaged(Exception):
    """Bytes that had been durable are not as they were written. Nothing is cut; a person must decide."""


class Position(NamedTuple):
    """A place between two batches from which a replay can begin: the chain goes on from `checksum` and `epoch`."""

    offset: LogOffset
    checksum: int
    epoch: int = 0


START = Position(LogOffset(0), 0)


GROUP_BYTES_MAX = 64 * 1024 * 1024 - 4096
"""Records of one `room_for`: what every engine can commit together."""


class SegmentInfo(NamedTuple):
    """A segment with committed bytes: log offsets [base, end), and when its first bytes were stored."""

    base: LogOffset
    end: LogOffset
    begun_at_ms: EpochMs


class Recovered(NamedTuple):
    """What `recover` found: where the log ends now, and what it cut off (bytes, 0 if nothing)."""

    end: Position
    cut_bytes: int
    records: int


OnRecord = Callable[[bytes, int, int, LogOffset], object]
"""(buffer, start in the buffer, size, log offset) of one record."""

OnGap = Callable[[LogOffset, LogOffset], None]
"""(first, end) of bytes that a repair gave up: the records that were there are lost."""


class Log(Protocol):
    @property
    def first_offset(self) -> LogOffset:
        """The oldest byte that is kept; only `trim` moves it."""

    @property
    def end_offset(self) -> LogOffset:
        """After the last appended record."""

    @property
    def committed_offset(self) -> LogOffset:
        """Below it everything is as durable as was asked, and readable."""

    @property
    def committed_position(self) -> Position:
        """The committed end as a place for a replay to begin."""

    @property
    def waiting_bytes(self) -> int:
        """Appended and not yet committed."""

    @property
    def durable_offset(self) -> LogOffset:
        """Below it everything is synced: it survives a power cut."""

    @property
    def segments(self) -> list[SegmentInfo]:
        """Those with committed bytes, oldest first."""

    def room_for(self, size: int) -> LogOffset:
        """The offset of the next record, if the records that follow now have `size` bytes in all.

        They are one group; at most GROUP_BYTES_MAX. May call `on_segment` first: the group then follows the opening.
        """

    def append(self, record: Buffer, receipt: object, sync: bool = True) -> LogOffset:
        """Takes a record at the offset that `room_for` gave. `receipt` comes back through `on_commit`.

        Returns at once. `sync=False`: committed when the operating system has it. Raises LogFailed.
        """

    def sync(self, done: OnCommit) -> None:
        """Makes everything that is committed now durable, also what was appended without sync; `done` on the loop.

        An error is final, as that of any commit.
        """

    def same_segment(self, first: LogOffset, last: LogOffset) -> bool:
        """Whether one read may cover both bytes."""

    def read(self, offset: LogOffset, size: int) -> bytes | None:
        """`size` committed bytes of one segment, or None when the device must be waited for.

        Raises OSError, also when they were trimmed.
        """

    def read_later(self, offset: LogOffset, size: int, done: OnRead) -> None:
        """The same, waiting; `done` on the loop."""

    def read_wait(self, offset: LogOffset, size: int) -> bytes:
        """The same, waiting here: for start-up and tools."""

    def trim(self, before: LogOffset) -> None:
        """Forgets the segments that lie wholly below `before`, oldest first. The newest one is always kept.

        `first_offset` moves at once; the files go later. A segment stays as long as the opening of the one after it
        is not durable. Reads that were begun end well; new ones below `first_offset` are an OSError.
        """

    def open(self) -> Position:
        """Finds what is there; the position of the first kept record's frame: START if nothing was trimmed.

        Called once, before `recover`; waits for the disk. Raises LogDamaged, OSError.
        """

    def recover(self, after: Position, on_record: OnRecord, on_gap: OnGap) -> Recovered:
        """Reads everything after `after`, cuts a torn tail, and makes the log ready to append.

        `after` is what `open` gave or a committed position from there on. Called once, after `open`; waits for the
        disk. Raises LogDamaged, OSError.
        """

    async def close(self) -> None:
        """Commits what was appended, then closes. What is held for want of room is given up, unacknowledged."""


class LogListener(Protocol):
    """Who is told of commits: the message store."""

    def on_commit(self, receipts: list[object], synced: bool) -> None:
        """The receipts of one or more batches, in append order; `committed_offset` covers them already.

        `synced`: they survive a power cut; else only the operating system has them (nobody among them asked for more).
        """

    def on_failure(self, error: LogFailed, receipts: list[object]) -> None:
        """The log failed; these receipts, and none after them, have an unknown outcome."""

    def on_full(self, error: LogFull, receipts: list[object]) -> None:
        """There is no room: these receipts are held, and come through `on_commit` when there is room again.

        A receipt is told so once. Called again for what is appended meanwhile, and with no receipts if the disk is
        full again for others.
        """

    def on_room(self) -> None:
        """There is room again: the commit that was held went through; its `on_commit` follows."""

    def on_segment(self, offset: LogOffset) -> None:
        """A new segment begins at `offset` with the next record: append the opening now, with `room_for` and `append`.

        Called inside `room_for`, before it returns; the log begins no further segment meanwhile, whatever the size.
        Called again for the same segment if a crash tore its first commit.
        """


class LogConfig(NamedTuple):
    """Sizes of a local log; a segment's opening is not counted. Source of 1 GiB: RocketMQ mappedFileSizeCommitLog."""

    segment_bytes: int = 1024 * 1024 * 1024
    batch_bytes: int = 8 * 1024 * 1024


def stamp(now_ms: EpochMs, last_ms: EpochMs) -> EpochMs:
    """The time to store for something that follows `last_ms`: stored times never go back, whatever the clock does."""
    return now_ms if now_ms > last_ms else last_ms
