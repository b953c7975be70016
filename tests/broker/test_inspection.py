"""Looks inside a broker: how far every group is, what a queue's entries are, what was counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.broker.broker import Broker
from posthouse.host.real import RealDisk
from posthouse.model.filter import SQL92, parse_subscription, tag_hash
from posthouse.model.limits import INSPECTED_ENTRIES_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.stats import QueueSight, Windows
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import FakeChannel, beat, host_on, member, message, pull, request, running, send
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio


async def entries(broker: Broker, first: int = 0, count: int = 10, group: str | None = None) -> QueueSight:
    return await broker.inspection.queue_entries("T", 0, QueueOffset(first), count, group)


# Groups


async def test_every_group_is_told_with_each_of_its_topics() -> None:
    clock = ManualClock(1000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        for at_ms, topic in ((2000, "T"), (3000, "T"), (4000, "U")):
            clock.at_ms = at_ms
            await send(broker, message(topic))
        broker.groups.require("idle")
        for group, topic, offset in (("G", "T", 1), ("G", "U", 0), ("H", "T", 2)):
            broker.groups.require(group)
            broker.offsets.commit(group, topic, 0, QueueOffset(offset))
        found = await broker.inspection.consumption()
        assert found.groups.keys() == {"G", "H"}
        on_t, on_u = found.groups["G"]
        progress = on_t.queues[MessageQueue("T", "broker-a", 0)]
        assert (progress.broker_offset, progress.consumer_offset, progress.consumed_at_ms) == (2, 1, 2000)
        assert len(on_u.queues) == 4
        assert found.backlog == 1 + 1 + 0
        assert found.in_flight == 0


async def test_ordered_topics_can_be_looked_at_alone_and_deleted_ones_are_left_out() -> None:
    async with running() as broker:
        for topic in ("T", "Ordered", "Gone"):
            await broker.topics.set(TopicConfig(topic, 1, 1, order=topic == "Ordered"))
            broker.groups.require("G")
            broker.offsets.commit("G", topic, 0, QueueOffset(0))
        await broker.topics.delete("Gone")
        found = (await broker.inspection.consumption()).groups["G"]
        assert {queue.topic for stats in found for queue in stats.queues} == {"T", "Ordered"}
        ordered = (await broker.inspection.consumption(ordered_only=True)).groups["G"]
        assert {queue.topic for stats in ordered for queue in stats.queues} == {"Ordered"}


# Queues


async def test_entries_of_a_queue_are_places_in_the_log() -> None:
    async with running() as broker:
        puts = [(await send(broker, message("T", tag=tag))).put for tag in ("a", "b", "")]
        sight = await entries(broker, 1)
        assert (sight.min_offset, sight.max_offset, sight.subscription) == (0, 3, None)
        assert [(each.log_offset, each.size) for each in sight.entries] == [
            (put.log_offset, put.size) for put in puts[1:]
        ]
        assert [each.tag_hash for each in sight.entries] == [tag_hash("b"), 0]
        assert all(each.matched for each in sight.entries)
        assert len((await entries(broker, 0, 2)).entries) == 2


async def test_entries_are_tried_against_what_the_group_subscribed() -> None:
    async with running() as broker:
        for tag in ("a", "b", "c"):
            await send(broker, message("T", tag=tag))
        beat(broker, FakeChannel(), member("G", parse_subscription("T", "a || c")))
        sight = await entries(broker, group="G")
        assert [each.matched for each in sight.entries] == [True, False, True]
        assert "tag" in sight.entries[1].why_not
        assert sight.subscription is not None
        assert sight.subscription.expression == "a || c"
        for nobody in ("H", ""):
            assert all(each.matched for each in (await entries(broker, group=nobody)).entries)


async def test_expressions_are_tried_as_well() -> None:
    async with running() as broker:
        for tag in ("a", "b"):
            await send(broker, message("T", tag=tag))
        beat(broker, FakeChannel(), member("G", parse_subscription("T", "TAGS = 'b'", SQL92)))
        sight = await entries(broker, group="G")
        assert [each.matched for each in sight.entries] == [False, True]
        assert "expression" in sight.entries[0].why_not


async def test_entries_in_files_are_read_too(tmp_path: Path) -> None:
    async with running(host=host_on(RealDisk(str(tmp_path)))) as broker:
        for _ in range(50):
            await send(broker, message("T"))
        await broker.store.checkpoint()
        for _ in range(50):
            await send(broker, message("T"))
        sight = await entries(broker, 0, INSPECTED_ENTRIES_MAX * 10)
        assert [each.log_offset for each in sight.entries] == sorted({each.log_offset for each in sight.entries})
        assert len(sight.entries) == 100


@pytest.mark.parametrize(
    ("topic", "queue_id", "first", "count", "reason"),
    [
        ("U", 0, 0, 1, Reason.TOPIC_NOT_EXIST),
        ("T", 99, 0, 1, Reason.INVALID_PARAMETER),
        ("T", -1, 0, 1, Reason.INVALID_PARAMETER),
        ("T", 0, 0, 0, Reason.INVALID_PARAMETER),
        ("T", 0, 1, 1, Reason.FAILED),
        ("T", 0, -1, 1, Reason.FAILED),
    ],
)
async def test_entry_that_is_not_there_is_refused(
    topic: str, queue_id: int, first: int, count: int, reason: Reason
) -> None:
    async with running() as broker:
        await send(broker, message("T"))
        with pytest.raises(Refused) as caught:
            await broker.inspection.queue_entries(topic, queue_id, QueueOffset(first), count)
        assert caught.value.reason is reason


# What was counted


async def test_counts_have_rocketmqs_names_and_keys() -> None:
    async with running() as broker:
        for _ in range(3):
            await send(broker, message("T"))
        await pull(broker, request("T", 1)).result()
        broker.stats.sent_back("G", "T")
        broker.stats.dead_lettered("G", "T")
        broker.stats.acked("G", "T", 4)
        totals = {
            ("TOPIC_PUT_NUMS", "T"): 3,
            ("GROUP_GET_NUMS", "T@G"): 2,
            ("GROUP_ACK_NUMS", "T@G"): 4,
            ("SNDBCK_PUT_NUMS", "T@G"): 1,
            ("DLQ_PUT_NUMS", "T@G"): 1,
            ("BROKER_PUT_NUMS", "DefaultCluster"): 3,
            ("BROKER_GET_NUMS", "DefaultCluster"): 2,
            ("BROKER_ACK_NUMS", "DefaultCluster"): 4,
        }
        assert {key: broker.inspection.windows(*key).day.total for key in totals} == totals
        assert broker.inspection.windows("TOPIC_PUT_SIZE", "T").hour.total == broker.stats.put.size
        assert 0 < broker.inspection.windows("GROUP_GET_SIZE", "T@G").hour.total < broker.stats.put.size


async def test_nothing_counted_is_zero_where_there_is_such_a_thing_and_refused_else() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", 1, 1))
        broker.groups.require("G")
        assert broker.inspection.windows("TOPIC_PUT_NUMS", "T") == Windows()
        assert broker.inspection.windows("GROUP_GET_NUMS", "T@G") == Windows()
        for name, key in (
            ("TOPIC_PUT_NUMS", "U"),
            ("GROUP_GET_NUMS", "T@H"),
            ("GROUP_GET_NUMS", "U@G"),
            ("GROUP_GET_NUMS", "T"),
            ("BROKER_PUT_NUMS", "broker-a"),
            ("QUEUE_PUT_NUMS", "T@0"),
            ("", ""),
        ):
            with pytest.raises(Refused) as caught:
                broker.inspection.windows(name, key)
            assert caught.value.reason is Reason.FAILED


# Who is there


async def test_producers_are_told_with_the_time_of_their_last_heartbeat() -> None:
    clock = ManualClock(50_000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        beat(broker, FakeChannel("10.0.0.1:5"), producers=("P", "Q"))
        found = broker.inspection.producers()
        assert found.keys() == {"P", "Q"}
        ((client, seen_at_ms),) = found["P"]
        assert (client.client_id, client.address) == ("client-1", "10.0.0.1:5")
        assert 49_000 <= seen_at_ms <= 50_000


async def test_offsets_of_all_groups_are_there() -> None:
    async with running() as broker:
        await broker.topics.set(replace(TopicConfig("T"), read_queues=2, write_queues=2))
        broker.groups.require("G")
        broker.offsets.commit("G", "T", 1, QueueOffset(0))
        assert broker.inspection.offsets() == {"G": {"T": {1: 0}}}
