"""What is not acknowledged comes again: counted, once, after its time, over restarts; in the end as a dead letter."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Sequence

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.codec.record import decode_records
from posthouse.host import Host
from posthouse.model.group import GroupConfig
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.message import StoredMessage
from posthouse.model.names import dead_letter_topic
from posthouse.model.pop import PopReceipt, PopStatus, Source, pop_retry_topic
from posthouse.model.properties import encode_properties
from posthouse.model.topic import TopicConfig
from posthouse.store.config import StoreConfig
from tests.broker.brokers import host_on, message, running, send, settled, until
from tests.broker.pops import LONG_MS, in_flight, pop, popped, renewed
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio


def stored(broker: Broker, topic: str) -> list[StoredMessage]:
    found = broker.topics.find(topic)
    if found is None or not found.queue(0).max_offset:
        return []
    got = broker.store.get(found.queue(0), found.queue(0).min_offset, 32, 1 << 20)
    assert got is not None
    return decode_records(b"".join(got.buffers))


async def begun(broker: Broker) -> None:
    await broker.topics.set(TopicConfig("T", 1, 1))


def killed(host: Host) -> Host:
    """The machine as it would be if the process were killed now."""
    disk = host.disk
    assert isinstance(disk, FaultyDisk)
    return dataclasses.replace(host, disk=FaultyDisk(disk.files()))


async def test_a_message_comes_again_with_one_more_attempt_and_all_that_it_had() -> None:
    async with running() as broker:
        await begun(broker)
        text = encode_properties({"KEYS": "k1 k2", "mine": "x"})
        sent = await send(broker, message("T", b"a", tag="A", properties=text))
        first = pop(broker, invisible_ms=100)
        (before,) = await first.messages()
        asked = pop(broker, poll_ms=3000)
        (again,) = await asked.messages()
        (part,) = (await asked.result()).parts
        assert part.source is Source.RETRY
        assert (again.body, again.reconsume_times, again.topic) == (b"a", 1, pop_retry_topic("G", "T"))
        assert again.properties["1ST_POP_TIME"] == str((await first.result()).at_ms)
        for name in ("KEYS", "mine", "TAGS", "UNIQ_KEY"):
            assert again.properties[name] == before.properties[name]
        assert (again.born_at_ms, again.flag, again.store_host) == (before.born_at_ms, before.flag, before.store_host)
        assert sent.accepted.unique_id == again.properties["UNIQ_KEY"]


async def test_nothing_comes_before_its_time() -> None:
    async with running() as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        loop = asyncio.get_running_loop()
        await pop(broker, invisible_ms=400).result()
        began = loop.time()
        assert await popped(broker, poll_ms=3000) == [b"a"]
        assert 0.35 <= loop.time() - began < 1.5


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
async def test_a_clock_that_jumps_makes_nobody_a_second_holder(jump_ms: int) -> None:
    clock = ManualClock()
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        (receipt,) = await pop(broker, invisible_ms=LONG_MS).receipts()
        clock.at_ms += jump_ms
        await asyncio.sleep(0.3)
        assert (await pop(broker).result()).status is PopStatus.NOTHING
        broker.pop.acks.ack(receipt)
        assert in_flight(broker) == 0


async def test_a_filter_does_not_lose_what_comes_again() -> None:
    async with running() as broker:
        await begun(broker)
        await send(broker, message("T", b"a", tag="A"))
        await pop(broker, invisible_ms=50, expression="A").result()
        assert await popped(broker, poll_ms=3000, expression="A") == [b"a"]


async def test_only_what_was_not_acknowledged_of_one_pop_comes_again() -> None:
    async with running() as broker:
        await begun(broker)
        for number in range(20):
            await send(broker, message("T", b"%d" % number))
        receipts = await pop(broker, invisible_ms=200).receipts()
        broker.pop.acks.ack_many(receipts[:5] + receipts[7:])
        await until(lambda: not in_flight(broker))
        await settled(broker)
        assert [each.body for each in stored(broker, pop_retry_topic("G", "T"))] == [b"5", b"6"]
        assert not broker.pop.revival._watched
        assert not any(broker.pop.revival._buckets.values())


async def test_what_was_acknowledged_is_not_watched_any_more() -> None:
    async with running() as broker:
        await begun(broker)
        for number in range(3):
            await send(broker, message("T", b"%d" % number))
        for receipt in await pop(broker, invisible_ms=LONG_MS).receipts():
            broker.pop.acks.ack(receipt)
        assert not broker.pop.revival._watched
        assert not any(broker.pop.revival._buckets.values())


# Dead letters


async def test_after_its_attempts_a_message_is_a_dead_letter_with_a_reason() -> None:
    async with running() as broker:
        await begun(broker)
        await broker.groups.set(GroupConfig("G", retry_max_times=2))
        sent = await send(broker, message("T", b"poison"))
        for attempt in range(3):
            (found,) = await pop(broker, invisible_ms=50, poll_ms=3000).messages()
            assert found.reconsume_times == attempt
        await until(lambda: not in_flight(broker))
        await settled(broker)
        assert (await pop(broker).result()).status is PopStatus.NOTHING
        (dead,) = stored(broker, dead_letter_topic("G"))
        assert dead.body == b"poison"
        assert dead.properties["DLQ_ORIGIN_TOPIC"] == "T"
        assert dead.properties["DLQ_ORIGIN_MESSAGE_ID"] == sent.accepted.unique_id
        assert dead.properties["DLQ_REASON"] == "attempts"
        assert dead.properties["DLQ_ATTEMPTS"] == "3"


async def test_a_group_that_wants_no_retries_has_a_dead_letter_at_once() -> None:
    async with running() as broker:
        await begun(broker)
        await broker.groups.set(GroupConfig("G", retry_max_times=0))
        await send(broker, message("T", b"a"))
        await pop(broker, invisible_ms=50).result()
        await until(lambda: bool(stored(broker, dead_letter_topic("G"))))


@pytest.mark.parametrize("retries", [0, 1])
async def test_a_message_whose_properties_are_full_is_not_stuck(retries: int) -> None:
    async with running() as broker:
        await begun(broker)
        await broker.groups.set(GroupConfig("G", retry_max_times=retries))
        sent = await send(broker, message("T", b"a"))
        room = PROPERTIES_BYTES_MAX - len(sent.accepted.properties) - 3
        await pop(broker).result()
        await send(broker, message("T", b"full", properties=f"x\x01{'y' * room}\x02"))
        await pop(broker, invisible_ms=50).result()
        target = pop_retry_topic("G", "T") if retries else dead_letter_topic("G")
        await until(lambda: bool(stored(broker, target)))
        assert [each.body for each in stored(broker, target)] == [b"full"]


# Restarts


async def test_receipts_survive_a_kill() -> None:
    host = host_on(FaultyDisk(), ManualClock())
    async with running(host=host) as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        await send(broker, message("T", b"b"))
        first, second = await pop(broker, invisible_ms=LONG_MS).receipts()
        after = killed(host)
    async with running(host=after) as broker:
        assert (await pop(broker).result()).status is PopStatus.NOTHING, "nobody else gets what is held"
        broker.pop.acks.ack(first)
        new = await renewed(broker, second, LONG_MS)
        broker.pop.acks.ack(second._replace(at_ms=new.at_ms))
        assert in_flight(broker) == 0


async def test_after_a_restart_a_message_is_held_for_the_rest_of_its_time() -> None:
    clock = ManualClock()
    host = host_on(FaultyDisk(), clock)
    async with running(host=host) as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        await pop(broker, invisible_ms=10_000).result()
        after = killed(host)
    clock.at_ms += 9_700
    async with running(host=after) as broker:
        assert (await pop(broker).result()).status is PopStatus.NOTHING
        assert await popped(broker, poll_ms=3000) == [b"a"]


async def test_a_clock_that_went_back_over_a_restart_holds_nothing_longer_than_it_was_given_for() -> None:
    clock = ManualClock()
    host = host_on(FaultyDisk(), clock)
    async with running(host=host) as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        await pop(broker, invisible_ms=300).result()
        after = killed(host)
    clock.at_ms -= 3_600_000
    async with running(host=after) as broker:
        assert await popped(broker, poll_ms=3000) == [b"a"]


async def test_what_was_acknowledged_before_a_clean_stop_does_not_come_again() -> None:
    host = host_on(FaultyDisk(), ManualClock())
    receipts: Sequence[PopReceipt]
    async with running(host=host) as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        receipts = await pop(broker, invisible_ms=100).receipts()
        broker.pop.acks.ack(receipts[0])
    async with running(host=killed(host)) as broker:
        assert in_flight(broker) == 0
        assert (await pop(broker, poll_ms=400).result()).status is PopStatus.NOTHING


async def test_a_power_cut_loses_no_message() -> None:
    """What was popped may be given again at once; it is never in neither place."""
    for seed in range(15):
        disk = FaultyDisk()
        broker = Broker(host_on(disk, ManualClock()))
        broker.open()
        await begun(broker)
        for number in range(3):
            await send(broker, message("T", b"%d" % number))
        await pop(broker, invisible_ms=50).result()
        await asyncio.sleep(0.12 if seed % 2 else 0.0)
        after = disk.crash(random.Random(seed))
        await broker.pop.close()
        async with running(host=host_on(after, ManualClock())) as again:
            found: set[bytes] = set()
            async with asyncio.timeout(10):
                while found != {b"0", b"1", b"2"}:
                    found |= set(await popped(again, poll_ms=1000, invisible_ms=LONG_MS))


# Retention


async def test_what_is_in_flight_in_a_segment_that_goes_comes_when_its_holders_time_is_over() -> None:
    config = BrokerConfig(store=StoreConfig(segment_bytes=4096))
    async with running(config) as broker:
        await begun(broker)
        await broker.topics.set(TopicConfig("filler", 1, 1))
        for number in range(4):
            await send(broker, message("T", b"%d" % number))
        loop = asyncio.get_running_loop()
        began = loop.time()
        receipts = await pop(broker, invisible_ms=2500).receipts()
        broker.pop.acks.ack(receipts[0])
        while len(broker.store.log.segments) < 4:
            await send(broker, message("filler", bytes(500)))
        await broker.store.trim(broker.store.log.segments[2].base)
        assert broker.store.topics.live["T"].queue(0).min_offset == 4
        assert in_flight(broker) == 0
        assert (await pop(broker).result()).status is PopStatus.NOTHING, "its holder still has it"
        found: list[bytes] = []
        while len(found) < 3:
            found += await popped(broker, poll_ms=5000)
        assert loop.time() - began >= 2.5
        assert sorted(found) == [b"1", b"2", b"3"]


async def test_a_message_that_a_short_topic_let_go_of_ends() -> None:
    async with running() as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        await pop(broker, invisible_ms=50).result()
        queue = broker.store.topics.live["T"].queue(0)
        broker.store.trim_queue(queue, queue.max_offset)
        await until(lambda: not in_flight(broker))
        assert broker.topics.find(pop_retry_topic("G", "T")) is None


async def test_what_cannot_be_stored_again_now_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("posthouse.broker.revival.AGAIN_S", 0.1)
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await begun(broker)
        for number in range(3):
            await send(broker, message("T", b"%d" % number))
        await pop(broker, invisible_ms=100).result()
        monkeypatch.setattr("posthouse.broker.topics.TOPICS_MAX", 0)
        await asyncio.sleep(0.5)
        assert in_flight(broker) == 3
        assert sum("cannot be stored again" in line for line in caplog.messages) == 1
        monkeypatch.setattr("posthouse.broker.topics.TOPICS_MAX", 100)
        assert sorted(await popped(broker, poll_ms=3000) + await popped(broker, poll_ms=300)) == [b"0", b"1", b"2"]


async def test_a_clock_that_is_set_back_to_the_time_of_an_older_pop_makes_nothing_early() -> None:
    clock = ManualClock()
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await begun(broker)
        await send(broker, message("T", b"a"))
        await send(broker, message("T", b"b"))
        loop = asyncio.get_running_loop()
        assert await popped(broker, messages_max=1, invisible_ms=600) == [b"a"]
        await asyncio.sleep(0.4)  # and the clock that stood still meanwhile is one that was set back
        assert await popped(broker, messages_max=1, invisible_ms=600) == [b"b"]
        began = loop.time()
        found: list[bytes] = []
        while b"b" not in found:
            found += await popped(broker, poll_ms=3000)
        assert loop.time() - began >= 0.6


async def test_a_damaged_message_in_flight_does_not_keep_its_segment(caplog: pytest.LogCaptureFixture) -> None:
    config = BrokerConfig(store=StoreConfig(segment_bytes=4096))
    disk = FaultyDisk()
    async with running(config, host_on(disk)) as broker:
        await begun(broker)
        await broker.topics.set(TopicConfig("filler", 1, 1))
        await send(broker, message("T", b"spoiled"))
        await pop(broker, invisible_ms=LONG_MS).result()
        while len(broker.store.log.segments) < 4:
            await send(broker, message("filler", bytes(500)))
        (name,) = [name for name, data in disk.files().items() if b"spoiled" in data]
        disk.flip(name, disk.files()[name].index(b"spoiled"))
        await broker.store.trim(broker.store.log.segments[2].base)
        assert broker.store.log.first_offset > 0
        assert in_flight(broker) == 0
        assert any("is lost with its segment" in line for line in caplog.messages)
