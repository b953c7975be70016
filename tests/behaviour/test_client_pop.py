"""A program that takes messages for a time gets each once, or again if it does not say that it is done."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse import Producer
from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused, ClientClosed, NoRoute
from posthouse.client.pop_consumer import PoppedMessage, SimpleConsumer
from tests.behaviour.conftest import PosthouseProcess, Server

pytestmark = pytest.mark.asyncio

BACK_SECONDS = 30.0
"""The control looks for what has become visible again every second or two, and waits for late acknowledgements."""


async def fill(server: Server, topic: str, queues: int, count: int) -> None:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(topic, queues=queues)
    async with Producer(server.nameserver) as producer:
        choice = await producer.queues(topic)
        for n in range(count):
            await producer.send(topic, b"%d" % n, tag=f"T{n % 2}", queue=choice[n % queues])


async def receive(
    consumer: SimpleConsumer, topic: str, count: int, invisible_s: float = 30.0, seconds: float = BACK_SECONDS
) -> list[PoppedMessage]:
    """Until there are so many; more than that fail."""
    found: list[PoppedMessage] = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count}"
        found += await consumer.receive(topic, 32, invisible_s=invisible_s, wait_s=2)
    assert len(found) == count
    return found


def bodies(messages: list[PoppedMessage]) -> list[bytes]:
    return sorted(message.body for message in messages)


async def test_everything_is_received_once_and_is_gone_when_it_is_acknowledged(server: Server, name: str) -> None:
    await fill(server, name, 4, 20)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        messages = await receive(consumer, name, 20)
        assert bodies(messages) == sorted(b"%d" % n for n in range(20))
        assert {message.attempt for message in messages} == {1}
        assert {message.topic for message in messages} == {name}
        for message in messages[:10]:
            await consumer.ack(message)
        await consumer.ack_all(messages[10:])
        assert await consumer.receive(name, wait_s=0.5) == []


async def test_two_members_share_one_queue(server: Server, name: str) -> None:
    await fill(server, name, 1, 30)
    async with (
        SimpleConsumer(f"g-{name}", server.nameserver) as one,
        SimpleConsumer(f"g-{name}", server.nameserver) as two,
    ):
        found: list[PoppedMessage] = []
        while len(found) < 30:
            for consumer in (one, two):
                found += await consumer.receive(name, 5, wait_s=2)
        assert bodies(found) == sorted(b"%d" % n for n in range(30))


async def test_what_is_not_acknowledged_comes_again_with_its_attempt(server: Server, name: str) -> None:
    await fill(server, name, 1, 3)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        first = await receive(consumer, name, 3, invisible_s=3)
        await consumer.ack(first[0])
        received_at = time.monotonic()
        again = await receive(consumer, name, 2)
        assert time.monotonic() - received_at > 2
        assert bodies(again) == bodies(first[1:])
        assert {message.attempt for message in again} == {2}
        assert {message.topic for message in again} == {name}
        await consumer.ack_all(again)


async def test_a_message_is_kept_longer_and_given_back(server: Server, name: str) -> None:
    await fill(server, name, 1, 2)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        kept, given_back = sorted(await receive(consumer, name, 2, invisible_s=4), key=lambda each: each.body)
        before = kept.receipt
        await consumer.change_invisible_time(kept, 60)
        await consumer.change_invisible_time(given_back, 1)
        assert kept.receipt != before
        (again,) = await receive(consumer, name, 1)
        assert again.body == given_back.body
        await asyncio.sleep(4)
        assert await consumer.receive(name, wait_s=0.5) == []
        await consumer.ack_all([kept, again])


async def test_a_receive_waits_for_a_message_and_no_longer_than_it_is_told(server: Server, name: str) -> None:
    await fill(server, name, 2, 0)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer, Producer(server.nameserver) as producer:
        began = time.monotonic()
        assert await consumer.receive(name, wait_s=1) == []
        assert 0.8 < time.monotonic() - began < 4
        waiting = asyncio.create_task(consumer.receive(name, wait_s=10))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        sent_at = time.monotonic()
        await producer.send(name, b"now")
        (message,) = await waiting
        assert message.body == b"now"
        assert time.monotonic() - sent_at < 2
        await consumer.ack(message)


async def test_only_the_wanted_tags_are_received(server: Server, name: str) -> None:
    await fill(server, name, 1, 10)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        found = await consumer.receive(name, 32, expression="T1", wait_s=5)
        assert bodies(found) == [b"1", b"3", b"5", b"7", b"9"]
        await consumer.ack_all(found)


async def test_an_ordered_queue_gives_no_more_until_it_is_acknowledged(server: Server, name: str) -> None:
    await fill(server, name, 1, 4)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        first = await consumer.receive(name, 2, ordered=True, invisible_s=3, wait_s=5)
        assert [message.body for message in first] == [b"0", b"1"]
        assert await consumer.receive(name, 2, ordered=True, invisible_s=3, wait_s=0.5) == []
        again: list[PoppedMessage] = []
        deadline = time.monotonic() + BACK_SECONDS
        while not again:
            assert time.monotonic() < deadline
            again = await consumer.receive(name, 2, ordered=True, invisible_s=30, wait_s=2)
        assert [message.body for message in again] == [b"0", b"1"]
        assert [message.attempt for message in again] == [2, 2]
        for message in again:
            await consumer.ack(message)
        rest = await consumer.receive(name, 2, ordered=True, wait_s=5)
        assert [message.body for message in rest] == [b"2", b"3"]


async def test_what_cannot_be_is_told_at_once(server: Server, name: str) -> None:
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        with pytest.raises(NoRoute):
            await consumer.receive(name)
        for wrong in ({"max_messages": 0}, {"max_messages": 33}, {"invisible_s": 0.0}, {"expression": "||"}):
            with pytest.raises(ValueError):
                await consumer.receive(name, **wrong)
    with pytest.raises(ClientClosed):
        await consumer.receive(name)


async def test_receipts_survive_a_kill_of_the_server(posthouse_process: PosthouseProcess, name: str) -> None:
    server = posthouse_process
    await fill(server, name, 2, 10)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        held = await receive(consumer, name, 10, invisible_s=120)
    server.kill()
    await asyncio.to_thread(server.start)
    async with SimpleConsumer(f"g-{name}", server.nameserver) as consumer:
        assert await consumer.receive(name, wait_s=1) == [], "what is held is nobody elses"
        await consumer.ack_all(held[:5])
        await consumer.change_invisible_time(held[5], 0)
        (again,) = await receive(consumer, name, 1)
        assert (again.body, again.attempt) == (held[5].body, 2)
        with pytest.raises(BrokerRefused, match="not valid any more"):
            await consumer.change_invisible_time(held[5], 10)


async def test_after_its_attempts_a_message_is_a_dead_letter(posthouse_process: PosthouseProcess, name: str) -> None:
    """RocketMQ has the consumer decide; Posthouse does it, with a reason."""
    server = posthouse_process
    await fill(server, name, 1, 1)
    group = f"g-{name}"
    async with SimpleConsumer(group, server.nameserver) as consumer:
        for attempt in range(1, 18):
            (message,) = await receive(consumer, name, 1, invisible_s=0.05)
            assert message.attempt == attempt
        await asyncio.sleep(0.3)
        assert await consumer.receive(name, wait_s=0.5) == []
    async with SimpleConsumer("undertaker", server.nameserver) as undertaker:
        (dead,) = await receive(undertaker, f"%DLQ%{group}", 1)
        assert dead.properties["DLQ_REASON"] == "attempts"
        assert dead.properties["DLQ_ORIGIN_TOPIC"] == name
        assert dead.properties["DLQ_ATTEMPTS"] == "17"
