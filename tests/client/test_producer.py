from __future__ import annotations

import asyncio

import pytest

from posthouse.client.errors import BatchFailed, ClientClosed, MessageIllegal, SendFailed, Timeout, Unreachable
from posthouse.client.producer import Producer
from posthouse.codec.remoting.batch import decode_batch
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import response
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2
from posthouse.model.message import Message
from posthouse.model.properties import decode_properties
from tests.client.conftest import FakeCluster, until

pytestmark = pytest.mark.asyncio


async def test_names_are_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="outside A-Z"):
        Producer(group="bad group")
    with pytest.raises(ValueError, match="host:port"):
        Producer("nowhere")


async def test_it_works_only_while_it_is_open(cluster: FakeCluster) -> None:
    producer = Producer(cluster.address)
    with pytest.raises(ClientClosed, match="is not open"):
        producer.send("t", b"x")
    async with producer:
        pass
    with pytest.raises(ClientClosed, match="is closed"):
        await producer.send_one_way("t", b"x")


async def test_a_message_or_its_parts_but_not_both(cluster: FakeCluster) -> None:
    async with Producer(cluster.address) as producer:
        with pytest.raises(MessageIllegal, match="needs the body"):
            producer.send("t")
        with pytest.raises(MessageIllegal, match="either a Message"):
            producer.send(Message("t", b"x"), b"y")
        with pytest.raises(MessageIllegal, match="either a Message"):
            producer.send(Message("t", b"x"), tag="a")


async def test_a_batch_is_one_request_and_its_ids_are_those_of_its_messages(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address) as producer:
        receipts = await producer.send_many([Message("t", b"%d" % n) for n in range(3)])
    (command,) = broker.stored
    header = SEND_MESSAGE_V2.decode(command.ext)
    assert command.code == RequestCode.SEND_BATCH_MESSAGE
    assert header.batch
    entries = decode_batch(command.body)
    assert [entry.body for entry in entries] == [b"0", b"1", b"2"]
    ids = [decode_properties(entry.properties)["UNIQ_KEY"] for entry in entries]
    assert [receipt.message_id for receipt in receipts] == ids
    assert [receipt.queue_offset for receipt in receipts] == [1, 2, 3]


async def test_keys_and_delays_part_a_batch(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=8)
    messages = [Message("t", b"%d" % n, sharding_key="ab"[n % 2]) for n in range(4)]
    messages.insert(2, Message("t", b"late", properties={"DELAY": "3"}))
    async with Producer(cluster.address) as producer:
        receipts = await producer.send_many(messages)
    codes = [command.code for command in broker.stored]
    assert sorted(codes) == [RequestCode.SEND_MESSAGE_V2] + [RequestCode.SEND_BATCH_MESSAGE] * 2
    assert receipts[0].queue == receipts[3].queue != receipts[1].queue == receipts[4].queue


async def test_a_batch_that_failed_in_part_says_which(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("good")
    cluster.add_topic("bad")

    def choosy(command: object) -> object:
        assert hasattr(command, "ext")
        if SEND_MESSAGE_V2.decode(command.ext).topic == "bad":
            return response(ResponseCode.MESSAGE_ILLEGAL, command.request_id, remark="no")  # type: ignore[attr-defined]
        return broker.store(command)  # type: ignore[arg-type]

    broker.answers[RequestCode.SEND_BATCH_MESSAGE] = choosy  # type: ignore[assignment]
    async with Producer(cluster.address) as producer:
        with pytest.raises(BatchFailed, match=r"2 of 4 messages failed, the first with.*MESSAGE_ILLEGAL") as failed:
            await producer.send_many([Message(("good", "bad")[n % 2], b"x") for n in range(4)])
    kinds = [isinstance(outcome, SendFailed) for outcome in failed.value.outcomes]
    assert kinds == [False, True, False, True]
    assert failed.value.code == ResponseCode.MESSAGE_ILLEGAL


async def test_nothing_of_a_batch_is_sent_if_one_message_cannot_be(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address) as producer:
        with pytest.raises(MessageIllegal, match="empty"):
            await producer.send_many([Message("t", b"x", properties={"DELAY": "1"}), Message("t", b"")])
        await asyncio.sleep(0.05)
    assert broker.stored == []


async def test_one_way_errors_that_can_be_known_are_raised(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address, send_timeout_ms=200) as producer:
        await producer.send_one_way("t", b"x", queue=(await producer.queues("t"))[1])
        await until(lambda: len(broker.stored) == 1)
        assert broker.stored[0].is_one_way
        assert SEND_MESSAGE_V2.decode(broker.stored[0].ext).queue_id == 1
        await broker.vanish()
        await until(lambda: producer._session.pool.peer_if_open(broker.address) is None)
        with pytest.raises(Unreachable, match="cannot connect"):
            await producer.send_one_way("t", b"x")
        cluster.nameserver.answers.clear()
        with pytest.raises(Timeout, match="no connection for a message to other"):
            await producer.send_one_way("other", b"x")


async def test_a_chooser_that_fails_fails_its_send_only(cluster: FakeCluster) -> None:
    await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address) as producer:
        with pytest.raises(SendFailed, match="ZeroDivisionError"):
            await producer.send("t", b"x", queue=lambda queues, message: queues[1 // 0])
        assert producer.in_flight == 0
        await producer.send("t", b"x")
