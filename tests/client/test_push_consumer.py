"""What is hard to see from outside: offsets that move, brokers that fail, messages that cannot be put back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from posthouse.client import concurrently as concurrently_module
from posthouse.client import reading as reading_module
from posthouse.client.errors import BrokerRefused
from posthouse.client.push_consumer import PushConsumer
from posthouse.client.received import ReceivedMessage
from posthouse.client.subscribing import Sql
from posthouse.codec.remoting.bodies.consumers import encode_consumer_list
from posthouse.codec.remoting.bodies.heartbeat import decode_heartbeat
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.offsets import UPDATE_CONSUMER_OFFSET
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.group import ConsumeType, MessageModel
from posthouse.model.message import MessageQueue, SysFlag
from posthouse.model.offsets import QueueOffset
from tests.client.conftest import FakeBroker, FakeCluster, until
from tests.client.records import pull_answer, record
from tests.client.test_locks import Keeper

pytestmark = pytest.mark.asyncio

PULL, UPDATE = RequestCode.PULL_MESSAGE, RequestCode.UPDATE_CONSUMER_OFFSET


class Queue:
    """One queue of topic t on a fake broker: `records` by offset, offsets below `first` are gone."""

    def __init__(self, cluster: FakeCluster, broker: FakeBroker, stored: int = 0) -> None:
        cluster.add_topic("t", queues=1)
        self.broker = broker
        self.first = 0
        self.records: list[bytes] = []
        self.asked: list[int] = []
        self.members: list[str] = []
        broker.answers[PULL] = self.pull
        broker.answers[RequestCode.HEART_BEAT] = self.beat
        broker.answers[RequestCode.GET_CONSUMER_LIST_BY_GROUP] = lambda command: response(
            0, command.request_id, None, encode_consumer_list(self.members)
        )
        broker.answers[RequestCode.QUERY_CONSUMER_OFFSET] = lambda command: response(
            0, command.request_id, {"offset": str(stored)}
        )

    def fill(self, count: int, make: Callable[[int], bytes] = record) -> None:
        self.records += [make(offset) for offset in range(len(self.records), len(self.records) + count)]

    def beat(self, command: Command) -> Command:
        self.members = [decode_heartbeat(command.body).client_id]
        return response(0, command.request_id)

    def pull(self, command: Command) -> bytes | None:
        header = PULL_MESSAGE.decode(command.ext)
        offset = header.queue_offset
        self.asked.append(offset)
        if offset < self.first:
            return pull_answer(command.request_id, ResponseCode.PULL_OFFSET_MOVED, self.first)
        found = self.records[offset : offset + header.messages_max]
        if not found:
            return None  # held
        return pull_answer(command.request_id, 0, offset + len(found), b"".join(found))

    def committed(self) -> list[int | None]:
        updates = [command for command in self.broker.seen if command.code == UPDATE]
        return [UPDATE_CONSUMER_OFFSET.decode(command.ext).commit_offset for command in updates]


def consumer(cluster: FakeCluster, handler: Callable[[ReceivedMessage], object], **more: object) -> PushConsumer:
    return PushConsumer("g", cluster.address, subscribe="t", handler=handler, **more)  # type: ignore[arg-type]


async def test_it_joins_with_what_it_wants_and_leaves_with_a_goodbye(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    async with consumer(cluster, lambda message: None) as one:
        await until(lambda: queue.asked == [0])
    beat = next(command for command in queue.broker.seen if command.code == RequestCode.HEART_BEAT)
    (membership,) = decode_heartbeat(beat.body).memberships
    assert (membership.group, membership.consume_type) == ("g", ConsumeType.CONSUME_PASSIVELY)
    assert membership.message_model == MessageModel.CLUSTERING
    assert {each.topic: each.expression for each in membership.subscriptions} == {"t": "*", "%RETRY%g": "*"}
    assert queue.broker.seen[-1].code == RequestCode.UNREGISTER_CLIENT
    assert queue.broker.seen[-1].ext_map() == {"clientID": one.client_id, "consumerGroup": "g"}
    assert one.assigned == ()


async def test_the_commit_at_close_stops_at_what_is_not_done(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(10)
    done: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        if message.queue_offset == 4:
            await asyncio.sleep(60)
        done.append(message.queue_offset)

    async with consumer(cluster, handle, close_timeout_s=0.1, concurrency=3):
        await until(lambda: len(done) == 9)
    assert queue.committed()[-1] == 4
    last = next(command for command in reversed(queue.broker.seen) if command.code == UPDATE)
    assert not last.is_one_way


async def test_an_offset_outside_of_the_queue_is_corrected_and_committed(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker(), stored=3)
    queue.fill(20)
    queue.first = 12
    got: list[int] = []
    async with consumer(cluster, lambda message: got.append(message.queue_offset)):
        await until(lambda: len(got) == 8)
        await until(lambda: 12 in queue.committed())
    assert sorted(got) == list(range(12, 20))
    assert queue.asked[:2] == [3, 12]
    assert queue.committed()[-1] == 20


async def test_errors_of_a_pull_are_waited_out_and_logged_once(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "ERROR_PAUSE_SECONDS", 0.02)
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(1)
    queue.broker.refuse(PULL, ResponseCode.SYSTEM_ERROR, "trouble")
    got: list[int] = []
    with caplog.at_level(logging.WARNING, "posthouse"):
        async with consumer(cluster, lambda message: got.append(message.queue_offset)):
            await until(lambda: queue.broker.count(PULL) > 5)
            queue.broker.answers[PULL] = queue.pull
            await until(lambda: got == [0])
    assert len([line for line in caplog.records if "trouble" in line.getMessage()]) == 1


async def test_a_broker_that_does_not_hold_pulls_is_not_asked_all_the_time(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.broker.answers[PULL] = lambda command: pull_answer(command.request_id, ResponseCode.PULL_NOT_FOUND, 0)
    async with consumer(cluster, lambda message: None):
        await asyncio.sleep(0.5)
        assert 1 <= queue.broker.count(PULL) <= 8


async def test_what_cannot_be_put_back_is_handled_here_again(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrently_module, "LOCAL_RETRY_SECONDS", 0.05)
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(3)
    queue.broker.refuse(RequestCode.CONSUMER_SEND_MSG_BACK, ResponseCode.REQUEST_CODE_NOT_SUPPORTED)
    attempts: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        if message.queue_offset == 1:
            attempts.append(message.attempt)
            if len(attempts) < 4:
                raise RuntimeError("not yet")

    async with consumer(cluster, handle) as one:
        await until(lambda: len(attempts) == 3)
        inbox = one._own[MessageQueue("t", queue.broker.name, 0)].inbox
        assert inbox is not None
        assert inbox.commit_offset == 1  # it holds the offset back until it is done
        await until(lambda: inbox.commit_offset == QueueOffset(3))
    assert attempts == [1, 2, 3, 4]
    assert queue.committed()[-1] == 3


async def test_a_handler_that_never_ends_is_a_failure(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(1)
    queue.broker.answers[RequestCode.CONSUMER_SEND_MSG_BACK] = lambda command: response(0, command.request_id)
    async with consumer(cluster, lambda message: asyncio.sleep(60), handler_timeout_s=0.05):
        await until(lambda: queue.broker.count(RequestCode.CONSUMER_SEND_MSG_BACK) == 1)
    assert queue.committed()[-1] == 1


async def test_a_body_that_cannot_be_opened_is_put_back_and_not_handled(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(2, lambda offset: record(offset, b"junk", sys_flag=SysFlag.COMPRESSED if offset == 0 else 0))
    queue.broker.answers[RequestCode.CONSUMER_SEND_MSG_BACK] = lambda command: response(0, command.request_id)
    got: list[int] = []
    async with consumer(cluster, lambda message: got.append(message.queue_offset)):
        await until(lambda: queue.broker.count(RequestCode.CONSUMER_SEND_MSG_BACK) == 1)
        await until(lambda: got == [1])


async def test_a_queue_that_goes_to_another_member_is_dropped_at_once(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(50)
    gate = asyncio.Event()
    begun: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        begun.append(message.queue_offset)
        await gate.wait()

    async with consumer(cluster, handle, concurrency=2) as one:
        await until(lambda: len(begun) == 2)
        queue.members = ["!another", one.client_id]  # two members and one queue
        queue.broker.peers[0].tell(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": "other"})
        queue.broker.peers[0].tell(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": "g"})
        await until(lambda: one.assigned == ())
        await until(lambda: queue.committed() == [0])
        gate.set()
        await asyncio.sleep(0.1)
        assert sorted(begun) == [0, 1]
    assert queue.committed() == [0]  # what is done later belongs to the other member


async def test_an_operator_can_move_the_group(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(10)
    got: list[int] = []
    async with consumer(cluster, lambda message: got.append(message.queue_offset)):
        await until(lambda: len(got) == 10)
        mine = MessageQueue("t", queue.broker.name, 0)
        body = write_json({"offsetTable": {mine: 6, mine._replace(queue_id=9): 1}})
        peer = queue.broker.peers[0]
        peer.tell(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, {"topic": "t", "group": "other"}, body)
        peer.tell(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, {"topic": "t", "group": "g"}, b"{}")
        peer.tell(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, {"topic": "t", "group": "g"}, body)
        await until(lambda: len(got) == 14)
    assert got[10:] == [6, 7, 8, 9]
    assert 6 in queue.committed()


async def test_a_consumer_whose_broker_forgot_it_says_again_that_it_is_there(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    async with consumer(cluster, lambda message: None) as one:
        await until(lambda: len(one.assigned) == 1)
        await queue.broker.vanish()
        queue.members = []
        await queue.broker.listen()
        queue.fill(1)
        await until(lambda: queue.members == [one.client_id])
        await until(lambda: queue.asked[-1] == 1)
        assert len(one.assigned) == 1


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_at_least_one_handler_must_run(cluster: FakeCluster, concurrency: int) -> None:
    with pytest.raises(ValueError, match="at least one handler"):
        consumer(cluster, lambda message: None, concurrency=concurrency)


async def test_what_is_no_handler_and_no_place_to_begin_is_said_at_once(cluster: FakeCluster) -> None:
    with pytest.raises(ValueError, match="the handler is 3"):
        consumer(cluster, cast(Any, 3))
    with pytest.raises(ValueError, match=r"from_where='start'; give .* ConsumeFrom\."):
        consumer(cluster, lambda message: None, from_where=cast(Any, "start"))


async def test_an_expression_that_a_broker_does_not_serve_is_said_at_the_start(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.broker.refuse(RequestCode.CHECK_CLIENT_CONFIG, ResponseCode.SYSTEM_ERROR, "no filtering by property")
    one = PushConsumer("g", cluster.address, subscribe={"t": Sql("a > 3")}, handler=lambda message: None)
    with pytest.raises(BrokerRefused, match=r"serve the expression 'a > 3' for t .*no filtering by property"):
        await one.start()
    assert queue.broker.count(PULL) == 0


async def test_a_reset_of_an_operator_reaches_a_paused_and_an_ordered_consumer(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(10)
    stored = [0]
    queue.broker.answers[RequestCode.QUERY_CONSUMER_OFFSET] = lambda command: response(
        0, command.request_id, {"offset": str(stored[0])}
    )
    Keeper(queue.broker)
    got: list[int] = []
    mine = MessageQueue("t", queue.broker.name, 0)
    async with consumer(cluster, lambda message: got.append(message.queue_offset), ordered=True) as one:
        await until(lambda: len(got) == 10)
        one.pause()
        body = write_json({"offsetTable": {mine: 7}})
        queue.broker.peers[0].tell(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, {"topic": "t", "group": "g"}, body)
        await until(lambda: 7 in queue.committed())
        one.resume()
        await until(lambda: len(got) == 13)
    assert got[10:] == [7, 8, 9]
