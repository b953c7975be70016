"""The table of a broker's requests, and what an open connection leaves behind: nothing."""

from __future__ import annotations

import gc

import pytest

from posthouse.broker.broker import Broker
from posthouse.codec.remoting.codes import RequestCode
from posthouse.endpoint.house import House
from posthouse.endpoint.remoting.broker import BROKER_ROUTES, DESK_ROUTES, BrokerDesk
from posthouse.link.peer import RemotingPeer
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import member, running, until
from tests.endpoint.clients import SUBSCRIPTION, SUSPEND, C, client, house, pull_ext, text

ROUTES = (*BROKER_ROUTES, *DESK_ROUTES)

WANTED = {
    10, 310, 320, 11, 361, 34, 35, 38, 46, 14, 15, 29, 30, 31, 32, 17, 18, 215, 21, 351, 202, 26, 28, 200, 201, 352,
    203, 204, 208, 305,
}  # fmt: skip
"""What producers, push and pull consumers and the everyday commands of mqadmin ask of a broker."""


def test_every_request_that_clients_and_everyday_tools_send_has_a_row() -> None:
    assert not WANTED - {int(row.code) for row in ROUTES}


def test_every_code_has_one_row() -> None:
    codes = [row.code for row in ROUTES]
    assert len(codes) == len(set(codes))


def test_what_is_asked_for_each_message_costs_no_task() -> None:
    frequent = {C.SEND_MESSAGE, C.SEND_MESSAGE_V2, C.SEND_BATCH_MESSAGE, C.PULL_MESSAGE, C.LITE_PULL_MESSAGE}
    frequent |= {C.UPDATE_CONSUMER_OFFSET, C.HEART_BEAT}
    assert {row.lane.name for row in ROUTES if row.code in frequent} == {"hot"}


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [row.code for row in ROUTES], ids=lambda code: code.name)
async def test_request_with_nothing_in_it_is_answered_and_harms_nobody(code: RequestCode) -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as asking:
        for ext in (None, {}, {"x" * 1000: "y"}):
            for body in (b"", b"{", b"null", b"[]", b"\xff" * 100):
                answer = await asking.ask(code, ext, body)
                assert answer.is_response
        assert not found.failed.done()


@pytest.mark.asyncio
async def test_channel_of_a_connection_is_the_same_until_it_closes() -> None:
    async with running() as broker:
        desk = BrokerDesk(broker, lambda error: None)
        peer, other = RemotingPeer(desk.dispatcher), RemotingPeer(desk.dispatcher)
        channel = desk.channel(peer)
        assert desk.channel(peer) is channel
        assert desk.channel(other) is not channel
        desk.dispatcher.disconnected(peer)
        assert desk.channel(peer) is not channel


@pytest.mark.asyncio
async def test_closed_connection_leaves_nothing_behind() -> None:
    async with house(nameserver_port=None) as found:
        broker = broker_of(found)
        await broker.topics.set(TopicConfig("T"))
        async with client(found.broker_address) as asking:
            await asking.beat(member("G", "T"), member("H", "T"), producers=("P",))
            for queue_id in range(3):
                ext = text(pull_ext("T", queueId=queue_id, sysFlag=SUBSCRIPTION | SUSPEND))
                asking.peer.request(C.PULL_MESSAGE, ext, b"", 60, lambda answer: None)
            await until(lambda: broker.arrivals.waiting == 3)
            ours = asking.peer
        await until(lambda: broker.arrivals.waiting == 0)
        await until(lambda: not (broker.clients._consumers or broker.clients._producers or broker.clients._groups_of))
        assert found._broker_server is not None
        assert not found._broker_server._peers
        gc.collect()
        left = [each for each in gc.get_objects() if isinstance(each, RemotingPeer) and each.closed]
        assert [each for each in left if each is not ours] == []


def broker_of(found: House) -> Broker:
    assert found.broker is not None
    return found.broker
