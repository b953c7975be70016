"""Pops that wait: who is woken by what, how many there may be, and what ends the wait."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.model.pop import ANY_QUEUE, PopStatus
from posthouse.model.refusal import Refused
from tests.broker.brokers import message, running, send, some_turns
from tests.broker.pops import fill, in_flight, pop, popped

pytestmark = pytest.mark.asyncio


async def test_a_pop_waits_for_a_message_and_no_longer_than_its_time() -> None:
    async with running() as broker:
        await fill(broker, 0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await pop(broker, poll_ms=300).result()).status is PopStatus.NOTHING
        assert 0.2 <= loop.time() - began < 2
        waiting = pop(broker, poll_ms=10_000)
        await some_turns()
        assert waiting.is_held
        await send(broker, message("T", b"now"))
        assert await waiting.bodies() == [b"now"]
        assert broker.pop.waiting.waiting == 0


async def test_a_pop_is_not_woken_by_what_it_does_not_want() -> None:
    async with running() as broker:
        await fill(broker, 0, queues=2)
        tagged = pop(broker, poll_ms=10_000, expression="A")
        sized = pop(broker, group="S", poll_ms=10_000, expression="n > 5", expression_type="SQL92")
        other_queue = pop(broker, group="Q", poll_ms=10_000, queue_id=1)
        await send(broker, message("T", b"no", tag="B", properties="n\x011\x02"))
        await some_turns()
        assert [tagged.is_held, sized.is_held, other_queue.is_held] == [True] * 3
        await send(broker, message("T", b"yes", tag="A", properties="n\x017\x02"))
        assert await tagged.bodies() == await sized.bodies() == [b"yes"]
        assert other_queue.is_held


async def test_one_message_wakes_one_member_of_a_group_the_one_that_waits_longest() -> None:
    async with running() as broker:
        await fill(broker, 0)
        first, second = pop(broker, poll_ms=10_000), pop(broker, poll_ms=10_000)
        await send(broker, message("T", b"a"))
        assert await first.bodies() == [b"a"]
        assert second.is_held
        await send(broker, message("T", b"b"))
        assert await second.bodies() == [b"b"]


async def test_a_pop_of_a_client_that_has_gone_takes_nothing() -> None:
    async with running() as broker:
        await fill(broker, 0)
        holder = object()
        gone = pop(broker, holder=holder, poll_ms=10_000)
        broker.pop.gone(holder)
        await send(broker, message("T", b"a"))
        await some_turns()
        assert gone.is_held
        assert in_flight(broker) == 0
        assert await popped(broker) == [b"a"]


async def test_too_many_held_pops_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.pop_waiting.WAITING_POPS_PER_KEY_MAX", 2)
    monkeypatch.setattr("posthouse.broker.pop_waiting.WAITING_POPS_MAX", 3)
    async with running() as broker:
        await fill(broker, 0)
        held = [pop(broker, poll_ms=10_000) for _ in range(2)]
        assert (await pop(broker, poll_ms=10_000).result()).status is PopStatus.FULL
        held.append(pop(broker, group="H", poll_ms=10_000))
        assert (await pop(broker, group="I", poll_ms=10_000).result()).status is PopStatus.FULL
        assert all(each.is_held for each in held)
        assert broker.pop.polling("G", "T", ANY_QUEUE) == 2


async def test_a_deleted_topic_ends_the_wait() -> None:
    async with running() as broker:
        await fill(broker, 0)
        waiting = pop(broker, poll_ms=10_000)
        await broker.topics.delete("T")
        outcome = await waiting.outcome()
        assert isinstance(outcome, Refused) or outcome.status is PopStatus.NOTHING


async def test_everybody_is_answered_when_the_broker_stops() -> None:
    async with running() as broker:
        await fill(broker, 0)
        waiting = pop(broker, poll_ms=10_000)
    assert (await waiting.result()).status is PopStatus.NOTHING
