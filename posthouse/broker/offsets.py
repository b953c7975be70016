"""How far each group is in each queue, and the bounds of queues.

A group without a stored offset on a young queue is told 0, so that its first consumer gets what was sent before it
came; on an old queue it is told that there is none, and the client decides. Source: RocketMQ 5.3
ConsumerManageProcessor.queryConsumerOffset.

A group that an admin has moved (see resets) is told so by its next pull, again and again until a pull starts from
there. What its members commit before that is of the time before the reset, and is passed over.
"""

from __future__ import annotations

from posthouse.broker.groups import Groups
from posthouse.broker.topics import Topics
from posthouse.host.clock import Clock, EpochMs
from posthouse.model.limits import RESET_TELLS_MAX, YOUNG_QUEUE_BYTES
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.stats import QueueProgress, QueueTimes
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import MessageStore

_ZERO = QueueOffset(0)
_NEVER = EpochMs(-1)


class Offsets:
    def __init__(self, store: MessageStore, topics: Topics, groups: Groups, clock: Clock) -> None:
        self._store = store
        self._topics = topics
        self._groups = groups
        self._clock = clock
        self._told: dict[tuple[str, str, int], int] = {}  # how often a pending reset was told of
        self._pulled: dict[tuple[str, str, int], QueueOffset] = {}  # where the next pull of a group would begin

    def query_now(self, group: str, topic: str, queue_id: int, zero_if_young: bool = True) -> QueueOffset | None:
        """What is stored, or where a group without an offset begins. None when the disk must say: use `query`.

        Raises Refused(NOT_FOUND) when nothing is stored and the queue is not young.
        """
        stored = self._store.offsets.find(group, topic, queue_id)
        if stored is not None:
            return stored
        young = zero_if_young and self._is_young_now(self._queue(topic, queue_id))
        if young is None:
            return None
        if young:
            return _ZERO
        raise _no_offset(group, topic, queue_id)

    async def query(self, group: str, topic: str, queue_id: int, zero_if_young: bool = True) -> QueueOffset:
        """The same, waiting for the disk if need be."""
        found = self.query_now(group, topic, queue_id, zero_if_young)
        if found is not None:
            return found
        queue = self._queue(topic, queue_id)
        first = None if queue is None else await self._store.reader.log_offset_of(queue, _ZERO)
        if first is not None and self._is_near_the_end(first):
            return _ZERO
        raise _no_offset(group, topic, queue_id)

    def stored(self, group: str, topic: str, queue_id: int) -> QueueOffset | None:
        """What the group committed there, None if nothing."""
        return self._store.offsets.find(group, topic, queue_id)

    def pulled(self, group: str, topic: str, queue_id: int, next_offset: QueueOffset) -> None:
        """A member was given what is before `next_offset`. Not kept over a restart."""
        self._pulled[group, topic, queue_id] = next_offset

    def forget_pulled(self, *, topic: str | None = None, group: str | None = None) -> None:
        """A topic or a group is deleted."""
        for table in (self._pulled, self._told):
            for key in [key for key in table if topic == key[1] or group == key[0]]:
                del table[key]

    async def progress(self, group: str, topic: str, queue_id: int) -> QueueProgress:
        """How far the group is; a missing offset counts as 0."""
        high = self.bounds(topic, queue_id)[1]
        consumed = self.stored(group, topic, queue_id) or _ZERO
        pulled = max(consumed, min(high, self._pulled.get((group, topic, queue_id), _ZERO)))
        at_ms = EpochMs(0)
        if consumed > 0:
            at_ms = await self.stored_at_ms(topic, queue_id, QueueOffset(consumed - 1))
        return QueueProgress(high, consumed, pulled, at_ms)

    def topics_of(self, group: str) -> list[str]:
        """Topics in which the group has offsets."""
        return sorted(self._store.offsets.live.get(group, ()))

    def groups_on(self, topic: str) -> list[str]:
        """Groups that have offsets in the topic."""
        return [group for group, topics in self._store.offsets.live.items() if topic in topics]

    def _is_young_now(self, queue: ConsumeQueue | None) -> bool | None:
        """None when the place of the first message is not in memory."""
        if queue is None or queue.max_offset == 0:
            return True
        if queue.min_offset > 0:
            return False
        if self._is_near_the_end(self._store.log.first_offset):
            return True
        try:
            first = queue.read(_ZERO, 1)
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading a queue failed: {error}") from error
        return None if first is None else self._is_near_the_end(first[0].log_offset)

    def _is_near_the_end(self, log_offset: LogOffset) -> bool:
        return self._store.log.committed_offset - log_offset <= YOUNG_QUEUE_BYTES

    def commit(self, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
        """Passed over while a reset is pending. Raises Refused: GROUP_NOT_EXIST, TOPIC_NOT_EXIST, INVALID_PARAMETER."""
        if self._groups.find(group) is None:
            raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {group!r} does not exist")
        found = self._topics.require(topic)
        if not 0 <= queue_id < found.config.queues:
            raise Refused(
                Reason.INVALID_PARAMETER, f"queue {queue_id} of {topic!r}; it has {found.config.queues} queues"
            )
        if offset < 0:
            raise Refused(Reason.INVALID_PARAMETER, f"offset {offset}; offsets begin at 0")
        if self._store.offsets.pending_reset(group, topic, queue_id) is None:
            self._store.offsets.commit(group, topic, queue_id, offset)

    def take_reset(self, group: str, topic: str, queue_id: int, asked_offset: QueueOffset) -> QueueOffset | None:
        """Where a consumer that asks from `asked_offset` must go instead, if an admin has moved its group.

        Who asks from there has followed: the reset is over. So it is when RESET_TELLS_MAX answers have told of it,
        for the sake of clients that follow nobody.
        """
        target = self._store.offsets.pending_reset(group, topic, queue_id)
        if target is None:
            return None
        key = group, topic, queue_id
        told = self._told.get(key, 0)
        if asked_offset == target or told >= RESET_TELLS_MAX:
            self.reset_done(group, topic, queue_id)
            return None
        self._told[key] = told + 1
        return target

    def reset_done(self, group: str, topic: str, queue_id: int) -> None:
        """A consumer has followed a pending reset, or its receipts begin there: commits count again."""
        self._told.pop((group, topic, queue_id), None)
        target = self._store.offsets.pending_reset(group, topic, queue_id)
        if target is not None:
            self._store.offsets.commit(group, topic, queue_id, target)

    def _queue(self, topic: str, queue_id: int) -> ConsumeQueue | None:
        found = self._topics.find(topic)
        return None if found is None else found.queues.get(queue_id)

    def bounds(self, topic: str, queue_id: int) -> tuple[QueueOffset, QueueOffset]:
        """(min, max): the oldest message that is kept and the next one that will be visible; 0, 0 if unknown."""
        queue = self._queue(topic, queue_id)
        return (_ZERO, _ZERO) if queue is None else (queue.min_offset, queue.max_offset)

    async def earliest_stored_at_ms(self, topic: str, queue_id: int) -> EpochMs:
        """-1 when the queue is empty."""
        queue = self._queue(topic, queue_id)
        found = None if queue is None else await self._store.stored_at_ms(queue, queue.min_offset)
        return EpochMs(-1) if found is None else found

    async def stored_at_ms(self, topic: str, queue_id: int, offset: QueueOffset) -> EpochMs:
        """When that message was stored; 0 if it is not there."""
        queue = self._queue(topic, queue_id)
        if queue is None or not queue.min_offset <= offset < queue.max_offset:
            return EpochMs(0)
        return await self._store.stored_at_ms(queue, offset) or EpochMs(0)

    async def times(self, group: str, topic: str, queue_id: int) -> QueueTimes:
        """How far behind a group is, in time; one that has no offset is before the first message that is kept."""
        low, high = self.bounds(topic, queue_id)
        now_ms = self._clock.now_ms()
        if low == high:
            return QueueTimes(_NEVER, _NEVER, _NEVER, 0)
        first_ms = await self.stored_at_ms(topic, queue_id, low)
        last_ms = await self.stored_at_ms(topic, queue_id, QueueOffset(high - 1))
        consumed = max(low, min(self.stored(group, topic, queue_id) or low, high))
        consumed_ms = first_ms
        if consumed > low:
            consumed_ms = await self.stored_at_ms(topic, queue_id, QueueOffset(consumed - 1))
        waits_since_ms = await self.stored_at_ms(topic, queue_id, consumed) if consumed < high else now_ms
        return QueueTimes(first_ms, last_ms, consumed_ms, max(0, now_ms - waits_since_ms))

    async def search(self, topic: str, queue_id: int, at_ms: EpochMs, upper: bool) -> QueueOffset:
        """The first message stored at or after `at_ms`, or with `upper` the last at or before it; see the store."""
        queue = self._queue(topic, queue_id)
        return _ZERO if queue is None else await self._store.search(queue, at_ms, upper)


def _no_offset(group: str, topic: str, queue_id: int) -> Refused:
    return Refused(Reason.NOT_FOUND, f"group {group!r} has no offset in {topic!r} queue {queue_id}")
