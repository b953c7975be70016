"""Looks inside a broker over the wire: 43, 315, 317, 321, 328, 343, 345, 907."""

from __future__ import annotations

import json
from typing import Any

import pytest

from posthouse.codec.remoting.bodies.inspection import (
    decode_offset_table,
    decode_producer_table,
    decode_queue_sight,
    decode_subscription_of,
)
from posthouse.codec.remoting.bodies.stats import (
    decode_broker_consume_stats,
    decode_group_stats,
    decode_topic_stats,
    decode_windows,
)
from posthouse.codec.remoting.bodies.topics import decode_topic_list
from posthouse.codec.remoting.codes import RequestCode
from posthouse.model.filter import parse_subscription
from posthouse.model.message import MessageQueue
from tests.broker.brokers import member
from tests.endpoint.clients import C, R, client, house

pytestmark = pytest.mark.asyncio


async def test_queue_is_shown_with_what_a_group_wants_of_it() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        await admin.send("T")
        await admin.beat(member("G", parse_subscription("T", "a")))
        ext = {"topic": "T", "queueId": 0, "index": 0, "count": 5}
        (entry,) = decode_queue_sight((await admin.ok(C.QUERY_CONSUME_QUEUE, ext)).body).entries
        assert entry.matched
        sight = decode_queue_sight((await admin.ok(C.QUERY_CONSUME_QUEUE, {**ext, "consumerGroup": "G"})).body)
        assert [each.matched for each in sight.entries] == [False]
        assert sight.subscription is not None
        assert (await admin.ask(C.QUERY_CONSUME_QUEUE, {**ext, "index": 7})).code == R.SYSTEM_ERROR
        assert (await admin.ask(C.QUERY_CONSUME_QUEUE, {**ext, "topic": "U"})).code == R.TOPIC_NOT_EXIST


async def test_groups_are_told_with_topics_offsets_and_subscriptions() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        await admin.send("T")
        await admin.beat(member("G", "T", "U"), producers=("P",))
        await admin.ok(C.UPDATE_CONSUMER_OFFSET, {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 1})
        stats = decode_broker_consume_stats((await admin.ok(C.GET_BROKER_CONSUME_STATS, {"isOrder": False})).body)
        assert (list(stats.groups), stats.broker_address) == (["G"], str(found.broker_address))
        told = json.loads((await admin.ok(C.GET_BROKER_CONSUME_STATS, {"isOrder": True})).body)
        assert (told["consumeStatsList"], told["totalDiff"]) == ([], 0)
        offsets = decode_offset_table((await admin.ok(C.GET_ALL_CONSUMER_OFFSET)).body)
        assert offsets == {"G": {"T": {0: 1}}}
        topics = decode_topic_list((await admin.ok(C.QUERY_TOPICS_BY_CONSUMER, {"group": "G"})).body)
        assert topics.topics == ("T", "U")
        ext = {"group": "G", "topic": "U"}
        answer = await admin.ok(C.QUERY_SUBSCRIPTION_BY_CONSUMER, ext)
        assert decode_subscription_of(answer.body) == parse_subscription("U", "*")
        for nothing in ({**ext, "topic": "V"}, {**ext, "group": "H"}):
            assert decode_subscription_of((await admin.ok(C.QUERY_SUBSCRIPTION_BY_CONSUMER, nothing)).body) is None
        producers = decode_producer_table((await admin.ok(C.GET_ALL_PRODUCER_INFO)).body)
        assert [who.client_id for who, _ in producers["P"]] == ["client-1"]


async def test_counts_are_told_by_name_and_key() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        await admin.send("T")
        answer = await admin.ok(C.VIEW_BROKER_STATS_DATA, {"statsName": "TOPIC_PUT_NUMS", "statsKey": "T"})
        assert decode_windows(answer.body).minute.total == 1
        refused = await admin.ask(C.VIEW_BROKER_STATS_DATA, {"statsName": "TOPIC_PUT_NUMS", "statsKey": "U"})
        assert refused.code == R.SYSTEM_ERROR


async def test_broker_says_that_it_has_no_slaves() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        await admin.send("T")
        told = json.loads((await admin.ok(C.GET_BROKER_HA_STATUS)).body)
        assert (told["master"], told["haConnectionInfo"]) == (True, [])
        assert told["masterCommitLogMaxOffset"] > 0


async def test_rates_of_topics_and_groups_are_those_of_the_last_minute() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        for _ in range(5):
            await admin.send("T")
        await admin.beat(member("G", "T"))
        await admin.pull("T", 2)
        of_topic = decode_topic_stats((await admin.ok(C.GET_TOPIC_STATS_INFO, {"topic": "T"})).body)
        assert 0 < of_topic.put_per_second <= 5
        asked = {"consumerGroup": "G", "topic": "T"}
        of_group = decode_group_stats((await admin.ok(C.GET_CONSUME_STATS, asked)).body)
        assert 0 < of_group.consume_per_second <= 3
        progress = of_group.queues[MessageQueue("T", "broker-a", 0)]
        assert (progress.consumer_offset, progress.pull_offset, progress.broker_offset) == (0, 5, 5)


@pytest.mark.parametrize(
    ("code", "ext"),
    [
        (C.DELETE_SUBSCRIPTIONGROUP, {"groupName": "G", "cleanOffset": True}),
        (C.DELETE_TOPIC_IN_BROKER, {"topic": "T"}),
    ],
)
async def test_what_was_pulled_is_forgotten_with_the_group_or_the_topic(code: RequestCode, ext: dict[str, Any]) -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        await admin.send("T")
        await admin.pull("T")
        await admin.ok(code, ext)
        await admin.send("T")
        answer = await admin.ok(C.GET_CONSUME_STATS, {"consumerGroup": "G", "topic": "T"})
        stats = decode_group_stats(answer.body)
        assert {progress.pull_offset for progress in stats.queues.values()} == {0}
        assert stats.consume_per_second == 0.0
