"""Delayed messages: due when they should be, once, over kills, restarts and clocks that jump."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from posthouse.broker import timers
from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.host import Host
from posthouse.host.memory import MemoryDisk
from posthouse.model import properties as names
from posthouse.model.message import NewMessage, StoredMessage
from posthouse.model.names import SCHEDULE_TOPIC, WHEEL_TIMER_TOPIC
from posthouse.model.properties import encode_properties
from posthouse.model.topic import TopicConfig
from posthouse.store.config import StoreConfig
from tests.broker.brokers import HERE, host_on, message, pull, request, running, send, settled, until
from tests.store.clean import assert_clean
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

NOW = 1_700_000_000_000


@pytest.fixture(autouse=True)
def _clocks_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "PAUSE_S_MAX", 0.005)
    monkeypatch.setattr(timers, "RETRY_S", 0.005)
    monkeypatch.setattr(timers, "UNREADABLE_RETRY_S", 0.02)


def late(topic: str = "T", body: bytes = b"late", *, queue_id: int = 0, **properties: object) -> NewMessage:
    text = encode_properties({name: str(value) for name, value in properties.items()})
    return message(topic, body, queue_id=queue_id, properties=text)


def depth(broker: Broker, topic: str = "T", queue_id: int = 0) -> int:
    return broker.offsets.bounds(topic, queue_id)[1]


async def messages(broker: Broker, topic: str = "T", queue_id: int = 0) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    while len(found) < depth(broker, topic, queue_id):
        found += await pull(broker, request(topic, len(found), queue_id=queue_id)).messages()
    return found


async def a_while() -> None:
    await asyncio.sleep(0.05)


async def test_a_message_is_invisible_until_it_is_due_and_then_as_it_was_sent() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        new = late(body=b"b", queue_id=3, DELAY=2, TAGS="A", KEYS="k", UNIQ_KEY="id1", mine="x")
        sent = await send(broker, new._replace(flag=7, reconsume_times=2))
        assert sent.accepted.unique_id == "id1"
        assert sent.put.topic.config.name == SCHEDULE_TOPIC
        clock.at_ms = NOW + 4999
        await a_while()
        assert depth(broker, queue_id=3) == 0
        assert broker.timers.pending == 1
        clock.at_ms = NOW + 5000
        await until(lambda: depth(broker, queue_id=3) == 1)
        (found,) = await messages(broker, queue_id=3)
        assert (found.topic, found.queue_id, found.body, found.tag, found.keys) == ("T", 3, b"b", "A", ("k",))
        assert (found.flag, found.reconsume_times, found.born_at_ms) == (7, 2, new.born_at_ms)
        assert (found.born_host, found.store_host) == (new.born_host, HERE)
        assert found.stored_at_ms == clock.at_ms
        assert found.prepared_transaction_offset == sent.put.log_offset
        assert found.properties["mine"] == "x"
        assert found.properties["UNIQ_KEY"] == "id1"
        assert not {"DELAY", "REAL_TOPIC", "REAL_QID"} & set(found.properties)
        assert broker.timers.pending == 0


@pytest.mark.parametrize(
    "properties", [{"TIMER_DELAY_SEC": 2}, {"TIMER_DELAY_MS": 2000}, {"TIMER_DELIVER_MS": NOW + 2000}]
)
async def test_times_of_the_senders_choice_are_kept(properties: dict[str, int]) -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        sent = await send(broker, late(**properties))  # type: ignore[arg-type]
        assert sent.put.topic.config.name == WHEEL_TIMER_TOPIC
        clock.at_ms = NOW + 1999
        await a_while()
        assert depth(broker) == 0
        clock.at_ms += 1
        await until(lambda: depth(broker) == 1)


async def test_on_the_real_clock_a_message_is_not_early_and_within_a_tenth_of_a_second() -> None:
    async with running() as broker:
        wanted: dict[bytes, float] = {}
        for number in range(20):
            body = b"%d" % number
            await send(broker, late(body=body, TIMER_DELAY_MS=100 + 37 * number))
            wanted[body] = time.time() * 1000 + 37 * number + 100
        await until(lambda: depth(broker) == 20)
        for found in await messages(broker):
            apart_ms = found.stored_at_ms - wanted[found.body]
            assert apart_ms >= -25  # `wanted` was noted after the send
            assert apart_ms < 400, "100 ms of a tick, and what a busy machine adds"
            assert found.stored_at_ms >= int(found.properties[names.TIMER_OUT_MS]), "early"


async def test_messages_come_in_the_order_of_their_times_and_then_of_their_sending() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        for number in range(300):
            await send(broker, late(body=b"%d" % number, TIMER_DELAY_MS=1000 * (1 + number % 3)))
        clock.at_ms = NOW + 10_000
        await until(lambda: depth(broker) == 300)
        numbers = [int(each.body) for each in await messages(broker)]
        assert numbers == sorted(range(300), key=lambda number: (number % 3, number))


async def test_a_nearer_message_wakes_the_service_that_sleeps_for_a_farther_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timers, "PAUSE_S_MAX", 30.0)
    async with running() as broker:
        await send(broker, late(TIMER_DELAY_SEC=60))
        await a_while()
        await send(broker, late(TIMER_DELAY_MS=50))
        await until(lambda: depth(broker) == 1, 2)


async def test_a_clock_set_forward_makes_messages_due_and_one_set_back_makes_them_wait() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await send(broker, late(TIMER_DELAY_SEC=3600))
        clock.at_ms = NOW - 7_200_000
        await send(broker, late(TIMER_DELAY_SEC=1, body=b"of the past"))
        clock.at_ms += 1100
        await until(lambda: depth(broker) == 1)
        await a_while()
        assert depth(broker) == 1
        clock.at_ms = NOW + 3_600_000
        await until(lambda: depth(broker) == 2)
        assert [each.body for each in await messages(broker)] == [b"of the past", b"late"]


# Ends of the process


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_after_a_kill_what_was_pending_comes_once_and_what_came_does_not_come_again(checkpoint: bool) -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    broker = Broker(host_on(disk, clock))
    broker.open()
    for number in range(50):
        await send(broker, late(body=b"%d" % number, TIMER_DELAY_SEC=1 + number % 2 * 3600))
    clock.at_ms = NOW + 2000
    await until(lambda: depth(broker) == 25)
    if checkpoint:
        await broker.store.checkpoint()
    disk = disk.kill()
    clock.at_ms += 500
    async with running(host=host_on(disk, clock)) as again:
        await a_while()
        assert depth(again) == 25
        assert again.timers.pending == 25
        clock.at_ms = NOW + 4_000_000
        await until(lambda: depth(again) == 50)
        await a_while()
        bodies = [int(each.body) for each in await messages(again)]
        assert bodies == [*range(0, 50, 2), *range(1, 50, 2)]
    assert_clean(disk)
    await broker.timers.close()


async def test_what_was_due_while_the_broker_was_down_comes_at_the_start() -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    async with running(host=host_on(disk, clock)) as broker:
        await send(broker, late(DELAY=18))
    clock.at_ms = NOW + 90 * 86_400_000
    async with running(host=host_on(disk, clock)) as broker:
        await until(lambda: depth(broker) == 1)
    assert_clean(disk)


async def test_a_kill_between_delivery_and_commit_delivers_once() -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    broker = Broker(host_on(disk, clock))
    broker.open()
    await send(broker, late(DELAY=1))
    disk.hold()
    clock.at_ms = NOW + 1000
    await until(lambda: broker.timers.delivered == 1)
    assert depth(broker) == 0
    async with running(host=host_on(disk.kill(), clock)) as again:
        await until(lambda: depth(again) == 1)
        await a_while()
        assert depth(again) == 1
    await broker.timers.close()


async def test_retention_does_not_lose_what_waits_for_longer_than_messages_are_kept() -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    config = BrokerConfig(store=StoreConfig(segment_bytes=10_000, retention_ms=3_600_000, retention_hours=()))
    async with running(config, host_on(disk, clock)) as broker:
        sent = await send(broker, late(TIMER_DELAY_SEC=30 * 86_400, body=b"in a month"))
        for _ in range(50):
            await send(broker, message("T", bytes(400), queue_id=1))
        await broker.store.trim(broker.store.log.segments[-1].base)
        assert broker.store.log.first_offset > sent.put.log_offset
        clock.at_ms = NOW + 30 * 86_400_000
        await until(lambda: depth(broker) == 1)
        assert (await messages(broker))[0].body == b"in a month"
    assert_clean(disk)


# Trouble


async def test_a_full_disk_holds_deliveries_back_and_loses_none() -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    async with running(host=host_on(disk, clock)) as broker:
        for _ in range(30):
            await send(broker, late(DELAY=1))
        disk.full = lambda what: what.startswith("write")
        clock.at_ms = NOW + 1000
        await a_while()
        assert depth(broker) == 0
        disk.full = lambda what: False
        await until(lambda: depth(broker) == 30, 5)
        await a_while()
        assert depth(broker) == 30
    assert_clean(disk)


async def test_a_record_that_cannot_be_read_is_tried_again_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    async with running(host=host_on(disk, clock)) as broker:
        await send(broker, late(DELAY=1, body=b"first"))
        disk.is_cold, disk.read_error = True, OSError(5, "Input/output error")
        clock.at_ms = NOW + 1000
        with caplog.at_level(logging.ERROR):
            await until(lambda: "cannot be delivered now" in caplog.text)
        disk.is_cold, disk.read_error = False, None
        await until(lambda: depth(broker) == 1)


async def test_a_message_whose_topic_has_no_room_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        broker.groups.require("G")
        await send(broker, late("%RETRY%G", DELAY=1))
        await send(broker, late(DELAY=1))
        await broker.topics.delete("%RETRY%G")
        monkeypatch.setattr("posthouse.broker.topics.TOPICS_MAX", 0)
        clock.at_ms = NOW + 1000
        await until(lambda: depth(broker) == 1)
        assert "cannot be delivered now" in caplog.text
        monkeypatch.setattr("posthouse.broker.topics.TOPICS_MAX", 100)
        await until(lambda: depth(broker, "%RETRY%G") == 1)


async def test_a_message_whose_topic_was_deleted_is_dropped_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    async with running(host=host_on(disk, clock)) as broker:
        await send(broker, late(DELAY=1))
        await broker.topics.delete("T")
        clock.at_ms = NOW + 1000
        with caplog.at_level(logging.WARNING):
            await until(lambda: broker.timers.pending == 0)
        assert "topic 'T', which was deleted" in caplog.text
        assert broker.topics.find("T") is None
        await settled(broker)
    async with running(host=host_on(disk, clock)) as broker:
        assert broker.timers.pending == 0
    assert_clean(disk)


async def test_a_message_for_a_queue_that_is_gone_goes_to_one_that_consumers_read() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await broker.topics.set(TopicConfig("T", 8, 8))
        await send(broker, late(queue_id=6, DELAY=1))
        await broker.topics.set(TopicConfig("T", 4, 4))
        clock.at_ms = NOW + 1000
        await until(lambda: depth(broker, queue_id=2) == 1)


# Many


async def test_twenty_thousand_due_at_once_do_not_stop_the_loop() -> None:
    clock = ManualClock(NOW)
    host = replace(Host.real(), clock=clock, disk=MemoryDisk())
    async with running(host=host) as broker:
        for number in range(20_000):
            broker.timers.later(await ready(broker, number), NOW + 60_000, HERE, None)
            if number % 500 == 0:
                await asyncio.sleep(0)
        await settled(broker)
        clock.at_ms = NOW + 60_000
        pauses: list[float] = []
        last = time.perf_counter()
        while depth(broker) < 20_000:
            await asyncio.sleep(0)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now
        pauses.sort()
        assert pauses[int(len(pauses) * 0.99)] < 0.05, pauses[-5:]
        assert broker.timers.pending == 0
        assert broker.timers.behind_ms == 0


async def ready(broker: Broker, number: int) -> NewMessage:
    if broker.topics.find("T") is None:
        await broker.topics.set(TopicConfig("T", 1, 1))
    return message("T", b"x" * 100, properties=encode_properties({"UNIQ_KEY": str(number)}))
