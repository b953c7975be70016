"""Pops that wait for a message, by group, topic and queue, where the queue may be any.

A pop waits for its topic and for the two retry topics of its group, which need not be there yet, so arrivals are
looked up by the topic's name: one look for a message of a topic for which nobody waits. A waiter is shown only what it
may want; it looks for itself, as what arrived may have gone to another member of its group, or be locked. If it gets
nothing it keeps its place. Oldest first; when one that takes everything gets nothing, there is nothing for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import NamedTuple

from posthouse.model.filter import Subscription
from posthouse.model.limits import WAITING_POPS_MAX, WAITING_POPS_PER_KEY_MAX
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.pop import ANY_QUEUE, pop_retry_topic, pop_retry_topic_v2
from posthouse.store.message_store import Put


class PopKey(NamedTuple):
    """Whom and what a pop is for. `queue_id` may be ANY_QUEUE."""

    group: str
    topic: str
    queue_id: int

    @property
    def places(self) -> list[tuple[str, int]]:
        """(topic, queue id) where messages for it arrive."""
        found = [(self.topic, self.queue_id)]
        if not self.topic.startswith(RETRY_PREFIX):
            found.append((pop_retry_topic(self.group, self.topic), ANY_QUEUE))
            found.append((pop_retry_topic_v2(self.group, self.topic), ANY_QUEUE))
        return found


class HeldPop:
    """One held request. `look` answers it if it can and says whether it did; `end` answers it anyway."""

    __slots__ = ("end", "holder", "key", "look", "timer", "wants_hash", "wants_properties")

    def __init__(
        self,
        key: PopKey,
        holder: Hashable,
        subscription: Subscription,
        look: Callable[[], bool],
        end: Callable[[], None],
    ) -> None:
        self.key = key
        self.holder = holder
        self.wants_hash = subscription.wants_hash
        self.wants_properties = subscription.wants_properties
        self.look = look
        self.end = end
        self.timer: asyncio.TimerHandle | None = None

    @property
    def takes_all(self) -> bool:
        return self.wants_hash is None and self.wants_properties is None

    def takes_any_of(self, puts: list[Put]) -> bool:
        wants_hash, wants_properties = self.wants_hash, self.wants_properties
        return any(
            (wants_hash is None or wants_hash(put.tag_hash))
            and (wants_properties is None or wants_properties(put.properties))
            for put in puts
        )


class PopWaiting:
    def __init__(self) -> None:
        self._held: dict[PopKey, dict[HeldPop, None]] = {}
        self._keys: dict[str, dict[int, dict[PopKey, None]]] = {}  # by topic and queue where messages arrive
        self._by_holder: dict[Hashable, dict[HeldPop, None]] = {}
        self.waiting = 0

    def hold(self, held: HeldPop, timeout_s: float) -> bool:
        """False if there are too many already."""
        others = self._held.get(held.key)
        if self.waiting >= WAITING_POPS_MAX or (others is not None and len(others) >= WAITING_POPS_PER_KEY_MAX):
            return False
        if others is None:
            others = self._held[held.key] = {}
            for topic, queue_id in held.key.places:
                self._keys.setdefault(topic, {}).setdefault(queue_id, {})[held.key] = None
        others[held] = None
        self._by_holder.setdefault(held.holder, {})[held] = None
        self.waiting += 1
        held.timer = asyncio.get_running_loop().call_later(timeout_s, self._end, held)
        return True

    def count(self, key: PopKey) -> int:
        return len(self._held.get(key, ()))

    def arrived(self, puts: list[Put]) -> None:
        """Shows these messages, which have just become visible, to those who wait for such."""
        keys = self._keys
        if not keys:
            return
        shown: dict[PopKey, list[Put]] = {}
        for put in puts:
            by_queue = keys.get(put.topic.config.name)
            if by_queue is not None:
                for queue_id in (put.queue.queue_id, ANY_QUEUE):
                    for key in by_queue.get(queue_id, ()):
                        shown.setdefault(key, []).append(put)
        for key, found in shown.items():
            self._show(key, found)

    def _show(self, key: PopKey, puts: list[Put] | None) -> None:
        for held in list(self._held.get(key, ())):
            if held.timer is None or (puts is not None and not held.takes_any_of(puts)):
                continue
            if not self._look(held) and held.takes_all:
                return

    def _look(self, held: HeldPop) -> bool:
        answered = held.look()
        if answered:
            self._forget(held)
        return answered

    def wake(self, group: str, topic: str) -> None:
        """Messages of the topic that the group could not get are free: its waiters look."""
        for by_queue in list(self._keys.get(topic, {}).values()):
            for key in list(by_queue):
                if key.group == group:
                    self._show(key, None)

    def end_topic(self, topic: str) -> None:
        """The topic is going: all who wait for it are answered."""
        for by_queue in list(self._keys.get(topic, {}).values()):
            for key in list(by_queue):
                for held in list(self._held.get(key, ())) if key.topic == topic else ():
                    self._end(held)

    def end_all(self) -> None:
        """The broker is stopping: everybody is answered."""
        for waiters in list(self._held.values()):
            for held in list(waiters):
                self._end(held)

    def gone(self, holder: Hashable) -> None:
        """A client has gone: its pops are forgotten."""
        for held in list(self._by_holder.get(holder, ())):
            self._forget(held)

    def _end(self, held: HeldPop) -> None:
        if held.timer is not None:
            self._forget(held)
            held.end()

    def _forget(self, held: HeldPop) -> None:
        if held.timer is None:
            return
        held.timer.cancel()
        held.timer = None
        self.waiting -= 1
        others = self._held[held.key]
        del others[held]
        if not others:
            del self._held[held.key]
            for topic, queue_id in held.key.places:
                by_queue = self._keys[topic]
                del by_queue[queue_id][held.key]
                if not by_queue[queue_id]:
                    del by_queue[queue_id]
                    if not by_queue:
                        del self._keys[topic]
        mine = self._by_holder[held.holder]
        del mine[held]
        if not mine:
            del self._by_holder[held.holder]
