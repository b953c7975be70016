"""What a program may set: batches, limits, a pause, where to begin, who shares the queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from posthouse import Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.rebalance import Strategy, averagely, by_circle, by_config, consistent_hash
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import RetryLater
from posthouse.client.subscribing import Sql
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from tests.behaviour.conftest import Server, until
from tests.behaviour.test_client_push import FIRST, Got, make_topic, of_topic, send_numbers

pytestmark = pytest.mark.asyncio


async def test_a_batch_handler_gets_lists_and_fails_as_a_whole(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    sizes: list[int] = []
    attempts: dict[bytes, int] = {}
    sent = await send_numbers(server, name, range(40))

    async def handle(messages: list[ReceivedMessage]) -> None:
        sizes.append(len(messages))
        for message in messages:
            attempts[message.body] = attempts.get(message.body, 0) + 1
        if messages[0].attempt == 1 and sizes == [len(messages)]:
            raise RetryLater(1)

    async with PushConsumer(
        f"g-{name}", server.nameserver, subscribe=name, batch_handler=handle, batch_max=10, from_where=FIRST
    ):
        await until(lambda: set(attempts) == sent)
        await until(lambda: sum(attempts.values()) >= 40 + sizes[0], 20)
    assert max(sizes) == 10
    assert sum(count == 2 for count in attempts.values()) == sizes[0]


async def test_a_paused_consumer_begins_nothing_and_goes_on_later(server: Server, name: str) -> None:
    for ordered in (False, True):
        topic = f"{name}-{ordered}"
        await make_topic(server, topic, 2)
        got = Got()
        async with PushConsumer(
            f"g-{topic}", server.nameserver, subscribe=topic, handler=got, from_where=FIRST, ordered=ordered
        ) as consumer:
            await send_numbers(server, topic, range(10))
            await until(lambda got=got: len(got.messages) == 10)  # type: ignore[misc]
            consumer.pause()
            assert consumer.paused
            await send_numbers(server, topic, range(10, 20))
            await asyncio.sleep(0.5)
            assert len(got.messages) == 10
            assert len(of_topic(consumer, topic)) == 2
            consumer.resume()
            await until(lambda got=got: len(got.messages) == 20)  # type: ignore[misc]
            consumer.pause()
        assert not consumer.assigned  # a paused consumer closes like any other


async def test_what_is_held_over_all_queues_has_a_limit(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    sent = await send_numbers(server, name, range(400))
    gate = asyncio.Event()
    got: list[bytes] = []

    async def handle(message: ReceivedMessage) -> None:
        await gate.wait()
        got.append(message.body)

    async with PushConsumer(
        f"g-{name}",
        server.nameserver,
        subscribe=name,
        handler=handle,
        from_where=FIRST,
        pull_messages=8,
        held_messages_max=40,
    ) as consumer:

        def held() -> int:
            return sum(len(own.inbox or ()) for own in consumer._own.values())

        await until(lambda: held() > 40)
        await asyncio.sleep(0.5)
        assert held() <= 40 + 4 * 8  # each queue may go over it by one pull
        gate.set()
        await until(lambda: len(got) == 400)
    assert set(got) == sent


async def test_a_start_by_time_holds_on_a_young_topic_too(server: Server, name: str) -> None:
    """Brokers say 0 for a new group on a young queue; a program that asks for a time means it."""
    await make_topic(server, name, 1)
    await send_numbers(server, name, range(5))
    await asyncio.sleep(1.1)
    middle_ms = int(time.time() * 1000)
    new = await send_numbers(server, name, range(5, 10))
    got = Got()
    async with PushConsumer(
        f"g-{name}",
        server.nameserver,
        subscribe=name,
        handler=got,
        from_where=ConsumeFrom.CONSUME_FROM_TIMESTAMP,
        from_time_ms=middle_ms,  # type: ignore[arg-type]
    ):
        await until(lambda: len(got.messages) >= 5)
        await asyncio.sleep(0.3)
    assert set(got.bodies) == new


@pytest.mark.parametrize("strategy", [averagely, by_circle, consistent_hash])
@pytest.mark.parametrize("by_broker", [False, True])
async def test_strategies_share_all_queues_and_none_twice(
    server: Server, name: str, strategy: Strategy, by_broker: bool
) -> None:
    if by_broker and strategy is consistent_hash and server.kind == "apache":
        pytest.skip("Apache's brokers know two strategies only")
    await make_topic(server, name, 8)
    got = Got()

    def member() -> PushConsumer:
        return PushConsumer(
            f"g-{name}",
            server.nameserver,
            subscribe=name,
            handler=got,
            from_where=FIRST,
            strategy=strategy,
            assigned_by_broker=by_broker,
        )

    async with member() as one, member() as two, member() as three:

        def shared() -> bool:
            parts = [of_topic(each, name) for each in (one, two, three)]
            return sum(map(len, parts)) == 8 and set.union(*parts) == set(range(8))

        await until(shared, 25)
        sent = await send_numbers(server, name, range(50))
        await until(lambda: set(got.bodies) >= sent)


async def test_a_member_can_be_told_what_to_read(server: Server, name: str) -> None:
    await make_topic(server, name, 3)
    async with Producer(server.nameserver) as producer:
        queues = await producer.queues(name)
    got = Got()
    mine: list[MessageQueue] = [queues[2]]
    async with PushConsumer(
        f"g-{name}", server.nameserver, subscribe=name, handler=got, from_where=FIRST, strategy=by_config(mine)
    ) as consumer:
        await until(lambda: of_topic(consumer, name) == {2})
        await send_numbers(server, name, range(30))
        await until(lambda: len(got.messages) == 10)


async def test_an_sql_expression_picks_by_properties(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    got = Got()

    def consumer(expression: str) -> PushConsumer:
        return PushConsumer(
            f"g-{name}", server.nameserver, subscribe={name: Sql(expression)}, handler=got, from_where=FIRST
        )

    with pytest.raises(ValueError, match="the subscription to"):
        consumer("a >")
    async with consumer("a > 3"), Producer(server.nameserver) as producer:
        for n in range(10):
            await producer.send(name, b"%d" % n, properties={"a": str(n)})
        await until(lambda: len(got.messages) == 6)
    assert set(got.bodies) == {b"4", b"5", b"6", b"7", b"8", b"9"}


async def test_a_handler_that_is_cancelled_from_inside_costs_no_worker(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    done: list[bytes] = []

    async def handle(message: ReceivedMessage) -> None:
        if message.attempt == 1 and message.body in (b"1", b"2", b"3"):
            task = asyncio.ensure_future(asyncio.sleep(10))
            task.cancel()
            await task
        done.append(message.body)

    async with PushConsumer(
        f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST, concurrency=1
    ):
        await send_numbers(server, name, range(10))
        await until(lambda: len(done) >= 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"handler": None}, "give either handler"),
        ({"batch_handler": print}, "give either handler"),
        ({"handler": None, "batch_handler": print, "batch_max": 0}, "at least one message"),
        ({"broadcast": True, "ordered": True}, "ordered or broadcast"),
        ({"broadcast": True, "assigned_by_broker": True}, "has them all"),
        ({"offsets_folder": "x"}, "for broadcast consumers"),
        ({"pull_messages": 0}, "a pull asks for 1 to"),
        ({"assigned_by_broker": True, "strategy": by_config([])}, "must be one that brokers know"),
    ],
)
async def test_options_that_cannot_be_are_refused(change: dict[str, object], said: str) -> None:
    options: dict[str, object] = {"subscribe": "t", "handler": Got(), **change}
    make: Callable[..., PushConsumer] = PushConsumer
    with pytest.raises(ValueError, match=said):
        make("g", **options)


@pytest.mark.slow
async def test_topics_that_appear_are_read_by_a_group_that_begins_at_the_end(server: Server, name: str) -> None:
    """They came into being while the group was there, so all in them is new to it."""
    got = Got()
    async with PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=got):
        sent = await send_numbers(server, name, range(10))
        await until(lambda: set(got.bodies) == sent)
        async with Admin(server.nameserver) as admin:
            await admin.create_topic(name, queues=12)
        later = await send_numbers(server, name, range(100, 160))
        await until(lambda: set(got.bodies) >= later, 45)
