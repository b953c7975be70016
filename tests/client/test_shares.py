from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from posthouse.client import shares as shares_module
from posthouse.client.rebalance import averagely
from posthouse.client.session import Session
from posthouse.client.shares import ByBroker, ByMembers, Shares, everything
from posthouse.codec.remoting.bodies.assignment import decode_assignment_question, encode_assignment
from posthouse.codec.remoting.bodies.consumers import encode_consumer_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import response
from posthouse.model.group import RequestMode
from posthouse.model.message import MessageQueue
from tests.client.conftest import FakeBroker, FakeCluster, until

pytestmark = pytest.mark.asyncio

MEMBERS = RequestCode.GET_CONSUMER_LIST_BY_GROUP


class Taken:
    def __init__(self) -> None:
        self.rounds: list[tuple[str, list[int]]] = []

    def __call__(self, topic: str, queues: list[MessageQueue]) -> None:
        self.rounds.append((topic, [queue.queue_id for queue in queues]))


def name_members(broker: FakeBroker, *ids: str) -> None:
    broker.answers[MEMBERS] = lambda command: response(0, command.request_id, None, encode_consumer_list(ids))


async def open_way(cluster: FakeCluster) -> tuple[FakeBroker, Session, Shares, Taken]:
    broker = await cluster.add_broker()
    cluster.add_topic("t", queues=4)
    session = Session(cluster.address, host=None, kind="test client")
    session.producer_groups = ("p",)
    session.start()
    await session.queues("t")
    taken = Taken()
    return broker, session, Shares(session, ("t", "unknown"), ByMembers(session, "g", averagely), taken), taken


async def test_a_share_is_computed_from_the_members(cluster: FakeCluster) -> None:
    broker, session, shares, taken = await open_way(cluster)
    name_members(broker, session.client_id)
    assert await shares.once()
    name_members(broker, "zzz", session.client_id, "zzz")
    assert await shares.once()
    name_members(broker, "!first", session.client_id)
    assert await shares.once()
    assert taken.rounds == [("t", [0, 1, 2, 3]), ("t", [0, 1]), ("t", [2, 3])]
    assert broker.seen[-1].ext_map() == {"consumerGroup": "g"}
    await session.close()


async def test_nothing_changes_while_the_members_are_unknown_or_do_not_include_us(cluster: FakeCluster) -> None:
    broker, session, shares, taken = await open_way(cluster)
    broker.refuse(MEMBERS, ResponseCode.SYSTEM_ERROR)
    assert not await shares.once()
    name_members(broker)
    assert not await shares.once()
    before = broker.count(RequestCode.HEART_BEAT)
    name_members(broker, "somebody")
    assert not await shares.once()
    assert broker.count(RequestCode.HEART_BEAT) == before + 1  # it says again that it is there
    broker.answers[MEMBERS] = lambda command: response(0, command.request_id, None, b"{")
    assert not await shares.once()
    assert taken.rounds == []
    await session.close()


async def test_rounds_come_when_asked_for_and_by_time(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, session, shares, taken = await open_way(cluster)
    name_members(broker, session.client_id)
    running = asyncio.create_task(shares.run())
    await until(lambda: len(taken.rounds) == 1)
    for _ in range(10):
        shares.soon()
    await until(lambda: len(taken.rounds) == 2)
    await asyncio.sleep(0.3)
    assert len(taken.rounds) == 2
    monkeypatch.setattr(shares_module, "SHARE_SECONDS", 0.05)
    shares.soon()
    await until(lambda: len(taken.rounds) >= 5)
    running.cancel()
    await session.close()


async def test_a_strategy_that_fails_changes_nothing_and_is_said(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
        raise ValueError("no machine room is known for me")

    broker, session, _, taken = await open_way(cluster)
    name_members(broker, session.client_id)
    shares = Shares(session, ("t",), ByMembers(session, "g", no_room), taken)
    assert not await shares.once()
    assert taken.rounds == []
    assert "the strategy cannot share t: no machine room" in caplog.text
    await session.close()


async def test_a_broker_may_assign_the_queues(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    broker, session, _, taken = await open_way(cluster)
    shares = Shares(session, ("t",), ByBroker(session, "g", "AVG_BY_CIRCLE"), taken)
    mine = [MessageQueue("t", broker.name, 2), MessageQueue("t", broker.name, 3)]

    def say(queues: list[MessageQueue] | None, mode: RequestMode) -> None:
        broker.answers[RequestCode.QUERY_ASSIGNMENT] = lambda command: response(
            0, command.request_id, None, encode_assignment(queues, mode)
        )

    say(mine, RequestMode.PULL)
    assert await shares.once()
    asked = decode_assignment_question(broker.seen[-1].body)
    assert (asked.topic, asked.group, asked.client_id) == ("t", "g", session.client_id)
    assert asked.strategy == "AVG_BY_CIRCLE"
    beats = broker.count(RequestCode.HEART_BEAT)
    say(None, RequestMode.PULL)
    assert not await shares.once()
    assert broker.count(RequestCode.HEART_BEAT) == beats + 1
    say([], RequestMode.PULL)
    assert await shares.once()
    with caplog.at_level(logging.ERROR):
        say([MessageQueue("t", broker.name, -1)], RequestMode.POP)
        assert await shares.once()
        assert await shares.once()
    assert len([line for line in caplog.records if "is set to pop topic t" in line.getMessage()]) == 1
    broker.answers[RequestCode.QUERY_ASSIGNMENT] = lambda command: response(0, command.request_id, None, b"{")
    assert not await shares.once()
    assert taken.rounds == [("t", [2, 3]), ("t", []), ("t", []), ("t", [])]
    await session.close()


async def test_a_broadcast_consumer_takes_all_and_asks_nobody(cluster: FakeCluster) -> None:
    broker, session, _, taken = await open_way(cluster)
    assert await Shares(session, ("t",), everything, taken).once()
    assert taken.rounds == [("t", [0, 1, 2, 3])]
    assert broker.count(MEMBERS) == 0
    await session.close()
