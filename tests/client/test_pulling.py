from __future__ import annotations

import pytest

from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker
from posthouse.client.pulling import Puller
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE, PullFlag, PullMessage
from posthouse.model.filter import parse_subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.route import BrokerData, QueueData, TopicRoute
from tests.client.conftest import FakeBroker, FakeCluster
from tests.client.records import pull_answer, record

pytestmark = pytest.mark.asyncio

PULL = RequestCode.PULL_MESSAGE
ALL = parse_subscription("t", "*", version=5)


async def open_way(cluster: FakeCluster) -> tuple[FakeBroker, Session, Puller, MessageQueue]:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    await session.queues("t")
    return broker, session, Puller(session, "g"), MessageQueue("t", broker.name, 1)


async def test_the_request_says_what_is_wanted(cluster: FakeCluster) -> None:
    broker, session, puller, queue = await open_way(cluster)
    broker.answers[PULL] = lambda command: pull_answer(command.request_id, 0, 8, record(7, b"x", {"TAGS": "A"}))
    subscription = parse_subscription("t", "A || B", version=77)
    pulled = await puller.pull(
        queue, QueueOffset(7), subscription, wait_ms=15_000, commit_offset=QueueOffset(3), messages_max=9
    )
    assert [message.body for message in pulled.messages] == [b"x"]
    assert (pulled.next_offset, pulled.min_offset, pulled.max_offset, pulled.moved) == (8, 0, 100, False)
    header: PullMessage = PULL_MESSAGE.decode(broker.seen[0].ext)
    assert (header.consumer_group, header.topic, header.queue_id, header.queue_offset) == ("g", "t", 1, 7)
    assert (header.messages_max, header.commit_offset, header.suspend_timeout_ms) == (9, 3, 15_000)
    assert (header.subscription, header.expression_type, header.sub_version) == ("A || B", "TAG", 77)
    assert header.sys_flag == PullFlag.COMMIT_OFFSET | PullFlag.SUSPEND | PullFlag.SUBSCRIPTION
    await puller.pull(queue, QueueOffset(0), ALL, wait_ms=0)
    assert PULL_MESSAGE.decode(broker.seen[1].ext).sys_flag == PullFlag.SUBSCRIPTION
    await session.close()


@pytest.mark.parametrize(
    ("code", "moved"),
    [
        (ResponseCode.PULL_NOT_FOUND, False),
        (ResponseCode.PULL_RETRY_IMMEDIATELY, False),
        (ResponseCode.PULL_OFFSET_MOVED, True),
    ],
)
async def test_answers_without_messages(cluster: FakeCluster, code: ResponseCode, moved: bool) -> None:
    broker, session, puller, queue = await open_way(cluster)
    broker.answers[PULL] = lambda command: pull_answer(command.request_id, code, 42)
    pulled = await puller.pull(queue, QueueOffset(7), ALL, wait_ms=0)
    assert (pulled.messages, pulled.next_offset, pulled.moved) == ([], 42, moved)
    await session.close()


async def test_errors_are_typed(cluster: FakeCluster) -> None:
    broker, session, puller, queue = await open_way(cluster)
    broker.refuse(PULL, ResponseCode.NO_PERMISSION, "not you")
    with pytest.raises(BrokerRefused, match=r"give messages of t with 16 NO_PERMISSION: not you"):
        await puller.pull(queue, QueueOffset(0), ALL, wait_ms=0)
    broker.answers[PULL] = lambda command: response(0, command.request_id, {"nextBeginOffset": "1"})
    with pytest.raises(BadAnswer, match="cannot be read"):
        await puller.pull(queue, QueueOffset(0), ALL, wait_ms=0)
    broker.answers[PULL] = lambda command: pull_answer(command.request_id, 0, 1, b"junk")
    with pytest.raises(BadAnswer, match="cannot be read"):
        await puller.pull(queue, QueueOffset(0), ALL, wait_ms=0)
    with pytest.raises(NoBroker):
        await puller.pull(queue._replace(broker_name="nobody"), QueueOffset(0), ALL, wait_ms=0)
    await session.close()


async def test_the_broker_that_was_suggested_is_asked_next_and_commits_go_to_the_master(cluster: FakeCluster) -> None:
    master, slave = await cluster.add_broker("b"), await cluster.add_broker("b")
    addresses = {0: str(master.address), 1: str(slave.address)}
    cluster.routes["t"] = TopicRoute((QueueData("b", 1, 1, 6),), (BrokerData("c", "b", addresses),))
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    await session.queues("t")

    def suggesting(broker_id: int) -> object:
        return lambda command: pull_answer(command.request_id, ResponseCode.PULL_NOT_FOUND, 5, broker_id=broker_id)

    master.answers[PULL] = suggesting(1)  # type: ignore[assignment]
    slave.answers[PULL] = suggesting(0)  # type: ignore[assignment]
    puller, queue = Puller(session, "g"), MessageQueue("t", "b", 0)
    for _ in range(4):
        await puller.pull(queue, QueueOffset(5), ALL, wait_ms=0, commit_offset=QueueOffset(5))

    def commits(broker: FakeBroker) -> list[bool]:
        return [bool(PULL_MESSAGE.decode(command.ext).sys_flag & 1) for command in pulls(broker)]

    def pulls(broker: FakeBroker) -> list[Command]:
        return [command for command in broker.seen if command.code == PULL]

    assert commits(master) == [True, True]
    assert commits(slave) == [False, False]
    await session.close()
