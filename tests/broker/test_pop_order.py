"""Ordered pops: a queue waits for what was given of it, and gives it again in its place."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.pop_order import first_unacked, order_acked, order_delayed, order_given
from posthouse.codec.record import decode_records
from posthouse.host.clock import EpochMs
from posthouse.model.group import GroupConfig
from posthouse.model.names import dead_letter_topic
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import NotificationRequest, PopStatus
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store.in_flight import NO_ORDER, GroupQueue
from tests.broker.brokers import host_on, message, running, send, until
from tests.broker.pops import LONG_MS, Pop, in_flight, pop, renewed
from tests.store.disks import FaultyDisk, ManualClock

PLACE = GroupQueue("G", "T", 0)


async def fill(broker: Broker, count: int, queues: int = 1) -> None:
    await broker.topics.set(TopicConfig("T", queues, queues))
    for number in range(count):
        await send(broker, message("T", b"%d" % number, queue_id=number % queues))


def ordered(broker: Broker, count: int = 2, for_ms: int = LONG_MS, attempt: str = "", poll_ms: int = 0) -> Pop:
    return pop(broker, messages_max=count, invisible_ms=for_ms, ordered=True, attempt_id=attempt, poll_ms=poll_ms)


def at(broker: Broker) -> int | None:
    return broker.store.offsets.find(*PLACE)


def test_an_order_counts_what_was_in_the_one_before() -> None:
    first = order_given(None, EpochMs(1), 10, "a", [5, 6])
    assert first.times == (0, 0)
    second = order_given(first, EpochMs(2), 10, "b", [5, 6, 7])
    assert second.times == (1, 1, 0)
    assert order_given(second, EpochMs(3), 10, "b", [5, 6, 7]).times == (1, 1, 0), "the same attempt, tried again"
    assert order_given(second, EpochMs(3), 10, "", [6]).times == (2,)


def test_an_order_ends_when_all_is_acknowledged() -> None:
    order = order_given(None, EpochMs(1), 10, "a", [5, 6, 7])
    order = order_acked(order, QueueOffset(6))
    assert first_unacked(order) == 5
    order = order_acked(order, QueueOffset(5))
    assert first_unacked(order) == 7
    assert order_acked(order, QueueOffset(7)) is NO_ORDER


def test_what_was_not_given_is_refused() -> None:
    order = order_given(None, EpochMs(1), 10, "a", [5])
    with pytest.raises(Refused) as refused:
        order_acked(order, QueueOffset(6))
    assert refused.value.reason is Reason.MESSAGE_ILLEGAL
    with pytest.raises(Refused):
        order_delayed(order, QueueOffset(4), EpochMs(9))


@pytest.mark.asyncio
async def test_a_queue_gives_no_more_until_all_of_it_is_acknowledged() -> None:
    async with running() as broker:
        await fill(broker, 4)
        first = ordered(broker)
        assert await first.bodies() == [b"0", b"1"]
        assert at(broker) == 0, "the group stays where it is"
        assert (await ordered(broker).result()).status is PopStatus.NOTHING
        one, two = await first.receipts()
        broker.pop.acks.ack(two)
        assert (await ordered(broker).result()).status is PopStatus.NOTHING
        broker.pop.acks.ack(one)
        assert at(broker) == 2
        assert await ordered(broker).bodies() == [b"2", b"3"]
        assert in_flight(broker) == 0, "ordered messages are not revived"


@pytest.mark.asyncio
async def test_other_queues_and_groups_go_on() -> None:
    async with running() as broker:
        await fill(broker, 4, queues=2)
        assert sorted(await ordered(broker, 1).bodies() + await ordered(broker, 1).bodies()) == [b"0", b"1"]
        assert (await ordered(broker, 1).result()).status is PopStatus.NOTHING
        other = pop(broker, group="H", ordered=True)
        assert sorted(await other.bodies()) == [b"0", b"1", b"2", b"3"]


@pytest.mark.asyncio
async def test_after_its_time_the_same_comes_again_in_order_and_is_counted() -> None:
    async with running() as broker:
        await fill(broker, 3)
        assert await ordered(broker, for_ms=150).bodies() == [b"0", b"1"]
        again = ordered(broker, for_ms=150, poll_ms=3000)
        assert await again.bodies() == [b"0", b"1"]
        assert (await again.result()).parts[0].times == [1, 1]
        third = ordered(broker, 3, poll_ms=3000)
        assert await third.bodies() == [b"0", b"1", b"2"]
        assert (await third.result()).parts[0].times == [2, 2, 0]


@pytest.mark.asyncio
async def test_the_same_attempt_gets_the_same_again_at_once() -> None:
    async with running() as broker:
        await fill(broker, 3)
        assert await ordered(broker, attempt="a1").bodies() == [b"0", b"1"]
        again = ordered(broker, attempt="a1")
        assert await again.bodies() == [b"0", b"1"]
        assert (await again.result()).parts[0].times == [0, 0]
        assert (await ordered(broker, attempt="a2").result()).status is PopStatus.NOTHING


@pytest.mark.asyncio
async def test_a_receipt_of_an_older_delivery_is_worth_nothing() -> None:
    clock = ManualClock()
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await fill(broker, 2)
        old = await ordered(broker, for_ms=100).receipts()
        clock.at_ms += 1000
        new = ordered(broker, poll_ms=3000)
        await new.result()
        for receipt in old:
            broker.pop.acks.ack(receipt)
            with pytest.raises(Refused, match="not valid any more"):
                await renewed(broker, receipt, 1000)
        assert at(broker) == 0
        not_given = (await new.receipts())[0]._replace(offset=QueueOffset(2))
        with pytest.raises(Refused, match="not among"):
            broker.pop.acks.ack(not_given)


@pytest.mark.asyncio
async def test_the_time_of_one_message_can_be_changed() -> None:
    clock = ManualClock()
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await fill(broker, 2)
        first, second = await ordered(broker).receipts()
        clock.at_ms += 500
        new = await renewed(broker, first, 100)
        assert (new.at_ms, new.invisible_ms) == (first.at_ms, 600)
        broker.pop.acks.ack(second)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await ordered(broker, poll_ms=3000).bodies() == [b"0", b"1"]
        assert loop.time() - began < 1.0


@pytest.mark.asyncio
async def test_an_acknowledgement_wakes_who_waits_for_the_queue() -> None:
    async with running() as broker:
        await fill(broker, 3)
        receipts = await ordered(broker).receipts()
        waiting = ordered(broker, poll_ms=10_000)
        assert waiting.is_held
        broker.pop.acks.ack_many(receipts)
        assert await waiting.bodies() == [b"2"]


@pytest.mark.asyncio
async def test_order_and_its_lock_survive_a_kill() -> None:
    disk, clock = FaultyDisk(), ManualClock()
    async with running(host=host_on(disk, clock)) as broker:
        await fill(broker, 3)
        first, second = await ordered(broker, for_ms=2000, attempt="a1").receipts()
        after = FaultyDisk(disk.files())
    clock.at_ms += 1700
    async with running(host=host_on(after, clock)) as broker:
        assert (await ordered(broker, attempt="a2").result()).status is PopStatus.NOTHING
        broker.pop.acks.ack(first)
        assert at(broker) == 1
        again = ordered(broker, poll_ms=3000)
        assert await again.bodies() == [b"1", b"2"]
        assert (await again.result()).parts[0].times == [1, 0]
        broker.pop.acks.ack(second._replace(at_ms=(await again.result()).at_ms))
        assert at(broker) == 2


@pytest.mark.asyncio
async def test_a_message_that_is_given_too_often_is_a_dead_letter_and_the_next_is_counted_anew() -> None:
    async with running() as broker:
        await fill(broker, 2)
        await broker.groups.set(GroupConfig("G", retry_max_times=1))
        for times in range(2):
            asked = ordered(broker, for_ms=50, poll_ms=3000)
            assert await asked.bodies() == [b"0", b"1"]
            assert (await asked.result()).parts[0].times == [times, times]
        last = ordered(broker, poll_ms=3000)
        assert await last.bodies() == [b"1"]
        assert (await last.result()).parts[0].times == [0]
        assert at(broker) == 1
        dead = broker.topics.require(dead_letter_topic("G")).queue(0)
        await until(lambda: dead.max_offset == 1)
        found = broker.store.get(dead, QueueOffset(0), 1, 1)
        assert found is not None
        (letter,) = decode_records(found.buffers[0])
        assert (letter.body, letter.properties["DLQ_REASON"]) == (b"0", "attempts")
        assert letter.properties["DLQ_ATTEMPTS"] == "2"


@pytest.mark.asyncio
async def test_a_reset_ends_the_order() -> None:
    async with running() as broker:
        await fill(broker, 4)
        (receipt, _) = await ordered(broker).receipts()
        await broker.resets.reset("G", "T", {0: QueueOffset(1)})
        assert await ordered(broker, 4).bodies() == [b"1", b"2", b"3"]
        broker.pop.acks.ack(receipt)
        assert at(broker) == 1


@pytest.mark.asyncio
async def test_a_notification_sees_the_lock() -> None:
    async with running() as broker:
        await fill(broker, 3)
        told: list[bool] = []

        def ask(attempt: str) -> bool:
            request = NotificationRequest("G", "T", -1, ordered=True, attempt_id=attempt)
            broker.pop.notify(request, broker, lambda has, full: told.append(has))
            return told[-1]

        assert ask("a2")
        await ordered(broker, attempt="a1").result()
        assert not ask("a2")
        assert ask("a1")


@pytest.mark.asyncio
async def test_a_group_that_allows_no_attempt_gets_each_message_once() -> None:
    async with running() as broker:
        await fill(broker, 2)
        await broker.groups.set(GroupConfig("G", retry_max_times=-1))
        assert await ordered(broker, for_ms=50).bodies() == [b"0", b"1"]
        assert await ordered(broker, count=1, poll_ms=3000).bodies() == [b"1"]


@pytest.mark.asyncio
async def test_a_damaged_message_that_is_given_too_often_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await broker.topics.set(TopicConfig("T", 1, 1))
        await send(broker, message("T", b"spoiled"))
        await send(broker, message("T", b"good"))
        await broker.groups.set(GroupConfig("G", retry_max_times=0))
        await ordered(broker, count=1, for_ms=50).result()
        (name,) = [name for name, data in disk.files().items() if b"spoiled" in data]
        disk.flip(name, disk.files()[name].index(b"spoiled"))
        assert await ordered(broker, count=1, poll_ms=3000).bodies() == [b"good"]
        assert at(broker) == 1
        assert any("gives up a damaged message" in line for line in caplog.messages)
