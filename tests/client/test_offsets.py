from __future__ import annotations

import logging

import pytest

from posthouse.client.errors import BadAnswer, BrokerRefused, PosthouseError
from posthouse.client.offsets import GroupOffsets, QueueBounds
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.offsets import SEARCH_OFFSET, UPDATE_CONSUMER_OFFSET
from posthouse.host.clock import EpochMs
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from tests.client.conftest import Answer, FakeBroker, FakeCluster, until

pytestmark = pytest.mark.asyncio

QUERY, UPDATE = RequestCode.QUERY_CONSUMER_OFFSET, RequestCode.UPDATE_CONSUMER_OFFSET
AT = EpochMs(1_700_000_000_000)


def saying(offset: int) -> Answer:
    return lambda command: response(0, command.request_id, {"offset": str(offset)})


async def open_way(cluster: FakeCluster, topic: str = "t") -> tuple[FakeBroker, Session, MessageQueue]:
    broker = await cluster.add_broker()
    cluster.add_topic(topic)
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    await session.queues(topic)
    return broker, session, MessageQueue(topic, broker.name, 1)


@pytest.mark.parametrize(
    ("topic", "start", "wanted"),
    [
        ("t", ConsumeFrom.CONSUME_FROM_LAST_OFFSET, 90),
        ("t", ConsumeFrom.CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST, 90),
        ("t", ConsumeFrom.CONSUME_FROM_FIRST_OFFSET, 0),
        ("t", ConsumeFrom.CONSUME_FROM_TIMESTAMP, 40),
        ("%RETRY%g", ConsumeFrom.CONSUME_FROM_LAST_OFFSET, 0),
        ("%RETRY%g", ConsumeFrom.CONSUME_FROM_FIRST_OFFSET, 0),
        ("%RETRY%g", ConsumeFrom.CONSUME_FROM_TIMESTAMP, 0),
    ],
)
async def test_where_a_group_begins(cluster: FakeCluster, topic: str, start: ConsumeFrom, wanted: int) -> None:
    broker, session, queue = await open_way(cluster, topic)
    broker.answers[RequestCode.GET_MAX_OFFSET] = saying(90)
    broker.answers[RequestCode.SEARCH_OFFSET_BY_TIMESTAMP] = saying(40)
    broker.refuse(QUERY, ResponseCode.QUERY_NOT_FOUND)
    offsets = GroupOffsets(session, "g")
    assert await offsets.committed(queue) is None
    assert await offsets.begin(queue, start, AT) == wanted
    broker.answers[QUERY] = saying(17)
    assert await offsets.begin(queue, start, AT) == 17
    broker.answers[QUERY] = saying(0)
    assert await offsets.begin(queue, start, AT) == 0
    broker.answers[QUERY] = saying(-1)
    assert await offsets.begin(queue, start, AT) == wanted
    await session.close()


async def test_an_error_is_not_taken_for_no_offset(cluster: FakeCluster) -> None:
    """A group that began anew after a passing error would skip its backlog."""
    broker, session, queue = await open_way(cluster)
    broker.refuse(QUERY, ResponseCode.SYSTEM_ERROR)
    with pytest.raises(BrokerRefused, match="say how far group g is with 1 SYSTEM_ERROR"):
        await GroupOffsets(session, "g").begin(queue, ConsumeFrom.CONSUME_FROM_LAST_OFFSET, AT)
    broker.answers[QUERY] = lambda command: response(0, command.request_id, {"offset": "x"})
    with pytest.raises(BadAnswer):
        await GroupOffsets(session, "g").begin(queue, ConsumeFrom.CONSUME_FROM_LAST_OFFSET, AT)
    await session.close()


async def test_a_search_asks_for_the_first_message_at_that_time(cluster: FakeCluster) -> None:
    broker, session, queue = await open_way(cluster)
    broker.answers[RequestCode.SEARCH_OFFSET_BY_TIMESTAMP] = saying(40)
    assert await QueueBounds(session).search_offset(queue, AT) == 40
    header = SEARCH_OFFSET.decode(broker.seen[-1].ext)
    assert (header.topic, header.queue_id, header.timestamp_ms, header.boundary_type) == ("t", 1, AT, "LOWER")
    await session.close()


async def test_soon_is_one_way_and_only_what_changed(cluster: FakeCluster) -> None:
    broker, session, queue = await open_way(cluster)
    other = queue._replace(queue_id=0)
    offsets = GroupOffsets(session, "g")
    offsets.commit_soon({queue: QueueOffset(1)})  # no connection is open: it stays to be told
    await session.broker_peer(broker.address)
    offsets.commit_soon({queue: QueueOffset(1), other: QueueOffset(5)})
    offsets.commit_soon({queue: QueueOffset(1), other: QueueOffset(6)})
    offsets.commit_soon({queue: QueueOffset(1), other: QueueOffset(6)})
    await until(lambda: broker.count(UPDATE) == 3)
    told = [UPDATE_CONSUMER_OFFSET.decode(command.ext) for command in broker.seen if command.code == UPDATE]
    assert [(each.consumer_group, each.topic, each.queue_id, each.commit_offset) for each in told] == [
        ("g", "t", 1, 1),
        ("g", "t", 0, 5),
        ("g", "t", 0, 6),
    ]
    assert all(command.is_one_way for command in broker.seen if command.code == UPDATE)
    offsets.forget(queue)
    offsets.commit_soon({queue: QueueOffset(1)})
    await until(lambda: broker.count(UPDATE) == 4)
    await session.close()


async def test_certain_commits_have_an_answer_and_failures_are_logged(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    broker, session, queue = await open_way(cluster)
    other = queue._replace(queue_id=0)

    def choosy(command: Command) -> Command:
        code = 0 if UPDATE_CONSUMER_OFFSET.decode(command.ext).queue_id == 1 else ResponseCode.TOPIC_NOT_EXIST
        return response(code, command.request_id)

    broker.answers[UPDATE] = choosy
    offsets = GroupOffsets(session, "g")
    await offsets.commit(queue, QueueOffset(3))
    with pytest.raises(PosthouseError, match="TOPIC_NOT_EXIST"):
        await offsets.commit(other, QueueOffset(3))
    with caplog.at_level(logging.WARNING):
        await offsets.commit_all({queue: QueueOffset(4), other: QueueOffset(4)})
    assert "from offset 4 on will come again" in caplog.text
    assert not any(command.is_one_way for command in broker.seen)
    await session.close()
