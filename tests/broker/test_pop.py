"""Popping: each message for one member of the group, for a time; what is held, woken and refused."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.model.group import GroupConfig
from posthouse.model.limits import POP_INVISIBLE_MS_MAX, POP_MESSAGES_MAX, PULL_BYTES_MAX
from posthouse.model.pop import (
    ANY_QUEUE,
    NotificationRequest,
    PopStatus,
    Source,
)
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import host_on, message, running, send, settled, some_turns, until
from tests.broker.pops import fill, in_flight, pop, popped
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio


def offset_of(broker: Broker, queue_id: int = 0, topic: str = "T") -> int | None:
    return broker.store.offsets.find("G", topic, queue_id)


async def test_a_popped_message_is_nobody_elses() -> None:
    async with running() as broker:
        await fill(broker, 5)
        assert await popped(broker, messages_max=3) == [b"0", b"1", b"2"]
        assert await popped(broker) == [b"3", b"4"]
        assert (await pop(broker).result()).status is PopStatus.NOTHING
        assert in_flight(broker) == 5
        assert offset_of(broker) == 5


async def test_groups_do_not_disturb_one_another() -> None:
    async with running() as broker:
        await fill(broker, 2)
        assert await popped(broker) == await popped(broker, group="H") == [b"0", b"1"]


async def test_an_answer_comes_when_the_pop_is_written_and_not_before() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await fill(broker, 1)
        disk.hold()
        asked = pop(broker)
        await some_turns()
        assert asked.is_held
        disk.release()
        assert await asked.bodies() == [b"0"]


async def test_all_queues_are_asked_and_each_is_one_part() -> None:
    async with running() as broker:
        await fill(broker, 10, queues=4)
        result = await pop(broker).result()
        assert sorted(part.queue_id for part in result.parts) == [0, 1, 2, 3]
        assert sum(len(part.offsets) for part in result.parts) == 10
        assert result.rest == 0
        assert {part.source for part in result.parts} == {Source.NORMAL}


async def test_an_answer_has_a_limited_size_and_says_what_is_left() -> None:
    async with running() as broker:
        for _ in range(5):
            await send(broker, message("T", bytes(PULL_BYTES_MAX // 2)))
        result = await pop(broker).result()
        assert [len(part.offsets) for part in result.parts] == [1]
        assert result.rest == 4


async def test_a_message_over_the_size_of_an_answer_is_given_alone() -> None:
    async with running() as broker:
        await send(broker, message("T", bytes(PULL_BYTES_MAX * 2)))
        assert [len(body) for body in await popped(broker)] == [PULL_BYTES_MAX * 2]


# Refusals


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"topic": "NoSuchTopic"}, Reason.TOPIC_NOT_EXIST),
        ({"topic": "Closed"}, Reason.NO_PERMISSION),
        ({"group": "Off"}, Reason.NO_PERMISSION),
        ({"group": "a b"}, Reason.INVALID_PARAMETER),
        ({"queue_id": 1}, Reason.INVALID_PARAMETER),
        ({"queue_id": -2}, Reason.INVALID_PARAMETER),
        ({"messages_max": 0}, Reason.INVALID_PARAMETER),
        ({"messages_max": POP_MESSAGES_MAX + 1}, Reason.INVALID_PARAMETER),
        ({"invisible_ms": 0}, Reason.INVALID_PARAMETER),
        ({"invisible_ms": POP_INVISIBLE_MS_MAX + 1}, Reason.INVALID_PARAMETER),
        ({"attempt_id": "x" * 256}, Reason.INVALID_PARAMETER),
        ({"expression": "||"}, Reason.SUBSCRIPTION_ILLEGAL),
        ({"expression": "a >", "expression_type": "SQL92"}, Reason.SUBSCRIPTION_ILLEGAL),
    ],
)
async def test_what_cannot_be_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    async with running() as broker:
        await fill(broker, 1)
        await broker.topics.set(TopicConfig("Closed", 1, 1, Perm.WRITE))
        await broker.groups.set(GroupConfig("Off", consume_enable=False))
        with pytest.raises(Refused) as refused:
            pop(broker, **{"topic": "T", **changes})
        assert refused.value.reason is reason
        assert in_flight(broker) == 0


async def test_a_group_that_may_not_read_the_topic_is_refused() -> None:
    async with running() as broker:
        await fill(broker, 1)
        await broker.groups.set(GroupConfig("G"))
        await broker.groups.set_readable("G", "T", False)
        with pytest.raises(Refused) as refused:
            pop(broker)
        assert refused.value.reason is Reason.NO_PERMISSION


async def test_without_automatic_groups_a_group_must_be_there() -> None:
    async with running(BrokerConfig(auto_create_groups=False)) as broker:
        await fill(broker, 1)
        with pytest.raises(Refused) as refused:
            pop(broker)
        assert refused.value.reason is Reason.GROUP_NOT_EXIST


async def test_a_group_that_holds_too_many_gets_no_more_of_that_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pop_taking", "pop_acks"):
        monkeypatch.setattr(f"posthouse.broker.{module}.POPPED_PER_QUEUE_MAX", 3)
    async with running() as broker:
        await fill(broker, 10, queues=2)
        held = await pop(broker, queue_id=0).receipts()
        assert len(held) == 3
        assert (await pop(broker, queue_id=0).result()).status is PopStatus.NOTHING
        assert len(await popped(broker, queue_id=1)) == 3
        waiting = pop(broker, queue_id=0, poll_ms=5000)
        broker.pop.acks.ack(held[0])
        assert await waiting.bodies() == [b"6"]


async def test_all_that_is_in_flight_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.pop_taking.POPPED_MAX", 3)
    async with running() as broker:
        await fill(broker, 5)
        assert len(await popped(broker)) == 3
        with pytest.raises(Refused, match="that is the limit") as refused:
            pop(broker)
        assert refused.value.reason is Reason.BUSY


async def test_a_pop_that_cannot_be_written_is_refused_and_the_messages_come_again() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await fill(broker, 1)
        disk.full = lambda what: True
        outcome = await pop(broker, invisible_ms=100).outcome()
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.NOT_WRITABLE
        with pytest.raises(Refused):
            pop(broker, group="H")
        disk.full = lambda what: False
        await settled(broker)
        await until(lambda: broker.store._full is None)
        assert await popped(broker, poll_ms=20_000) == [b"0"]


# Others who ask


async def test_a_peek_takes_nothing() -> None:
    async with running() as broker:
        await fill(broker, 3)
        for _ in range(2):
            result = await broker.pop.peek("G", "T", ANY_QUEUE, 2)
            assert (result.status, [len(part.offsets) for part in result.parts], result.rest) == (
                PopStatus.FOUND, [2], 1,
            )  # fmt: skip
        assert offset_of(broker) is None
        assert await popped(broker) == [b"0", b"1", b"2"]
        assert (await broker.pop.peek("G", "T", ANY_QUEUE, 2)).status is PopStatus.NOTHING


async def test_a_notification_says_whether_there_is_something() -> None:
    async with running() as broker:
        await fill(broker, 0)
        told: list[tuple[bool, bool]] = []

        def ask(poll_ms: int) -> None:
            request = NotificationRequest("G", "T", ANY_QUEUE, poll_ms)
            broker.pop.notify(request, broker, lambda has, full: told.append((has, full)))

        ask(0)
        assert told == [(False, False)]
        ask(5000)
        await send(broker, message("T", b"a"))
        await until(lambda: len(told) == 2)
        assert told[1] == (True, False)
        assert in_flight(broker) == 0
        assert await popped(broker) == [b"a"]
        ask(0)
        assert told[2] == (False, False)


# Cold reads


async def test_only_so_many_pops_may_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.pop.COLD_READS_MAX", 0)
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await fill(broker, 1)
        disk.is_cold = True
        with pytest.raises(Refused, match="0 pops wait for the disk, which is the limit") as refused:
            await popped(broker)
        assert refused.value.reason is Reason.BUSY
        monkeypatch.undo()
        assert await popped(broker) == [b"0"]


async def test_what_the_device_has_to_give_is_waited_for() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await fill(broker, 3)
        disk.is_cold = True
        assert await popped(broker) == [b"0", b"1", b"2"]
