"""Requests and replies: what goes wrong between the two. What goes well: tests/behaviour/test_client_request.py."""

from __future__ import annotations

import asyncio
import logging
import zlib

import pytest

from posthouse.client.errors import ClientClosed, PosthouseError, ReplyTimeout, SendFailed
from posthouse.client.producer import Producer
from posthouse.client.received import ReceivedMessage, open_records
from posthouse.client.requests import Replies, Reply
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.replies import PUSH_REPLY, PushReply
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2
from posthouse.model import properties as names
from posthouse.model.message import MessageQueue, SysFlag
from posthouse.model.properties import decode_properties, encode_properties
from tests.client.conftest import FakeBroker, FakeCluster, until
from tests.client.records import record

pytestmark = pytest.mark.asyncio

REPLY, PUSH = RequestCode.SEND_REPLY_MESSAGE_V2, RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT


def push(broker: FakeBroker, number: str, body: bytes, sys_flag: int = 0) -> asyncio.Task[Command]:
    header = PushReply(
        producer_group="g", topic="c_REPLY_TOPIC", default_topic="TBW102", default_topic_queues=4, queue_id=0,
        sys_flag=sys_flag, born_at_ms=1234, flag=0, properties=encode_properties({names.CORRELATION_ID: number}),
        born_host="10.0.0.9:4000", store_host="10.0.0.1:10911", stored_at_ms=1235,
    )  # fmt: skip
    return asyncio.create_task(broker.peers[0].ask(PUSH, PUSH_REPLY.encode(header), body))


def asked(broker: FakeBroker) -> dict[str, str]:
    return decode_properties(SEND_MESSAGE_V2.decode(broker.stored[-1].ext).properties or "")


async def test_a_request_says_who_asks_and_how_long_it_waits(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address) as producer:
        waiting = asyncio.create_task(producer.request("t", b"x", tag="A", properties={"p": "q"}, timeout_s=5))
        await until(lambda: bool(broker.stored))
        said = asked(broker)
        assert (said[names.REPLY_TO_CLIENT], said[names.TTL], said["p"]) == (producer.client_id, "5000", "q")
        unknown = await push(broker, "another", b"not for us")
        assert unknown.code == 0
        assert not waiting.done()
        packed = await push(broker, said[names.CORRELATION_ID], zlib.compress(b"answer"), SysFlag.COMPRESSED)
        assert packed.code == 0
        reply = await waiting
        assert (reply.body, reply.replier, reply.replied_at_ms) == (b"answer", "10.0.0.9:4000", 1234)
        assert (await push(broker, said[names.CORRELATION_ID], b"twice")).code == 0
        assert producer._requests.waiting == 0


async def test_a_request_that_cannot_be_sent_is_not_waited_for(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.refuse(RequestCode.SEND_MESSAGE_V2, ResponseCode.MESSAGE_ILLEGAL)
    async with Producer(cluster.address) as producer:
        with pytest.raises(SendFailed, match="MESSAGE_ILLEGAL"):
            await producer.request("t", b"x", timeout_s=5)
        assert producer._requests.waiting == 0


async def test_the_time_is_for_everything_and_closing_ends_the_wait(cluster: FakeCluster) -> None:
    await cluster.add_broker()
    cluster.add_topic("t")
    producer = Producer(cluster.address)
    async with producer:
        with pytest.raises(ReplyTimeout, match="the request is stored: is a consumer") as caught:
            await producer.request("t", b"x", timeout_s=0.2)
        assert caught.value.stored
        waiting = asyncio.create_task(producer.request("t", b"x", timeout_s=30))
        await until(lambda: producer._requests.waiting == 1)
        await asyncio.sleep(0.05)
    with pytest.raises(ClientClosed, match="before the reply came"):
        await waiting


async def test_a_broken_body_is_an_error_of_the_request(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address) as producer:
        waiting = asyncio.create_task(producer.request("t", b"x", timeout_s=5))
        await until(lambda: bool(broker.stored))
        await push(broker, asked(broker)[names.CORRELATION_ID], b"junk", SysFlag.COMPRESSED)
        with pytest.raises(PosthouseError, match="the body of the reply cannot be opened"):
            await waiting


def request(broker_name: str, **more: str) -> ReceivedMessage:
    properties = {names.CORRELATION_ID: "7", names.REPLY_TO_CLIENT: "me", names.TTL: "3000", names.CLUSTER: "c", **more}
    properties = {name: value for name, value in properties.items() if value}
    return open_records(record(1, properties=properties), MessageQueue("t", broker_name, 0))[0]


async def test_the_broker_that_had_the_request_is_asked_first_then_the_others(cluster: FakeCluster) -> None:
    first, second = await cluster.add_broker(), await cluster.add_broker()
    cluster.add_topic("c_REPLY_TOPIC", queues=1)
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    replies = Replies(session, "g")
    for broker in (first, second):
        broker.answers[REPLY] = broker.store
    await replies.send(request(second.name), Reply(b"answer", {"a": "b"}))
    assert (len(first.stored), len(second.stored)) == (0, 1)
    header = SEND_MESSAGE_V2.decode(second.stored[0].ext)
    assert (header.topic, header.producer_group, second.stored[0].body) == ("c_REPLY_TOPIC", "g", b"answer")
    said = decode_properties(header.properties or "")
    wanted = {names.MSG_TYPE: "reply", names.CORRELATION_ID: "7", names.REPLY_TO_CLIENT: "me", names.TTL: "3000"}
    assert wanted.items() <= said.items()
    assert said["a"] == "b"
    second.refuse(REPLY, ResponseCode.SYSTEM_ERROR, "nobody of that name")
    await replies.send(request(second.name), Reply(b"answer"))
    assert len(first.stored) == 1
    await session.close()


async def test_a_reply_that_nobody_takes_is_logged(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("c_REPLY_TOPIC", queues=1)
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    replies = Replies(session, "g")
    broker.answers[REPLY] = lambda command: response(
        ResponseCode.SYSTEM_ERROR, command.request_id, remark="nobody of that name"
    )
    with caplog.at_level(logging.WARNING):
        await replies.send(request(broker.name), Reply(b"answer"))
        await replies.send(request(broker.name, CLUSTER=""), Reply(b"answer"))
        await replies.send(request(broker.name), Reply(b""))
    assert "the reply to ID1 could not be delivered" in caplog.text
    assert "nobody of that name" in caplog.text
    assert "does not say of which cluster" in caplog.text
    assert "the body is empty" in caplog.text
    await session.close()
