"""Held pulls: who is woken, when, and who is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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


def put(queue: ConsumeQueue, tag_hash: int = 0, properties: bytes = b"", queue_offset: int = 0) -> Put:
    return Put(TOPIC, queue, QueueOffset(queue_offset), LogOffset(0), 100, EpochMs(0), tag_hash, (), None, properties)


class Woken:
    """Counts wake-ups by name."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.by: list[Put | None] = []
        """The message that each was woken by."""

    def of(self, name: str) -> Wake:
        return Wake(self, name)


class Wake:
    def __init__(self, woken: Woken, name: str) -> None:
        self._woken, self._name = woken, name

    def __call__(self, put: Put | None) -> None:
        self._woken.names.append(self._name)
        self._woken.by.append(put)


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


async def test_only_a_message_with_wanted_properties_wakes() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    arrivals.wait(queue, "a", None, 60, woken.of("wants x"), b"x".__eq__)
    arrivals.wait(queue, "a", {1}.__contains__, 60, woken.of("wants 1 and x"), b"x".__eq__)
    arrivals.arrived([put(queue, 1, b"y"), put(queue, 2, b"y")])
    assert woken.names == []
    arrivals.arrived([put(queue, 2, b"x")])
    assert woken.names == ["wants x"]
    arrivals.arrived([put(queue, 1, b"x")])
    assert woken.names == ["wants x", "wants 1 and x"]


async def test_properties_are_asked_for_once_and_only_if_the_tag_passes() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    asked: list[bytes] = []

    def wants(properties: bytes) -> bool:
        asked.append(properties)
        return True

    arrivals.wait(queue, "a", {1}.__contains__, 60, woken.of("a"), wants)
    arrivals.arrived([put(queue, 2, b"2"), put(queue, 1, b"1"), put(queue, 1, b"again")])
    assert (woken.names, asked) == (["a"], [b"1"])


async def test_who_is_woken_is_told_the_first_message_that_it_wants() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    arrivals.wait(queue, "a", {1}.__contains__, 60, woken.of("a"))
    arrivals.wait(queue, "b", None, 60, woken.of("b"))
    puts = [put(queue, 2, queue_offset=7), put(queue, 1, queue_offset=8), put(queue, 1, queue_offset=9)]
    arrivals.arrived(puts)
    assert sorted(zip(woken.names, woken.by, strict=True)) == [("a", puts[1]), ("b", puts[0])]
    arrivals.wait(queue, "c", None, 60, woken.of("c"))
    arrivals.wake_queue(queue)
    assert woken.by[-1] is None


async def test_who_gives_up_waiting_is_not_woken() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    waiter = arrivals.wait(queue, "a", None, 0.01, woken.of("a"))
    arrivals.forget(waiter)
    arrivals.forget(waiter)
    arrivals.arrived([put(queue)])
    await asyncio.sleep(0.03)
    assert woken.names == []
    assert arrivals.waiting == 0


async def test_a_wake_may_end_the_wait_of_another_who_is_to_be_woken() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    waiters = [arrivals.wait(queue, "a", None, 60, lambda put: arrivals.forget(waiters[1]))]
    waiters.append(arrivals.wait(queue, "b", None, 60, woken.of("b")))
    arrivals.arrived([put(queue)])
    assert woken.names == []
    assert arrivals.waiting == 0


async def test_end_of_the_time_wakes() -> None:
    arrivals, woken, queue = Arrivals(), Woken(), ConsumeQueue(0)
    arrivals.wait(queue, "a", None, 0.01, woken.of("late"))
    arrivals.wait(queue, "a", None, 60, woken.of("patient"))
    await asyncio.sleep(0.05)
    assert woken.names == ["late"]
    arrivals.arrived([put(queue)])
    assert woken.names == ["late", "patient"]


async def test_long_waits_end_together_and_none_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.arrivals.GRID_S", 0.2)
    monkeypatch.setattr("posthouse.broker.arrivals.LONG_WAIT_S", 0.3)
    loop, arrivals = asyncio.get_running_loop(), Arrivals()
    await asyncio.sleep(0.2 - loop.time() % 0.2 + 0.02)  # just after a common moment
    begun, ended = loop.time(), dict[int, float]()

    def end(number: int) -> Callable[[Put | None], None]:
        return lambda put: ended.update({number: loop.time()})

    for number in range(4):
        arrivals.wait(ConsumeQueue(0), "a", None, 0.45 - 0.01 * number, end(number))
        await asyncio.sleep(0.01)
    arrivals.wait(ConsumeQueue(0), "a", None, 0.1, end(9))
    assert len(arrivals._deadlines) == 2
    await asyncio.sleep(0.45)
    assert sorted(ended) == [0, 1, 2, 3, 9]
    assert max(ended[number] for number in range(4)) - begun < 0.42
    assert min(ended[number] for number in range(4)) - begun > 0.2
    assert ended[9] < ended[0]
    assert not arrivals._deadlines


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

    def wait_again(put: Put | None) -> None:
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
    assert not arrivals._deadlines
