"""What is hard to see from outside: locks that are lost at the wrong moment, dead letters that cannot be made."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.client import locks as locks_module
from posthouse.client.push_consumer import PushConsumer
from posthouse.client.received import ReceivedMessage
from posthouse.codec.remoting.bodies.locks import decode_lock_request
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import response
from posthouse.codec.remoting.headers.offsets import UPDATE_CONSUMER_OFFSET
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE, PullFlag
from tests.client.conftest import FakeCluster, until
from tests.client.test_locks import Keeper
from tests.client.test_push_consumer import Queue

pytestmark = pytest.mark.asyncio

PULL, UPDATE = RequestCode.PULL_MESSAGE, RequestCode.UPDATE_CONSUMER_OFFSET
BACK = RequestCode.CONSUMER_SEND_MSG_BACK


async def open_queue(cluster: FakeCluster) -> tuple[Queue, Keeper]:
    queue = Queue(cluster, await cluster.add_broker())
    return queue, Keeper(queue.broker)


def consumer(cluster: FakeCluster, handler: object, **more: object) -> PushConsumer:
    return PushConsumer("g", cluster.address, subscribe="t", handler=handler, ordered=True, **more)  # type: ignore[arg-type]


async def test_nothing_is_read_before_the_lock_and_offsets_do_not_travel_with_pulls(cluster: FakeCluster) -> None:
    queue, keeper = await open_queue(cluster)
    queue.fill(40)
    keeper.others = [0]
    got: list[int] = []
    async with consumer(cluster, lambda message: got.append(message.queue_offset)):
        await until(lambda: len(keeper.asked) > 2)
        assert queue.asked == []
        assert queue.broker.count(RequestCode.QUERY_CONSUMER_OFFSET) == 0
        keeper.others = []
        await until(lambda: len(got) == 40)
    pulls = [PULL_MESSAGE.decode(command.ext) for command in queue.broker.seen if command.code == PULL]
    assert len(pulls) >= 2
    assert not any(pull.sys_flag & PullFlag.COMMIT_OFFSET for pull in pulls)
    order = [command.code for command in queue.broker.seen]
    assert order.index(RequestCode.LOCK_BATCH_MQ) < order.index(RequestCode.QUERY_CONSUMER_OFFSET) < order.index(PULL)


async def test_leaving_commits_then_unlocks_then_says_goodbye(cluster: FakeCluster) -> None:
    queue, keeper = await open_queue(cluster)
    queue.fill(5)
    got: list[int] = []
    async with consumer(cluster, lambda message: got.append(message.queue_offset)):
        await until(lambda: len(got) == 5)
    codes = [command.code for command in queue.broker.seen]
    last_commit = len(codes) - 1 - codes[::-1].index(UPDATE)
    commit = queue.broker.seen[last_commit]
    assert UPDATE_CONSUMER_OFFSET.decode(commit.ext).commit_offset == 5
    assert not commit.is_one_way
    assert last_commit < codes.index(RequestCode.UNLOCK_BATCH_MQ) < codes.index(RequestCode.UNREGISTER_CLIENT)
    assert keeper.unlocked == [[0]]


async def test_a_queue_that_goes_to_another_member_is_given_back_when_its_handler_has_ended(
    cluster: FakeCluster,
) -> None:
    queue, keeper = await open_queue(cluster)
    queue.fill(10)
    gate = asyncio.Event()
    begun: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        begun.append(message.queue_offset)
        await gate.wait()

    async with consumer(cluster, handle) as one:
        await until(lambda: begun == [0])
        queue.members = ["!another", one.client_id]
        queue.broker.peers[0].tell(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": "g"})
        await until(lambda: one.assigned == ())
        await asyncio.sleep(0.2)
        assert keeper.unlocked == []
        gate.set()
        await until(lambda: keeper.unlocked == [[0]])
        assert begun == [0]
        assert queue.committed()[-1] == 1  # what ran to its end counts
        queue.members = [one.client_id]
        queue.broker.peers[0].tell(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": "g"})
        await until(lambda: len(one.assigned) == 1)


async def test_a_lock_that_was_lost_ends_the_handling_and_the_offset_is_asked_for_again(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks_module, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(locks_module, "VALID_SECONDS", 0.3)
    queue, keeper = await open_queue(cluster)
    queue.fill(50)
    got: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        got.append(message.queue_offset)
        await asyncio.sleep(0.02)

    async with consumer(cluster, handle):
        await until(lambda: len(got) >= 5)
        keeper.others = [0]
        await asyncio.sleep(0.4)
        handled = len(got)
        before = len(queue.committed())
        await asyncio.sleep(0.3)
        assert len(got) == handled  # another member may be at work
        assert len(queue.committed()) == before
        queue.broker.answers[RequestCode.QUERY_CONSUMER_OFFSET] = lambda command: response(
            0, command.request_id, {"offset": "40"}
        )
        keeper.others = []
        await until(lambda: got[-1] == 49)
    assert got[handled:] == list(range(40, 50))


async def test_a_dead_letter_that_cannot_be_made_holds_up_the_queue(cluster: FakeCluster) -> None:
    queue, _ = await open_queue(cluster)
    queue.fill(3)
    queue.broker.refuse(BACK, ResponseCode.SYSTEM_ERROR)
    got: list[int] = []
    failed: list[int] = []

    def handle(message: ReceivedMessage) -> None:
        if message.queue_offset == 1:
            failed.append(message.attempt)
            raise RuntimeError("no")
        got.append(message.queue_offset)

    async with consumer(cluster, handle, attempts_max=2, ordered_pause_s=0.05):
        await until(lambda: len(failed) >= 4)
        assert got == [0]
        queue.broker.answers[BACK] = lambda command: response(0, command.request_id)
        await until(lambda: got == [0, 2])
    assert failed[:4] == [1, 2, 3, 4]
    assert queue.broker.seen[-1].code == RequestCode.UNREGISTER_CLIENT
    back = next(command for command in queue.broker.seen if command.code == BACK)
    assert back.ext_map()["delayLevel"] == "-1"


async def test_queues_are_handled_side_by_side_up_to_the_concurrency(cluster: FakeCluster) -> None:
    queue, _ = await open_queue(cluster)
    cluster.add_topic("t", queues=6)
    queue.fill(2)  # the same for all queues
    running: list[int] = []
    most: list[int] = []
    done: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.02)
        running.pop()
        done.append(1)

    async with consumer(cluster, handle, concurrency=3):
        await until(lambda: len(done) == 12)
    assert max(most) == 3


async def test_all_locks_of_a_start_come_in_few_requests(cluster: FakeCluster) -> None:
    queue, keeper = await open_queue(cluster)
    cluster.add_topic("t", queues=50)
    async with consumer(cluster, lambda message: None) as one:
        await until(lambda: len(queue.asked) == 50)
        assert len(one.assigned) == 50
        assert len(keeper.asked) < 5
    locks = [command for command in queue.broker.seen if command.code == RequestCode.LOCK_BATCH_MQ]
    assert decode_lock_request(locks[0].body).client_id == one.client_id
