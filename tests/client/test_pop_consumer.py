from __future__ import annotations

from collections.abc import Iterable

import pytest

from posthouse.client.errors import BadAnswer, BrokerRefused
from posthouse.client.pop_consumer import SimpleConsumer
from posthouse.codec.remoting.bodies.pop import decode_batch_ack
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, encode_command, response
from posthouse.codec.remoting.headers.pop import ACK_MESSAGE, POP_MESSAGE
from posthouse.codec.remoting.receipts import Receipt, decode_receipt, encode_receipt
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import Source
from tests.client.conftest import FakeBroker, FakeCluster
from tests.client.records import record

pytestmark = pytest.mark.asyncio

POP, ACK, BATCH_ACK = RequestCode.POP_MESSAGE, RequestCode.ACK_MESSAGE, RequestCode.BATCH_ACK_MESSAGE
CHANGE = RequestCode.CHANGE_MESSAGE_INVISIBLETIME
NUMBERS = {"popTime": "1000", "invisibleTime": "60000", "reviveQid": "3", "restNum": "0"}


def nothing(command: Command) -> Command:
    return response(ResponseCode.POLLING_TIMEOUT, command.request_id, dict(NUMBERS))


def give(broker: FakeBroker, offsets: Iterable[int] = (), **ext: str) -> None:
    """The broker has these messages of queue 0 once."""
    left = [list(offsets)]

    def pop(command: Command) -> Command | bytes:
        if not left:
            return nothing(command)
        found = left.pop()
        said = {
            "startOffsetInfo": f"0 0 {found[0]}",
            "msgOffsetInfo": f"0 0 {','.join(map(str, found))}",
        }
        body = b"".join(record(offset, b"%d" % offset) for offset in found)
        return encode_command(response(0, command.request_id, NUMBERS | said | ext, body))

    broker.answers[POP] = pop


async def test_receipts_are_made_of_what_the_answer_says(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    give(broker, [5, 7])
    async with SimpleConsumer("g", cluster.address) as consumer:
        first, second = await consumer.receive("t", 2, invisible_s=60, wait_s=0)
    assert decode_receipt(second.receipt) == Receipt(
        QueueOffset(5), EpochMs(1000), 60_000, 3, Source.NORMAL, broker.name, 0, QueueOffset(7)
    )
    assert (first.body, first.invisible_until_ms) == (b"5", 61_000)
    asked = POP_MESSAGE.decode(next(each for each in broker.seen if each.code == POP).ext)
    assert (asked.consumer_group, asked.queue_id, asked.messages_max, asked.invisible_ms) == ("g", -1, 2, 60_000)


async def test_a_retry_is_acknowledged_in_the_topic_that_it_was_read_from(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    text = encode_receipt(
        Receipt(QueueOffset(2), EpochMs(1000), 60_000, 3, Source.RETRY, broker.name, 0, QueueOffset(2))
    )
    body = record(2, b"again", properties={"POP_CK": text}, reconsume_times=1)
    broker.answers[POP] = lambda command: encode_command(
        response(0, command.request_id, NUMBERS | {"startOffsetInfo": "1 0 2", "msgOffsetInfo": "1 0 2"}, body)
    )
    broker.answers[ACK] = lambda command: response(0, command.request_id)
    async with SimpleConsumer("g", cluster.address) as consumer:
        (message,) = await consumer.receive("t", wait_s=0)
        await consumer.ack(message)
    assert (message.topic, message.attempt) == ("t", 2)
    said = ACK_MESSAGE.decode(next(each for each in broker.seen if each.code == ACK).ext)
    assert (said.topic, said.queue_id, said.offset, said.receipt) == ("%RETRY%g_t", 0, 2, text)


async def test_many_acknowledgements_of_one_pop_are_one_entry(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    give(broker, [5, 6, 9])
    broker.answers[BATCH_ACK] = lambda command: response(0, command.request_id)
    async with SimpleConsumer("g", cluster.address) as consumer:
        await consumer.ack_all(await consumer.receive("t", wait_s=0))
    (said,) = [each for each in broker.seen if each.code == BATCH_ACK]
    (entry,) = decode_batch_ack(said.body)
    assert (entry.start, entry.offsets, entry.at_ms) == (5, (5, 6, 9), 1000)


async def test_a_changed_time_gives_a_new_receipt(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    give(broker, [5, 6])
    broker.answers[CHANGE] = lambda command: response(
        0, command.request_id, {"popTime": "2000", "invisibleTime": "5000", "reviveQid": "4"}
    )
    async with SimpleConsumer("g", cluster.address) as consumer:
        _, message = await consumer.receive("t", wait_s=0)
        await consumer.change_invisible_time(message, 5)
        with pytest.raises(ValueError, match="invisible_s"):
            await consumer.change_invisible_time(message, -1)
    assert decode_receipt(message.receipt) == Receipt(
        QueueOffset(6), EpochMs(2000), 5000, 4, Source.NORMAL, broker.name, 0, QueueOffset(6)
    )


async def test_an_ordered_message_knows_how_often_it_was_given(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    give(broker, [5, 6], orderCountInfo="0 qo0%6 2")
    async with SimpleConsumer("g", cluster.address) as consumer:
        messages = await consumer.receive("t", ordered=True, wait_s=0)
    assert [message.attempt for message in messages] == [1, 3]


async def test_every_broker_of_the_topic_is_asked(cluster: FakeCluster) -> None:
    one, two = await cluster.add_broker(), await cluster.add_broker()
    cluster.add_topic("t")
    one.answers[POP] = nothing
    give(two, [1])
    async with SimpleConsumer("g", cluster.address) as consumer:
        for _ in range(2):  # whoever is first
            messages = await consumer.receive("t", wait_s=0)
            if messages:
                break
        assert [message.broker_name for message in messages] == [two.name]
        assert await consumer.receive("t", wait_s=0) == []
    assert one.count(POP) >= 1


async def test_what_only_shares_the_hash_of_a_tag_is_let_go(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    body = record(5, b"no", properties={"TAGS": "BB"}) + record(6, b"yes", properties={"TAGS": "Aa"})  # one hash
    broker.answers[POP] = lambda command: encode_command(
        response(0, command.request_id, NUMBERS | {"startOffsetInfo": "0 0 5", "msgOffsetInfo": "0 0 5,6"}, body)
    )
    broker.answers[BATCH_ACK] = lambda command: response(0, command.request_id)
    async with SimpleConsumer("g", cluster.address) as consumer:
        (message,) = await consumer.receive("t", expression="Aa", wait_s=0)
    assert message.body == b"yes"
    (said,) = [each for each in broker.seen if each.code == BATCH_ACK]
    assert decode_batch_ack(said.body)[0].offsets == (5,)


async def test_a_refusal_and_an_answer_that_cannot_be_read_are_errors(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.answers[POP] = lambda command: response(ResponseCode.POLLING_FULL, command.request_id, remark="full")
    async with SimpleConsumer("g", cluster.address) as consumer:
        with pytest.raises(BrokerRefused, match="full"):
            await consumer.receive("t", wait_s=0)
        give(broker, [5], msgOffsetInfo="0 0")
        with pytest.raises(BadAnswer):
            await consumer.receive("t", wait_s=0)
