"""Pulls that wait for a message. Each waits on one queue; an arrival looks at the waiters of its own queue only.

A waiter is woken by a message whose tag it may want, by the end of its time, or never if its client has gone. What
it costs while it waits is one object and one timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TypeVar

from posthouse.model.limits import WAITING_PULLS_MAX
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import Put

K = TypeVar("K", bound=Hashable)


class Waiter:
    """One held pull. `wake` is called once, unless its holder has gone."""

    __slots__ = ("holder", "queue", "timer", "wake", "wants")

    def __init__(
        self, queue: ConsumeQueue, holder: Hashable, wants: Callable[[int], bool] | None, wake: Callable[[], None]
    ) -> None:
        self.queue = queue
        self.holder = holder
        self.wants = wants
        self.wake = wake
        self.timer: asyncio.TimerHandle | None = None


class Arrivals:
    def __init__(self) -> None:
        self._by_queue: dict[ConsumeQueue, dict[Waiter, None]] = {}
        self._by_holder: dict[Hashable, dict[Waiter, None]] = {}
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
        wake: Callable[[], None],
    ) -> None:
        """Calls `wake` when a wanted message is visible or the time is up; the caller looks which. Not when full."""
        assert not self.is_full
        waiter = Waiter(queue, holder, wants, wake)
        self._by_queue.setdefault(queue, {})[waiter] = None
        self._by_holder.setdefault(holder, {})[waiter] = None
        self.waiting += 1
        waiter.timer = asyncio.get_running_loop().call_later(timeout_s, self._wake, waiter)

    def arrived(self, puts: list[Put]) -> None:
        """Wakes who waits for any of these messages, which have just become visible."""
        by_queue = self._by_queue
        if not by_queue:
            return
        woken: dict[Waiter, None] = {}
        for put in puts:
            waiters = by_queue.get(put.queue)
            if waiters:
                tag_hash = put.tag_hash
                for waiter in waiters:
                    if waiter.wants is None or waiter.wants(tag_hash):
                        woken[waiter] = None
        for waiter in woken:
            self._wake(waiter)

    def wake_queue(self, queue: ConsumeQueue) -> None:
        """Wakes all who wait on a queue: its topic is going."""
        for waiter in list(self._by_queue.get(queue, ())):
            self._wake(waiter)

    def wake_all(self) -> None:
        """Wakes everybody: the broker is stopping."""
        for queue in list(self._by_queue):
            self.wake_queue(queue)

    def gone(self, holder: Hashable) -> None:
        """A client has gone: its pulls are forgotten."""
        for waiter in list(self._by_holder.get(holder, ())):
            self._forget(waiter)

    def _wake(self, waiter: Waiter) -> None:
        self._forget(waiter)
        waiter.wake()

    def _forget(self, waiter: Waiter) -> None:
        assert waiter.timer is not None
        waiter.timer.cancel()
        self.waiting -= 1
        _remove(self._by_queue, waiter.queue, waiter)
        _remove(self._by_holder, waiter.holder, waiter)


def _remove(table: dict[K, dict[Waiter, None]], key: K, waiter: Waiter) -> None:
    waiters = table[key]
    del waiters[waiter]
    if not waiters:
        del table[key]
