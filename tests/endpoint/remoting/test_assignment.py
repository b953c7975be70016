"""Assignments by the broker over the wire: 400, 401, 402."""

from __future__ import annotations

import pytest

from posthouse.codec.remoting.bodies.assignment import (
    AssignedQueue,
    AssignmentQuestion,
    decode_assignment,
    decode_request_modes,
    encode_assignment_question,
    encode_request_mode,
)
from posthouse.model.group import GroupRule, RequestMode
from posthouse.model.message import MessageQueue
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import member
from tests.endpoint.clients import C, Client, R, client, house
from tests.endpoint.remoting.test_broker import broker_of

pytestmark = pytest.mark.asyncio


async def assigned(asking: Client, client_id: str, strategy: str = "AVG") -> tuple[AssignedQueue, ...] | None:
    body = encode_assignment_question(AssignmentQuestion("T", "G", client_id, strategy))
    return decode_assignment((await asking.ok(C.QUERY_ASSIGNMENT, body=body)).body)


async def test_member_is_told_its_queues_and_how_to_get_their_messages() -> None:
    async with house() as found, client(found.broker_address) as one, client(found.broker_address) as two:
        await broker_of(found).topics.set(TopicConfig("T", 2, 2))
        queues = [MessageQueue("T", "broker-a", queue_id) for queue_id in (0, 1)]
        assert await assigned(one, "one") is None, "no member is known: no change"
        await one.beat(member("G", "T"), client_id="one")
        assert await assigned(one, "one") == tuple(AssignedQueue(each, RequestMode.PULL) for each in queues)
        await two.beat(member("G", "T"), client_id="two")
        assert await assigned(one, "one") == (AssignedQueue(queues[0], RequestMode.PULL),)
        assert await assigned(two, "two") == (AssignedQueue(queues[1], RequestMode.PULL),)
        assert await assigned(two, "two", "NO_SUCH_STRATEGY") is None
        rule = GroupRule("G", "T", RequestMode.POP, 0)
        await one.ok(C.SET_MESSAGE_REQUEST_MODE, body=encode_request_mode(rule))
        assert await assigned(one, "one") == (AssignedQueue(queues[0]._replace(queue_id=-1), RequestMode.POP),)
        answer = await one.ok(C.GET_ALL_MESSAGE_REQUEST_MODE)
        assert decode_request_modes(answer.body) == (rule,)


@pytest.mark.parametrize(
    ("topic", "group", "code"),
    [
        ("%RETRY%G", "G", R.NO_PERMISSION),
        ("NoSuchTopic", "G", R.TOPIC_NOT_EXIST),
        ("T", "NoSuchGroup", R.SUBSCRIPTION_GROUP_NOT_EXIST),
    ],
)
async def test_mode_that_cannot_be_set_is_refused(topic: str, group: str, code: R) -> None:
    async with house() as found, client(found.broker_address) as asking:
        await broker_of(found).topics.set(TopicConfig("T"))
        await asking.beat(member("G", "T"))
        body = encode_request_mode(GroupRule(group, topic, RequestMode.POP))
        assert (await asking.ask(C.SET_MESSAGE_REQUEST_MODE, body=body)).code == code
        assert decode_request_modes((await asking.ok(C.GET_ALL_MESSAGE_REQUEST_MODE)).body) == ()
