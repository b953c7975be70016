"""Filters: which messages a broker gives for an expression, and which it holds a pull for."""

from __future__ import annotations

import asyncio

import pytest

from posthouse import Producer, PullConsumer
from posthouse.client.admin import Admin
from posthouse.client.subscribing import Sql
from posthouse.model.message import MessageQueue
from tests.behaviour.conftest import Server, until_equal

MESSAGES: tuple[dict[str, str], ...] = (
    {"price": "5", "region": "eu"},
    {"price": "129", "region": "us", "fragile": "true"},
    {"price": "1.5", "region": "eu", "limit": "2"},
    {"price": "cheap"},
    {"region": "it's here", "limit": "3000000000"},
    {},
)

EXPRESSIONS: dict[str, set[int]] = {
    "price > 4": {0, 1},
    "price > 4.5": {0, 1},
    "price >= 1.5": {0, 1, 2},
    "price < 129": {0},
    "price <= 129 AND region = 'us'": {1},
    "price BETWEEN 5 AND 129": {0, 1},
    "price NOT BETWEEN 6 AND 200": {0},
    "price = 5": {0},
    "price = '5'": {0},
    "price <> 5": {1},
    "price <> '5'": {1, 2, 3},
    "NOT (price = '5')": {1, 2, 3},
    "price IS NULL": {4, 5},
    "price IS NOT NULL": {0, 1, 2, 3},
    "price = 'cheap' OR price > 4": {0, 1, 3},
    "price > 4 OR price = 'cheap'": {0, 1},  # of 'cheap' the first half is an error
    "region IN ('eu', 'us')": {0, 1, 2},
    "region NOT IN ('eu', 'us')": {4},
    "region = 'it''s here'": {4},
    "region CONTAINS 's'": {1, 4},
    "region NOT CONTAINS 's'": {0, 2},
    "region STARTSWITH 'e' OR region ENDSWITH 'here'": {0, 2, 4},
    "fragile = TRUE": {1},
    "fragile = FALSE": set(),
    "fragile": set(),
    "NOT fragile": {1},
    "fragile IS NULL": {0, 2, 3, 4, 5},
    "limit > price": {2},
    "limit > 5": set(),  # 3000000000 is over 32 bit, as 5 is not
    "limit > 2147483648": {4},
    "region = 'eu' AND (price = '5' OR limit = 2)": {0, 2},
    "absent = other": {0, 1, 2, 3, 4, 5},
    "absent <> 'x' OR absent = 'x'": set(),
    "TAGS = 'T1' AND region IS NULL": {3, 5},
    "TRUE": {0, 1, 2, 3, 4, 5},
}


async def fill(server: Server, topic: str) -> MessageQueue:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(topic, queues=1)
    async with Producer(server.nameserver) as producer:
        (queue,) = await producer.queues(topic)
        for number, properties in enumerate(MESSAGES):
            await producer.send(topic, b"%d" % number, tag=f"T{number % 2}", properties=properties, queue=queue)
    async with PullConsumer("reader", server.nameserver) as reader:
        await until_equal(lambda: reader.max_offset(queue), len(MESSAGES))
    return queue


@pytest.mark.asyncio
async def test_an_expression_gives_the_messages_that_it_says(server: Server, name: str) -> None:
    queue = await fill(server, name)
    wrong: list[str] = []
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer:
        for expression, wanted in EXPRESSIONS.items():
            pulled = await consumer.pull(queue, 0, expression=Sql(expression))
            found = {int(message.body) for message in pulled.messages}
            if found != wanted or pulled.next_offset != len(MESSAGES):
                wrong.append(f"{expression}: {sorted(found)} and not {sorted(wanted)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.asyncio
@pytest.mark.parametrize("expression", ["Wanted", Sql("price > 100")])
async def test_a_pull_is_held_until_a_message_comes_that_it_wants(server: Server, name: str, expression: str) -> None:
    queue = await fill(server, name)
    end = len(MESSAGES)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer, Producer(server.nameserver) as producer:
        held = asyncio.create_task(consumer.pull(queue, end, expression=expression, wait_ms=20_000))
        await asyncio.sleep(0.3)
        for _ in range(3):
            await producer.send(name, b"other", tag="Other", properties={"price": "5"}, queue=queue)
        await asyncio.sleep(0.5)
        assert not held.done()
        await producer.send(name, b"wanted", tag="Wanted", properties={"price": "500"}, queue=queue)
        pulled = await asyncio.wait_for(held, 3)
        assert [(message.body, message.queue_offset) for message in pulled.messages] == [(b"wanted", end + 3)]
        assert pulled.next_offset == end + 4


@pytest.mark.asyncio
@pytest.mark.parametrize("expression", ["Wanted", Sql("price > 1000")])
async def test_a_pull_that_waited_in_vain_goes_on_behind_what_it_did_not_want(
    server: Server, name: str, expression: str
) -> None:
    queue = await fill(server, name)
    end = len(MESSAGES)
    async with PullConsumer(f"g-{name}", server.nameserver) as consumer, Producer(server.nameserver) as producer:
        held = asyncio.create_task(consumer.pull(queue, end, expression=expression, wait_ms=1500))
        await asyncio.sleep(0.3)
        for _ in range(3):
            await producer.send(name, b"other", tag="Other", queue=queue)
        pulled = await asyncio.wait_for(held, 8)  # Apache looks at what waits every 5 s
        assert (pulled.messages, pulled.next_offset) == ([], end + 3)
