from __future__ import annotations

import asyncio

import pytest

from posthouse.client import session as session_module
from posthouse.client.errors import BrokerRefused, ClientClosed, NoNameServer, NoRoute, Timeout, Unreachable
from posthouse.client.session import Session
from posthouse.codec.remoting.bodies.heartbeat import decode_heartbeat
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.link.peer import RemotingPeer
from posthouse.model.message import MessageQueue
from tests.client.conftest import FakeCluster, until

pytestmark = pytest.mark.asyncio


def new_session(cluster: FakeCluster, group: str = "g") -> Session:
    session = Session(cluster.address, host=None, kind="test client")
    session.producer_groups = (group,)
    session.start()
    return session


async def test_callers_at_once_share_one_question_for_a_route(cluster: FakeCluster) -> None:
    await cluster.add_broker()
    cluster.add_topic("t")
    session = new_session(cluster)
    found = await asyncio.gather(*(session.queues("t") for _ in range(20)))
    assert len({id(queues) for queues in found}) == 1
    assert await session.queues("t") is session.queues_if_known("t")
    assert cluster.nameserver.count(RequestCode.GET_ROUTEINFO_BY_TOPIC) == 1
    await session.close()


async def test_a_caller_that_gives_up_leaves_the_question_to_the_others(cluster: FakeCluster) -> None:
    await cluster.add_broker()
    cluster.add_topic("t")
    session = new_session(cluster)
    first, second = asyncio.create_task(session.queues("t")), asyncio.create_task(session.queues("t"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).topic == "t"
    await session.close()


async def test_an_unknown_topic_borrows_and_gets_its_own_route_later(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "UNKNOWN_POLL_SECONDS", 0.05)
    await cluster.add_broker()
    cluster.add_topic("TBW102", queues=8)
    session = new_session(cluster)
    with pytest.raises(NoRoute):
        await session.queues("new")
    borrowed = await session.queues("new", "TBW102")
    assert (borrowed.borrowed, len(borrowed.write_queues)) == (True, 4)
    cluster.add_topic("new", queues=6)
    await until(lambda: len((session.queues_if_known("new") or borrowed).write_queues) == 6)
    await session.close()


async def test_an_awaited_topic_is_found_when_it_comes_into_being(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "UNKNOWN_POLL_SECONDS", 0.05)
    session = new_session(cluster)
    changed: list[str] = []
    session.on_route = changed.append
    session.await_topic("later")
    with pytest.raises(NoRoute):
        await session.queues("later")
    await cluster.add_broker()
    cluster.add_topic("later")
    await until(lambda: changed == ["later"])
    await session.close()


async def test_a_known_route_stays_when_it_cannot_be_had_anew(cluster: FakeCluster) -> None:
    await cluster.add_broker()
    cluster.add_topic("t")
    session = new_session(cluster)
    before = await session.queues("t")
    cluster.routes.clear()
    await session.refresh("t")
    assert session.queues_if_known("t") is before
    await cluster.nameserver.vanish()
    await session.refresh("t")
    assert await session.queues("t") is before
    with pytest.raises(NoNameServer):
        await session.queues("other")
    await session.close()


async def test_a_broker_that_no_route_names_any_more_is_forgotten(cluster: FakeCluster) -> None:
    old = await cluster.add_broker("old")
    cluster.add_topic("t")
    session = new_session(cluster)
    await session.queues("t")
    assert session.address_of("old") == old.address
    cluster.brokers = []
    new = await cluster.add_broker("new")
    cluster.add_topic("t")
    await session.refresh("t")
    assert session.address_of("new") == new.address
    assert session.master_of("old") is None
    await session.close()
    await old.vanish()


async def test_a_broker_hears_of_us_before_anything_else_on_each_connection(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.answers[30] = lambda command: response(0, command.request_id, {"offset": "1"})
    session = new_session(cluster, "my-group")
    queue = MessageQueue("t", broker.name, 0)
    for _ in range(2):
        for _ in range(2):
            await session.ask_queue(queue, 30, {}, doing="x")
        assert [command.code for command in broker.seen] == [RequestCode.HEART_BEAT, 30, 30]
        heartbeat = decode_heartbeat(broker.seen[0].body)
        assert (heartbeat.client_id, heartbeat.producer_groups) == (session.client_id, ("my-group",))
        broker.seen.clear()
        await broker.vanish()
        await until(lambda: session.pool.peer_if_open(broker.address) is None)
        await broker.listen()
    await session.close()


async def test_closing_says_goodbye_to_brokers(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    session = new_session(cluster, "my-group")
    await session.queues("t")
    await session.beat_all()
    await session.close()
    await session.close()
    goodbye = broker.seen[-1]
    assert goodbye.code == RequestCode.UNREGISTER_CLIENT
    assert goodbye.ext_map() == {"clientID": session.client_id, "producerGroup": "my-group"}
    with pytest.raises(ClientClosed):
        await session.queues("t")


async def test_a_session_opens_once(cluster: FakeCluster) -> None:
    session = Session(cluster.address, host=None, kind="test client")
    with pytest.raises(ClientClosed, match="is not open"):
        session.check_open()
    session.start()
    with pytest.raises(ClientClosed, match="twice"):
        session.start()
    await session.close()


async def test_what_a_broker_asks_goes_to_who_registered_for_it(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    session = new_session(cluster)
    told: list[Command] = []

    def note(peer: RemotingPeer, command: Command) -> None:
        told.append(command)

    session.on_request[40] = note
    await session.queues("t")
    await session.beat_all()
    broker.peers[0].tell(40, {"consumerGroup": "g"})
    refused = await broker.peers[0].ask(307, {})
    assert refused.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
    assert [command.ext_map() for command in told] == [{"consumerGroup": "g"}]
    await session.close()


async def test_errors_of_a_question_say_what_was_asked(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    session = new_session(cluster)
    queue = MessageQueue("t", broker.name, 0)
    with pytest.raises(Timeout, match=r"a broker was asked to count: no answer .* after 0.05 s"):
        await session.ask_queue(queue, 31, {}, doing="count", timeout_s=0.05)
    broker.refuse(31, ResponseCode.INVALID_PARAMETER, "queue 9")
    with pytest.raises(BrokerRefused, match=f"{broker.name} refused to count with 29 INVALID_PARAMETER: queue 9"):
        await session.ask_queue(queue, 31, {}, doing="count")
    await broker.vanish()
    await until(lambda: session.pool.peer_if_open(broker.address) is None)
    with pytest.raises(Unreachable, match="a broker was asked to count: cannot connect"):
        await session.ask_queue(queue, 31, {}, doing="count")
    await session.close()
