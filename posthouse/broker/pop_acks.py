"""What happens to what was popped: it is acknowledged, or its time is changed.

An acknowledgement changes the live state at once and is written within a second; a crash that takes that second costs
redeliveries. A renewal is answered when it is committed: who is told that he has more time has it, also over a kill.
A receipt is good for one delivery. Acknowledging with one that is not good any more changes nothing and is no error, as
in RocketMQ: the message has another holder, or none. To renew such a one is refused: who asks for it believes that the
message is his. Source: RocketMQ 5.3 AckMessageProcessor, ChangeInvisibleTimeProcessor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from posthouse.broker.pop_order import PopOrders
from posthouse.broker.revival import Revival
from posthouse.broker.stats import Stats
from posthouse.broker.topics import Topics
from posthouse.host.clock import Clock, EpochMs
from posthouse.model.limits import POP_INVISIBLE_MS_MAX, POPPED_PER_QUEUE_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import PopReceipt
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.in_flight import GroupQueue, Popped, Row
from posthouse.store.message_store import LogError, MessageStore
from posthouse.store.state_record import Kind


class Renewed(NamedTuple):
    """What the new receipt is made of."""

    at_ms: EpochMs
    invisible_ms: int


RenewDone = Callable[[Renewed | Refused], None]


class PopAcks:
    """`on_free(queue)`: the group may get something of a queue that it could not get before."""

    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        clock: Clock,
        stats: Stats,
        revival: Revival,
        orders: PopOrders,
        on_free: Callable[[GroupQueue], None],
    ) -> None:
        self._store = store
        self._in_flight = store.in_flight
        self._topics = topics
        self._clock = clock
        self._stats = stats
        self._revival = revival
        self._orders = orders
        self._on_free = on_free

    def ack(self, receipt: PopReceipt) -> None:
        """Raises Refused: TOPIC_NOT_EXIST, MESSAGE_ILLEGAL, NO_MESSAGE."""
        source = self._source(receipt)
        if not source.min_offset <= receipt.offset <= source.max_offset:
            raise _no_message(receipt, source)
        if self._ack(receipt):
            self._stats.acked(receipt.group, receipt.topic, 1)

    def ack_many(self, receipts: Iterable[PopReceipt]) -> None:
        """What cannot be acknowledged is passed over, as in RocketMQ."""
        done: dict[tuple[str, str], int] = {}
        for receipt in receipts:
            try:
                self._source(receipt)
                acked = self._ack(receipt)
            except Refused:
                continue
            if acked:
                key = receipt.group, receipt.topic
                done[key] = done.get(key, 0) + 1
        for (group, topic), count in done.items():
            self._stats.acked(group, topic, count)

    def _ack(self, receipt: PopReceipt) -> bool:
        queue = GroupQueue(receipt.group, receipt.topic, receipt.queue_id)
        if receipt.ordered:
            return self._ack_ordered(queue, receipt)
        popped = self._in_flight.find(queue, receipt.offset)
        if popped is None or popped.at_ms != receipt.at_ms:
            return False
        was_full = len(self._in_flight.live.queues[queue]) >= POPPED_PER_QUEUE_MAX
        self._in_flight.end(queue, receipt.offset)
        self._revival.ended(queue, popped)
        if was_full:
            self._on_free(queue)
        return True

    def _ack_ordered(self, queue: GroupQueue, receipt: PopReceipt) -> bool:
        offsets = self._store.offsets
        now_at = offsets.find(*queue)
        if now_at is not None and receipt.offset < now_at:
            return False
        next_offset = self._orders.ack(queue, receipt.offset, receipt.at_ms)
        if next_offset is None:
            return False
        if offsets.pending_reset(*queue) is None:
            offsets.commit(*queue, next_offset)
        if not self._orders.is_locked(queue, ""):
            self._on_free(queue)
        return True

    def renew(self, receipt: PopReceipt, invisible_ms: int, done: RenewDone) -> None:
        """The message is invisible for `invisible_ms` from now on; 0 gives it back. `done` when that is committed.

        Raises Refused: TOPIC_NOT_EXIST, MESSAGE_ILLEGAL, INVALID_PARAMETER, NO_MESSAGE.
        """
        self._store.check_recordable()
        source = self._source(receipt)
        if not 0 <= invisible_ms <= POP_INVISIBLE_MS_MAX:
            raise Refused(
                Reason.INVALID_PARAMETER, f"invisible for {invisible_ms} ms; 0 to {POP_INVISIBLE_MS_MAX} are possible"
            )
        if not source.min_offset <= receipt.offset < source.max_offset:
            raise _no_message(receipt, source)
        queue = GroupQueue(receipt.group, receipt.topic, receipt.queue_id)
        now_ms = self._clock.now_ms()
        if receipt.ordered:
            due_ms = EpochMs(now_ms + invisible_ms)
            order = self._orders.delay(queue, receipt.offset, receipt.at_ms, due_ms, invisible_ms)
            if order is None:
                raise _not_valid(receipt)
            self._record(Row(*queue, order=order), Renewed(receipt.at_ms, due_ms - receipt.at_ms), done)
            return
        popped = self._in_flight.find(queue, receipt.offset)
        if popped is None or popped.at_ms != receipt.at_ms:
            raise _not_valid(receipt)
        at_ms = now_ms if now_ms != popped.at_ms else EpochMs(now_ms + 1)  # the old receipt ends
        renewed = Popped(at_ms, invisible_ms)
        flat = [int(receipt.offset), 1]
        self._record(Row(*queue, popped=[(at_ms, invisible_ms, flat)]), Renewed(at_ms, invisible_ms), done)
        self._revival.ended(queue, popped)
        self._revival.watch(queue, renewed, flat, invisible_ms / 1000)

    def _record(self, row: Row, renewed: Renewed, done: RenewDone) -> None:
        def recorded(error: LogError | None) -> None:
            refused = None if error is None else Refused(Reason.NOT_WRITABLE, f"it cannot be written down: {error}")
            done(refused or renewed)

        self._store.record(Kind.POP_CHANGED, [row], recorded, sync=False)

    def _source(self, receipt: PopReceipt) -> ConsumeQueue:
        """The queue that the receipt counts in. Raises Refused."""
        topic = self._topics.require(receipt.topic)
        if not 0 <= receipt.queue_id < topic.config.read_queues:
            raise Refused(
                Reason.MESSAGE_ILLEGAL,
                f"queue {receipt.queue_id} of {receipt.topic!r}; it has {topic.config.read_queues} read queues",
            )
        return topic.queues.get(receipt.queue_id) or ConsumeQueue(receipt.queue_id)


def _no_message(receipt: PopReceipt, source: ConsumeQueue) -> Refused:
    return Refused(
        Reason.NO_MESSAGE,
        f"offset {receipt.offset} of {receipt.topic!r} queue {receipt.queue_id}; it has "
        f"{source.min_offset} to {source.max_offset}",
    )


def _not_valid(receipt: PopReceipt) -> Refused:
    return Refused(
        Reason.NO_MESSAGE,
        f"the receipt of {receipt.topic!r} queue {receipt.queue_id} offset {receipt.offset} is not valid any more: "
        f"it was acknowledged or renewed, or its time was over and another member has the message",
    )


def acked_offsets(receipt: PopReceipt, offsets: Iterable[QueueOffset]) -> Iterable[PopReceipt]:
    """The receipts of several messages of one queue that were popped together."""
    return (receipt._replace(offset=offset) for offset in offsets)
