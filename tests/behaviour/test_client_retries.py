"""Failed messages come again with their attempts counted, and are dead letters in the end; delays are kept."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse import Message, Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import RetryLater
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import StoredMessage
from posthouse.model.names import dead_letter_topic, retry_topic
from tests.behaviour.conftest import PosthouseProcess, Server, until

pytestmark = pytest.mark.asyncio

FIRST = ConsumeFrom.CONSUME_FROM_FIRST_OFFSET


async def make_topic(server: Server, topic: str) -> None:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(topic, queues=1)


async def read(server: Server, topic: str, count: int) -> list[StoredMessage]:
    """What a consumer that never fails gets of a topic."""
    got: list[ReceivedMessage] = []
    group = f"reader-{time.monotonic_ns()}"
    async with PushConsumer(group, server.nameserver, subscribe=topic, handler=got.append, from_where=FIRST):
        await until(lambda: len(got) >= count, 30)
    return list(got)


async def test_a_message_that_always_fails_is_tried_as_often_as_it_may_and_ends_as_a_dead_letter(
    server: Server, name: str
) -> None:
    await make_topic(server, name)
    group = f"g-{name}"
    seen: dict[bytes, list[int]] = {b"good": [], b"bad": []}
    topics: list[tuple[str, str]] = []

    async def handle(message: ReceivedMessage) -> None:
        seen[message.body].append(message.attempt)
        topics.append((message.topic, message.queue.topic))
        if message.body == b"bad":
            raise RetryLater(delay_level=1)

    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(group, server.nameserver, subscribe=name, handler=handle, from_where=FIRST, attempts_max=3),
    ):
        await producer.send(name, b"good")
        receipt = await producer.send(Message(name, b"bad", "TagB", ("k1",), {"mine": "x"}))
        await until(lambda: seen[b"bad"] == [1, 2, 3, 4], 40)
        await asyncio.sleep(2.5)
    assert seen == {b"good": [1], b"bad": [1, 2, 3, 4]}
    assert set(topics) == {(name, name), (name, retry_topic(group))}
    (dead,) = await read(server, dead_letter_topic(group), 1)
    assert (dead.body, dead.tag, dead.keys, dead.properties["mine"]) == (b"bad", "TagB", ("k1",), "x")
    assert dead.reconsume_times == 4
    if server.kind == "posthouse":
        assert dead.properties["DLQ_ORIGIN_TOPIC"] == name
        assert dead.properties["DLQ_ORIGIN_MESSAGE_ID"] == receipt.message_id
        assert dead.properties["DLQ_REASON"] == "attempts"
        assert dead.properties["DLQ_ATTEMPTS"] == "4"


async def test_a_message_with_a_delay_comes_not_before_it_and_soon_after(server: Server, name: str) -> None:
    await make_topic(server, name)
    got: dict[bytes, float] = {}
    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(
            f"g-{name}",
            server.nameserver,
            subscribe=name,
            handler=lambda message: got.setdefault(message.body, time.time()),
            from_where=FIRST,
        ),
    ):
        await producer.send(name, b"now")
        await until(lambda: b"now" in got)
        sent_at = time.time()
        await producer.send(Message(name, b"level", properties={"DELAY": "1"}))
        await producer.send(Message(name, b"time", properties={"TIMER_DELIVER_MS": str(int(sent_at * 1000) + 3000)}))
        await until(lambda: {b"level", b"time"} <= got.keys(), 20)
    early_s = 0 if server.kind == "posthouse" else 1.1  # Apache rounds its timers down to a second
    assert got[b"level"] - sent_at >= 1
    assert got[b"time"] - sent_at >= 3 - early_s
    if server.kind == "posthouse":
        assert got[b"level"] - sent_at < 2
        assert got[b"time"] - sent_at < 4


async def test_delays_and_retries_outlive_a_kill(posthouse_process: PosthouseProcess, name: str) -> None:
    server = posthouse_process
    await make_topic(server, name)
    attempts: dict[bytes, list[int]] = {b"%d" % n: [] for n in range(20)}
    late: list[bytes] = []

    async def handle(message: ReceivedMessage) -> None:
        if message.body.startswith(b"late"):
            late.append(message.body)
            return
        attempts[message.body].append(message.attempt)
        if message.attempt == 1:
            raise RetryLater(delay_level=2)

    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST),
    ):
        for n in range(20):
            await producer.send(Message(name, b"late-%d" % n, properties={"DELAY": "2"}))
            await producer.send(name, b"%d" % n)
        await until(lambda: all(attempts.values()))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await until(lambda: all(2 in each for each in attempts.values()) and len(set(late)) == 20, 60)
        await asyncio.sleep(1)
    assert sorted(late) == sorted(b"late-%d" % n for n in range(20))
    assert all(max(each) == 2 for each in attempts.values()), attempts
