"""How far groups are, and where queues begin and end."""

from __future__ import annotations

import pytest

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import host_on, message, running, send
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

FIRST, SECOND = QueueOffset(0), QueueOffset(1)


async def test_new_group_begins_at_the_start_of_a_young_queue() -> None:
    async with running() as broker:
        assert await broker.offsets.query("G", "NoSuchTopic", 0) == 0
        await broker.topics.set(TopicConfig("T", 2, 2))
        assert await broker.offsets.query("G", "T", 0) == 0
        await send(broker, message("T"))
        assert await broker.offsets.query("G", "T", 0) == 0
        assert await broker.offsets.query("G", "T", 99) == 0


async def test_new_group_on_an_old_queue_is_told_that_there_is_no_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.offsets.YOUNG_QUEUE_BYTES", 2000)
    async with running() as broker:
        await send(broker, message("T", b"first"))
        assert await broker.offsets.query("G", "T", 0) == 0
        await send(broker, message("Other", b"x" * 2000))
        with pytest.raises(Refused, match="no offset") as refused:
            await broker.offsets.query("G", "T", 0)
        assert refused.value.reason is Reason.NOT_FOUND


async def test_queue_whose_head_was_deleted_is_not_young() -> None:
    async with running() as broker:
        for _ in range(3):
            await send(broker, message("T"))
        broker.topics.require("T").queues[0].min_offset = QueueOffset(2)  # as retention does
        with pytest.raises(Refused) as refused:
            await broker.offsets.query("G", "T", 0)
        assert refused.value.reason is Reason.NOT_FOUND


async def test_client_that_does_not_want_the_young_queue_rule_is_told_that_there_is_none() -> None:
    async with running() as broker:
        with pytest.raises(Refused) as refused:
            await broker.offsets.query("G", "T", 0, zero_if_young=False)
        assert refused.value.reason is Reason.NOT_FOUND


async def test_committed_offset_is_answered_and_may_go_back() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        for offset in (7, 3, 2**63 - 1, 0):
            broker.offsets.commit("G", "T", 15, QueueOffset(offset))
            assert await broker.offsets.query("G", "T", 15, zero_if_young=False) == offset
        assert broker.offsets.stored("G", "T", 14) is None
        assert broker.offsets.stored("H", "T", 15) is None


@pytest.mark.parametrize(
    "group, topic, queue_id, offset, reason",
    [
        ("H", "T", 0, 0, Reason.GROUP_NOT_EXIST),
        ("G", "U", 0, 0, Reason.TOPIC_NOT_EXIST),
        ("G", "T", -1, 0, Reason.INVALID_PARAMETER),
        ("G", "T", 4, 0, Reason.INVALID_PARAMETER),
        ("G", "T", 2**31 - 1, 0, Reason.INVALID_PARAMETER),
        ("G", "T", 0, -1, Reason.INVALID_PARAMETER),
    ],
)
async def test_commit_that_cannot_be_is_refused(
    group: str, topic: str, queue_id: int, offset: int, reason: Reason
) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", 4, 2))
        broker.groups.require("G")
        with pytest.raises(Refused) as refused:
            broker.offsets.commit(group, topic, queue_id, QueueOffset(offset))
        assert refused.value.reason is reason
        assert broker.offsets.stored(group, topic, queue_id) is None


async def test_restart_keeps_offsets() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        broker.offsets.commit("G", "T", 1, QueueOffset(42))
    async with running(host=host) as broker:
        assert await broker.offsets.query("G", "T", 1) == 42
        assert broker.offsets.topics_of("G") == ["T"]
        assert broker.offsets.groups_on("T") == ["G"]
        assert broker.offsets.groups_on("U") == []


async def test_bounds_of_a_queue() -> None:
    async with running() as broker:
        assert broker.offsets.bounds("T", 0) == (0, 0)
        await send(broker, message("T"))
        await send(broker, message("T"))
        assert broker.offsets.bounds("T", 0) == (0, 2)
        assert broker.offsets.bounds("T", 1) == (0, 0)
        assert broker.offsets.bounds("T", -1) == (0, 0)


async def test_message_that_is_not_committed_is_not_in_the_bounds() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await send(broker, message("T"))
        disk.hold()
        broker.send.send(message("T"), "TBW102", 4, broker.store_host(message("T").born_host), lambda put, error: None)
        assert broker.offsets.bounds("T", 0) == (0, 1)
        disk.release()


async def test_times_at_which_messages_were_stored() -> None:
    clock = ManualClock(500)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        assert await broker.offsets.earliest_stored_at_ms("T", 0) == -1
        clock.at_ms = 1000
        await send(broker, message("T"))
        clock.at_ms = 2000
        await send(broker, message("T"))
        assert await broker.offsets.earliest_stored_at_ms("T", 0) == 1000
        assert await broker.offsets.earliest_stored_at_ms("T", 1) == -1
        assert await broker.offsets.stored_at_ms("T", 0, SECOND) == 2000
        assert await broker.offsets.stored_at_ms("T", 0, QueueOffset(2)) == 0
        assert await broker.offsets.stored_at_ms("T", 0, QueueOffset(-1)) == 0
        assert await broker.offsets.stored_at_ms("NoSuchTopic", 0, FIRST) == 0


@pytest.mark.parametrize(
    "at_ms, lower, upper",
    [
        (-(2**63), 0, 0),
        (999, 0, 0),
        (1000, 0, 0),
        (1500, 1, 0),
        (2000, 1, 2),
        (2001, 3, 2),
        (3000, 3, 3),
        (2**63 - 1, 4, 3),
    ],
)
async def test_search_by_time(at_ms: int, lower: int, upper: int) -> None:
    clock = ManualClock(500)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        for stored_at_ms in (1000, 2000, 2000, 3000):
            clock.at_ms = stored_at_ms
            await send(broker, message("T"))
        assert await broker.offsets.search("T", 0, EpochMs(at_ms), upper=False) == lower
        assert await broker.offsets.search("T", 0, EpochMs(at_ms), upper=True) == upper
        assert await broker.offsets.search("T", 5, EpochMs(at_ms), upper=True) == 0
        assert await broker.offsets.search("NoSuchTopic", 0, EpochMs(at_ms), upper=False) == 0
