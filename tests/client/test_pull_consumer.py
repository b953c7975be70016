from __future__ import annotations

import asyncio

import pytest

from posthouse.client import pull_consumer as pull_module
from posthouse.client.errors import BrokerRefused, Unreachable
from posthouse.client.pull_consumer import PullConsumer
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE
from posthouse.model.message import MessageQueue
from tests.client.conftest import FakeBroker, FakeCluster, until
from tests.client.records import pull_answer, record

pytestmark = pytest.mark.asyncio

PULL, UPDATE = RequestCode.PULL_MESSAGE, RequestCode.UPDATE_CONSUMER_OFFSET


def serve(broker: FakeBroker, count: int) -> None:
    """Every queue of every topic has `count` messages."""

    def pull(command: Command) -> bytes | None:
        header = PULL_MESSAGE.decode(command.ext)
        offsets = range(header.queue_offset, min(count, header.queue_offset + header.messages_max))
        if not offsets:
            return None
        found = b"".join(record(offset, b"%d" % offset, queue_id=header.queue_id) for offset in offsets)
        return pull_answer(command.request_id, 0, offsets[-1] + 1, found)

    broker.answers[PULL] = pull
    broker.answers[RequestCode.GET_MIN_OFFSET] = lambda command: response(0, command.request_id, {"offset": "0"})
    broker.answers[RequestCode.GET_MAX_OFFSET] = lambda command: response(0, command.request_id, {"offset": str(count)})


async def test_it_never_joins_the_group(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    serve(broker, 3)
    async with PullConsumer("g", cluster.address) as consumer:
        (queue, _) = await consumer.queues("t")
        assert len((await consumer.pull(queue, 0)).messages) == 3
    assert {command.code for command in broker.seen} == {PULL}


async def test_a_group_that_is_not_there_is_made_before_a_commit(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    serve(broker, 3)
    group_exists = False

    def pull(command: Command) -> bytes:
        nonlocal group_exists
        group_exists = True
        return pull_answer(command.request_id, ResponseCode.PULL_NOT_FOUND, 2)

    broker.answers[PULL] = pull
    broker.answers[UPDATE] = lambda command: response(
        0 if group_exists else ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, command.request_id
    )
    async with PullConsumer("g", cluster.address) as consumer:
        await consumer.commit(MessageQueue("t", broker.name, 0), 2)
        broker.refuse(UPDATE, ResponseCode.TOPIC_NOT_EXIST)
        with pytest.raises(BrokerRefused, match="TOPIC_NOT_EXIST"):
            await consumer.commit(MessageQueue("t", broker.name, 0), 2)
    assert broker.count(UPDATE) == 3


async def test_a_stream_ends_where_the_queues_ended_when_it_began(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=2)
    serve(broker, 100)
    broker.answers[RequestCode.GET_MAX_OFFSET] = lambda command: response(0, command.request_id, {"offset": "40"})
    async with PullConsumer("g", cluster.address) as consumer:
        found = [(m.queue.queue_id, m.queue_offset) async for m in consumer.stream("t", stop_at_end=True)]
    assert sorted(found) == [(queue, offset) for queue in range(2) for offset in range(40)]


async def test_a_stream_reads_ahead_only_so_far(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=1)
    serve(broker, 100_000)
    async with PullConsumer("g", cluster.address) as consumer:
        stream = consumer.stream("t")
        assert (await anext(stream)).queue_offset == 0
        await asyncio.sleep(0.3)
        assert broker.count(PULL) <= 1000 / 32 + 3
        for offset in range(1, 2000):
            assert (await anext(stream)).queue_offset == offset
        await stream.aclose()
        pulls = broker.count(PULL)
        await asyncio.sleep(0.1)
        assert broker.count(PULL) == pulls


async def test_a_stream_waits_out_a_broker_that_is_away(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "ERROR_PAUSE_SECONDS", 0.05)
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=1)
    serve(broker, 5)
    async with PullConsumer("g", cluster.address) as consumer:
        stream = consumer.stream("t")
        for _ in range(5):
            await anext(stream)
        await broker.vanish()
        serve(broker, 6)
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.3)
        await broker.listen()
        assert (await following).queue_offset == 5
        await stream.aclose()


async def test_a_stream_raises_what_does_not_pass(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "ERROR_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(pull_module, "STREAM_PATIENCE_SECONDS", 0.2)
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=1)
    serve(broker, 5)
    broker.refuse(PULL, ResponseCode.NO_PERMISSION)
    async with PullConsumer("g", cluster.address) as consumer:
        with pytest.raises(BrokerRefused, match="NO_PERMISSION"):
            await anext(consumer.stream("t"))
        assert broker.count(PULL) == 1
        broker.refuse(PULL, ResponseCode.SYSTEM_BUSY)
        with pytest.raises(BrokerRefused, match="SYSTEM_BUSY"):
            await anext(consumer.stream("t"))
        assert broker.count(PULL) > 3
        await broker.vanish()
        await until(lambda: consumer._session.pool.peer_if_open(broker.address) is None)
        with pytest.raises(Unreachable, match="cannot connect"):
            await anext(consumer.stream("t"))


async def test_a_stream_finds_queues_that_are_new(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "NEW_QUEUES_SECONDS", 0.05)
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=1)
    serve(broker, 2)
    async with PullConsumer("g", cluster.address) as consumer:
        stream = consumer.stream("t")
        assert {(await anext(stream)).queue.queue_id for _ in range(2)} == {0}
        cluster.add_topic("t", queues=2)
        await consumer._session.refresh("t")
        async with asyncio.timeout(5):
            assert {(await anext(stream)).queue.queue_id for _ in range(2)} == {1}
        await stream.aclose()
