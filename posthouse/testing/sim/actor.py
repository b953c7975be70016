"""Who acts in a simulated world, and how it is written down: every deed has a beginning in the history before anything
is sent, and an end when the actor knows how it went. A deed without an end may or may not have happened.

Bodies of messages are their ids and filling that follows from the id, so a body that is not as it was sent shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from posthouse.client.errors import (
    BatchFailed,
    ClientClosed,
    MessageIllegal,
    NoBroker,
    NoNameServer,
    NoRoute,
    PosthouseError,
    SendFailed,
)
from posthouse.client.receipt import SendReceipt
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.testing.sim.nodes import describe
from posthouse.testing.sim.stage import Stage

_FILLING = b"abcdefghijklmnopqrstuvwxyz"


class Actor:
    """One client process. `random` is its own stream; `host` the machine that it runs on."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.random = stage.random(f"actor {name}")
        self.host = stage.client_host(name)
        self._sent = 0

    def note(self, what: str, outcome: str, **details: Any) -> int:
        return self.stage.history.add(self.stage.loop_time(), self.name, what, outcome, **details)

    def now_index(self) -> int:
        """The place in the history that comes next: for deeds of which only the end is written."""
        return len(self.stage.history.events)

    def next_id(self) -> str:
        self._sent += 1
        return f"{self.name}.{self._sent}"

    async def live(self, deed: Callable[[Actor], Awaitable[None]]) -> None:
        """Runs the actor's life. What it raises is a mistake of ours, and is written down as one."""
        try:
            await deed(self)
        except PosthouseError as error:
            self.note("gives up", "note", error=f"{type(error).__name__}: {error}")
        except Exception as error:
            self.note("bug", "note", error=describe(error))

    def sent(self, of: int, ids: list[str], outcome: Any) -> None:
        """The end of a send of these messages: a receipt, a list of receipts, or what went wrong."""
        if isinstance(outcome, BatchFailed):
            for message_id, each in zip(ids, outcome.outcomes, strict=True):
                self.sent(of, [message_id], each)
            return
        if isinstance(outcome, BaseException):
            if not isinstance(outcome, PosthouseError):
                self.note("bug", "note", error=describe(outcome))
            done = "fail" if surely_not_stored(outcome) else "unknown"
            self.note("send", done, of=of, ids=ids, error=f"{type(outcome).__name__}: {outcome}"[:300])
            return
        receipts: Iterable[SendReceipt] = [outcome] if isinstance(outcome, SendReceipt) else outcome
        places = [[message_id, each.queue_offset] for message_id, each in zip(ids, receipts, strict=True)]
        queue = (outcome if isinstance(outcome, SendReceipt) else outcome[0]).queue
        self.note(
            "send",
            "ok",
            of=of,
            topic=queue.topic,
            broker=queue.broker_name,
            queue=queue.queue_id,
            messages=places,
        )


def surely_not_stored(error: BaseException) -> bool:
    """Whether the client says that nothing of what was to be sent can be in a log, now or later."""
    if isinstance(error, SendFailed):
        # A broker whose log has failed, or is full, answers with this code what it may have written all the same.
        return not error.maybe_stored and error.code != ResponseCode.SERVICE_NOT_AVAILABLE
    return isinstance(error, MessageIllegal | NoRoute | NoNameServer | NoBroker)


def make_body(message_id: str, size: int) -> bytes:
    """`size` bytes, or as many as the id needs."""
    head = message_id.encode() + b" "
    more = size - len(head)
    return head + (_FILLING * (more // len(_FILLING) + 1))[: max(0, more)]


def id_of(body: bytes) -> str:
    """The id in a body; a text that is nobody's id if the body is not as it was made."""
    head, blank, filling = body.partition(b" ")
    whole = (_FILLING * (len(filling) // len(_FILLING) + 1))[: len(filling)]
    if not blank or filling != whole:
        return f"damaged: {body[:40]!r} ({len(body)} bytes)"
    return head.decode(errors="replace")


async def patiently(actor: Actor, doing: str, deed: Callable[[], Awaitable[Any]], until_s: float) -> bool:
    """Tries until it works or the time is over, with a rest after each error of the client."""
    while actor.stage.loop_time() < until_s:
        try:
            await deed()
        except ClientClosed:
            raise
        except PosthouseError as error:
            actor.note(doing, "note", error=f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(actor.random.uniform(0.2, 1.0))
        else:
            return True
    return False
