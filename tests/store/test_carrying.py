"""What waits is carried forward before its segment goes."""

from __future__ import annotations

import asyncio
import random

import pytest

from posthouse.model.refusal import Reason, Refused
from posthouse.store import carrying
from tests.store.disks import FaultyDisk
from tests.store.stores import open_store
from tests.store.test_timers import NOW, body_of, put_due, put_timed, take_all, waiting_in


@pytest.mark.asyncio
async def test_what_waits_is_carried_forward_before_its_segment_goes() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=10_000)
    puts = [put_timed(opened, NOW + 1_000_000 + at * 100, b"%d" % at) for at in range(5)]
    put_due(opened, puts[0])
    while len(opened.store.log.segments) < 4:
        opened.put("t", bytes(500))
        await opened.settled()
    dues = [each.due_ms for each in waiting_in(opened)]
    await opened.store.trim(opened.store.log.segments[2].base)
    after = waiting_in(opened)
    assert [each.due_ms for each in after] == dues
    assert min(each.log_offset for each in after) >= opened.store.log.first_offset > puts[-1].log_offset
    assert [body_of(opened, each) for each in after] == [b"1", b"2", b"3", b"4"]
    opened = open_store(disk.kill(), segment_bytes=10_000)
    assert waiting_in(opened) == after
    await opened.store.close()
    opened = open_store(FaultyDisk({n: d for n, d in disk.files().items() if "snapshots" not in n}))
    assert waiting_in(opened) == after, "from the log alone, which has lost its first segments"
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_segment_stays_while_one_of_its_messages_is_being_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "DELIVERIES_TIMEOUT_S", 0.05)
    opened = open_store(FaultyDisk(), segment_bytes=10_000)
    put = put_timed(opened, NOW)
    while len(opened.store.log.segments) < 3:
        opened.put("t", bytes(500))
        await opened.settled()
    (taken,) = take_all(opened.store.folds.timers, NOW)
    with pytest.raises(Refused) as refused:
        await opened.store.trim(opened.store.log.segments[1].base)
    assert refused.value.reason is Reason.BUSY
    assert opened.store.log.first_offset < put.log_offset
    put_due(opened, taken)
    await opened.store.trim(opened.store.log.segments[1].base)
    assert opened.store.log.first_offset > put.log_offset
    await opened.store.close()


@pytest.mark.asyncio
async def test_where_nothing_waits_nothing_is_written() -> None:
    opened = open_store(FaultyDisk(), segment_bytes=10_000)
    while len(opened.store.log.segments) < 3:
        opened.put("t", bytes(500))
        await opened.settled()
    end = opened.store.log.end_offset
    await opened.store.trim(opened.store.log.segments[2].base)
    assert opened.store.log.end_offset == end
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_segment_stays_when_what_waits_in_it_cannot_be_written_and_nothing_is_lost() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=10_000)
    puts = [put_timed(opened, NOW + 1_000_000, b"%d" % at) for at in range(5)]
    while len(opened.store.log.segments) < 3:
        opened.put("t", bytes(500))
        await opened.settled()
    disk.full = lambda what: what.startswith("write")
    with pytest.raises(Refused):
        await opened.store.trim(opened.store.log.segments[2].base)
    assert opened.store.log.first_offset < puts[0].log_offset
    assert len(waiting_in(opened)) == 5
    opened = open_store(disk.kill(), segment_bytes=10_000)
    assert [body_of(opened, each) for each in waiting_in(opened)] == [b"%d" % at for at in range(5)]
    await opened.store.trim(opened.store.log.segments[-1].base)
    assert [body_of(opened, each) for each in waiting_in(opened)] == [b"%d" % at for at in range(5)]
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_segment_goes_when_what_took_the_place_of_its_messages_is_on_disk() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=10_000)
    put = put_timed(opened, NOW)
    while len(opened.store.log.segments) < 3:
        opened.put("t", bytes(500))
        await opened.settled()
    (taken,) = take_all(opened.store.folds.timers, NOW)
    assert taken.log_offset == put.log_offset
    put_due(opened, taken, sync=False)
    await opened.settled()
    await opened.store.trim(opened.store.log.segments[1].base)
    for seed in range(10):
        after = open_store(disk.crash(random.Random(seed)), segment_bytes=10_000)
        begin = after.store.topics.live["t"].queue(0).min_offset
        assert waiting_in(after) or after.read("t", begin=begin)[-1].body == b"late"
        await after.store.close()


@pytest.mark.asyncio
async def test_what_could_not_be_delivered_meanwhile_is_carried_too() -> None:
    opened = open_store(FaultyDisk(), segment_bytes=10_000)
    timers = opened.store.folds.timers
    put_timed(opened, NOW)
    while len(opened.store.log.segments) < 3:
        opened.put("t", bytes(500))
        await opened.settled()
    (taken,) = take_all(timers, NOW)
    trim = asyncio.create_task(opened.store.trim(opened.store.log.segments[1].base))
    await asyncio.sleep(0.02)
    timers.give_back(taken)
    await trim
    (waiting,) = waiting_in(opened)
    assert waiting.log_offset >= opened.store.log.first_offset > taken.log_offset
    assert body_of(opened, waiting) == b"late"
    await opened.store.close()
