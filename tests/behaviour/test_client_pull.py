"""A program that reads queues by itself gets what is there, and only what it asks for."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse import Producer, PullConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused, ClientClosed, NoRoute
from posthouse.client.received import ReceivedMessage
from posthouse.model.message import MessageQueue
from tests.behaviour.conftest import Server, until, until_equal

pytestmark = pytest.mark.asyncio


async def fill(server: Server, topic: str, queues: int, count: int) -> None:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(topic, queues=queues)
    async with Producer(server.nameserver) as producer:
        choice = await producer.queues(topic)
        for n in range(count):
            await producer.send(topic, b"%d" % n, tag=f"T{n % 2}", queue=choice[n % queues])
    async with PullConsumer("reader", server.nameserver) as reader:

        async def stored() -> int:  # a broker may show messages a little after it answers
            return sum([await reader.max_offset(queue) for queue in choice])

        await until_equal(stored, count)


async def test_a_queue_is_read_from_any_offset(server: Server, name: str) -> None:
    await fill(server, name, 1, 50)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        (queue,) = await consumer.queues(name)
        first = await consumer.pull(queue, 0, 10)
        assert [message.body for message in first.messages] == [b"%d" % n for n in range(10)]
        assert (first.next_offset, first.min_offset, first.max_offset, first.moved) == (10, 0, 50, False)
        rest = await consumer.pull(queue, 45)
        assert [message.queue_offset for message in rest.messages] == [45, 46, 47, 48, 49]
        end = await consumer.pull(queue, 50)
        assert (end.messages, end.next_offset, end.moved) == ([], 50, False)
        beyond = await consumer.pull(queue, 1000)
        assert (beyond.messages, beyond.next_offset, beyond.moved) == ([], 50, True)


async def test_a_pull_picks_by_tag(server: Server, name: str) -> None:
    await fill(server, name, 1, 20)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        (queue,) = await consumer.queues(name)
        found: list[bytes] = []
        offset = 0
        while offset < 20:
            pulled = await consumer.pull(queue, offset, expression="T1")
            found += [message.body for message in pulled.messages]
            offset = pulled.next_offset
        assert found == [b"%d" % n for n in range(1, 20, 2)]
        with pytest.raises(ValueError, match="names no tag"):
            await consumer.pull(queue, 0, expression="||")


async def test_a_pull_waits_for_a_message_as_long_as_it_is_told(server: Server, name: str) -> None:
    await fill(server, name, 1, 1)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer, Producer(server.nameserver) as producer:
        (queue,) = await consumer.queues(name)
        begun_at = time.monotonic()
        empty = await consumer.pull(queue, 1, wait_ms=1000)
        assert empty.messages == []
        assert 0.8 < time.monotonic() - begun_at < 8  # Apache looks at waiting pulls every 5 s
        waiting = asyncio.create_task(consumer.pull(queue, 1, wait_ms=20_000))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        sent_at = time.monotonic()
        await producer.send(name, b"now")
        pulled = await waiting
        assert [message.body for message in pulled.messages] == [b"now"]
        assert time.monotonic() - sent_at < 2


async def test_bounds_and_times_of_a_queue(server: Server, name: str) -> None:
    await fill(server, name, 1, 5)
    await asyncio.sleep(1.1)
    between_ms = int(time.time() * 1000)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer, Producer(server.nameserver) as producer:
        await producer.send(name, b"later")
        (queue,) = await consumer.queues(name)
        await until_equal(lambda: consumer.max_offset(queue), 6)
        assert await consumer.min_offset(queue) == 0
        assert await consumer.search_offset(queue, 1) == 0
        assert await consumer.search_offset(queue, between_ms) == 5
        assert await consumer.search_offset(queue, between_ms + 3_600_000) == 6


async def test_a_committed_offset_is_kept(server: Server, name: str) -> None:
    await fill(server, name, 2, 10)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        one, two = await consumer.queues(name)
        await consumer.commit(one, 3)
        await consumer.commit(two, 4)
        await consumer.commit(two, 2)  # brokers take what they are told
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        assert await consumer.committed(one) == 3
        assert await consumer.committed(two) == 2


async def test_a_stream_gives_everything_in_the_order_of_each_queue(server: Server, name: str) -> None:
    await fill(server, name, 3, 300)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        found = [message async for message in consumer.stream(name, stop_at_end=True)]
        assert len(found) == 300
        for queue_id in range(3):
            numbers = [int(message.body) for message in found if message.queue.queue_id == queue_id]
            assert numbers == list(range(queue_id, 300, 3))
        tagged = [message async for message in consumer.stream(name, expression="T0", stop_at_end=True)]
        assert len(tagged) == 150
        queue = (await consumer.queues(name))[1]
        await consumer.commit(queue, 90)
        rest = [message async for message in consumer.stream(name, start="committed", stop_at_end=True)]
        assert len([message for message in rest if message.queue == queue]) == 10
        assert [message async for message in consumer.stream(name, start="end", stop_at_end=True)] == []


async def test_a_stream_follows_the_topic(server: Server, name: str) -> None:
    await fill(server, name, 2, 4)
    got: list[ReceivedMessage] = []
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer, Producer(server.nameserver) as producer:

        async def follow() -> None:
            async for message in consumer.stream(name, start="end"):
                got.append(message)

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.5)
        for n in range(10):
            await producer.send(name, b"new-%d" % n)
        await until(lambda: len(got) == 10)
        assert {message.body for message in got} == {b"new-%d" % n for n in range(10)}
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following


async def test_wrong_questions_get_errors_that_say_what_is_wrong(server: Server, name: str) -> None:
    await fill(server, name, 1, 1)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        with pytest.raises(NoRoute, match=f"{name}-missing"):
            await consumer.queues(f"{name}-missing")
        (queue,) = await consumer.queues(name)
        with pytest.raises(BrokerRefused, match="INVALID_PARAMETER"):
            await consumer.pull(queue._replace(queue_id=77), 0)
        with pytest.raises(NoRoute):
            await consumer.max_offset(MessageQueue(f"{name}-missing", "nobody", 0))
    with pytest.raises(ClientClosed):
        await consumer.max_offset(queue)
