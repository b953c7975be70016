"""What a client notes in the trace topic, and that noting costs the program nothing but a bounded piece of memory."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.client import trace as module
from posthouse.client.errors import MessageIllegal, PosthouseError
from posthouse.client.producer import Producer
from posthouse.client.received import ReceivedMessage
from posthouse.client.session import Session
from posthouse.client.trace import GROUP_PREFIX, LINES_PER_MESSAGE_MAX, Tracer, tracer_of
from posthouse.codec.remoting.bodies.trace import (
    ContextCode,
    Delivered,
    Handled,
    MessageType,
    Published,
    TraceLine,
    decode_trace,
)
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2
from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, Message, MessageQueue, SysFlag
from posthouse.model.names import TRACE_TOPIC
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import decode_properties, encode_properties
from tests.client.conftest import FakeBroker, FakeCluster, until

pytestmark = pytest.mark.asyncio

NOWHERE = Endpoint(b"\0\0\0\0", 0)


def received(message_id: str, keys: str = "", times: int = 0, **more: str) -> ReceivedMessage:
    properties = {"UNIQ_KEY": message_id, "KEYS": keys, "MSG_REGION": "R"} | more
    return ReceivedMessage(
        "t", 0, QueueOffset(0), LogOffset(0), b"x", properties, 0, 0, EpochMs(0), NOWHERE, EpochMs(0), NOWHERE, times,
        LogOffset(0), 0, 0, "b", MessageQueue("t", "b", 0),
    )  # fmt: skip


def traces(cluster: FakeCluster, topic: str = TRACE_TOPIC) -> list[tuple[dict[str, str], list[TraceLine]]]:
    """Properties and lines of each trace message that was stored."""
    found = []
    for broker in cluster.brokers:
        for command in broker.stored:
            header = SEND_MESSAGE_V2.decode(command.ext)
            if header.topic == topic:
                body = zlib.decompress(command.body) if header.sys_flag & SysFlag.COMPRESSED else command.body
                lines, unread = decode_trace(body)
                assert unread == 0
                found.append((decode_properties(header.properties or ""), lines))
    return found


def all_lines(cluster: FakeCluster) -> list[TraceLine]:
    return [line for _, lines in traces(cluster) for line in lines]


@asynccontextmanager
async def tracing(cluster: FakeCluster, topic: str = TRACE_TOPIC) -> AsyncIterator[Tracer]:
    session = Session(cluster.address, host=None, kind="test")
    session.start()
    tracer = Tracer(session, "G", topic)
    tracer.start()
    try:
        yield tracer
    finally:
        await tracer.close(0.5)
        await session.close()


async def ready(cluster: FakeCluster) -> FakeBroker:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    cluster.add_topic(TRACE_TOPIC, 1)
    return broker


async def test_a_producer_notes_what_it_sent(cluster: FakeCluster) -> None:
    broker = await ready(cluster)
    async with Producer(cluster.address, group="shop", trace=True) as producer:
        receipt = await producer.send(Message("t", b"four", tag="paid", keys=("k1", "k2")))
        await until(lambda: bool(traces(cluster)))
        assert producer.tracer is not None
        assert (producer.tracer.dropped, producer.tracer.lost) == (0, 0)
    ((properties, (line,)),) = traces(cluster)
    assert isinstance(line, Published)
    assert (line.group, line.topic, line.message_id, line.tag, line.keys) == (
        "shop", "t", receipt.message_id, "paid", "k1 k2",
    )  # fmt: skip
    assert (line.store_host, line.offset_message_id) == (str(broker.address), receipt.offset_message_id)
    assert (line.body_bytes, line.message_type, line.success) == (4, MessageType.NORMAL, True)
    assert properties["KEYS"].split() == [receipt.message_id, "k1", "k2"]
    header = SEND_MESSAGE_V2.decode(broker.stored[-1].ext)
    assert header.producer_group == f"{GROUP_PREFIX}shop"


async def test_a_producer_does_not_trace_unless_it_is_told(cluster: FakeCluster) -> None:
    await ready(cluster)
    async with Producer(cluster.address) as producer:
        assert producer.tracer is None
        await producer.send("t", b"x")
    assert traces(cluster) == []


async def test_each_message_of_a_batch_is_noted(cluster: FakeCluster) -> None:
    await ready(cluster)
    async with Producer(cluster.address, trace=True) as producer:
        receipts = await producer.send_many([Message("t", b"%d" % n) for n in range(3)])
    found = all_lines(cluster)
    assert [line.message_id for line in found] == [receipt.message_id for receipt in receipts]
    assert len(traces(cluster)) == 1, "they share a message"


async def test_a_send_that_failed_is_noted_as_that(cluster: FakeCluster) -> None:
    broker = await ready(cluster)

    def refuse(command: Command) -> Command | bytes:
        if SEND_MESSAGE_V2.decode(command.ext).topic == "t":
            return response(ResponseCode.MESSAGE_ILLEGAL, command.request_id, remark="no")
        return broker.store(command)

    broker.answers[RequestCode.SEND_MESSAGE_V2] = refuse
    async with Producer(cluster.address, trace=True) as producer:
        with pytest.raises(PosthouseError):
            await producer.send("t", b"x")
    (line,) = all_lines(cluster)
    assert isinstance(line, Published)
    assert (line.success, line.offset_message_id, line.store_host) == (False, "", "")


async def test_what_waits_is_sent_when_the_client_closes(cluster: FakeCluster) -> None:
    await ready(cluster)
    async with Producer(cluster.address, trace=True) as producer:
        await producer.send("t", b"x")
    assert len(all_lines(cluster)) == 1, "sooner than the pause between a line and its sending"


async def test_a_topic_of_ones_own_is_traced_to(cluster: FakeCluster) -> None:
    await ready(cluster)
    cluster.add_topic("my-traces", 1)
    async with Producer(cluster.address, trace="my-traces") as producer:
        await producer.send("t", b"x")
        await producer.send("my-traces", b"\x02")
    assert sum(len(lines) for _, lines in traces(cluster, "my-traces")) == 1, "what goes to that topic is not traced"
    assert traces(cluster) == []
    with pytest.raises(MessageIllegal):
        Producer(cluster.address, trace="no such name")


async def test_a_consumer_notes_each_delivery_and_its_end(cluster: FakeCluster) -> None:
    await ready(cluster)
    async with tracing(cluster) as tracer:
        good = tracer.begin([received("A", "k1"), received("B", times=2)])
        tracer.end(good)
        tracer.end(tracer.begin([received("C")]), ValueError())
        tracer.end(tracer.begin([received("D")]), TimeoutError())
    found = all_lines(cluster)
    delivered = [line for line in found if isinstance(line, Delivered)]
    handled = [line for line in found if isinstance(line, Handled)]
    assert [(line.message_id, line.reconsume_times, line.keys, line.group) for line in delivered] == [
        ("A", 0, "k1", "G"), ("B", 2, "", "G"), ("C", 0, "", "G"), ("D", 0, "", "G"),
    ]  # fmt: skip
    assert [(line.message_id, line.success, line.context_code, line.group) for line in handled] == [
        ("A", True, ContextCode.SUCCESS, "G"),
        ("B", True, ContextCode.SUCCESS, "G"),
        ("C", False, ContextCode.EXCEPTION, "G"),
        ("D", False, ContextCode.TIMED_OUT, "G"),
    ]
    requests = [line.request_id for line in delivered]
    assert requests == [line.request_id for line in handled]
    assert len(set(requests)) == 3, "messages that were handled together share one"


async def test_a_broker_that_wants_no_trace_gets_none(cluster: FakeCluster) -> None:
    await ready(cluster)
    async with tracing(cluster) as tracer:
        assert tracer.begin([received("A", TRACE_ON="false")]) is None
        tracer.end(None)
    assert traces(cluster) == []


async def test_what_has_no_room_is_dropped_and_counted(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await ready(cluster)
    monkeypatch.setattr(module, "LINES_WAITING_MAX", 5)
    caplog.set_level(logging.WARNING)
    async with tracing(cluster) as tracer:
        for number in range(8):
            tracer.begin([received(f"{number}")])
        assert (tracer.waiting, tracer.dropped) == (5, 3)
        await until(lambda: not tracer.waiting and bool(caplog.records))
        tracer.begin([received("later")])
    assert [line.message_id for line in all_lines(cluster)] == ["0", "1", "2", "3", "4", "later"]
    assert "3 lines of trace were dropped" in caplog.text


async def test_a_broker_that_is_silent_costs_nothing_but_the_lines(cluster: FakeCluster) -> None:
    broker = await ready(cluster)
    del broker.answers[RequestCode.SEND_MESSAGE_V2]
    async with tracing(cluster) as tracer:
        tracer.begin([received("A")])
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 3.0
    await asyncio.sleep(0)
    assert (tracer.lost, tracer.waiting) == (1, 0)
    tracer.begin([received("B")])
    assert tracer.dropped == 1, "after its end it takes no more"


async def test_lines_share_messages_up_to_a_limit(cluster: FakeCluster) -> None:
    await ready(cluster)
    async with tracing(cluster) as tracer:
        for number in range(LINES_PER_MESSAGE_MAX + 1):
            tracer.begin([received(f"{number}", "same")])
    found = traces(cluster)
    assert sorted(len(lines) for _, lines in found) == [1, LINES_PER_MESSAGE_MAX]
    for properties, lines in found:
        assert sorted(properties["KEYS"].split()) == sorted(["same", *(line.message_id for line in lines)])


async def test_keys_that_do_not_fit_make_another_message(cluster: FakeCluster) -> None:
    await ready(cluster)
    long = " ".join(f"key-{number:06}" for number in range(1500))
    async with tracing(cluster) as tracer:
        tracer.begin([received("A", long)])
        tracer.begin([received("B")])
    found = traces(cluster)
    assert [[line.message_id for line in lines] for _, lines in found] == [["A"], ["B"]]
    for properties, _ in found:
        assert len(encode_properties(properties)) < 20_000
        assert properties["KEYS"].split()[0] in ("A", "B"), "the id is always one of them"


async def test_the_option_says_whether_and_where(cluster: FakeCluster) -> None:
    session = Session(cluster.address, host=None, kind="test")
    assert tracer_of(False, session, "g") is None
    for option, topic in ((True, TRACE_TOPIC), ("mine", "mine")):
        found = tracer_of(option, session, "g")
        assert found is not None
        assert found.topic == topic
