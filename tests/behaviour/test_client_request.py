"""A message whose sender waits for the answer of the consumer that handles it."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse import Message, Producer, PushConsumer
from posthouse.client.errors import ReplyTimeout
from posthouse.client.received import ReceivedMessage
from posthouse.client.requests import Reply
from tests.behaviour.conftest import Server, until
from tests.behaviour.test_client_push import FIRST, Got, make_topic, of_topic

pytestmark = pytest.mark.asyncio


async def answer(message: ReceivedMessage) -> object:
    if message.tag == "silent":
        return None
    if message.tag == "large":
        return b"a" * 100_000
    if message.tag == "rich":
        return Reply(b"rich:" + message.body, {"colour": "blue"})
    return b"re:" + message.body


async def test_the_bytes_that_a_handler_returns_are_the_answer(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=answer, from_where=FIRST) as consumer,
    ):
        await until(lambda: len(of_topic(consumer, name)) == 2)
        reply = await producer.request(name, b"hello", timeout_s=10)
        assert reply.body == b"re:hello"
        assert reply.replier.startswith("127.0.0.1:")
        assert abs(reply.replied_at_ms - time.time() * 1000) < 10_000
        rich = await producer.request(Message(name, b"x", tag="rich"), timeout_s=10)
        assert (rich.body, rich.properties["colour"]) == (b"rich:x", "blue")
        assert (await producer.request(name, b"x", tag="large", timeout_s=10)).body == b"a" * 100_000


async def test_many_requests_get_their_own_answers(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    async with (
        Producer(server.nameserver) as one,
        Producer(server.nameserver) as two,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=answer, from_where=FIRST) as consumer,
    ):
        await until(lambda: len(of_topic(consumer, name)) == 4)
        asked = [(producer, b"%d" % n) for n in range(50) for producer in (one, two)]
        replies = await asyncio.gather(*(producer.request(name, body, timeout_s=20) for producer, body in asked))
    assert [reply.body for reply in replies] == [b"re:" + body for _, body in asked]


async def test_no_answer_is_an_error_that_says_so_in_time(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    got = Got()
    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=got, from_where=FIRST),
    ):
        began = time.monotonic()
        with pytest.raises(ReplyTimeout, match="no reply to a request") as caught:
            await producer.request(name, b"x", tag="silent", timeout_s=1.5)
        assert 1.4 < time.monotonic() - began < 3
        assert caught.value.stored
        await until(lambda: len(got.messages) == 1)  # a handler that gives no answer is no failure
        assert got.messages[0].is_request
        assert await producer.send(name, b"y")


async def test_returning_bytes_to_who_did_not_ask_does_nothing(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    seen: list[bytes] = []

    def handle(message: ReceivedMessage) -> bytes:
        seen.append(message.body)
        return b"nobody asked"

    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST),
    ):
        await producer.send(name, b"x")
        await until(lambda: seen == [b"x"])
        await asyncio.sleep(0.2)
    assert seen == [b"x"]
