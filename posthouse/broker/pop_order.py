"""Ordered pops: what a group was given last of a queue, and until when nobody gets more of it.

The group's offset stays where it is until what it was given is acknowledged, so what was not comes again, in order,
when its time is over. Until then the queue is locked, but for a pop with the attempt id of the one that got it: its
answer was lost. How often a message was given is counted while it is at the head of its queue.

The state is the store's (in_flight.Order) and survives; that its time is over is told by monotonic time, so that a
clock that jumps unlocks nothing. Source: RocketMQ 5.3 ConsumerOrderInfoManager.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.in_flight import NO_ORDER, GroupQueue, InFlight, Order


def order_given(
    before: Order | None, at_ms: EpochMs, invisible_ms: int, attempt_id: str, offsets: Sequence[int]
) -> Order:
    """The order after these were given, `before` being the one that they were given after."""
    times_before = dict(zip(before.offsets, before.times, strict=True)) if before is not None else {}
    more = 0 if before is not None and attempt_id and before.attempt_id == attempt_id else 1
    times = tuple(times_before[offset] + more if offset in times_before else 0 for offset in offsets)
    count = len(offsets)
    due_ms = at_ms + invisible_ms
    return Order(at_ms, invisible_ms, attempt_id, tuple(offsets), (due_ms,) * count, times, (False,) * count)


def order_acked(order: Order, offset: QueueOffset) -> Order:
    """NO_ORDER when all is acknowledged. Raises Refused(MESSAGE_ILLEGAL) if it was not given."""
    at = _index(order, offset)
    acked = (*order.acked[:at], True, *order.acked[at + 1 :])
    return NO_ORDER if all(acked) else msgspec.structs.replace(order, acked=acked)


def order_delayed(order: Order, offset: QueueOffset, due_ms: EpochMs) -> Order:
    """Raises Refused(MESSAGE_ILLEGAL)."""
    at = _index(order, offset)
    return msgspec.structs.replace(order, due_ms=(*order.due_ms[:at], due_ms, *order.due_ms[at + 1 :]))


def first_unacked(order: Order) -> QueueOffset:
    """Where the group is when the order says this; behind the last one if all is acknowledged."""
    for offset, acked in zip(order.offsets, order.acked, strict=True):
        if not acked:
            return QueueOffset(offset)
    return QueueOffset(order.offsets[-1] + 1)


def _index(order: Order, offset: QueueOffset) -> int:
    try:
        return order.offsets.index(offset)
    except ValueError:
        raise Refused(
            Reason.MESSAGE_ILLEGAL, f"offset {offset} is not among what the last ordered pop of this queue gave"
        ) from None


@dataclass(slots=True)
class _Lock:
    """Until when, in seconds of the loop, each offset that is not acknowledged is locked."""

    until_s: dict[int, float]
    timer: asyncio.TimerHandle | None = field(default=None)


class PopOrders:
    """The locks, in the time of the loop. `on_free(group, topic)` when a queue of the topic can be popped again."""

    def __init__(self, in_flight: InFlight, on_free: Callable[[GroupQueue], None]) -> None:
        self._in_flight = in_flight
        self._on_free = on_free
        self._locks: dict[GroupQueue, _Lock] = {}

    def start(self, now_ms: EpochMs) -> None:
        """After a start: what is locked stays so for the rest of its time, never longer than it was given for."""
        for queue, order in self._in_flight.live.orders.items():
            for offset, acked, due_ms in zip(order.offsets, order.acked, order.due_ms, strict=True):
                if not acked:
                    whole_ms = due_ms - order.at_ms
                    self._lock(queue, offset, min(max(0, due_ms - now_ms), max(0, whole_ms)))

    def is_locked(self, queue: GroupQueue, attempt_id: str) -> bool:
        """Whether this attempt must wait."""
        lock = self._locks.get(queue)
        if lock is None:
            return False
        order = self._in_flight.live.orders.get(queue)
        if order is None or (attempt_id and order.attempt_id == attempt_id):
            return False
        return max(lock.until_s.values()) > asyncio.get_running_loop().time()

    def given(self, queue: GroupQueue, order: Order) -> None:
        """An order was recorded."""
        self.forget(queue)
        for offset in order.offsets:
            self._lock(queue, offset, order.invisible_ms)

    def ack(self, queue: GroupQueue, offset: QueueOffset, at_ms: EpochMs) -> QueueOffset | None:
        """Where the group is now; None if the acknowledgement is of an older delivery. Raises Refused."""
        order = self._in_flight.live.orders.get(queue)
        if order is None or order.at_ms != at_ms:
            return None
        after = order_acked(order, offset)
        self._in_flight.set_order(queue, after)
        lock = self._locks.get(queue)
        if lock is not None:
            lock.until_s.pop(offset, None)
            if not lock.until_s:
                self.forget(queue)
            else:
                self._arm(queue, lock)
        if not after.offsets:
            return QueueOffset(order.offsets[-1] + 1)
        return first_unacked(after)

    def delay(
        self, queue: GroupQueue, offset: QueueOffset, at_ms: EpochMs, due_ms: EpochMs, delay_ms: int
    ) -> Order | None:
        """Locks it for `delay_ms` from now: what is to be recorded; None if the receipt is of an older delivery.

        Raises Refused.
        """
        order = self._in_flight.live.orders.get(queue)
        if order is None or order.at_ms != at_ms:
            return None
        delayed = order_delayed(order, offset, due_ms)
        if not order.acked[order.offsets.index(offset)]:
            self._lock(queue, offset, delay_ms)
        return delayed

    def forget(self, queue: GroupQueue) -> None:
        lock = self._locks.pop(queue, None)
        if lock is not None and lock.timer is not None:
            lock.timer.cancel()

    def drop(self, topic: str) -> None:
        """The topic is gone, and its state with it."""
        for queue in [each for each in self._locks if each.topic == topic]:
            self.forget(queue)

    def close(self) -> None:
        for queue in list(self._locks):
            self.forget(queue)

    def _lock(self, queue: GroupQueue, offset: int, for_ms: int) -> None:
        lock = self._locks.get(queue)
        if lock is None:
            lock = self._locks[queue] = _Lock({})
        lock.until_s[offset] = asyncio.get_running_loop().time() + for_ms / 1000
        self._arm(queue, lock)

    def _arm(self, queue: GroupQueue, lock: _Lock) -> None:
        """The timer rings when the last one is free."""
        if lock.timer is not None:
            lock.timer.cancel()
        lock.timer = asyncio.get_running_loop().call_at(max(lock.until_s.values()), self._freed, queue, lock)

    def _freed(self, queue: GroupQueue, lock: _Lock) -> None:
        if self._locks.get(queue) is lock:
            del self._locks[queue]
            self._on_free(queue)
