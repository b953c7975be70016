"""How far each group is in each queue, and the bounds of queues.

A group without a stored offset on a young queue is told 0, so that its first consumer gets what was sent before it
came; on an old queue it is told that there is none, and the client decides. Source: RocketMQ 5.3
ConsumerManageProcessor.queryConsumerOffset.
"""

from __future__ import annotations

from posthouse.broker.groups import Groups
from posthouse.broker.topics import Topics
from posthouse.host.clock import EpochMs
from posthouse.model.limits import YOUNG_QUEUE_BYTES
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import MessageStore

_ZERO = QueueOffset(0)


class Offsets:
    def __init__(self, store: MessageStore, topics: Topics, groups: Groups) -> None:
        self._store = store
        self._topics = topics
        self._groups = groups

    def query(self, group: str, topic: str, queue_id: int, zero_if_young: bool = True) -> QueueOffset:
        """Raises Refused(NOT_FOUND) when nothing is stored and the queue is not young."""
        stored = self._store.offsets.find(group, topic, queue_id)
        if stored is not None:
            return stored
        if zero_if_young and self._is_young(self._queue(topic, queue_id)):
            return _ZERO
        raise Refused(Reason.NOT_FOUND, f"group {group!r} has no offset in {topic!r} queue {queue_id}")

    def stored(self, group: str, topic: str, queue_id: int) -> QueueOffset | None:
        """What the group committed there, None if nothing."""
        return self._store.offsets.find(group, topic, queue_id)

    def topics_of(self, group: str) -> list[str]:
        """Topics in which the group has offsets."""
        return sorted(self._store.offsets.live.get(group, ()))

    def groups_on(self, topic: str) -> list[str]:
        """Groups that have offsets in the topic."""
        return [group for group, topics in self._store.offsets.live.items() if topic in topics]

    def _is_young(self, queue: ConsumeQueue | None) -> bool:
        if queue is None or queue.max_offset == 0:
            return True
        if queue.min_offset > 0:
            return False
        first = queue.read_wait(_ZERO, 1)[0]
        return self._store.log.committed_offset - first.log_offset <= YOUNG_QUEUE_BYTES

    def commit(self, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
        """Raises Refused: GROUP_NOT_EXIST, TOPIC_NOT_EXIST, INVALID_PARAMETER."""
        if self._groups.find(group) is None:
            raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {group!r} does not exist")
        found = self._topics.require(topic)
        if not 0 <= queue_id < found.config.queues:
            raise Refused(
                Reason.INVALID_PARAMETER, f"queue {queue_id} of {topic!r}; it has {found.config.queues} queues"
            )
        if offset < 0:
            raise Refused(Reason.INVALID_PARAMETER, f"offset {offset}; offsets begin at 0")
        self._store.offsets.commit(group, topic, queue_id, offset)

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

    async def search(self, topic: str, queue_id: int, at_ms: EpochMs, upper: bool) -> QueueOffset:
        """The first message stored at or after `at_ms`, or with `upper` the last at or before it; see the store."""
        queue = self._queue(topic, queue_id)
        return _ZERO if queue is None else await self._store.search(queue, at_ms, upper)
