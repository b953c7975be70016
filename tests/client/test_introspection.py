"""Questions of operators that are wrong, too many, or come at a bad moment. The good ones: tests/behaviour."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.client.introspection import DIRECT_MAX
from posthouse.client.push_consumer import PushConsumer
from posthouse.client.received import ReceivedMessage
from posthouse.codec.remoting.bodies.client_status import (
    decode_client_offsets,
    decode_direct_result,
    decode_running_info,
)
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.link.peer import RemotingPeer
from posthouse.model.client_status import DirectOutcome
from tests.client.conftest import FakeCluster, until
from tests.client.records import record
from tests.client.test_push_consumer import Queue

pytestmark = pytest.mark.asyncio

STATUS, INFO = RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, RequestCode.GET_CONSUMER_RUNNING_INFO
DIRECT = RequestCode.CONSUME_MESSAGE_DIRECTLY


def direct(peer: RemotingPeer, body: bytes, group: str = "g") -> asyncio.Task[Command]:
    return asyncio.create_task(peer.ask(DIRECT, {"consumerGroup": group, "brokerName": "b"}, body, 5.0))


async def test_a_broker_asks_and_the_consumer_answers(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    queue.fill(3)
    got: list[int] = []
    async with PushConsumer("g", cluster.address, subscribe="t", handler=lambda message: got.append(1)):
        await until(lambda: len(got) == 3)
        peer = queue.broker.peers[0]
        answer = await peer.ask(STATUS, {"group": "g", "topic": "t"})
        assert list(decode_client_offsets(answer.body).values()) == [3]
        answer = await peer.ask(STATUS, {"group": "g", "topic": "other"})
        assert decode_client_offsets(answer.body) == {}
        info = decode_running_info((await peer.ask(INFO, {"consumerGroup": "g", "jstackEnable": "true"})).body)
        assert info.properties["PROP_NAMESERVER_ADDR"] == cluster.address
        assert info.properties["messageModel"] == "CLUSTERING"
        assert "worker 0" in info.stacks
        assert "_work" in info.stacks
        plain = decode_running_info((await peer.ask(INFO, {"consumerGroup": "g"})).body)
        assert plain.stacks == ""
        for code, name in ((STATUS, "group"), (INFO, "consumerGroup"), (DIRECT, "consumerGroup")):
            refused = await peer.ask(code, {name: "other"})
            assert refused.code == ResponseCode.SYSTEM_ERROR
            assert "no member of group other" in (refused.remark or "")


async def test_only_so_many_messages_are_handled_directly_at_once(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    gate = asyncio.Event()
    begun: list[int] = []

    async def handle(message: ReceivedMessage) -> None:
        begun.append(message.queue_offset)
        await gate.wait()

    async with PushConsumer("g", cluster.address, subscribe="t", handler=handle) as one:
        await until(lambda: bool(one.assigned))
        peer = queue.broker.peers[0]
        asked = [direct(peer, record(n)) for n in range(DIRECT_MAX)]
        await until(lambda: len(begun) == DIRECT_MAX)
        busy = await direct(peer, record(99))
        assert busy.code == ResponseCode.SYSTEM_BUSY
        gate.set()
        answers = await asyncio.gather(*asked)
        assert {decode_direct_result(answer.body).outcome for answer in answers} == {DirectOutcome.SUCCESS}
        assert (await direct(peer, record(100))).code == 0


@pytest.mark.parametrize("body", [b"", b"junk", record(1) + record(2)])
async def test_a_message_that_cannot_be_read_is_said(cluster: FakeCluster, body: bytes) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    async with PushConsumer("g", cluster.address, subscribe="t", handler=lambda message: None) as one:
        await until(lambda: bool(one.assigned))
        answer = await direct(queue.broker.peers[0], body)
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert "cannot be read" in (answer.remark or "")


async def test_closing_does_not_wait_for_an_operators_message(cluster: FakeCluster) -> None:
    queue = Queue(cluster, await cluster.add_broker())
    begun = asyncio.Event()

    async def handle(message: ReceivedMessage) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with PushConsumer("g", cluster.address, subscribe="t", handler=handle) as one:
        await until(lambda: bool(one.assigned))
        asked = direct(queue.broker.peers[0], record(1))
        await begun.wait()
    with pytest.raises(Exception, match="ended"):
        await asked
