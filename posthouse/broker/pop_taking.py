"""What a pop takes: one look at all queues that it may read, plain code from beginning to end.

Nothing is recorded here but that a group begins in a queue, and that it is behind what does not pass its filter. What
was taken is only its own when `pop` has recorded it, in the same turn of the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from posthouse.broker.dead_letters import DeathReason, dead_letter, dead_letter_config
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.pop_order import PopOrders, order_given
from posthouse.broker.revival import Revival
from posthouse.broker.send import SendService
from posthouse.broker.stats import Stats
from posthouse.broker.topics import Topics
from posthouse.codec.record import RecordError, record_again
from posthouse.host.clock import EpochMs
from posthouse.model.filter import Subscription
from posthouse.model.group import GroupConfig
from posthouse.model.ids import offset_message_id
from posthouse.model.limits import POPPED_MAX, POPPED_PER_QUEUE_MAX, PULL_BYTES_MAX, YOUNG_QUEUE_BYTES
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import ANY_QUEUE, PopPart, PopRequest, Source, source_topic
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.in_flight import NO_ORDER, GroupQueue, Row, runs
from posthouse.store.message_store import LogError, MessageStore
from posthouse.store.reading import Found
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic

log = logging.getLogger(__name__)

RETRY_FIRST_EVERY = 5
"""RocketMQ: popFromRetryProbability 20 %."""
_SCANS_AT_ONCE = 8
"""Reads in which nothing passes the filter, before others have their turn."""


class Cold(NamedTuple):
    """A read that the device has to be waited for."""

    queue: ConsumeQueue
    offset: QueueOffset


class Taking:
    """What one look has taken so far."""

    __slots__ = ("bytes_left", "cold", "parts", "rest", "room", "rows", "unfinished")

    def __init__(self, room: int) -> None:
        self.room = room
        self.bytes_left = PULL_BYTES_MAX
        self.parts: list[PopPart] = []
        self.rows: list[Row] = []
        self.rest = 0
        self.cold: Cold | None = None
        self.unfinished = False  # there may be more behind what did not pass the filter

    @property
    def is_full(self) -> bool:
        return self.room <= 0 or self.bytes_left <= 0


class PopTaker:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        offsets: Offsets,
        send: SendService,
        stats: Stats,
        revival: Revival,
        orders: PopOrders,
    ) -> None:
        self._store = store
        self._in_flight = store.in_flight
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._send = send
        self._stats = stats
        self._revival = revival
        self._orders = orders
        self._turn = 0

    def take(self, request: PopRequest, subscription: Subscription) -> Taking:
        """What there is for the request now. Nothing is recorded yet, but that the group is behind what it skipped.

        Raises Refused.
        """
        self._turn += 1
        taking = Taking(min(request.messages_max, POPPED_MAX - self._in_flight.live.messages))
        if taking.room <= 0:
            raise Refused(Reason.BUSY, f"{POPPED_MAX} messages are popped and not acknowledged; that is the limit")
        for source, topic, queue_id in self.places(request):
            queue = topic.queues.get(queue_id)
            if queue is not None:
                place = GroupQueue(request.group, topic.config.name, queue_id)
                if request.ordered:
                    self._take_ordered(taking, request, subscription, place, queue)
                else:
                    self._take(taking, request, subscription, source, place, queue)
                if taking.is_full:
                    break
        return taking

    def places(self, request: PopRequest) -> Iterator[tuple[Source, Topic, int]]:
        """Where to look, in order."""
        topic = self._topics.require(request.topic)
        retry_first = self._turn % RETRY_FIRST_EVERY == 0
        if retry_first and not request.ordered:
            yield from self._retries(request.group, request.topic)
        if request.queue_id == ANY_QUEUE:
            queues = topic.config.read_queues
            for queue_id in range(queues):
                yield Source.NORMAL, topic, (queue_id + self._turn) % queues
        else:
            yield Source.NORMAL, topic, request.queue_id
        if not retry_first and not request.ordered:
            yield from self._retries(request.group, request.topic)

    def _retries(self, group: str, topic: str) -> Iterator[tuple[Source, Topic, int]]:
        if not topic.startswith(RETRY_PREFIX):
            for source in (Source.RETRY, Source.RETRY_V2):
                retry = self._topics.find(source_topic(source, group, topic))
                if retry is not None:
                    for queue_id in range(retry.config.read_queues):
                        yield source, retry, queue_id

    def _begin(self, request: PopRequest, place: GroupQueue, queue: ConsumeQueue) -> QueueOffset:
        """Where the group is in the queue: where a reset says, else where it stopped, else where it begins."""
        offsets = self._store.offsets
        reset = offsets.pending_reset(*place)
        if reset is not None:
            self._offsets.reset_done(*place)
            self._follow_reset(place, reset)
        offset = offsets.find(*place)
        if offset is None:
            offset = queue.min_offset
            if request.from_latest and not place.topic.startswith(RETRY_PREFIX) and not self._is_young(queue):
                offset = queue.max_offset
            offsets.commit(*place, offset)
        elif not queue.min_offset <= offset <= queue.max_offset:
            offset = queue.min_offset if offset < queue.min_offset else queue.max_offset
            offsets.commit(*place, offset)
        return offset

    def _follow_reset(self, place: GroupQueue, offset: QueueOffset) -> None:
        """What lies before stays with its holders; what comes again is no longer theirs, nor is any lock."""
        for popped_offset, popped in list(self._in_flight.live.queues.get(place, {}).items()):
            if popped_offset >= offset:
                self._in_flight.end(place, popped_offset)
                self._revival.ended(place, popped)
        if place in self._in_flight.live.orders:
            self._in_flight.set_order(place, NO_ORDER)
            self._orders.forget(place)

    def _is_young(self, queue: ConsumeQueue) -> bool:
        """See limits: whether a new group begins at its start, also one that asks for the end."""
        if queue.min_offset > 0:
            return False
        log = self._store.log
        if log.committed_offset - log.first_offset <= YOUNG_QUEUE_BYTES:
            return True
        first = queue.read(QueueOffset(0), 1)
        return first is not None and (not first or log.committed_offset - first[0].log_offset <= YOUNG_QUEUE_BYTES)

    def _take(
        self,
        taking: Taking,
        request: PopRequest,
        subscription: Subscription,
        source: Source,
        place: GroupQueue,
        queue: ConsumeQueue,
    ) -> None:
        offset = self._begin(request, place, queue)
        if offset >= queue.max_offset:
            return
        held = len(self._in_flight.live.queues.get(place, ()))
        room = min(taking.room, POPPED_PER_QUEUE_MAX - held)
        found = self._find(taking, subscription, place, queue, offset, room) if room > 0 else None
        if found is None:
            taking.rest += queue.max_offset - offset
            return
        taking.rest += queue.max_offset - found.next_offset
        taking.room -= found.messages
        taking.bytes_left -= found.size
        offsets = list(found.offsets)
        taking.parts.append(PopPart(source, place.queue_id, offsets, found.buffers))
        taking.rows.append(
            Row(*place, next_offset=found.next_offset, popped=[(0, request.invisible_ms, runs(offsets))])
        )

    def _find(
        self,
        taking: Taking,
        subscription: Subscription,
        place: GroupQueue,
        queue: ConsumeQueue,
        offset: QueueOffset,
        room: int,
    ) -> Found | None:
        """The next messages that pass; None if there are none, or none yet. The group moves behind what does not."""
        wants_hash, wants_properties = subscription.wants_hash, subscription.wants_properties
        begun = offset
        for _ in range(_SCANS_AT_ONCE):
            try:
                found = self._store.get(queue, offset, room, taking.bytes_left, wants_hash, wants_properties)
            except OSError as error:
                raise Refused(Reason.FAILED, f"reading {place.topic!r} failed: {error}") from error
            if found is None:
                taking.cold = taking.cold or Cold(queue, offset)
                break
            if found.messages:
                return found
            offset = found.next_offset
            if offset >= queue.max_offset:
                break
        else:
            taking.unfinished = True
        if offset != begun:
            self._store.offsets.commit(*place, offset)
        return None

    def _take_ordered(
        self,
        taking: Taking,
        request: PopRequest,
        subscription: Subscription,
        place: GroupQueue,
        queue: ConsumeQueue,
    ) -> None:
        offset = self._begin(request, place, queue)
        if offset >= queue.max_offset:
            return
        if self._orders.is_locked(place, request.attempt_id):
            taking.rest += queue.max_offset - offset
            return
        before = self._in_flight.live.orders.get(place)
        found = self._find(taking, subscription, place, queue, offset, taking.room)
        if found is None:
            taking.rest += queue.max_offset - offset
            return
        order = order_given(before, EpochMs(0), request.invisible_ms, request.attempt_id, found.offsets)
        group = self._groups.find(request.group)
        if group is not None and 0 < order.times[0] > group.retry_max_times:
            self._give_up(group, place, found, order.times[0])
            self._take_ordered(taking, request, subscription, place, queue)
            return
        taking.rest += queue.max_offset - found.next_offset
        taking.room -= found.messages
        taking.bytes_left -= found.size
        part = PopPart(Source.NORMAL, place.queue_id, list(found.offsets), found.buffers, list(order.times))
        taking.parts.append(part)
        taking.rows.append(Row(*place, order=order))

    def _give_up(self, group: GroupConfig, place: GroupQueue, found: Found, attempts: int) -> None:
        """The message at the head of an ordered queue was given too often: it goes to the dead letters.

        What was given with it may not have been looked at, so it is counted anew.
        """
        behind = [Row(*place, next_offset=found.offsets[0] + 1, order=NO_ORDER)]
        try:
            again = record_again(found.buffers[0])
        except RecordError as error:  # no letter can be made of it
            log.error("group %s gives up a damaged message, %s: %s", group.name, place, error)
            self._store.check_writable()
            self._store.record(Kind.POPPED, behind, _ignore)
            self._orders.forget(place)
            return
        message_id = offset_message_id(again.store_host, again.log_offset)
        message = dead_letter(again.message, group.name, DeathReason.ATTEMPTS, attempts, message_id)
        self._topics.ensure(dead_letter_config(group.name))
        self._send.forward(message, again.store_host, None, states=[(Kind.POPPED, behind)])
        self._orders.forget(place)
        self._stats.dead_lettered(group.name, place.topic)

    def group_at(self, place: GroupQueue, queue: ConsumeQueue) -> QueueOffset:
        """Where the group is, or would begin, without any change."""
        offset = self._store.offsets.find(*place)
        return queue.min_offset if offset is None else max(offset, queue.min_offset)


def _ignore(error: LogError | None) -> None:
    """If it fails, the message is given up once more after the next start."""
