"""Questions that a broker passes on to a consumer, over real connections: 223, 307, 309."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.codec.record import decode_record
from posthouse.codec.remoting.bodies.client_status import encode_client_offsets
from posthouse.codec.remoting.bodies.inspection import decode_consumer_status
from posthouse.codec.remoting.command import Command, response
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from tests.broker.brokers import member, until
from tests.endpoint.clients import C, Client, R, client, house

pytestmark = pytest.mark.asyncio

QUEUE = MessageQueue("T", "broker-a", 0)


async def asked(consumer: Client, count: int = 1) -> Command:
    """The next question to the consumer."""
    questions: list[Command] = []

    def come() -> bool:
        questions[:] = [told for told in consumer.told if not told.is_one_way]
        return len(questions) == count

    await until(come)
    return questions[-1]


async def test_inside_of_a_consumer_is_passed_on() -> None:
    async with (
        house(nameserver_port=None) as found,
        client(found.broker_address) as consumer,
        client(found.broker_address) as admin,
    ):
        await consumer.beat(member("G", "T"))
        ext = {"consumerGroup": "G", "clientId": "client-1", "jstackEnable": True}
        asking = asyncio.create_task(admin.ask(C.GET_CONSUMER_RUNNING_INFO, ext))
        question = await asked(consumer)
        assert question.code == C.GET_CONSUMER_RUNNING_INFO
        assert question.ext_map() == {"consumerGroup": "G", "clientId": "client-1", "jstackEnable": "true"}
        consumer.peer.answer(response(0, question.request_id, {"x": "y"}, b"all about me"))
        answer = await asking
        assert (answer.code, answer.body, answer.ext_map()) == (0, b"all about me", {"x": "y"})


async def test_consumer_is_given_a_stored_message() -> None:
    async with (
        house(nameserver_port=None) as found,
        client(found.broker_address) as consumer,
        client(found.broker_address) as admin,
    ):
        await consumer.beat(member("G", "T"))
        sent = await admin.send("T", b"wanted")
        ext = {"consumerGroup": "G", "clientId": "client-1", "msgId": sent.msg_id, "brokerName": "somebody"}
        asking = asyncio.create_task(admin.ask(C.CONSUME_MESSAGE_DIRECTLY, ext))
        question = await asked(consumer)
        assert question.ext_map() == {**ext, "brokerName": "broker-a"}
        assert decode_record(question.body).body == b"wanted"
        consumer.peer.answer(response(1, question.request_id, remark="no listener"))
        answer = await asking
        assert (answer.code, answer.remark) == (1, "no listener")


async def test_client_that_goes_or_is_not_there_is_an_error() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as admin:
        async with client(found.broker_address) as consumer:
            await consumer.beat(member("G", "T"))
            ext = {"consumerGroup": "G", "clientId": "client-1"}
            asking = asyncio.create_task(admin.ask(C.GET_CONSUMER_RUNNING_INFO, ext))
            await asked(consumer)
        assert (await asking).code == R.SYSTEM_ERROR
        for code in (C.GET_CONSUMER_RUNNING_INFO, C.CONSUME_MESSAGE_DIRECTLY):
            assert (await admin.ask(code, {**ext, "msgId": "00" * 16})).code == R.SYSTEM_ERROR
        assert (await admin.ask(C.CONSUME_MESSAGE_DIRECTLY, ext)).code == R.INVALID_PARAMETER
        status = await admin.ask(C.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, {"topic": "T", "group": "G"})
        assert status.code == R.CONSUMER_NOT_ONLINE


async def test_client_that_does_not_answer_is_told_of_after_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.introspection.CLIENT_ANSWER_SECONDS_MAX", 0.05)
    async with (
        house(nameserver_port=None) as found,
        client(found.broker_address) as consumer,
        client(found.broker_address) as admin,
    ):
        await consumer.beat(member("G", "T"))
        answer = await admin.ask(C.GET_CONSUMER_RUNNING_INFO, {"consumerGroup": "G", "clientId": "client-1"})
        assert answer.code == R.CONSUME_MSG_TIMEOUT


async def test_offsets_of_members_are_gathered() -> None:
    async with (
        house(nameserver_port=None) as found,
        client(found.broker_address) as consumer,
        client(found.broker_address) as admin,
    ):
        await consumer.beat(member("G", "T"))
        for number, client_id in enumerate(("", "client-1"), 1):
            ext = {"topic": "T", "group": "G", "clientAddr": client_id}
            asking = asyncio.create_task(admin.ask(C.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, ext))
            question = await asked(consumer, number)
            assert (question.code, question.ext_map()) == (221, {"topic": "T", "group": "G"})
            consumer.peer.answer(response(0, question.request_id, None, encode_client_offsets({QUEUE: QueueOffset(5)})))
            assert decode_consumer_status((await asking).body) == {"client-1": {QUEUE: 5}}
