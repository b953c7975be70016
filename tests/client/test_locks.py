"""Locks are renewed in time, followed at once when given back, and not trusted when they might be another's."""

from __future__ import annotations

import asyncio
import logging

import pytest

from posthouse.client import locks as locks_module
from posthouse.client.locks import QueueLocks
from posthouse.client.session import Session
from posthouse.codec.remoting.bodies.locks import decode_lock_request, encode_locked
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.model.message import MessageQueue
from tests.client.conftest import FakeBroker, FakeCluster, until

pytestmark = pytest.mark.asyncio

LOCK, UNLOCK = RequestCode.LOCK_BATCH_MQ, RequestCode.UNLOCK_BATCH_MQ


class Keeper:
    """A broker that gives all locks but those of `others`."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.others: list[int] = []
        self.asked: list[list[int]] = []
        self.unlocked: list[list[int]] = []
        broker.answers[LOCK] = self.lock
        broker.answers[UNLOCK] = self.unlock

    def lock(self, command: Command) -> Command:
        request = decode_lock_request(command.body)
        self.asked.append([queue.queue_id for queue in request.queues])
        given = [queue for queue in request.queues if queue.queue_id not in self.others]
        return response(0, command.request_id, None, encode_locked(given))

    def unlock(self, command: Command) -> Command:
        self.unlocked.append([queue.queue_id for queue in decode_lock_request(command.body).queues])
        return response(0, command.request_id)


class Way:
    def __init__(self, session: Session, keeper: Keeper) -> None:
        self.session = session
        self.keeper = keeper
        self.lost: list[int] = []
        self.locks = QueueLocks(session, "g", lambda queue: self.lost.append(queue.queue_id))

    def queue(self, number: int) -> MessageQueue:
        return MessageQueue("t", self.keeper.broker.name, number)

    async def close(self) -> None:
        await self.locks.close()
        await self.session.close()


async def open_way(cluster: FakeCluster) -> Way:
    keeper = Keeper(await cluster.add_broker())
    cluster.add_topic("t", queues=4)
    session = Session(cluster.address, host=None, kind="test client")
    session.start()
    await session.queues("t")
    return Way(session, keeper)


async def test_locks_are_asked_for_together_and_given_back_together(cluster: FakeCluster) -> None:
    way = await open_way(cluster)
    await asyncio.gather(*(way.locks.take(way.queue(n)) for n in range(3)))
    assert all(way.locks.holds(way.queue(n)) for n in range(3))
    assert not way.locks.holds(way.queue(3))
    assert way.locks.locked_at_ms(way.queue(0)) > 0
    await way.locks.take(way.queue(0))  # it is ours already
    assert [number for asked in way.keeper.asked for number in asked] == [0, 1, 2]
    await way.locks.release([way.queue(1)])
    assert not way.locks.holds(way.queue(1))
    await way.locks.release([way.queue(1)])
    await way.close()
    assert way.keeper.unlocked == [[1], [0, 2]]


async def test_a_lock_of_somebody_else_is_followed_within_half_a_second(cluster: FakeCluster) -> None:
    way = await open_way(cluster)
    way.keeper.others = [1]
    loop = asyncio.get_running_loop()
    wanting = asyncio.create_task(way.locks.take(way.queue(1)))
    await asyncio.sleep(1.2)
    assert not wanting.done()
    assert 3 <= len(way.keeper.asked) <= 7
    way.keeper.others = []
    given_at = loop.time()
    await asyncio.wait_for(wanting, 5)
    assert loop.time() - given_at < 0.7
    await way.close()


async def test_a_lock_is_renewed_before_it_ends(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "RENEW_SECONDS", 0.4)
    monkeypatch.setattr(locks_module, "VALID_SECONDS", 0.8)
    way = await open_way(cluster)
    await way.locks.take(way.queue(0))
    for _ in range(20):
        await asyncio.sleep(0.1)
        assert way.locks.holds(way.queue(0))
    assert 4 <= len(way.keeper.asked) <= 8
    assert way.lost == []
    await way.close()


async def test_a_lock_that_went_to_somebody_else_is_told(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks_module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(locks_module, "VALID_SECONDS", 0.4)
    way = await open_way(cluster)
    await asyncio.gather(way.locks.take(way.queue(0)), way.locks.take(way.queue(1)))
    way.keeper.others = [1]
    await until(lambda: way.lost == [1])
    assert way.locks.holds(way.queue(0))
    assert not way.locks.holds(way.queue(1))
    assert "went to another member" in caplog.text
    await way.close()
    assert way.keeper.unlocked == [[0]]


async def test_a_lock_that_could_not_be_renewed_is_lost_even_if_the_broker_would_give_it_again(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody may have had it in between, so the queue must begin anew."""
    monkeypatch.setattr(locks_module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(locks_module, "VALID_SECONDS", 0.6)
    monkeypatch.setattr(locks_module, "TROUBLE_SECONDS", 0.05)
    way = await open_way(cluster)
    await way.locks.take(way.queue(0))
    way.keeper.broker.refuse(LOCK, ResponseCode.SYSTEM_BUSY, "no time")
    with caplog.at_level(logging.WARNING):
        await until(lambda: way.lost == [0])
    assert len([line for line in caplog.records if "no time" in line.getMessage()]) == 1
    way.keeper.broker.answers[LOCK] = way.keeper.lock
    await asyncio.sleep(0.5)
    assert not way.locks.holds(way.queue(0))  # nobody wants it again yet
    await way.locks.take(way.queue(0))
    assert way.locks.holds(way.queue(0))
    await way.close()


async def test_what_came_when_nobody_wanted_it_any_more_is_given_back(cluster: FakeCluster) -> None:
    way = await open_way(cluster)
    held: list[Command] = []
    way.keeper.broker.answers[LOCK] = lambda command: held.append(command)
    wanting = asyncio.create_task(way.locks.take(way.queue(0)))
    await until(lambda: bool(held))
    wanting.cancel()
    await asyncio.gather(wanting, return_exceptions=True)
    way.keeper.broker.peers[-1].answer(way.keeper.lock(held[0]))
    await until(lambda: way.keeper.unlocked == [[0]])
    assert not way.locks.holds(way.queue(0))
    await way.close()


async def test_giving_back_waits_for_a_renewal_that_is_under_way(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the renewal could come after the unlock, and the next member would wait for a minute."""
    monkeypatch.setattr(locks_module, "RENEW_SECONDS", 0.1)
    way = await open_way(cluster)
    await way.locks.take(way.queue(0))
    held: list[Command] = []
    way.keeper.broker.answers[LOCK] = lambda command: held.append(command)
    await until(lambda: bool(held))
    releasing = asyncio.create_task(way.locks.release([way.queue(0)]))
    await asyncio.sleep(0.1)
    assert way.keeper.unlocked == []
    way.keeper.broker.answers[LOCK] = way.keeper.lock
    way.keeper.broker.peers[-1].answer(way.keeper.lock(held[0]))
    await asyncio.wait_for(releasing, 5)
    assert way.keeper.unlocked == [[0]]
    assert not way.locks.holds(way.queue(0))
    await way.close()
