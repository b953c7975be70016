"""Pulls over the wire, 11 and 361: codes, the four numbers that clients take for granted, and holding."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from posthouse.codec.record import decode_records
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE_REPLY
from posthouse.link.errors import LinkError
from posthouse.model.filter import parse_subscription
from posthouse.model.group import GroupConfig
from posthouse.model.limits import PULL_MESSAGES_MAX
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import member, until
from tests.endpoint.clients import COMMIT, SUBSCRIPTION, SUSPEND, C, R, client, house, pull_ext
from tests.endpoint.remoting.test_broker import broker_of

pytestmark = pytest.mark.asyncio

LITE = 16


@pytest.mark.parametrize("code", [C.PULL_MESSAGE, C.LITE_PULL_MESSAGE])
async def test_found_messages_are_the_body(code: int) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        for number in range(3):
            await consumer.send("T", b"%d" % number)
        answer = await consumer.ok(code, pull_ext("T", 1, sysFlag=SUBSCRIPTION | LITE))
        assert [each.body for each in decode_records(answer.body)] == [b"1", b"2"]
        assert answer.remark == "FOUND"
        reply = PULL_MESSAGE_REPLY.decode(answer.ext)
        assert (reply.next_begin_offset, reply.min_offset, reply.max_offset) == (3, 0, 3)
        assert reply.suggest_which_broker_id == 0


@pytest.mark.parametrize(
    "offset, changes, code, next_offset",
    [
        (2, {}, R.PULL_NOT_FOUND, 2),
        (3, {}, R.PULL_OFFSET_MOVED, 2),
        (2**63 - 1, {}, R.PULL_OFFSET_MOVED, 2),
        (-1, {}, R.PULL_OFFSET_MOVED, 0),
        (0, {"subscription": "B"}, R.PULL_RETRY_IMMEDIATELY, 2),
        (0, {"queueId": 1}, R.PULL_NOT_FOUND, 0),
        (1, {"queueId": 1}, R.PULL_OFFSET_MOVED, 0),
    ],
)
async def test_pull_without_a_message_has_its_code_and_the_four_numbers(
    offset: int, changes: dict[str, Any], code: R, next_offset: int
) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        for _ in range(2):
            await consumer.send("T", properties="TAGS\x01A\x02")
        answer, reply = await consumer.pull("T", offset, **changes)
        assert answer.code == code
        assert answer.body == b""
        high = 0 if changes.get("queueId") else 2
        assert (reply.next_begin_offset, reply.min_offset, reply.max_offset) == (next_offset, 0, high)


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"consumerGroup": "Off"}, R.NO_PERMISSION),
        ({"consumerGroup": "a b"}, R.INVALID_PARAMETER),
        ({"topic": "NoSuchTopic"}, R.TOPIC_NOT_EXIST),
        ({"topic": "Closed"}, R.NO_PERMISSION),
        ({"queueId": 4}, R.INVALID_PARAMETER),
        ({"queueId": 2**31 - 1}, R.INVALID_PARAMETER),
        ({"queueId": -1}, R.INVALID_PARAMETER),
        ({"sysFlag": 0}, R.SUBSCRIPTION_NOT_EXIST),
        ({"sysFlag": 0, "consumerGroup": "Member", "subVersion": 6}, R.SUBSCRIPTION_NOT_LATEST),
        ({"subscription": "||"}, R.SUBSCRIPTION_PARSE_FAILED),
        ({"expressionType": "SQL92", "subscription": "a > "}, R.SUBSCRIPTION_PARSE_FAILED),
        ({"expressionType": "SQL92", "subscription": ""}, R.SUBSCRIPTION_PARSE_FAILED),
        ({"subscription": "x" * 5000}, R.SUBSCRIPTION_PARSE_FAILED),
        ({"queueOffset": "x"}, R.SYSTEM_ERROR),
    ],
)
async def test_refused_pull_is_answered_with_its_code(changes: dict[str, Any], code: R) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await consumer.send("T")
        broker = broker_of(found)
        await broker.topics.set(TopicConfig("Closed", perm=Perm.WRITE))
        await broker.groups.set(GroupConfig("Off", consume_enable=False))
        await consumer.beat(member("Member", parse_subscription("T", "*", version=5)))
        ext = pull_ext("T", sysFlag=SUSPEND | SUBSCRIPTION) | changes
        answer = await consumer.ask(C.PULL_MESSAGE, ext)
        assert answer.code == code
        assert answer.remark
        assert broker.arrivals.waiting == 0


async def test_answer_says_who_forbids_the_pull() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await consumer.send("T")
        broker = broker_of(found)
        await broker.topics.set(TopicConfig("Closed", perm=Perm.WRITE))
        await broker.groups.set(GroupConfig("Off", consume_enable=False))
        for changes, by in (({"consumerGroup": "Off"}, "2"), ({"topic": "Closed"}, "3")):
            answer = await consumer.ask(C.PULL_MESSAGE, pull_ext("T", sysFlag=SUBSCRIPTION) | changes)
            assert answer.code == R.NO_PERMISSION
            assert answer.ext_map()["forbiddenType"] == by


async def test_sql92_over_the_wire() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        for price in ("5", "500"):
            await consumer.send("T", price.encode(), properties=f"price\x01{price}\x02")
        stored = await consumer.messages(
            "T", sysFlag=SUBSCRIPTION, expressionType="SQL92", subscription="price BETWEEN 100 AND 1000"
        )
        assert [each.body for each in stored] == [b"500"]


async def test_without_the_bit_the_subscription_of_the_heartbeat_counts() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        for tag in "AB":
            await consumer.send("T", tag.encode(), properties=f"TAGS\x01{tag}\x02")
        await consumer.beat(member("G", parse_subscription("T", "B", version=5)))
        stored = await consumer.messages("T", sysFlag=0, subVersion=5, subscription="A")
        assert [each.body for each in stored] == [b"B"]


async def test_pull_is_held_until_a_message_comes_and_other_requests_are_served_meanwhile() -> None:
    async with house() as found, client(found.broker_address) as consumer, client(found.broker_address) as producer:
        await broker_of(found).topics.set(TopicConfig("T"))
        held = asyncio.ensure_future(consumer.messages("T", sysFlag=SUBSCRIPTION | SUSPEND))
        await consumer.quiet()
        assert not held.done()
        await producer.send("T", b"came")
        assert [each.body for each in await held] == [b"came"]


async def test_held_pull_is_answered_before_the_client_gives_up() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await broker_of(found).topics.set(TopicConfig("T"))
        answer, _ = await consumer.pull("T", sysFlag=SUBSCRIPTION | SUSPEND, suspendTimeoutMillis=20)
        assert answer.code == R.PULL_NOT_FOUND


@pytest.mark.parametrize(
    "changes", [{"sysFlag": SUBSCRIPTION}, {"suspendTimeoutMillis": 0}, {"suspendTimeoutMillis": -5}]
)
async def test_pull_that_may_not_be_held_is_answered_at_once(changes: dict[str, Any]) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await broker_of(found).topics.set(TopicConfig("T"))
        ext = {"sysFlag": SUBSCRIPTION | SUSPEND} | changes
        answer, _ = await consumer.pull("T", **ext)
        assert answer.code == R.PULL_NOT_FOUND


async def test_hold_of_years_ends_with_the_message() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await broker_of(found).topics.set(TopicConfig("T"))
        held = asyncio.ensure_future(
            consumer.messages("T", sysFlag=SUBSCRIPTION | SUSPEND, suspendTimeoutMillis=2**63 - 1)
        )
        await consumer.quiet()
        await consumer.send("T", b"came")
        assert [each.body for each in await held] == [b"came"]


@pytest.mark.parametrize("asked, given", [(0, 1), (-(2**31), 1), (2**31 - 1, PULL_MESSAGES_MAX)])
async def test_odd_numbers_of_messages_are_put_right(asked: int, given: int) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        for _ in range(PULL_MESSAGES_MAX + 1):
            await consumer.send("T")
        assert len(await consumer.messages("T", maxMsgNums=asked)) == given


async def test_offset_of_a_pull_is_stored_only_with_its_bit() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await consumer.send("T")
        await consumer.pull("T", commitOffset=1)
        assert broker_of(found).offsets.stored("G", "T", 0) is None
        await consumer.pull("T", commitOffset=1, sysFlag=SUBSCRIPTION | COMMIT)
        assert broker_of(found).offsets.stored("G", "T", 0) == 1


async def test_one_way_pull_is_neither_held_nor_answered_but_its_offset_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "posthouse.link")
    async with house() as found, client(found.broker_address) as consumer:
        await consumer.send("T")
        for offset in (0, 1, 2):
            consumer.tell(
                C.PULL_MESSAGE, pull_ext("T", offset, sysFlag=SUBSCRIPTION | SUSPEND | COMMIT, commitOffset=1)
            )
        await consumer.quiet()
        assert broker_of(found).arrivals.waiting == 0
        assert broker_of(found).offsets.stored("G", "T", 0) == 1
        assert "nobody waits for" not in caplog.text


async def test_deleted_topic_ends_held_pulls_with_the_code_for_it() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await broker_of(found).topics.set(TopicConfig("T"))
        held = asyncio.ensure_future(consumer.ask(C.PULL_MESSAGE, pull_ext("T", sysFlag=SUBSCRIPTION | SUSPEND)))
        await consumer.quiet()
        async with client(found.broker_address) as admin:
            await admin.ok(C.DELETE_TOPIC_IN_BROKER, {"topic": "T"})
        assert (await held).code == R.TOPIC_NOT_EXIST


async def test_consumer_that_is_cut_off_leaves_no_pull_behind() -> None:
    async with house() as found:
        await broker_of(found).topics.set(TopicConfig("T"))
        async with client(found.broker_address) as consumer:
            held = asyncio.ensure_future(consumer.ask(C.PULL_MESSAGE, pull_ext("T", sysFlag=SUBSCRIPTION | SUSPEND)))
            await until(lambda: broker_of(found).arrivals.waiting == 1)
            consumer.peer._transport.abort()
            with pytest.raises(LinkError):
                await held
            await until(lambda: broker_of(found).arrivals.waiting == 0)
