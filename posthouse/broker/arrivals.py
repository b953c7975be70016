"""Requests that wait for a message: held pulls, and others. An arrival looks at the waiters of its own queue only.

A waiter is woken by a message that it wants, by the end of its time, or never if its client has gone. What it wants
is asked twice: the hash of the tag, and, where the filter is of another kind, the properties, which a message on its
way to the disk still carries. So a filter costs nothing to queues whose waiters have none, and no read of the log.

Every message that comes to a queue while somebody waits there is shown to the waiter. So when it is woken by a message,
none before it was wanted; and at the end of its time none at all: there is no need to look at those again.

Long waits end at common moments, up to GRID_S early: a thousand idle consumers then cost a few turns of the loop in a
second, each with the answers and the next requests of many, in place of a hundred turns for one each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TypeVar

from posthouse.model.limits import WAITING_PULLS_MAX
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import Put

GRID_S = 0.5
LONG_WAIT_S = 5.0
"""Waits of at least that end at a multiple of GRID_S, the last one within their time."""

K = TypeVar("K", bound=Hashable)

Wake = Callable[[Put | None], None]
"""Gets the message that is wanted, just visible; None at the end of the time, and when queue or broker go.

It raises nothing: it is called in the middle of a commit, and others are to be woken after it.
"""


class Waiter:
    """One held request. `wake` is called once, unless its holder has gone."""

    __slots__ = ("due_at", "holder", "queue", "wake", "wants", "wants_properties")

    def __init__(
        self,
        queue: ConsumeQueue,
        holder: Hashable,
        wants: Callable[[int], bool] | None,
        wants_properties: Callable[[bytes], bool] | None,
        wake: Wake,
        due_at: float,
    ) -> None:
        self.queue = queue
        self.holder = holder
        self.wants = wants
        self.wants_properties = wants_properties
        self.wake = wake
        self.due_at = due_at
        """When its time is over, in the loop's time; 0 when it has ended."""


class _Deadline:
    """Those whose time ends together."""

    __slots__ = ("timer", "waiters")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.waiters: dict[Waiter, None] = {}


class Arrivals:
    def __init__(self) -> None:
        self._by_queue: dict[ConsumeQueue, dict[Waiter, None]] = {}
        self._by_holder: dict[Hashable, dict[Waiter, None]] = {}
        self._deadlines: dict[float, _Deadline] = {}
        self.waiting = 0

    @property
    def is_full(self) -> bool:
        return self.waiting >= WAITING_PULLS_MAX

    def wait(
        self,
        queue: ConsumeQueue,
        holder: Hashable,
        wants: Callable[[int], bool] | None,
        timeout_s: float,
        wake: Wake,
        wants_properties: Callable[[bytes], bool] | None = None,
    ) -> Waiter:
        """Calls `wake` when a wanted message is visible or the time is up. Not when full.

        `wants` is asked with the hash of a tag, `wants_properties` with encoded properties; None takes all.
        """
        assert not self.is_full
        loop = asyncio.get_running_loop()
        due_at = loop.time() + timeout_s
        if timeout_s >= LONG_WAIT_S:
            due_at -= due_at % GRID_S
        waiter = Waiter(queue, holder, wants, wants_properties, wake, due_at)
        self._by_queue.setdefault(queue, {})[waiter] = None
        self._by_holder.setdefault(holder, {})[waiter] = None
        self.waiting += 1
        deadline = self._deadlines.get(due_at)
        if deadline is None:
            deadline = self._deadlines[due_at] = _Deadline(loop.call_at(due_at, self._over, due_at))
        deadline.waiters[waiter] = None
        return waiter

    def _over(self, due_at: float) -> None:
        for waiter in list(self._deadlines[due_at].waiters):
            self._wake(waiter, None)

    def arrived(self, puts: list[Put]) -> None:
        """Wakes who waits for any of these messages, which have just become visible."""
        by_queue = self._by_queue
        if not by_queue:
            return
        woken: dict[Waiter, Put] = {}
        for put in puts:
            waiters = by_queue.get(put.queue)
            if waiters:
                tag_hash = put.tag_hash
                for waiter in waiters:
                    if (
                        (waiter.wants is None or waiter.wants(tag_hash))
                        and waiter not in woken
                        and (waiter.wants_properties is None or waiter.wants_properties(put.properties))
                    ):
                        woken[waiter] = put
        for waiter, put in woken.items():
            self._wake(waiter, put)

    def wake_queue(self, queue: ConsumeQueue) -> None:
        """Wakes all who wait on a queue: its topic is going."""
        for waiter in list(self._by_queue.get(queue, ())):
            self._wake(waiter, None)

    def wake_all(self) -> None:
        """Wakes everybody: the broker is stopping."""
        for queue in list(self._by_queue):
            self.wake_queue(queue)

    def gone(self, holder: Hashable) -> None:
        """A client has gone: its requests are forgotten."""
        for waiter in list(self._by_holder.get(holder, ())):
            self.forget(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Ends a wait without a wake; nothing if it has ended."""
        due_at = waiter.due_at
        if not due_at:
            return
        waiter.due_at = 0.0
        self.waiting -= 1
        deadline = self._deadlines[due_at]
        del deadline.waiters[waiter]
        if not deadline.waiters:
            deadline.timer.cancel()
            del self._deadlines[due_at]
        _remove(self._by_queue, waiter.queue, waiter)
        _remove(self._by_holder, waiter.holder, waiter)

    def _wake(self, waiter: Waiter, put: Put | None) -> None:
        if waiter.due_at:  # else a wake before this one, of the same arrival, has ended it
            self.forget(waiter)
            waiter.wake(put)


def _remove(table: dict[K, dict[Waiter, None]], key: K, waiter: Waiter) -> None:
    waiters = table[key]
    del waiters[waiter]
    if not waiters:
        del table[key]
