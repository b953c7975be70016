"""Replies: to whom they are pushed, what the one that replies is told, and that they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.broker.replies import PUSH_SECONDS, Stored
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.limits import REPLIES_BYTES_MAX
from posthouse.model.message import NewMessage
from posthouse.model.names import TRACE_TOPIC, reply_topic
from posthouse.model.properties import encode_properties, find_property
from posthouse.model.question import ClientAnswer, Question
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import TopicTable
from tests.broker.brokers import HERE, FakeChannel, beat, host_on, message, pull, request, running, some_turns
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

TOPIC = reply_topic("DefaultCluster")


def told(pushed: NewMessage, now_ms: EpochMs) -> Mapping[str, str]:
    return {"properties": pushed.properties, "at": str(now_ms)}


def reply(to: str | None = "asker", body: bytes = b"42") -> NewMessage:
    properties = {names.CORRELATION_ID: "c-1"} | ({} if to is None else {names.REPLY_TO_CLIENT: to})
    return message(TOPIC, body, properties=encode_properties(properties))


async def take(broker: Broker, said: NewMessage) -> Stored | None:
    return await broker.replies.take(said, "TBW102", 4, HERE, told)


async def stored_bodies(broker: Broker) -> list[bytes]:
    return [each.body for each in await pull(broker, request(TOPIC)).messages()]


async def test_a_reply_is_pushed_to_the_client_that_asked_and_stored() -> None:
    async with running(host=host_on(FaultyDisk(), ManualClock(7000))) as broker:
        asker, other = FakeChannel(answers=[ClientAnswer()]), FakeChannel()
        beat(broker, asker, client_id="asker", producers=("P",))
        beat(broker, other, client_id="other", producers=("P",))
        stored = await take(broker, reply())
        assert stored is not None
        assert (stored.put.queue.queue_id, stored.put.queue_offset) == (0, 0)
        ((question, fields, body),) = asker.questions
        assert (question, body, fields["at"]) == (Question.REPLY, b"42", "7000")
        assert find_property(fields["properties"], names.CORRELATION_ID) == "c-1"
        assert find_property(fields["properties"], names.PUSH_REPLY_TIME) == "7000"
        assert other.questions == []
        assert await stored_bodies(broker) == [b"42"]


@pytest.mark.parametrize(
    ("to", "answers", "remark"),
    [
        (None, [], "reply message properties[REPLY_TO_CLIENT] is null"),
        ("nobody", [], "push reply message fail, channel of <nobody> not found"),
        ("asker", [ClientAnswer(1, "no such request")], "push reply message to asker fail: it said 1 no such request"),
        ("asker", [Refused(Reason.CLIENT_SILENT, "silent")], "push reply message to asker fail: silent"),
        ("asker", [Refused(Reason.FAILED, "gone")], "push reply message to asker fail: gone"),
    ],
)
async def test_a_reply_that_nobody_took_is_refused_and_stored_all_the_same(
    to: str | None, answers: list[ClientAnswer | Refused], remark: str
) -> None:
    async with running() as broker:
        beat(broker, FakeChannel(answers=answers), client_id="asker", producers=("P",))
        with pytest.raises(Refused, match=r".") as caught:
            await take(broker, reply(to))
        assert caught.value.reason is Reason.FAILED
        assert caught.value.remark.startswith(remark)
        assert await stored_bodies(broker) == [b"42"]


async def test_a_client_is_found_by_its_id_while_it_is_a_producer_here() -> None:
    async with running() as broker:
        first, second = FakeChannel(), FakeChannel()
        find = broker.clients.producer_channel
        beat(broker, first, client_id="C", producers=("P", "Q"))
        assert find("C") is first
        beat(broker, second, client_id="C", producers=("P",))
        assert find("C") is second, "the one that was heard last"
        broker.clients.disconnected(first)
        assert find("C") is second
        broker.clients.unregister(second, "P", None)
        assert find("C") is None
        beat(broker, first, client_id="C", producers=("P", "Q"))
        broker.clients.unregister(first, "P", None)
        assert find("C") is first, "it is a producer of another group"
        beat(broker, first, client_id="D", producers=("Q",))
        assert (find("C"), find("D")) == (None, first)


async def test_a_wrong_reply_is_refused_and_nobody_is_asked() -> None:
    async with running(BrokerConfig(auto_create_topics=False)) as broker:
        asker = FakeChannel(answers=[ClientAnswer()])
        beat(broker, asker, client_id="asker", producers=("P",))
        with pytest.raises(Refused) as caught:
            await take(broker, reply()._replace(topic="other_REPLY_TOPIC"))
        assert caught.value.reason is Reason.TOPIC_NOT_EXIST
        assert asker.questions == []


async def test_a_reply_that_cannot_be_stored_is_pushed_all_the_same() -> None:
    async with running() as broker:
        asker = FakeChannel(answers=[ClientAnswer()])
        beat(broker, asker, client_id="asker", producers=("P",))
        await broker.store.drain()
        assert await take(broker, reply()) is None
        assert len(asker.questions) == 1


class Slow(FakeChannel):
    """Says yes when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def ask(
        self, question: Question, fields: Mapping[str, str], body: bytes = b"", *, timeout_s: float
    ) -> ClientAnswer:
        assert timeout_s == PUSH_SECONDS
        await self.let.wait()
        return ClientAnswer()


async def test_replies_that_wait_for_clients_are_bounded_in_bytes() -> None:
    async with running() as broker:
        asker = Slow()
        beat(broker, asker, client_id="asker", producers=("P",))
        size = 4 * 1024 * 1024
        body = bytes(size)
        waiting = [asyncio.create_task(take(broker, reply(body=body))) for _ in range(REPLIES_BYTES_MAX // size)]
        await some_turns()
        with pytest.raises(Refused) as caught:
            await take(broker, reply())
        assert caught.value.reason is Reason.BUSY
        asker.let.set()
        await asyncio.gather(*waiting)
        assert await take(broker, reply()) is not None


async def test_the_topics_of_replies_and_traces_are_there_from_the_start_and_cannot_be_deleted() -> None:
    async with running(BrokerConfig(auto_create_topics=False)) as broker:
        known = {config.name: config for config in broker.topics.configs()}
        for topic in (TOPIC, TRACE_TOPIC):
            assert (known[topic].write_queues, known[topic].perm) == (1, 6)
            assert topic in broker.topics.names_of_system()
            with pytest.raises(Refused):
                await broker.topics.delete(topic)


async def test_a_trace_topic_that_was_made_otherwise_stays_as_it_is() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        made = TopicConfig(TRACE_TOPIC, 8, 8)
        await broker.store.record_and_wait(Kind.TOPIC_SET, TopicTable.set_body(made), lambda error: None)
    async with running(host=host) as broker:
        assert broker.topics.require(TRACE_TOPIC).config == made, "what is in its queues can still be read"
