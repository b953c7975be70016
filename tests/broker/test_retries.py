"""Messages that a consumer gives back: again after a delay, each attempt counted once, dead letters in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from posthouse.broker import timers
from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.broker.stats import What
from posthouse.model.delays import DELAY_LEVELS_MS
from posthouse.model.group import GroupConfig
from posthouse.model.ids import offset_message_id
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.message import MessageQueue, StoredMessage
from posthouse.model.offsets import LogOffset
from posthouse.model.properties import encode_properties
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import host_on, message, pull, request, running, send, settled, until
from tests.broker.test_timers import depth, messages
from tests.store.clean import assert_clean
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

NOW = 1_700_000_000_000
RETRY, DEAD = "%RETRY%G", "%DLQ%G"


@pytest.fixture(autouse=True)
def _clocks_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "PAUSE_S_MAX", 0.005)


async def refused(attempt: Coroutine[object, object, object]) -> Refused:
    with pytest.raises(Refused) as found:
        await attempt
    return found.value


async def sent_and_group(broker: Broker, **config: int) -> StoredMessage:
    """The message that a group G was given."""
    await broker.groups.set(GroupConfig("G", **config))  # type: ignore[arg-type]
    text = encode_properties({"UNIQ_KEY": "id1", "KEYS": "k", "mine": "x"})
    await send(broker, message("T", b"body", tag="A", properties=text))
    return (await messages(broker))[0]


async def again(broker: Broker, clock: ManualClock, delay_ms: int) -> StoredMessage:
    """What comes out of the retry topic after so long, and not before."""
    count = depth(broker, RETRY)
    clock.at_ms += delay_ms - 100
    await asyncio.sleep(0.03)
    assert depth(broker, RETRY) == count, "it came too early"
    clock.at_ms += 100
    await until(lambda: depth(broker, RETRY) == count + 1)
    return (await messages(broker, RETRY))[-1]


async def test_a_message_comes_again_in_the_retry_topic_with_one_more_attempt() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        first = await sent_and_group(broker)
        await broker.retries.send_back("G", first.log_offset)
        assert broker.topics.require(RETRY).config == TopicConfig(RETRY, 1, 1)
        found = await again(broker, clock, 10_000)
        assert (found.topic, found.queue_id, found.body, found.tag) == (RETRY, 0, b"body", "A")
        assert (found.reconsume_times, found.born_at_ms, found.born_host) == (1, first.born_at_ms, first.born_host)
        assert (found.flag, found.sys_flag) == (first.flag, first.sys_flag)
        own = {key: value for key, value in found.properties.items() if not key.startswith("TIMER_")}
        place = offset_message_id(first.store_host, first.log_offset)
        assert own == {**first.properties, "RETRY_TOPIC": "T", "ORIGIN_MESSAGE_ID": place}


async def test_sixteen_attempts_are_counted_each_after_its_delay_and_then_comes_death() -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    async with running(host=host_on(disk, clock)) as broker:
        found = first = await sent_and_group(broker)
        for attempt in range(16):
            assert found.reconsume_times == attempt
            await broker.retries.send_back("G", found.log_offset)
            assert depth(broker, DEAD) == 0 if broker.topics.find(DEAD) else True
            found = await again(broker, clock, DELAY_LEVELS_MS[2 + attempt])
        assert depth(broker, RETRY) == 16
        assert {each.properties["ORIGIN_MESSAGE_ID"] for each in await messages(broker, RETRY)} == {
            offset_message_id(first.store_host, first.log_offset)
        }
        await broker.retries.send_back("G", found.log_offset)
        (dead,) = await messages(broker, DEAD)
        assert dead.reconsume_times == 17
        assert {key: dead.properties[key] for key in dead.properties if key.startswith("DLQ_")} == {
            "DLQ_ORIGIN_TOPIC": "T",
            "DLQ_ORIGIN_MESSAGE_ID": "id1",
            "DLQ_REASON": "attempts",
            "DLQ_ATTEMPTS": "17",
        }
        assert (dead.body, dead.tag, dead.properties["mine"]) == (b"body", "A", "x")
        assert broker.timers.pending == 0
        sent_back, died = (broker.stats.windows(what, ("T", "G")) for what in (What.SENT_BACK, What.DEAD_LETTERED))
        assert sent_back is not None
        assert died is not None
    assert_clean(disk)


@pytest.mark.parametrize("level, delay_ms", [(1, 1000), (5, 60_000), (18, 7_200_000), (99, 7_200_000)])
async def test_the_consumer_may_say_how_long_it_takes(level: int, delay_ms: int) -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        first = await sent_and_group(broker)
        await broker.retries.send_back("G", first.log_offset, level)
        assert (await again(broker, clock, delay_ms)).reconsume_times == 1


@pytest.mark.parametrize(
    "config, level, attempts_max, reason",
    [
        ({}, -1, None, "refused"),
        ({}, -1, 16, "refused"),
        ({"retry_max_times": 0}, 0, None, "attempts"),
        ({}, 0, 0, "attempts"),
        ({}, 0, -1, "attempts"),
        ({"retry_queues": 0}, 0, None, "no_retry"),
    ],
)
async def test_a_message_is_dead_at_once(
    config: dict[str, int], level: int, attempts_max: int | None, reason: str
) -> None:
    async with running() as broker:
        first = await sent_and_group(broker, **config)
        await broker.retries.send_back("G", first.log_offset, level, attempts_max)
        (dead,) = await messages(broker, DEAD)
        assert (dead.properties["DLQ_REASON"], dead.properties["DLQ_ATTEMPTS"]) == (reason, "1")
        assert broker.topics.find(RETRY) is None
        assert broker.timers.pending == 0


async def test_the_requests_limit_wins_over_the_groups() -> None:
    async with running() as broker:
        first = await sent_and_group(broker, retry_max_times=0)
        await broker.retries.send_back("G", first.log_offset, 1, 5)
        assert broker.topics.find(DEAD) is None
        assert broker.timers.pending == 1


async def test_retries_are_spread_over_the_groups_retry_queues() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        first = await sent_and_group(broker, retry_queues=4)
        for _ in range(60):
            await broker.retries.send_back("G", first.log_offset, 1)
        clock.at_ms += 1000
        await until(lambda: sum(depth(broker, RETRY, queue) for queue in range(4)) == 60)
        assert all(depth(broker, RETRY, queue) for queue in range(4))


async def test_a_group_that_was_deleted_meanwhile_is_made_anew_where_groups_are_made() -> None:
    async with running() as broker:
        first = await sent_and_group(broker)
        await broker.groups.delete("G", True)
        await broker.retries.send_back("G", first.log_offset)
        assert broker.groups.find("G") == GroupConfig("G")
        assert broker.timers.pending == 1


@pytest.mark.parametrize("left_bytes", [900, 40, 0])
async def test_a_message_without_room_for_our_properties_is_not_lost(left_bytes: int) -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("G"))
        probe = await send(broker, message("T", properties="UNIQ_KEY\x01id\x02k\x01v\x02"))
        room = PROPERTIES_BYTES_MAX - len(probe.accepted.properties.encode()) + 1 - left_bytes
        full = await send(broker, message("T", properties=f"UNIQ_KEY\x01id\x02k\x01{'x' * room}\x02"))
        await broker.retries.send_back("G", full.put.log_offset)
        (dead,) = await messages(broker, DEAD)
        assert dead.properties["k"] == "x" * room
        assert dead.reconsume_times == 1
        assert dead.properties.get("DLQ_REASON") == ("too_large" if left_bytes == 900 else None)


async def test_what_cannot_be_given_back_is_refused() -> None:
    async with running(BrokerConfig(auto_create_groups=False)) as broker:
        first = await sent_and_group(broker)
        assert (await refused(broker.retries.send_back("X", first.log_offset))).reason is Reason.GROUP_NOT_EXIST
        for wrong in (first.log_offset + 1, 1 << 40, -1, 0):
            assert (await refused(broker.retries.send_back("G", LogOffset(wrong)))).reason is Reason.FAILED
        await broker.topics.set(TopicConfig(RETRY, 1, 1, perm=Perm.READ))
        assert (await refused(broker.retries.send_back("G", first.log_offset))).reason is Reason.NO_PERMISSION


async def test_a_message_is_back_when_the_answer_is_given_even_if_the_broker_is_killed_then() -> None:
    clock, disk = ManualClock(NOW), FaultyDisk()
    broker = Broker(host_on(disk, clock))
    broker.open()
    first = await sent_and_group(broker)
    await broker.retries.send_back("G", first.log_offset, 1)
    async with running(host=host_on(disk.kill(), clock)) as after:
        clock.at_ms += 1000
        await until(lambda: after.topics.find(RETRY) is not None and depth(after, RETRY) == 1)
    await broker.timers.close()


async def test_no_answer_is_given_while_the_disk_is_busy() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        first = await sent_and_group(broker)
        disk.hold()
        attempt = asyncio.create_task(broker.retries.send_back("G", first.log_offset, 1))
        await asyncio.sleep(0.02)
        assert not attempt.done()
        disk.release()
        await asyncio.wait_for(attempt, 5)


# Sends to the retry topic, which clients fall back to


async def fallback(broker: Broker, times: int, attempts_max: int | None = None, **properties: str) -> StoredMessage:
    """What becomes of it."""
    text = encode_properties({"RETRY_TOPIC": "T", "ORIGIN_MESSAGE_ID": "first", "UNIQ_KEY": "id1", **properties})
    outcome: list[object] = []
    new = message(RETRY, b"body", properties=text)._replace(reconsume_times=times)
    broker.send.send(new, "TBW102", 4, new.born_host, lambda put, error: outcome.append(put), attempts_max)
    await until(lambda: bool(outcome))
    name = next(name for name in (DEAD, RETRY) if broker.topics.find(name) and depth(broker, name))
    return (await messages(broker, name))[0]


@pytest.mark.parametrize("times, attempts_max", [(17, None), (3, 2), (1, 0)])
async def test_one_that_was_tried_too_often_is_a_dead_letter(times: int, attempts_max: int | None) -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("G"))
        found = await fallback(broker, times, attempts_max, DELAY="5")
        assert found.topic == DEAD
        assert found.properties["DLQ_REASON"] == "attempts"
        assert found.properties["DLQ_ATTEMPTS"] == str(times)
        assert (found.properties["DLQ_ORIGIN_TOPIC"], found.properties["DLQ_ORIGIN_MESSAGE_ID"]) == ("T", "id1")
        assert broker.timers.pending == 0


@pytest.mark.parametrize("times, attempts_max", [(16, None), (17, 17), (2, 2), (0, 0)])
async def test_one_that_may_be_tried_again_is_in_the_retry_topic(times: int, attempts_max: int | None) -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("G"))
        found = await fallback(broker, times, attempts_max)
        assert (found.topic, found.reconsume_times) == (RETRY, times)


async def test_one_with_a_delay_waits_for_it() -> None:
    clock = ManualClock(NOW)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await broker.groups.set(GroupConfig("G"))
        await send(broker, message(RETRY, properties="DELAY\x013\x02")._replace(reconsume_times=1))
        assert (await again(broker, clock, 10_000)).reconsume_times == 1


async def test_a_group_that_holds_locks_on_queues_does_not_retry_with_a_delay() -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("G"))
        broker.locks.lock("G", "client", [MessageQueue("T", broker.config.name, 0)])
        found = await fallback(broker, 1, DELAY="5")
        assert (found.topic, found.properties["DLQ_REASON"]) == (DEAD, "ordered")


async def test_a_group_without_retry_queues_loses_nothing_this_way_either() -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("G", retry_queues=0))
        found = await fallback(broker, 1)
        assert (found.topic, found.properties["DLQ_REASON"]) == (DEAD, "no_retry")


async def test_dead_letters_can_be_read_and_come_from_where_no_topics_are_made() -> None:
    async with running(BrokerConfig(auto_create_topics=False)) as broker:
        await broker.topics.set(TopicConfig("T", 1, 1))
        first = await sent_and_group(broker)
        await broker.retries.send_back("G", first.log_offset, -1)
        await settled(broker)
        found = await pull(broker, request(DEAD, group="tool")).messages()
        assert [each.body for each in found] == [b"body"]
