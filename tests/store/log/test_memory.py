"""What is particular to the memory engine; what it shares with the others is in test_engine."""

from __future__ import annotations

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import START, Position
from posthouse.store.log.memory import MemoryLog
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import Recorder, host_on, put, settled


@pytest.mark.asyncio
async def test_records_follow_one_another_without_frames() -> None:
    recorder = Recorder()
    log = recorder.log = MemoryLog(host_on(FaultyDisk()), recorder)
    assert [put(log, name, 50) for name in range(4)] == [0, 50, 100, 150]
    await settled(log)
    assert log.committed_position == Position(LogOffset(200), 0)
    assert log.first_offset == 0


def test_a_memory_log_has_no_past() -> None:
    log = MemoryLog(host_on(FaultyDisk()), Recorder())
    assert log.open() == START
    assert log.recover(START, lambda data, at, size, offset: None, lambda first, end: None) == (START, 0, 0)
    with pytest.raises(AssertionError, match="no past"):
        log.recover(Position(LogOffset(10), 1), lambda data, at, size, offset: None, lambda first, end: None)
