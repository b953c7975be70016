"""Actors: what they write down, and bodies that tell whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from posthouse.client.errors import BatchFailed, MessageIllegal, NoRoute, PosthouseError, SendFailed, SendTimeout
from posthouse.client.receipt import SendReceipt, SendStatus
from posthouse.host import Host
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.testing.sim.actor import Actor, id_of, make_body, patiently, surely_not_stored
from posthouse.testing.sim.history import History
from posthouse.testing.sim.randomness import Stream
from posthouse.testing.sim.stage import Handle, Node


class EmptyStage:
    """A world with nothing in it but a history."""

    def __init__(self) -> None:
        self.history = History()
        self.nameservers = "10.0.0.1:9876"
        self.brokers: Sequence[Node] = ()
        self.at_s = 0.0

    def loop_time(self) -> float:
        self.at_s += 1.0
        return self.at_s

    def random(self, name: str) -> Stream:
        return Stream(name)

    def client_host(self, name: str) -> Host:
        return Host.real()

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> Handle:
        raise AssertionError("nothing runs here")


@pytest.fixture
def actor() -> Actor:
    return Actor(EmptyStage(), "producer-1")


def receipt(offset: int) -> SendReceipt:
    queue = MessageQueue("letters", "broker-a", 2)
    return SendReceipt("id", "place", queue, QueueOffset(offset), SendStatus.SEND_OK, "")


@pytest.mark.parametrize("size", [0, 20, 3500])
def test_body_tells_its_id(size: int) -> None:
    body = make_body("producer-1.17", size)
    assert len(body) == max(size, len("producer-1.17 "))
    assert id_of(body) == "producer-1.17"


@pytest.mark.parametrize("at", [3, 13, 14, 60, 99])
def test_body_that_was_changed_has_no_id_that_anybody_sent(at: int) -> None:
    body = bytearray(make_body("producer-1.17", 100))
    body[at] ^= 4
    assert id_of(bytes(body)) != "producer-1.17"


def test_body_that_is_cut_has_the_id_only_if_what_is_left_is_right() -> None:
    assert id_of(b"producer-1.17") != "producer-1.17"


def test_receipt_is_written_with_its_place(actor: Actor) -> None:
    actor.sent(7, ["a"], receipt(5))
    event = actor.stage.history.events[0]
    assert (event.who, event.what, event.outcome) == ("producer-1", "send", "ok")
    assert event.details == {"of": 7, "topic": "letters", "broker": "broker-a", "queue": 2, "messages": [["a", 5]]}


def test_failed_batch_is_written_message_by_message(actor: Actor) -> None:
    error = BatchFailed([receipt(5), SendTimeout("late", maybe_stored=True), SendFailed("refused", code=2)])
    actor.sent(0, ["a", "b", "c"], error)
    assert [event.outcome for event in actor.stage.history.events] == ["ok", "unknown", "fail"]


def test_error_that_no_client_may_raise_is_a_bug(actor: Actor) -> None:
    actor.sent(0, ["a"], ValueError("x"))
    assert [event.what for event in actor.stage.history.events] == ["bug", "send"]


@pytest.mark.parametrize(
    ("error", "sure"),
    [
        (SendFailed("x", code=2), True),
        (SendFailed("x", maybe_stored=True), False),
        (SendFailed("x", code=14), False),  # a broker that may have written it
        (NoRoute("x"), True),
        (MessageIllegal("x"), True),
        (PosthouseError("x"), False),
    ],
)
def test_only_what_the_client_is_sure_of_is_a_failure(error: PosthouseError, sure: bool) -> None:
    assert surely_not_stored(error) is sure


@pytest.mark.asyncio
async def test_life_that_ends_with_a_mistake_is_written_down(actor: Actor) -> None:
    async def fail(actor: Actor) -> None:
        raise KeyError("x")

    async def give_up(actor: Actor) -> None:
        raise NoRoute("letters")

    await actor.live(fail)
    await actor.live(give_up)
    assert [event.what for event in actor.stage.history.events] == ["bug", "gives up"]
    assert "test_actor.py" in actor.stage.history.events[0].details["error"]


@pytest.mark.asyncio
async def test_patience_lasts_until_it_works_or_the_time_is_over(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    async def rest(seconds: float) -> None:
        pass

    async def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise NoRoute("letters")

    monkeypatch.setattr(asyncio, "sleep", rest)
    assert await patiently(actor, "tries", work, 100.0)
    assert len(tries) == 3
    tries.clear()
    assert not await patiently(actor, "tries", work, actor.stage.loop_time() + 2.0)
