"""Who listens to a log in these tests, and records that a log can tell apart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from posthouse.host import Host
from posthouse.host.disk import Disk
from posthouse.host.randomness import Randomness
from posthouse.host.real import RealNet, RealRandomness
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import Log, LogConfig, LogFailed, LogFull, Position, Recovered
from posthouse.store.log.local import LocalLog
from tests.store.disks import ManualClock


def record(name: int, size: int = 40) -> bytes:
    """`size` bytes that say their own size, as every record does."""
    return size.to_bytes(4, "big") + name.to_bytes(8, "big") + random.Random(name).randbytes(size - 12)


def host_on(disk: Disk, clock: ManualClock | None = None, randomness: Randomness | None = None) -> Host:
    return Host(clock or ManualClock(), disk, RealNet(), randomness or RealRandomness())


OPENING = 1_000_000
"""The name of the first record of an opening."""


def is_opening(data: bytes) -> bool:
    return int.from_bytes(data[4:12], "big") >= OPENING


@dataclass
class Recorder:
    """Notes what a log says, in order."""

    log: Log | None = None
    commits: list[list[object]] = field(default_factory=list)
    committed_offsets: list[int] = field(default_factory=list)
    failures: list[LogFailed] = field(default_factory=list)
    lost: list[object] = field(default_factory=list)
    then: Callable[[list[object]], None] | None = None
    synced: list[object] = field(default_factory=list)
    full: list[LogFull] = field(default_factory=list)
    held: list[object] = field(default_factory=list)
    rooms: int = 0
    begun: list[int] = field(default_factory=list)
    opening: list[int] = field(default_factory=list)
    """Sizes of the records that every segment but the first begins with; their names count on from OPENING."""

    def on_commit(self, receipts: list[object], synced: bool) -> None:
        assert not self.failures, "a receipt after the failure"
        assert self.log is not None
        self.commits.append(receipts)
        if synced:
            self.synced += receipts
        self.committed_offsets.append(self.log.committed_offset)
        if self.then is not None:
            self.then(receipts)

    def on_failure(self, error: LogFailed, receipts: list[object]) -> None:
        self.failures.append(error)
        self.lost.extend(receipts)

    def on_full(self, error: LogFull, receipts: list[object]) -> None:
        self.full.append(error)
        self.held.extend(receipts)

    def on_room(self) -> None:
        self.rooms += 1

    def on_segment(self, offset: LogOffset) -> None:
        assert self.log is not None
        self.begun.append(offset)
        for name, size in enumerate(self.opening, OPENING):
            put(self.log, name, size, sync=False)

    @property
    def receipts(self) -> list[object]:
        """Without those of openings."""
        return [receipt for commit in self.commits for receipt in commit if _is_told(receipt)]


def _is_told(receipt: object) -> bool:
    return not isinstance(receipt, int) or receipt < OPENING


Replayed = list[tuple[bytes, int]]


def open_local(
    disk: Disk,
    *,
    after: Position | None = None,
    segment_bytes: int = 1 << 30,
    batch_bytes: int = 8 << 20,
    opening: Sequence[int] = (),
) -> tuple[LocalLog, Recorder, Replayed, Recovered]:
    """A recovered log on `disk`, what it replayed as (record, offset), and what recover said.

    A gap is replayed as (b"gap", first) and (b"", end). Openings are made of records of these sizes.
    """
    recorder = Recorder(opening=list(opening))
    log = LocalLog(host_on(disk), recorder, LogConfig(segment_bytes, batch_bytes))
    recorder.log = log
    replayed: Replayed = []

    def on_record(data: bytes, at: int, size: int, offset: LogOffset) -> None:
        replayed.append((bytes(data[at : at + size]), offset))

    def on_gap(first: LogOffset, end: LogOffset) -> None:
        replayed.extend([(b"gap", first), (b"", end)])

    begin = log.open()
    recovered = log.recover(begin if after is None else after, on_record, on_gap)
    return log, recorder, replayed, recovered


def recover_empty(log: Log) -> None:
    """For a log on an empty disk, where there is nothing to replay."""
    log.recover(log.open(), lambda data, at, size, offset: None, lambda first, end: None)


def put(log: Log, name: int, size: int = 40, sync: bool = True) -> int:
    """Appends one record; its offset."""
    data = record(name, size)
    offset = log.room_for(len(data))
    assert log.append(data, name, sync) == offset
    return offset


async def turns(count: int = 5) -> None:
    """Lets the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def settled(log: Log) -> None:
    """Until everything that was appended is committed."""
    async with asyncio.timeout(10):
        while log.waiting_bytes:
            await asyncio.sleep(0)
