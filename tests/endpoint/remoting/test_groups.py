"""Consumer groups over the wire: 200, 201, 207, 208, 225, 352, 353."""

from __future__ import annotations

import json
from typing import Any

import pytest

from posthouse.codec.remoting.bodies.groups import (
    decode_group_config,
    decode_group_table,
    decode_readable,
    encode_group_config,
    encode_group_config_list,
)
from posthouse.codec.remoting.bodies.stats import decode_group_stats
from posthouse.model.group import GroupConfig
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.stats import QueueProgress
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import host_on, member
from tests.endpoint.clients import C, Client, R, client, house, pull_ext
from tests.endpoint.remoting.test_broker import broker_of
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

CONFIG = GroupConfig("G", consume_enable=False, retry_queues=2, retry_max_times=3, attributes={"a": "b"})


async def config_of(asking: Client, group: str) -> GroupConfig:
    return decode_group_config((await asking.ok(C.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": group})).body)


async def test_group_is_made_changed_and_shown() -> None:
    async with house() as found, client(found.broker_address) as admin:
        for config in (CONFIG, GroupConfig("G")):
            await admin.ok(C.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, body=encode_group_config(config))
            assert await config_of(admin, "G") == config
        others = [GroupConfig("H"), GroupConfig("I", retry_max_times=1)]
        await admin.ok(C.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, body=encode_group_config_list(others))
        answer = await admin.ok(C.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, {"groupSeq": 0, "maxGroupNum": 1})
        table = decode_group_table(answer.body)
        assert table.groups == {"G": GroupConfig("G"), "H": others[0], "I": others[1]}
        assert table.forbidden == {}
        assert "totalGroupNum" not in answer.ext_map(), "it would promise pages"


async def test_unknown_group_is_told_as_such() -> None:
    async with house() as found, client(found.broker_address) as admin:
        answer = await admin.ask(C.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": "G"})
        assert answer.code == R.SUBSCRIPTION_GROUP_NOT_EXIST


@pytest.mark.parametrize(
    "config", [GroupConfig(""), GroupConfig("a b"), GroupConfig("x" * 121), GroupConfig("G", retry_queues=2**31 - 1)]
)
async def test_group_that_cannot_be_is_refused(config: GroupConfig) -> None:
    async with house() as found, client(found.broker_address) as admin:
        answer = await admin.ask(C.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, body=encode_group_config(config))
        assert answer.code == R.INVALID_PARAMETER
        assert broker_of(found).groups.all() == []


@pytest.mark.parametrize(
    "ext, keeps_offsets",
    [({}, True), ({"cleanOffset": False}, True), ({"cleanOffset": True}, False), ({"removeOffset": True}, False)],
)
async def test_group_is_deleted_with_or_without_its_offsets(ext: dict[str, Any], keeps_offsets: bool) -> None:
    async with house() as found, client(found.broker_address) as admin:
        broker = broker_of(found)
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        broker.offsets.commit("G", "T", 0, QueueOffset(5))
        await admin.ok(C.DELETE_SUBSCRIPTIONGROUP, {"groupName": "G"} | ext)
        assert broker.groups.find("G") is None
        assert (broker.offsets.stored("G", "T", 0) is not None) is keeps_offsets


async def test_progress_of_a_group_has_a_row_for_each_read_queue() -> None:
    clock = ManualClock(1000)
    async with house(host_on(FaultyDisk(), clock)) as found, client(found.broker_address) as admin:
        broker = broker_of(found)
        await broker.topics.set(TopicConfig("T", read_queues=2, write_queues=3))
        await broker.topics.set(TopicConfig("U", 1, 1))
        await admin.beat(member("G", "T"))
        for at_ms in (2000, 3000, 4000):
            clock.at_ms = at_ms
            await admin.send("T", queueId=1)
        broker.offsets.commit("G", "T", 1, QueueOffset(2))
        of_t = {
            MessageQueue("T", "broker-a", 0): progress(0, 0, 0),
            MessageQueue("T", "broker-a", 1): progress(3, 2, 3000),
        }
        of_u = {MessageQueue("U", "broker-a", 0): progress(0, 0, 0)}

        async def told(**ext: str) -> dict[MessageQueue, QueueProgress]:
            answer = await admin.ok(C.GET_CONSUME_STATS, {"consumerGroup": "G"} | ext)
            return dict(decode_group_stats(answer.body).queues)

        assert await told() == of_t, "topics in which the group has offsets"
        assert await told(topic="T") == of_t
        assert await told(topic="U") == of_u
        assert await told(topicList="T;U;NoSuchTopic") == of_t | of_u
        assert await told(topic="NoSuchTopic") == {}


async def test_offset_past_the_end_does_not_break_the_figures() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await broker_of(found).topics.set(TopicConfig("T", 1, 1))
        broker_of(found).groups.require("G")
        broker_of(found).offsets.commit("G", "T", 0, QueueOffset(2**63 - 1))
        answer = await admin.ok(C.GET_CONSUME_STATS, {"consumerGroup": "G"})
        (row,) = decode_group_stats(answer.body).queues.values()
        assert row == progress(0, 2**63 - 1, 0)


def progress(broker: int, consumer: int, at_ms: int) -> QueueProgress:
    return QueueProgress(broker, consumer, consumer, at_ms)  # type: ignore[arg-type]


async def test_topic_is_taken_away_from_a_group_and_given_back() -> None:
    async with house() as found, client(found.broker_address) as admin:
        await broker_of(found).topics.set(TopicConfig("T", 1, 1))
        asked = {"group": "G", "topic": "T"}
        assert (await admin.ask(C.UPDATE_AND_GET_GROUP_FORBIDDEN, asked | {"readable": False})).code == (
            R.SUBSCRIPTION_GROUP_NOT_EXIST
        )
        await admin.beat(member("G", "T"))
        answer = await admin.ok(C.UPDATE_AND_GET_GROUP_FORBIDDEN, asked | {"readable": False})
        assert decode_readable(answer.body) == ("G", "T", False)
        assert (await admin.ask(C.PULL_MESSAGE, pull_ext("T", 0))).code == R.NO_PERMISSION
        table = decode_group_table((await admin.ok(C.GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).body)
        assert table.forbidden == {"G": {"T": 4}}
        await admin.ok(C.UPDATE_AND_GET_GROUP_FORBIDDEN, asked | {"readable": True})
        assert decode_readable((await admin.ok(C.UPDATE_AND_GET_GROUP_FORBIDDEN, asked)).body) == ("G", "T", True)
        assert (await admin.ask(C.PULL_MESSAGE, pull_ext("T", 0))).code == R.PULL_NOT_FOUND


async def test_every_field_of_a_group_comes_back() -> None:
    body = (
        b'{"groupName":"G","consumeEnable":false,"consumeFromMinEnable":false,"consumeBroadcastEnable":false,'
        b'"consumeMessageOrderly":true,"retryQueueNums":3,"retryMaxTimes":7,"brokerId":2,'
        b'"whichBrokerWhenConsumeSlowly":3,"notifyConsumerIdsChangedEnable":false,"groupSysFlag":5,'
        b'"consumeTimeoutMinute":6,"attributes":{"a":"b"},'
        b'"groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":1,"max":2,"multiplier":3}},'
        b'"subscriptionDataSet":[{"topic":"T","expressionType":"TAG","expression":"x","version":9}]}'
    )
    async with house() as found, client(found.broker_address) as admin:
        await admin.ok(C.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, body=body)
        answer = await admin.ok(C.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": "G"})
        assert json.loads(answer.body) == json.loads(body)
