"""Offsets over the wire: 14, 15, 29 to 32."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.headers.offsets import EARLIEST_STORE_TIME_REPLY, OFFSET_REPLY
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import host_on
from tests.endpoint.clients import C, Client, R, client, house
from tests.endpoint.remoting.test_broker import broker_of
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

OF_QUEUE = {"topic": "T", "queueId": 0}
OF_GROUP = OF_QUEUE | {"consumerGroup": "G"}


async def offset(asking: Client, code: int, ext: dict[str, Any]) -> int:
    return OFFSET_REPLY.decode((await asking.ok(code, ext)).ext).offset


async def test_progress_of_a_group_is_stored_and_told() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await broker_of(found).topics.set(TopicConfig("T"))
        broker_of(found).groups.require("G")
        assert await offset(consumer, C.QUERY_CONSUMER_OFFSET, OF_GROUP) == 0
        answer = await consumer.ask(C.QUERY_CONSUMER_OFFSET, OF_GROUP | {"setZeroIfNotFound": False})
        assert answer.code == R.QUERY_NOT_FOUND
        await consumer.ok(C.UPDATE_CONSUMER_OFFSET, OF_GROUP | {"commitOffset": 7})
        assert await offset(consumer, C.QUERY_CONSUMER_OFFSET, OF_GROUP | {"setZeroIfNotFound": False}) == 7
        consumer.tell(C.UPDATE_CONSUMER_OFFSET, OF_GROUP | {"commitOffset": 3})
        assert await offset(consumer, C.QUERY_CONSUMER_OFFSET, OF_GROUP) == 3


@pytest.mark.parametrize(
    "ext, code",
    [
        ({"consumerGroup": "NoSuchGroup"}, R.SUBSCRIPTION_GROUP_NOT_EXIST),
        ({"topic": "NoSuchTopic"}, R.TOPIC_NOT_EXIST),
        ({"queueId": 2**31 - 1}, R.INVALID_PARAMETER),
        ({"queueId": -1}, R.INVALID_PARAMETER),
        ({"commitOffset": -1}, R.INVALID_PARAMETER),
        ({"queueId": None}, R.INVALID_PARAMETER),
        ({"commitOffset": None}, R.INVALID_PARAMETER),
        ({"commitOffset": 2**63}, R.SYSTEM_ERROR),
    ],
)
async def test_progress_that_cannot_be_is_refused(ext: dict[str, Any], code: R) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await broker_of(found).topics.set(TopicConfig("T"))
        broker_of(found).groups.require("G")
        said = {k: v for k, v in (OF_GROUP | {"commitOffset": 5} | ext).items() if v is not None}
        answer = await consumer.ask(C.UPDATE_CONSUMER_OFFSET, said)
        assert answer.code == code
        assert broker_of(found).offsets.topics_of("G") == []


async def test_bounds_and_times_of_a_queue() -> None:
    clock = ManualClock(500)
    async with house(host_on(FaultyDisk(), clock)) as found, client(found.broker_address) as asking:
        for at_ms in (1000, 2000, 2000, 3000):
            clock.at_ms = at_ms
            await asking.send("T")
        assert await offset(asking, C.GET_MAX_OFFSET, OF_QUEUE | {"committed": True}) == 4
        assert await offset(asking, C.GET_MIN_OFFSET, OF_QUEUE) == 0
        assert await earliest(asking, OF_QUEUE) == 1000
        at = OF_QUEUE | {"timestamp": 2000}
        assert await offset(asking, C.SEARCH_OFFSET_BY_TIMESTAMP, at) == 1
        assert await offset(asking, C.SEARCH_OFFSET_BY_TIMESTAMP, at | {"boundaryType": "lower"}) == 1
        assert await offset(asking, C.SEARCH_OFFSET_BY_TIMESTAMP, at | {"boundaryType": "upper"}) == 2
        assert await offset(asking, C.SEARCH_OFFSET_BY_TIMESTAMP, at | {"timestamp": -(2**63)}) == 0
        assert await offset(asking, C.SEARCH_OFFSET_BY_TIMESTAMP, at | {"timestamp": 2**63 - 1}) == 4


@pytest.mark.parametrize("of", [{"topic": "NoSuchTopic"}, {"queueId": 2**31 - 1}, {"queueId": -(2**31)}])
async def test_unknown_queue_is_like_an_empty_one(of: dict[str, Any]) -> None:
    async with house() as found, client(found.broker_address) as asking:
        await asking.send("T")
        ext = OF_QUEUE | of
        for code in (C.GET_MAX_OFFSET, C.GET_MIN_OFFSET):
            assert await offset(asking, code, ext) == 0
        assert await offset(asking, C.SEARCH_OFFSET_BY_TIMESTAMP, ext | {"timestamp": 0}) == 0
        assert await offset(asking, C.QUERY_CONSUMER_OFFSET, ext | {"consumerGroup": "G"}) == 0
        assert await earliest(asking, ext) == -1


async def earliest(asking: Client, ext: dict[str, Any]) -> int:
    answer = await asking.ok(C.GET_EARLIEST_MSG_STORETIME, ext)
    return EARLIEST_STORE_TIME_REPLY.decode(answer.ext).timestamp_ms
