"""Held pulls: who is woken, when, and who is left alone."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.broker.arrivals import Arrivals
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import Put
from posthouse.store.topic_table import Topic

pytestmark = pytest.mark.asyncio

TOPIC = Topic(0, TopicConfig("T"))


def put(queue: ConsumeQueue, tag_hash: int = 0) -> Put:
    return Put(TOPIC, queue, QueueOffset(0), LogOffset(0), 100, EpochMs(0), tag_hash, (), None)


class Woken:
    """Counts wake-ups by name."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def of(self, name: str) -> Wake:
        return Wake(self, name)


class Wake:
    def __init__(self, woken: Woken, name: str) -> None:
        self._woken, self._name = woken, name

    def __call__(self) -> None:
        self._woken.names.append(self._name)


async def test_arrival_wakes_all_who_wait_on_its_queue_once() -> None:
    arrivals, woken = Arrivals(), Woken()
    here, elsewhere = ConsumeQueue(0), ConsumeQueue(1)
    arrivals.wait(here, "a", None, 60, woken.of("first"))
    arrivals.wait(here, "b", None, 60, woken.of("second"))
    arrivals.wait(elsewhere, "a", None, 60, woken.of("elsewhere"))
    arrivals.arrived([put(here), put(here)])
    assert woken.names == ["first", "second"]
    assert arrivals.waiting == 1
    arrivals.arrived([put(here)])
    assert woken.names == ["first", "second"]


async def test_only_a_message_with_a_wanted_tag_wakes() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    arrivals.wait(queue, "a", {1, 2}.__contains__, 60, woken.of("wants 1 or 2"))
    arrivals.arrived([put(queue, 3), put(queue, 0)])
    assert woken.names == []
    arrivals.arrived([put(queue, 3), put(queue, 2)])
    assert woken.names == ["wants 1 or 2"]
    assert arrivals.waiting == 0


async def test_end_of_the_time_wakes() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    arrivals.wait(queue, "a", None, 0.01, woken.of("late"))
    arrivals.wait(queue, "a", None, 60, woken.of("patient"))
    await asyncio.sleep(0.05)
    assert woken.names == ["late"]
    arrivals.arrived([put(queue)])
    assert woken.names == ["late", "patient"]


async def test_holder_that_is_gone_is_never_woken() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    arrivals.wait(queue, "gone", None, 0.01, woken.of("gone"))
    arrivals.wait(queue, "gone", None, 60, woken.of("gone too"))
    arrivals.wait(queue, "stays", None, 60, woken.of("stays"))
    arrivals.gone("gone")
    arrivals.gone("gone")
    arrivals.gone("never came")
    assert arrivals.waiting == 1
    await asyncio.sleep(0.03)
    arrivals.arrived([put(queue)])
    assert woken.names == ["stays"]


async def test_thousands_who_wait_elsewhere_are_not_looked_at() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    asked: list[int] = []

    def wants(tag_hash: int) -> bool:
        asked.append(tag_hash)
        return True

    for number in range(5000):
        arrivals.wait(ConsumeQueue(0), f"holder {number}", wants, 60, woken.of("elsewhere"))
    arrivals.wait(queue, "here", None, 60, woken.of("here"))
    arrivals.arrived([put(queue) for _ in range(100)])
    assert woken.names == ["here"]
    assert asked == []
    assert arrivals.waiting == 5000


async def test_one_who_waits_again_while_woken_is_not_woken_by_the_same_messages() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)

    def wait_again() -> None:
        arrivals.wait(queue, "a", None, 60, woken.of("again"))

    arrivals.wait(queue, "a", None, 60, wait_again)
    arrivals.arrived([put(queue), put(queue)])
    assert woken.names == []
    assert arrivals.waiting == 1


async def test_going_topic_wakes_the_waiters_of_its_queue_only() -> None:
    arrivals, woken = Arrivals(), Woken()
    here, elsewhere = ConsumeQueue(0), ConsumeQueue(0)
    arrivals.wait(here, "a", {1}.__contains__, 60, woken.of("here"))
    arrivals.wait(elsewhere, "a", None, 60, woken.of("elsewhere"))
    arrivals.wake_queue(here)
    arrivals.wake_queue(here)
    assert woken.names == ["here"]


async def test_stop_wakes_everybody() -> None:
    arrivals, woken = Arrivals(), Woken()
    for number in range(10):
        arrivals.wait(ConsumeQueue(number), number % 3, None, 60, woken.of(str(number)))
    arrivals.wake_all()
    assert woken.names == [str(number) for number in range(10)]
    assert arrivals.waiting == 0


async def test_it_is_full_at_the_limit_and_has_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.arrivals.WAITING_PULLS_MAX", 2)
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    was_full = []
    for number in range(2):
        was_full.append(arrivals.is_full)
        arrivals.wait(queue, "a", None, 60, woken.of(str(number)))
    was_full.append(arrivals.is_full)
    with pytest.raises(AssertionError):
        arrivals.wait(queue, "a", None, 60, woken.of("one too many"))
    arrivals.gone("a")
    was_full.append(arrivals.is_full)
    assert was_full == [False, False, True, False]


async def test_nothing_is_kept_of_those_who_no_longer_wait() -> None:
    arrivals, woken = Arrivals(), Woken()
    queues = [ConsumeQueue(number) for number in range(4)]
    for number, queue in enumerate(queues):
        arrivals.wait(queue, number, None, 0.001 if number == 0 else 60, woken.of(str(number)))
    arrivals.arrived([put(queues[1])])
    arrivals.gone(2)
    arrivals.wake_queue(queues[3])
    await asyncio.sleep(0.02)
    assert arrivals.waiting == 0
    assert not arrivals._by_queue
    assert not arrivals._by_holder
