from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from posthouse.client.push_consumer import PushConsumer
from posthouse.client.received import ReceivedMessage
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import response
from tests.client.conftest import FakeCluster, until
from tests.client.test_push_consumer import Queue

pytestmark = pytest.mark.asyncio


async def test_handlers_that_never_wait_do_not_stop_the_loop(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(600)
    got: list[int] = []
    turns: list[int] = []

    async def count_turns() -> None:
        while len(got) < 600:
            turns.append(len(got))
            await asyncio.sleep(0)

    async with PushConsumer("g", cluster.address, subscribe="t", handler=lambda message: got.append(1)):
        counting = asyncio.create_task(count_turns())
        await until(lambda: len(got) == 600)
        await counting
    steps = [later - earlier for earlier, later in pairwise(turns)]
    assert max(steps) <= 40  # not a whole pull, or all, in one turn


async def test_each_message_of_a_failed_batch_is_put_back(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(7)
    queue.broker.answers[RequestCode.CONSUMER_SEND_MSG_BACK] = lambda command: response(0, command.request_id)
    sizes: list[int] = []

    def handle(batch: list[ReceivedMessage]) -> None:
        sizes.append(len(batch))
        if batch[0].queue_offset == 3:
            raise RuntimeError("no")

    async with PushConsumer("g", cluster.address, subscribe="t", batch_handler=handle, batch_max=3):
        await until(lambda: len(sizes) == 3)
        await until(lambda: queue.broker.count(RequestCode.CONSUMER_SEND_MSG_BACK) == 3)
    assert sorted(sizes) == [1, 3, 3]
    assert queue.committed()[-1] == 7


async def test_a_paused_consumer_closes_at_once_and_begins_nothing(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    got: list[int] = []
    async with PushConsumer("g", cluster.address, subscribe="t", handler=lambda message: got.append(1)) as one:
        await until(lambda: queue.asked == [0])
        one.pause()
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 2
    assert got == []
