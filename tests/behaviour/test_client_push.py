"""A group gets every message at least once, shares the queues, and goes on where it was."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from posthouse import Message, Producer, PullConsumer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import NoNameServer
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import RetryLater
from posthouse.model.group import ConsumeFrom
from posthouse.model.names import retry_topic
from tests.behaviour.conftest import Server, free_port, until, until_equal

pytestmark = pytest.mark.asyncio

FIRST = ConsumeFrom.CONSUME_FROM_FIRST_OFFSET


class Got:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []

    async def __call__(self, message: ReceivedMessage) -> None:
        self.messages.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


async def make_topic(server: Server, topic: str, queues: int) -> None:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(topic, queues=queues)


async def send_numbers(server: Server, topic: str, numbers: range) -> set[bytes]:
    bodies = [b"%d" % n for n in numbers]
    async with Producer(server.nameserver) as producer:
        await asyncio.gather(*(producer.send(topic, body) for body in bodies))
    return set(bodies)


def of_topic(consumer: PushConsumer, topic: str) -> set[int]:
    return {queue.queue_id for queue in consumer.assigned if queue.topic == topic}


async def test_every_message_is_delivered_with_all_that_was_sent(server: Server, name: str) -> None:
    await make_topic(server, name, 3)
    got = Got()
    async with Producer(server.nameserver) as producer:
        before = await asyncio.gather(*(producer.send(name, b"before-%d" % n) for n in range(50)))
        async with PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=got, from_where=FIRST):
            after = await asyncio.gather(
                *(producer.send(Message(name, b"after-%d" % n, "T", ("k1", "k2"))) for n in range(50))
            )
            await until(lambda: len(got.messages) >= 100)
    assert {message.message_id for message in got.messages} == {receipt.message_id for receipt in before + after}
    assert len(got.messages) == 100
    late = next(message for message in got.messages if message.body == b"after-7")
    assert (late.topic, late.tag, late.keys, late.attempt) == (name, "T", ("k1", "k2"), 1)
    assert late.queue.broker_name == late.broker_name != ""


async def test_a_plain_function_may_be_the_handler(server: Server, name: str) -> None:
    bodies: list[bytes] = []
    await make_topic(server, name, 1)
    async with PushConsumer(
        f"g-{name}", server.nameserver, subscribe=name, handler=lambda m: bodies.append(m.body), from_where=FIRST
    ):
        await send_numbers(server, name, range(3))
        await until(lambda: len(bodies) == 3)


async def test_a_waiting_consumer_gets_a_message_within_milliseconds(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    arrived: list[float] = []

    async def handle(message: ReceivedMessage) -> None:
        arrived.append(time.monotonic())

    delays_ms = []
    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST) as consumer,
    ):
        await until(lambda: len(of_topic(consumer, name)) == 2)
        await asyncio.sleep(0.5)
        for n in range(10):
            sent_at = time.monotonic()
            await producer.send(name, b"x")
            await until(lambda wanted=n + 1: len(arrived) == wanted, 5)  # type: ignore[misc]
            delays_ms.append((arrived[-1] - sent_at) * 1000)
            await asyncio.sleep(0.05)
    assert sorted(delays_ms)[len(delays_ms) // 2] < 100, delays_ms
    assert max(delays_ms) < 2000, delays_ms


async def test_only_wanted_tags_are_delivered(server: Server, name: str) -> None:
    # "Aa" and "BB" have one hash in Java, so the broker cannot tell them apart and the client must.
    tags = ("Aa", "BB", "TagC", "")
    await make_topic(server, name, 2)
    got = Got()
    async with (
        Producer(server.nameserver) as producer,
        PushConsumer(
            f"g-{name}", server.nameserver, subscribe={name: "Aa || TagC"}, handler=got, from_where=FIRST
        ) as consumer,
    ):
        for n in range(40):
            await producer.send(name, b"%d" % n, tag=tags[n % 4])
        await until(lambda: len(got.messages) >= 20)
        await asyncio.sleep(0.5)
        assert Counter(message.tag for message in got.messages) == {"Aa": 10, "TagC": 10}
        async with PullConsumer(consumer.group, server.nameserver) as offsets:
            queues = await offsets.queues(name)

            async def backlog() -> int:
                done = [await offsets.committed(queue) or 0 for queue in queues]
                return sum([await offsets.max_offset(queue) for queue in queues]) - sum(done)

            # What was not wanted counts as done, when the pull that waits for what is wanted comes back.
            await until_equal(backlog, 0, 25)


async def test_two_members_share_the_queues_and_one_takes_over(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    group = f"g-{name}"
    first, second = Got(), Got()
    async with PushConsumer(group, server.nameserver, subscribe=name, handler=first, from_where=FIRST) as one:
        await until(lambda: len(of_topic(one, name)) == 4)
        async with PushConsumer(group, server.nameserver, subscribe=name, handler=second, from_where=FIRST) as two:
            await until(lambda: len(of_topic(one, name)) == len(of_topic(two, name)) == 2)
            assert of_topic(one, name) | of_topic(two, name) == {0, 1, 2, 3}
            sent = await send_numbers(server, name, range(200))
            await until(lambda: set(first.bodies) | set(second.bodies) == sent)
            assert first.bodies
            assert second.bodies
        left_at = time.monotonic()
        await until(lambda: len(of_topic(one, name)) == 4)
        assert time.monotonic() - left_at < 5  # told by the broker, not found out 20 s later
        more = await send_numbers(server, name, range(200, 300))
        await until(lambda: more <= set(first.bodies))


async def test_a_group_goes_on_where_it_was(server: Server, name: str) -> None:
    await make_topic(server, name, 3)
    group = f"g-{name}"
    first, second = Got(), Got()
    async with PushConsumer(group, server.nameserver, subscribe=name, handler=first, from_where=FIRST):
        sent = await send_numbers(server, name, range(100))
        await until(lambda: set(first.bodies) == sent)
    later = await send_numbers(server, name, range(100, 150))
    async with PushConsumer(group, server.nameserver, subscribe=name, handler=second):
        await until(lambda: set(second.bodies) == later)
        await asyncio.sleep(0.5)
    assert Counter(second.bodies) == Counter(dict.fromkeys(later, 1))


async def test_a_new_group_gets_what_a_young_topic_already_has(server: Server, name: str) -> None:
    """Though it begins at the end by default: brokers say 0 for a group without an offset on a young queue."""
    sent = await send_numbers(server, name, range(10))
    got = Got()
    async with PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=got):
        await until(lambda: set(got.bodies) == sent)


async def test_a_new_group_begins_where_it_says(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    old = await send_numbers(server, name, range(20))
    await asyncio.sleep(1.1)
    middle_ms = int(time.time() * 1000)
    new = await send_numbers(server, name, range(20, 40))
    from_first, from_time = Got(), Got()
    by_time = ConsumeFrom.CONSUME_FROM_TIMESTAMP
    async with (
        PushConsumer(f"g1-{name}", server.nameserver, subscribe=name, handler=from_first, from_where=FIRST),
        PullConsumer(f"g2-{name}", server.nameserver) as offsets,
    ):
        await until(lambda: set(from_first.bodies) == old | new)
        (queue,) = await offsets.queues(name)
        begin = await offsets.search_offset(queue, middle_ms)
        assert begin == 20
        # A stored offset wins over where a group says that it wants to begin.
        await offsets.commit(queue, begin)
        async with PushConsumer(
            f"g2-{name}",
            server.nameserver,
            subscribe=name,
            handler=from_time,
            from_where=by_time,
            from_time_ms=0,  # type: ignore[arg-type]
        ):
            await until(lambda: set(from_time.bodies) == new)


async def test_a_failed_message_comes_again_and_is_not_lost(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    attempts: Counter[bytes] = Counter()
    done: list[ReceivedMessage] = []

    async def handle(message: ReceivedMessage) -> None:
        attempts[message.body] += 1
        if message.body == b"3" and attempts[message.body] == 1:
            raise RetryLater(delay_level=1)
        if message.body == b"4" and attempts[message.body] <= 2:
            raise RetryLater(delay_level=2 if attempts[message.body] == 1 else 1)
        done.append(message)

    async with PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST):
        sent = await send_numbers(server, name, range(10))
        await until(lambda: {message.body for message in done} == sent, 40)
    retried = next(message for message in done if message.body == b"3")
    assert retried.topic == name
    assert retried.attempt == 2
    if server.kind == "apache":
        assert retried.queue.topic == retry_topic(f"g-{name}")
    assert attempts[b"3"] == 2
    assert attempts[b"4"] == 3
    assert next(message for message in done if message.body == b"4").attempt == 3


@pytest.mark.slow
async def test_an_exception_in_the_handler_is_a_retry(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    seen: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        seen.append(message.attempt)
        if message.attempt == 1:
            raise RuntimeError("no")

    async with PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST):
        await send_numbers(server, name, range(1))
        await until(lambda: seen == [1, 2], 40)  # the first retry comes after 10 s


async def test_a_slow_handler_holds_back_the_pulling(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    sent = await send_numbers(server, name, range(3000))
    gate = asyncio.Event()
    got: list[bytes] = []

    async def handle(message: ReceivedMessage) -> None:
        await gate.wait()
        got.append(message.body)

    async with PushConsumer(
        f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST, concurrency=5
    ) as consumer:
        await until(lambda: any(len(own.inbox or ()) > 1000 for own in consumer._own.values()))
        await asyncio.sleep(1)
        held = max(len(own.inbox or ()) for own in consumer._own.values())
        assert 1000 < held <= 1000 + 32
        gate.set()
        await until(lambda: len(got) == 3000, 30)
    assert set(got) == sent


async def test_closing_waits_for_running_handlers_and_gives_the_rest_back(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    sent = await send_numbers(server, name, range(50))
    begun: list[bytes] = []
    ended: list[bytes] = []

    async def handle(message: ReceivedMessage) -> None:
        begun.append(message.body)
        await asyncio.sleep(0.3)
        ended.append(message.body)

    group = f"g-{name}"
    async with PushConsumer(
        group, server.nameserver, subscribe=name, handler=handle, from_where=FIRST, concurrency=4
    ) as consumer:
        await until(lambda: len(begun) >= 4)
    await consumer.close()
    assert begun == ended
    assert len(begun) < 20
    rest = Got()
    async with PushConsumer(group, server.nameserver, subscribe=name, handler=rest, from_where=FIRST):
        await until(lambda: set(rest.bodies) | set(ended) == sent)
    assert not set(rest.bodies) & set(ended)


async def test_a_topic_may_come_into_being_later(server: Server, name: str) -> None:
    got = Got()
    async with PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=got, from_where=FIRST):
        await asyncio.sleep(0.3)
        sent = await send_numbers(server, name, range(10))
        await until(lambda: set(got.bodies) == sent)


async def test_a_server_that_is_not_there_is_said_at_the_start(name: str) -> None:
    consumer = PushConsumer(f"g-{name}", f"127.0.0.1:{free_port()}", subscribe=name, handler=Got())
    with pytest.raises(NoNameServer, match="is one running"):
        await consumer.start()
    await consumer.close()


@pytest.mark.parametrize(
    ("subscribe", "said"),
    [({}, "at least one topic"), ({"bad topic": "*"}, "outside A-Z"), ({"t": "||"}, "names no tag")],
)
async def test_subscriptions_that_cannot_be_are_refused(subscribe: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PushConsumer("g", subscribe=subscribe, handler=Got())


async def test_groups_do_not_disturb_each_other(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    one, two = Got(), Got()
    async with (
        PushConsumer(f"g1-{name}", server.nameserver, subscribe=name, handler=one, from_where=FIRST),
        PushConsumer(f"g2-{name}", server.nameserver, subscribe={name: "*"}, handler=two, from_where=FIRST),
    ):
        sent = await send_numbers(server, name, range(60))
        await until(lambda: set(one.bodies) == sent == set(two.bodies))
