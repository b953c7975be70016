"""A server is killed and comes back while programs send and consume: they go on, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse import Producer, PullConsumer, PushConsumer
from posthouse.client.errors import PosthouseError
from posthouse.client.received import ReceivedMessage
from posthouse.model.group import ConsumeFrom
from tests.behaviour.conftest import PosthouseProcess, until

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

FIRST = ConsumeFrom.CONSUME_FROM_FIRST_OFFSET


async def test_programs_outlive_their_server(posthouse_process: PosthouseProcess, name: str) -> None:
    server = posthouse_process
    acknowledged: set[bytes] = set()
    failed = 0
    got: set[bytes] = set()
    stop = asyncio.Event()

    async def handle(message: ReceivedMessage) -> None:
        got.add(message.body)

    async def send_on(producer: Producer) -> None:
        nonlocal failed
        n = 0
        while not stop.is_set():
            n += 1
            try:
                await producer.send(name, b"%d" % n)
                acknowledged.add(b"%d" % n)
            except PosthouseError:
                failed += 1
            await asyncio.sleep(0.002)

    async with (
        Producer(server.nameserver, send_timeout_ms=2000) as producer,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST) as consumer,
    ):
        sending = asyncio.create_task(send_on(producer))
        await until(lambda: len(got) > 100)
        for _ in range(2):
            server.kill()
            await asyncio.sleep(0.5)
            before = len(acknowledged)
            await asyncio.to_thread(server.start)
            back_at = time.monotonic()
            await until(lambda wanted=before + 50: len(acknowledged) >= wanted)  # type: ignore[misc]
            assert time.monotonic() - back_at < 5
        stop.set()
        await sending
        await until(lambda: acknowledged <= got, 20, "acknowledged messages did not come")
        assert consumer.assigned
    assert failed < len(acknowledged)
    async with PullConsumer("reader", server.nameserver) as reader:
        stored = [message.body async for message in reader.stream(name, stop_at_end=True)]
    assert acknowledged <= set(stored)


async def test_a_send_outlasts_a_short_absence(posthouse_process: PosthouseProcess, name: str) -> None:
    server = posthouse_process
    async with Producer(server.nameserver, send_timeout_ms=15_000) as producer:
        await producer.send(name, b"before")
        server.kill()
        await asyncio.sleep(0.2)
        sends = [producer.send(name, b"%d" % n) for n in range(20)]
        await asyncio.sleep(0.5)
        assert not any(send.done() for send in sends)
        await asyncio.to_thread(server.start)
        assert len(await asyncio.gather(*sends)) == 20


async def test_a_broker_that_is_gone_costs_a_send_its_budget_and_no_more(
    posthouse_process: PosthouseProcess, name: str
) -> None:
    server = posthouse_process
    async with Producer(server.nameserver, send_timeout_ms=1000) as producer:
        await producer.send(name, b"before")
        server.kill()
        begun_at = time.monotonic()
        with pytest.raises(PosthouseError, match=r"cannot connect to 127.0.0.1:\d+.*is the server running"):
            await producer.send(name, b"x")
        assert time.monotonic() - begun_at < 1.5
