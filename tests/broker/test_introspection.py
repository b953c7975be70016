"""What operators ask consumers through the broker: who is asked, what comes back, and who cannot be asked."""

from __future__ import annotations

import pytest

from posthouse.broker.broker import Broker
from posthouse.codec.record import decode_record
from posthouse.codec.remoting.bodies.client_status import encode_client_offsets
from posthouse.model.heartbeat import HeartbeatData
from posthouse.model.ids import offset_message_id
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.question import ClientAnswer, Question
from posthouse.model.refusal import Reason, Refused
from tests.broker.brokers import HERE, FakeChannel, member, message, running, send

pytestmark = pytest.mark.asyncio

QUEUE = MessageQueue("T", "broker-a", 0)
FIELDS = {"consumerGroup": "G", "clientId": "client-1", "more": "is passed on"}


def joined(broker: Broker, client_id: str = "client-1", version: int = 479) -> FakeChannel:
    channel = FakeChannel(f"10.0.0.1:{len(client_id)}")
    broker.clients.heartbeat(channel, "JAVA", version, HeartbeatData(client_id, (), (member("G", "T"),)))
    return channel


def offsets(offset: int) -> ClientAnswer:
    return ClientAnswer(body=encode_client_offsets({QUEUE: QueueOffset(offset)}))


# 307 and 309


async def test_member_is_asked_for_its_inside_and_what_it_says_is_passed_on() -> None:
    async with running() as broker:
        joined(broker, "other")
        channel = joined(broker)
        channel.answers.append(ClientAnswer(1, "not now", {"a": "b"}, b"body"))
        answer = await broker.introspection.running_info("G", "client-1", FIELDS)
        assert answer == ClientAnswer(1, "not now", {"a": "b"}, b"body")
        assert channel.questions == [(Question.RUNNING_INFO, FIELDS, b"")]


async def test_member_is_given_the_stored_record() -> None:
    async with running() as broker:
        channel = joined(broker)
        channel.answers += [ClientAnswer(body=b"done"), ClientAnswer(body=b"again")]
        sent = await send(broker, message("T", b"wanted"))
        place = offset_message_id(HERE, sent.put.log_offset)
        assert (await broker.introspection.consume_directly("G", "client-1", place, FIELDS)).body == b"done"
        assert (await broker.introspection.consume_directly("G", None, place, FIELDS)).body == b"again"
        question, fields, record = channel.questions[0]
        assert (question, fields) == (Question.CONSUME_DIRECTLY, FIELDS)
        assert decode_record(record).body == b"wanted"


async def test_message_that_is_not_there_is_not_passed_on() -> None:
    async with running() as broker:
        channel = joined(broker)
        for message_id, reason in (
            ("not hex", Reason.INVALID_PARAMETER),
            ("00" * 15, Reason.INVALID_PARAMETER),
            (offset_message_id(HERE, LogOffset(10**9)), Reason.FAILED),
        ):
            with pytest.raises(Refused) as caught:
                await broker.introspection.consume_directly("G", "client-1", message_id, FIELDS)
            assert caught.value.reason is reason
        assert channel.questions == []


@pytest.mark.parametrize(
    ("group", "client_id", "words"),
    [("H", "client-1", "no consumer connected"), ("G", "client-2", "not a member"), ("G", "old", "of version 61")],
)
async def test_client_that_cannot_be_asked_is_refused_at_once(group: str, client_id: str, words: str) -> None:
    async with running() as broker:
        joined(broker)
        joined(broker, "old", version=61)
        with pytest.raises(Refused, match=words) as caught:
            await broker.introspection.running_info(group, client_id, FIELDS)
        assert caught.value.reason is Reason.FAILED


async def test_silent_client_is_told_of_as_such() -> None:
    async with running() as broker:
        joined(broker)
        with pytest.raises(Refused, match="silent for 10 s") as caught:
            await broker.introspection.running_info("G", "client-1", FIELDS)
        assert caught.value.reason is Reason.CLIENT_SILENT


# 223


async def test_all_members_are_asked_for_their_offsets() -> None:
    async with running() as broker:
        first, second = joined(broker), joined(broker, "client-22")
        first.answers.append(offsets(5))
        second.answers.append(offsets(7))
        found = await broker.introspection.consumer_status("G", "T")
        assert found == {"client-1": {QUEUE: 5}, "client-22": {QUEUE: 7}}
        assert first.questions == [(Question.CONSUMER_STATUS, {"topic": "T", "group": "G"}, b"")]


async def test_one_member_is_asked_if_it_is_named() -> None:
    async with running() as broker:
        first, second = joined(broker), joined(broker, "client-22")
        second.answers.append(offsets(7))
        assert await broker.introspection.consumer_status("G", "T", "client-22") == {"client-22": {QUEUE: 7}}
        assert first.questions == []
        for group, client_id in (("H", None), ("G", "client-3")):
            with pytest.raises(Refused) as caught:
                await broker.introspection.consumer_status(group, "T", client_id)
            assert caught.value.reason is Reason.CONSUMER_NOT_ONLINE


async def test_member_that_gives_no_offsets_is_left_out_unless_nobody_does(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as broker:
        first, second = joined(broker), joined(broker, "client-22")
        first.answers += [ClientAnswer(1, "cannot"), ClientAnswer(1, "cannot")]
        second.answers += [offsets(7), ClientAnswer(body=b"{")]
        assert await broker.introspection.consumer_status("G", "T") == {"client-22": {QUEUE: 7}}
        assert "cannot" in caplog.text
        with pytest.raises(Refused, match="cannot") as caught:
            await broker.introspection.consumer_status("G", "T")
        assert caught.value.reason is Reason.FAILED


async def test_group_of_an_old_client_is_not_asked() -> None:
    async with running() as broker:
        joined(broker, version=27)
        with pytest.raises(Refused, match="of version 27"):
            await broker.introspection.consumer_status("G", "T")
