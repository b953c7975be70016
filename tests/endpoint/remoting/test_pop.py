"""Popping over raw frames: what clients ask, and the strings that they take apart."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from posthouse.codec.record import decode_records
from posthouse.codec.remoting.bodies.pop import BatchAck, encode_batch_ack
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.pop import (
    CHANGE_INVISIBLE_TIME_REPLY,
    NOTIFICATION_REPLY,
    POLLING_INFO_REPLY,
    POP_MESSAGE_REPLY,
    PopMessageReply,
)
from posthouse.codec.remoting.receipts import (
    Receipt,
    decode_offset_info,
    decode_order_count_info,
    decode_receipt,
    decode_start_offset_info,
    encode_receipt,
)
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import Source
from tests.broker.brokers import until
from tests.endpoint.clients import C, Client, R, client, house
from tests.endpoint.remoting.test_broker import broker_of

pytestmark = pytest.mark.asyncio


def pop_ext(topic: str, **changes: Any) -> dict[str, Any]:
    ext: dict[str, Any] = {
        "consumerGroup": "G",
        "topic": topic,
        "queueId": -1,
        "maxMsgNums": 32,
        "invisibleTime": 60_000,
        "pollTime": 0,
        "bornTime": int(time.time() * 1000),
        "initMode": 0,
        "expType": "TAG",
        "exp": "*",
        "order": False,
    }
    return ext | changes


class Popped:
    """An answer, taken apart as the Java client does it."""

    def __init__(self, topic: str, answer: Command) -> None:
        self.code = answer.code
        if answer.code not in (R.SUCCESS, R.POLLING_TIMEOUT, R.POLLING_FULL):
            return
        self.head: PopMessageReply = POP_MESSAGE_REPLY.decode(answer.ext)
        self.messages = decode_records(answer.body) if answer.body else []
        self.counts = decode_order_count_info(self.head.order_count_info or "")
        self.receipts: list[str] = []
        starts = decode_start_offset_info(self.head.start_offset_info or "")
        offsets = decode_offset_info(self.head.offset_info or "")
        seen: dict[tuple[Source, int], int] = {}
        for message in self.messages:
            text = message.properties.get("POP_CK")
            if text is None:
                assert message.topic == topic
                key = Source.NORMAL, message.queue_id
                index = seen.get(key, 0)
                seen[key] = index + 1
                offset = offsets[key][index]
                assert offset == message.queue_offset
                head = self.head
                text = encode_receipt(
                    Receipt(
                        starts[key], EpochMs(head.at_ms), head.invisible_ms, head.revive_queue_id, Source.NORMAL,
                        "broker-a", message.queue_id, offset,
                    )
                )  # fmt: skip
            self.receipts.append(text)

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


async def pop(found: Client, topic: str, **changes: Any) -> Popped:
    return Popped(topic, await found.ask(C.POP_MESSAGE, pop_ext(topic, **changes)))


def receipt_ext(topic: str, text: str, **changes: Any) -> dict[str, Any]:
    receipt = decode_receipt(text)
    names = {Source.NORMAL: topic, Source.RETRY: f"%RETRY%G_{topic}", Source.RETRY_V2: f"%RETRY%G+{topic}"}
    ext: dict[str, Any] = {
        "consumerGroup": "G",
        "topic": names[receipt.source],
        "queueId": receipt.queue_id,
        "extraInfo": text,
        "offset": receipt.offset,
    }
    return ext | changes


async def ack(found: Client, topic: str, text: str, **changes: Any) -> Command:
    return await found.ask(C.ACK_MESSAGE, receipt_ext(topic, text, **changes))


async def test_a_message_is_popped_once_and_acknowledged() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        for number in range(3):
            await found.send("T", b"%d" % number)
        popped = await pop(found, "T")
        assert popped.code == R.SUCCESS
        assert popped.bodies == [b"0", b"1", b"2"]
        assert (popped.head.start_offset_info, popped.head.offset_info) == ("0 0 0", "0 0 0,1,2")
        assert popped.head.rest == 0
        assert (await pop(found, "T")).code == R.POLLING_TIMEOUT
        for text in popped.receipts:
            assert (await ack(found, "T", text)).code == R.SUCCESS
        assert not broker_of(serving).store.in_flight.live.messages


async def test_what_is_not_acknowledged_comes_again_from_the_retry_topic() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"again")
        first = await pop(found, "T", invisibleTime=100)
        assert first.bodies == [b"again"]
        second = await pop(found, "T", pollTime=5000)
        assert second.bodies == [b"again"]
        (message,) = second.messages
        assert (message.topic, message.reconsume_times) == ("T", 1)
        assert message.properties["1ST_POP_TIME"] == str(first.head.at_ms)
        receipt = decode_receipt(message.properties["POP_CK"])
        assert (receipt.source, receipt.queue_id, receipt.offset) == (Source.RETRY, 0, 0)
        assert second.head.start_offset_info == "1 0 0"
        assert (await ack(found, "T", second.receipts[0])).code == R.SUCCESS
        assert not broker_of(serving).store.in_flight.live.messages


async def test_every_answer_has_the_numbers_that_clients_take_for_granted() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"x")
        for answer in (await pop(found, "T"), await pop(found, "T")):
            assert answer.code in (R.SUCCESS, R.POLLING_TIMEOUT)
            assert abs(answer.head.at_ms - time.time() * 1000) < 5000
            assert answer.head.invisible_ms == 60_000
            assert 0 <= answer.head.revive_queue_id < 8


async def test_messages_of_several_queues_are_told_apart() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        for number in range(12):
            await found.send("T", b"%d" % number, queueId=number % 4)
        popped = await pop(found, "T")
        assert sorted(popped.bodies) == sorted(b"%d" % number for number in range(12))
        assert sorted((popped.head.start_offset_info or "").split(";")) == ["0 0 0", "0 1 0", "0 2 0", "0 3 0"]
        for text in popped.receipts:
            assert (await ack(found, "T", text)).code == R.SUCCESS
        assert not broker_of(serving).store.in_flight.live.messages


async def test_retries_and_new_messages_come_in_one_answer() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"old")
        await pop(found, "T", invisibleTime=50)
        await until(lambda: not broker_of(serving).store.in_flight.live.messages)
        await found.send("T", b"new")
        popped = await pop(found, "T")
        assert sorted(popped.bodies) == [b"new", b"old"]
        assert {decode_receipt(text).source for text in popped.receipts} == {Source.NORMAL, Source.RETRY}
        assert {message.topic for message in popped.messages} == {"T"}
        for text in popped.receipts:
            await ack(found, "T", text)
        assert not broker_of(serving).store.in_flight.live.messages


async def test_an_acknowledgement_of_nothing_has_its_code() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"x")
        (text,) = (await pop(found, "T")).receipts
        for changes, code in (
            ({"topic": "NoSuchTopic"}, R.TOPIC_NOT_EXIST),
            ({"queueId": 99}, R.MESSAGE_ILLEGAL),
            ({"offset": 5}, R.NO_MESSAGE),
            ({"extraInfo": "1 2 3"}, R.SYSTEM_ERROR),
        ):
            answer = await found.ask(C.ACK_MESSAGE, receipt_ext("T", text) | changes)
            assert answer.code == code
        assert broker_of(serving).store.in_flight.live.messages == 1


async def test_a_changed_time_gives_what_the_new_receipt_is_made_of() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"x")
        (text,) = (await pop(found, "T", invisibleTime=300)).receipts
        answer = await found.ok(C.CHANGE_MESSAGE_INVISIBLETIME, receipt_ext("T", text, invisibleTime=30_000))
        reply = CHANGE_INVISIBLE_TIME_REPLY.decode(answer.ext)
        assert reply.invisible_ms == 30_000
        await asyncio.sleep(0.5)
        assert (await pop(found, "T")).code == R.POLLING_TIMEOUT
        old = decode_receipt(text)
        renewed = old._replace(start=old.offset, at_ms=EpochMs(reply.at_ms), invisible_ms=reply.invisible_ms)
        again = await found.ask(C.CHANGE_MESSAGE_INVISIBLETIME, receipt_ext("T", text, invisibleTime=1000))
        assert again.code == R.NO_MESSAGE
        assert (await ack(found, "T", encode_receipt(renewed))).code == R.SUCCESS
        assert not broker_of(serving).store.in_flight.live.messages


async def test_many_are_acknowledged_with_one_request() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        for number in range(10):
            await found.send("T", b"%d" % number)
        head = (await pop(found, "T")).head
        offsets = tuple(map(QueueOffset, (0, 2, 4, 9)))
        wrong = BatchAck("G", "Gone", Source.NORMAL, QueueOffset(0), 0, 0, EpochMs(head.at_ms), 1, offsets)
        right = wrong._replace(topic="T")
        await found.ok(C.BATCH_ACK_MESSAGE, body=encode_batch_ack("broker-a", [wrong, right]))
        assert broker_of(serving).store.in_flight.live.messages == 6
        assert (await found.ask(C.BATCH_ACK_MESSAGE, body=b"{}")).code == R.NO_MESSAGE
        assert (await found.ask(C.BATCH_ACK_MESSAGE, body=b"[")).code == R.SYSTEM_ERROR


async def test_an_ordered_pop_says_how_often_each_was_given() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        for number in range(2):
            await found.send("T", b"%d" % number)
        first = await pop(found, "T", order=True, invisibleTime=100, attemptId="a")
        assert (first.head.revive_queue_id, first.counts) == (999, {})
        assert (await pop(found, "T", order=True, attemptId="b")).code == R.POLLING_TIMEOUT
        second = await pop(found, "T", order=True, pollTime=3000, attemptId="b")
        assert second.counts == {(Source.NORMAL, 0, 0): 1, (Source.NORMAL, 0, 1): 1}
        for text in second.receipts:
            assert (await ack(found, "T", text)).code == R.SUCCESS
        assert broker_of(serving).store.offsets.find("G", "T", 0) == 2
        assert (await ack(found, "T", second.receipts[0])).code == R.SUCCESS, "acknowledged already"


async def test_a_held_pop_is_answered_when_a_message_comes_and_forgotten_with_its_connection() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"first")
        await pop(found, "T")
        async with client(serving.broker_address) as leaving:
            asked = asyncio.create_task(pop(leaving, "T", pollTime=4000))
            await until(lambda: broker_of(serving).pop.waiting.waiting == 1)
            answer = await found.ok(C.POLLING_INFO, {"consumerGroup": "G", "topic": "T", "queueId": -1})
            assert POLLING_INFO_REPLY.decode(answer.ext).waiting == 1
            asked.cancel()
        await until(lambda: broker_of(serving).pop.waiting.waiting == 0)
        waiting = asyncio.create_task(pop(found, "T", pollTime=4000))
        await until(lambda: broker_of(serving).pop.waiting.waiting == 1)
        async with client(serving.broker_address) as other:
            await other.send("T", b"second")
        assert (await waiting).bodies == [b"second"]


async def test_too_many_held_pops_have_their_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.pop_waiting.WAITING_POPS_MAX", 0)
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"x")
        await pop(found, "T")
        assert (await pop(found, "T", pollTime=3000)).code == R.POLLING_FULL


async def test_a_look_and_a_notification_take_nothing() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        await found.send("T", b"x")
        peek = {"consumerGroup": "G", "topic": "T", "queueId": -1, "maxMsgNums": 10}
        answer = await found.ok(C.PEEK_MESSAGE, peek)
        assert [each.body for each in decode_records(answer.body)] == [b"x"]
        ask = {"consumerGroup": "G", "topic": "T", "queueId": -1, "pollTime": 0, "bornTime": 0}
        said = NOTIFICATION_REPLY.decode((await found.ok(C.NOTIFICATION, ask)).ext)
        assert (said.has_message, said.polling_full) == (True, False)
        assert (await pop(found, "T")).bodies == [b"x"]
        assert (await found.ask(C.PEEK_MESSAGE, peek)).code == R.PULL_NOT_FOUND
        said = NOTIFICATION_REPLY.decode((await found.ok(C.NOTIFICATION, ask)).ext)
        assert (said.has_message, said.polling_full) == (False, False)


async def test_what_there_is_not_is_refused_with_a_reason() -> None:
    async with house() as serving, client(serving.broker_address) as found:
        answer = await found.ask(C.POP_ROLLBACK)
        assert answer.code == R.REQUEST_CODE_NOT_SUPPORTED
        assert "RocksDB" in (answer.remark or "")
        assert (await pop(found, "NoSuchTopic")).code == R.TOPIC_NOT_EXIST
