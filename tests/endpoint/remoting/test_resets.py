"""Moving groups over the wire: 222 and 220, 308, 314; and what tells of it, 14, 15, 303."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.codec.remoting.bodies.client_status import decode_reset_offsets
from posthouse.codec.remoting.bodies.resets import decode_correction
from posthouse.codec.remoting.bodies.time_spans import decode_time_spans
from posthouse.endpoint.house import House
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import host_on, member, until
from tests.endpoint.clients import C, Client, R, client, house
from tests.endpoint.remoting.test_broker import broker_of
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

ZERO, ONE = MessageQueue("T", "broker-a", 0), MessageQueue("T", "broker-a", 1)


@asynccontextmanager
async def consumed() -> AsyncIterator[tuple[House, Client]]:
    """Queue 0 of T has messages stored at 1000, 2000 and 3000; group G has consumed two. It is 9000."""
    clock = ManualClock(1000)
    async with house(host_on(FaultyDisk(), clock)) as found, client(found.broker_address) as asking:
        await broker_of(found).topics.set(TopicConfig("T", 2, 2))
        broker_of(found).groups.require("G")
        for at_ms in (1000, 2000, 3000):
            clock.at_ms = at_ms
            await asking.send("T")
        clock.at_ms = 9000
        broker_of(found).offsets.commit("G", "T", 0, QueueOffset(2))
        yield found, asking


async def reset(asking: Client, **ext: Any) -> dict[MessageQueue, QueueOffset]:
    asked = {"topic": "T", "group": "G", "timestamp": -1, "isForce": True} | ext
    return decode_reset_offsets((await asking.ok(C.INVOKE_BROKER_TO_RESET_OFFSET, asked)).body)


async def offset(asking: Client, group: str = "G", **ext: Any) -> int:
    asked = {"consumerGroup": group, "topic": "T", "queueId": 0} | ext
    return int((await asking.ok(C.QUERY_CONSUMER_OFFSET, asked)).ext_map()["offset"])


async def test_group_is_moved_and_its_next_pull_hears_of_it() -> None:
    async with consumed() as (_, asking):
        assert await reset(asking, timestamp=1500) == {ZERO: 1, ONE: 0}
        assert await offset(asking) == 1
        asking.tell(C.UPDATE_CONSUMER_OFFSET, {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 3})
        answer, reply = await asking.pull("T", 2)
        assert (answer.code, reply.next_begin_offset) == (R.PULL_OFFSET_MOVED, 1)
        assert await offset(asking) == 1, "commits are passed over meanwhile"
        assert len(await asking.messages("T", 1)) == 2
        await asking.ok(C.UPDATE_CONSUMER_OFFSET, {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 3})
        assert await offset(asking) == 3


async def test_reset_may_be_of_one_queue_to_the_end_or_only_back() -> None:
    async with consumed() as (_, asking):
        assert await reset(asking, queueId=0, offset=0) == {ZERO: 0}
        assert await reset(asking, queueId=0, offset=-1) == {ZERO: 3}
        assert await reset(asking, queueId=-1, offset=-1) == {ZERO: 3, ONE: 0}
        assert await reset(asking, timestamp=0) == {ZERO: 0, ONE: 0}
        assert await reset(asking, isForce=False) == {ZERO: 0, ONE: 0}


async def test_reset_of_what_is_not_there_says_so() -> None:
    async with consumed() as (_, asking):
        for ext, code in (
            ({"topic": "U"}, R.TOPIC_NOT_EXIST),
            ({"group": "H"}, R.SUBSCRIPTION_GROUP_NOT_EXIST),
            ({"queueId": 7}, R.INVALID_PARAMETER),
            ({"queueId": 0, "offset": 99}, R.INVALID_PARAMETER),
        ):
            asked = {"topic": "T", "group": "G", "timestamp": -1} | ext
            assert (await asking.ask(C.INVOKE_BROKER_TO_RESET_OFFSET, asked)).code == code


async def test_members_move_themselves_when_that_is_asked_for() -> None:
    async with consumed() as (found, asking), client(found.broker_address) as java:
        asked = {"topic": "T", "group": "G", "timestamp": 0, "isForce": True, "throughClients": True}
        assert (await asking.ask(C.INVOKE_BROKER_TO_RESET_OFFSET, asked)).code == R.CONSUMER_NOT_ONLINE
        await java.beat(member("G", "T"))
        answer = await asking.ok(C.INVOKE_BROKER_TO_RESET_OFFSET, asked)
        assert decode_reset_offsets(answer.body) == {ZERO: 0, ONE: 0}
        await until(lambda: any(each.code == C.RESET_CONSUMER_CLIENT_OFFSET for each in java.told))
        told = next(each for each in java.told if each.code == C.RESET_CONSUMER_CLIENT_OFFSET)
        assert told.is_one_way
        assert told.ext_map() == {"topic": "T", "group": "G", "timestamp": "0", "isForce": "true"}
        assert decode_reset_offsets(told.body) == {ZERO: 0, ONE: 0}
        assert await offset(asking) == 2, "the broker has moved nothing"


async def test_clone_and_correction() -> None:
    async with consumed() as (found, asking):
        await asking.ok(C.CLONE_GROUP_OFFSET, {"srcGroup": "G", "destGroup": "H", "topic": "T", "offline": False})
        assert await offset(asking, "H") == 2
        broker_of(found).offsets.commit("H", "T", 0, QueueOffset(3))
        answer = await asking.ok(C.QUERY_CORRECTION_OFFSET, {"topic": "T", "compareGroup": "H", "filterGroups": ""})
        assert decode_correction(answer.body) == {0: 2}
        assert json.loads(answer.body) == {"correctionOffsets": {"0": 2}}
        answer = await asking.ask(C.CLONE_GROUP_OFFSET, {"srcGroup": "nobody", "destGroup": "H", "offline": True})
        assert answer.code == R.SUBSCRIPTION_GROUP_NOT_EXIST


async def test_time_span_tells_how_long_the_first_unconsumed_message_waits() -> None:
    async with consumed() as (_, asking):
        spans = decode_time_spans((await asking.ok(C.QUERY_CONSUME_TIME_SPAN, {"topic": "T", "group": "G"})).body)
        zero, one = spans[ZERO], spans[ONE]
        assert (zero.first_at_ms, zero.last_at_ms, zero.consumed_at_ms, zero.lag_ms) == (1000, 3000, 2000, 6000)
        assert (one.first_at_ms, one.lag_ms) == (-1, 0)
        assert (await asking.ask(C.QUERY_CONSUME_TIME_SPAN, {"topic": "U", "group": "G"})).code == R.TOPIC_NOT_EXIST
