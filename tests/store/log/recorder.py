"""Who listens to a log in these tests, and records that a log can tell apart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.host import Host
from posthouse.host.disk import Disk
from posthouse.host.randomness import Randomness
from posthouse.host.real import RealNet, RealRandomness
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import START, Log, LogConfig, LogFailed, Position, Recovered
from posthouse.store.log.local import LocalLog
from tests.store.disks import ManualClock


def record(name: int, size: int = 40) -> bytes:
    """`size` bytes that say their own size, as every record does."""
    return size.to_bytes(4, "big") + name.to_bytes(8, "big") + random.Random(name).randbytes(size - 12)


def host_on(disk: Disk, clock: ManualClock | None = None, randomness: Randomness | None = None) -> Host:
    return Host(clock or ManualClock(), disk, RealNet(), randomness or RealRandomness())


@dataclass
class Recorder:
    """Notes what a log says, in order."""

    log: Log | None = None
    commits: list[list[object]] = field(default_factory=list)
    committed_offsets: list[int] = field(default_factory=list)
    failures: list[LogFailed] = field(default_factory=list)
    lost: list[object] = field(default_factory=list)
    then: Callable[[list[object]], None] | None = None

    def on_commit(self, receipts: list[object]) -> None:
        assert not self.failures, "a receipt after the failure"
        assert self.log is not None
        self.commits.append(receipts)
        self.committed_offsets.append(self.log.committed_offset)
        if self.then is not None:
            self.then(receipts)

    def on_failure(self, error: LogFailed, receipts: list[object]) -> None:
        self.failures.append(error)
        self.lost.extend(receipts)

    @property
    def receipts(self) -> list[object]:
        return [receipt for commit in self.commits for receipt in commit]


Replayed = list[tuple[bytes, int]]


def open_local(
    disk: Disk, *, after: Position = START, segment_bytes: int = 1 << 30, batch_bytes: int = 8 << 20
) -> tuple[LocalLog, Recorder, Replayed, Recovered]:
    """A recovered log on `disk`, what it replayed as (record, offset), and what recover said."""
    recorder = Recorder()
    log = LocalLog(host_on(disk), recorder, LogConfig(segment_bytes, batch_bytes))
    recorder.log = log
    replayed: Replayed = []

    def on_record(data: bytes, at: int, size: int, offset: LogOffset) -> None:
        replayed.append((bytes(data[at : at + size]), offset))

    recovered = log.recover(after, on_record)
    return log, recorder, replayed, recovered


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
