"""What a producer sends is stored where its receipt says, once, in order."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import pytest

from posthouse import Message, Producer, PullConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import (
    ClientClosed,
    MessageIllegal,
    MessageTooLarge,
    NoNameServer,
    NoRoute,
    SendFailed,
)
from posthouse.client.receipt import SendStatus
from posthouse.client.received import ReceivedMessage
from posthouse.model.message import MessageQueue
from tests.behaviour.conftest import Server, free_port, until_equal

pytestmark = pytest.mark.asyncio


async def read_all(server: Server, topic: str, count: int) -> list[ReceivedMessage]:
    """All messages of the topic, when there are as many as that.

    A broker may show messages, and a NameServer a new topic, a little after the send was answered.
    """
    async with PullConsumer("reader", server.nameserver) as consumer:

        async def stored() -> bool:
            try:
                return sum([await consumer.max_offset(queue) for queue in await consumer.queues(topic)]) >= count
            except NoRoute:
                return False

        await until_equal(stored, True)
        return [message async for message in consumer.stream(topic, stop_at_end=True)]


async def make_topic(server: Server, topic: str, queues: int) -> None:
    async with Admin(server.nameserver) as admin:
        await admin.create_topic(topic, queues=queues)


async def test_a_message_is_stored_as_it_was_sent(server: Server, name: str) -> None:
    before_ms = int(time.time() * 1000)
    message = Message(
        name, b"\x00body\xff", "TagA", ("order-1", "user-7"), {"colour": "rot & grün"}, flag=42, sharding_key="s"
    )
    async with Producer(server.nameserver) as producer:
        receipt = await producer.send(message)
    assert receipt.status is SendStatus.SEND_OK
    assert receipt.queue.topic == name
    assert (len(receipt.message_id), len(receipt.offset_message_id)) == (32, 32)
    (stored,) = await read_all(server, name, 1)
    assert (stored.topic, stored.body, stored.tag, stored.keys) == (
        name,
        b"\x00body\xff",
        "TagA",
        ("order-1", "user-7"),
    )
    assert stored.properties["colour"] == "rot & grün"
    assert stored.sharding_key == "s"
    assert stored.flag == 42
    assert stored.message_id == receipt.message_id
    assert (stored.queue, stored.queue_offset) == (receipt.queue, receipt.queue_offset)
    assert stored.attempt == 1
    assert before_ms - 1000 <= stored.born_at_ms <= stored.stored_at_ms + 1000


async def test_a_topic_with_a_body_is_enough(server: Server, name: str) -> None:
    async with Producer(server.nameserver) as producer:
        await producer.send(name, b"first", tag="A", keys="k")
    (stored,) = await read_all(server, name, 1)
    assert (stored.body, stored.tag, stored.keys) == (b"first", "A", ("k",))


async def test_large_bodies_travel_compressed_and_arrive_whole(server: Server, name: str) -> None:
    compressible, random = b"abc" * 400_000, bytes(range(256)) * 64
    async with Producer(server.nameserver) as producer:
        await producer.send(name, compressible, keys="large")
        await producer.send(name, random, keys="other")
    stored = {message.keys[0]: message for message in await read_all(server, name, 2)}
    assert stored["large"].body == compressible
    assert stored["large"].store_size_bytes < 100_000
    assert stored["other"].body == random


async def test_the_largest_body_is_taken(server: Server, name: str) -> None:
    async with Producer(server.nameserver, compress_over_bytes=None, send_timeout_ms=10_000) as producer:
        receipt = await producer.send(name, b"z" * 4 * 1024 * 1024)
        assert receipt.status is SendStatus.SEND_OK
        with pytest.raises(MessageTooLarge, match=r"4194305 bytes; the limit is 4194304: split it"):
            producer.send(name, b"z" * (4 * 1024 * 1024 + 1))


async def test_thousands_are_in_flight_at_once_and_each_is_stored_once(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    async with Producer(server.nameserver, send_timeout_ms=30_000) as producer:
        sends = [producer.send(name, b"%d" % n) for n in range(5000)]
        await asyncio.sleep(0)
        assert producer.in_flight > 1000
        receipts = await asyncio.gather(*sends)
    stored = await read_all(server, name, 5000)
    assert sorted(int(message.body) for message in stored) == list(range(5000))
    places = {(message.queue, message.queue_offset): message.body for message in stored}
    assert [places[receipt.queue, receipt.queue_offset] for receipt in receipts] == [b"%d" % n for n in range(5000)]
    per_queue = defaultdict(list)
    for message in stored:
        per_queue[message.queue].append(message.queue_offset)
    assert all(offsets == list(range(len(offsets))) for offsets in per_queue.values())
    # Round robin, but for sends that a busy server refused and that were tried again elsewhere.
    assert all(1000 <= len(offsets) <= 1500 for offsets in per_queue.values())


async def test_the_limit_of_sends_in_flight_holds_back(server: Server, name: str) -> None:
    async with Producer(server.nameserver, in_flight_max=10) as producer:
        await producer.send(name, b"warm")
        sends = [producer.send(name, b"x") for _ in range(200)]
        assert producer.in_flight == 10
        assert len(await asyncio.gather(*sends)) == 200


async def test_a_batch_is_stored_in_order_with_a_receipt_each(server: Server, name: str) -> None:
    other = name + "-other"
    messages = [
        Message(name if n % 3 else other, b"%d" % n, tag=f"T{n}", properties={"n": str(n)}, flag=n) for n in range(100)
    ]
    async with Producer(server.nameserver) as producer:
        assert await producer.send_many([]) == []
        receipts = await producer.send_many(messages)
    assert len({receipt.message_id for receipt in receipts}) == 100
    assert len({receipt.offset_message_id for receipt in receipts}) == 100
    for topic in (name, other):
        mine = [(m, r) for m, r in zip(messages, receipts, strict=True) if m.topic == topic]
        assert len({receipt.queue for _, receipt in mine}) == 1
        stored = await read_all(server, topic, len(mine))
        assert [(s.body, s.tag, s.properties["n"], s.flag, s.message_id, s.queue_offset) for s in stored] == [
            (m.body, m.tag, m.properties["n"], m.flag, r.message_id, r.queue_offset) for m, r in mine
        ]


async def test_a_batch_over_4_mib_goes_in_pieces(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    messages = [Message(name, bytes([n]) * 700_000) for n in range(13)]
    async with Producer(server.nameserver, send_timeout_ms=10_000) as producer:
        receipts = await producer.send_many(messages)
    assert [receipt.queue_offset for receipt in receipts] == list(range(13))
    assert [message.body[:1] for message in await read_all(server, name, 13)] == [bytes([n]) for n in range(13)]


async def test_a_batch_of_very_many_small_messages_is_stored_once(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    messages = [Message(name, b"%d" % n) for n in range(9_000)]  # their ids alone fill an answer of 300 KiB
    async with Producer(server.nameserver, send_timeout_ms=10_000) as producer:
        receipts = await producer.send_many(messages)
    assert [receipt.queue_offset for receipt in receipts] == list(range(9_000))


async def test_one_way_messages_arrive(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    async with Producer(server.nameserver) as producer:
        for n in range(50):
            await producer.send_one_way(name, b"%d" % n)
        await producer.send(name, b"50")
    assert sorted(int(message.body) for message in await read_all(server, name, 51)) == list(range(51))


async def test_messages_of_a_sharding_key_keep_their_order(server: Server, name: str) -> None:
    await make_topic(server, name, 5)
    keys = [f"customer-{n}" for n in range(20)]
    async with Producer(server.nameserver) as producer:
        for n in range(10):
            await asyncio.gather(*(producer.send(name, b"%d" % n, sharding_key=key) for key in keys))
    by_key = defaultdict(list)
    queues = defaultdict(set)
    for message in await read_all(server, name, 200):
        by_key[message.sharding_key].append(int(message.body))
        queues[message.sharding_key].add(message.queue.queue_id)
    assert by_key == {key: list(range(10)) for key in keys}
    assert all(len(found) == 1 for found in queues.values())
    assert len({next(iter(found)) for found in queues.values()}) == 5
    assert queues["customer-0"] == {abs(-1581185535) % 5}  # Java: Math.abs("customer-0".hashCode()) % 5


async def test_the_queue_can_be_chosen_by_hand(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    async with Producer(server.nameserver) as producer:
        queues = await producer.queues(name)
        assert [queue.queue_id for queue in queues] == [0, 1, 2, 3]
        receipt = await producer.send(name, b"x", queue=queues[2])
        assert receipt.queue == queues[2]
        receipt = await producer.send(name, b"x", queue=lambda choice, message: choice[-1])
        assert receipt.queue == queues[3]
        with pytest.raises(SendFailed, match="INVALID_PARAMETER"):
            await producer.send(name, b"x", queue=queues[0]._replace(queue_id=99))
        with pytest.raises(MessageIllegal, match="is none of topic"):
            await producer.send(name, b"x", queue=lambda choice, message: MessageQueue("other", "b", 0))


async def test_an_unknown_topic_is_made_by_its_first_message(server: Server, name: str) -> None:
    async with Producer(server.nameserver) as producer:
        receipts = await asyncio.gather(*(producer.send(name, b"%d" % n) for n in range(40)))
    assert {receipt.queue.queue_id for receipt in receipts} == {0, 1, 2, 3}
    assert len(await read_all(server, name, 40)) == 40
    async with Admin(server.nameserver) as admin:
        assert name in await admin.topic_list()


async def test_without_auto_creation_an_unknown_topic_has_no_route(server: Server, name: str) -> None:
    async with Producer(server.nameserver, create_topic=None) as producer:
        with pytest.raises(NoRoute) as refused:
            await producer.send(name, b"x")
    assert str(refused.value) == (
        f"no route for topic {name}: no broker knows it and auto-creation is off; "
        f"create it with `posthouse topic create {name}`"
    )


async def test_what_cannot_be_a_message_is_refused_before_it_is_sent(server: Server) -> None:
    async with Producer(server.nameserver) as producer:
        with pytest.raises(MessageIllegal, match="the body is empty"):
            producer.send("t", b"")
        with pytest.raises(MessageIllegal, match="outside A-Z"):
            producer.send("bad topic", b"x")
        with pytest.raises(MessageIllegal, match="127"):
            producer.send("t" * 128, b"x")
        with pytest.raises(MessageIllegal, match="U"):
            producer.send("t", b"x", properties={"a": "b\x01c"})
        with pytest.raises(MessageIllegal, match="the limit is 32767"):
            producer.send("t", b"x", properties={"a": "b" * 40_000})
        assert producer.in_flight == 0


async def test_a_server_that_is_not_there_is_named(name: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Producer(address) as producer:
        begun_at = time.monotonic()
        with pytest.raises(NoNameServer, match=f"{address}.*is one running"):
            await producer.send(name, b"x")
        assert time.monotonic() - begun_at < 2


async def test_closing_waits_for_the_sends_in_flight(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    producer = Producer(server.nameserver)
    async with producer:
        await producer.send(name, b"warm")
        sends = [producer.send(name, b"%d" % n) for n in range(500)]
    assert all(send.done() and send.exception() is None for send in sends)
    assert len(await read_all(server, name, 501)) == 501
    await producer.close()
    with pytest.raises(ClientClosed, match="use it inside `async with`"):
        producer.send(name, b"x")


async def test_cancelling_a_send_harms_nobody(server: Server, name: str) -> None:
    async with Producer(server.nameserver) as producer:
        await producer.send(name, b"warm")
        sends = [producer.send(name, b"%d" % n) for n in range(100)]
        for send in sends[::2]:
            send.cancel()
        receipts = await asyncio.gather(*sends[1::2])
        assert len(receipts) == 50
        await producer.send(name, b"after")
        assert producer.in_flight == 0
