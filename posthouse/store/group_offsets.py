"""How far each consumer group is, as a fold over the log; two views, as in topic_table.

Offsets change at message rate, so `commit` only changes the live view and marks what changed; `take_changes` gives
one record's body for everything since the last call, written within a second and without a sync of its own. Losing
that second costs a redelivery, never a message. `drop` forgets a topic or a group in both views at the point of the
log where the topic or group itself is deleted.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.state_record import Kind

Offsets = dict[str, dict[str, dict[int, QueueOffset]]]
"""group -> topic -> queue id -> the next message to consume."""


class GroupOffsets:
    kinds = (Kind.OFFSETS,)

    def __init__(self) -> None:
        self.live: Offsets = {}
        self._committed: Offsets = {}
        self._changed: Offsets = {}

    def find(self, group: str, topic: str, queue_id: int) -> QueueOffset | None:
        topics = self.live.get(group)
        queues = topics.get(topic) if topics is not None else None
        return queues.get(queue_id) if queues is not None else None

    def commit(self, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
        """Stores what a consumer says, even a smaller value, as RocketMQ does."""
        _put(self.live, group, topic, queue_id, offset)
        _put(self._changed, group, topic, queue_id, offset)

    def take_changes(self) -> Offsets | None:
        """What changed since the last call, as a record's body; None if nothing did."""
        changed, self._changed = self._changed, {}
        return changed or None

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        pass  # the live view changed when the consumer said so

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _merge(self._committed, body)

    def replay(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _merge(self._committed, body)
        _merge(self.live, body)

    def drop_live(self, *, topic: str | None = None, group: str | None = None) -> None:
        """Forgets a topic or a group: the live view, when its deletion is decided."""
        _drop(self.live, topic, group)
        _drop(self._changed, topic, group)

    def drop_committed(self, *, topic: str | None = None, group: str | None = None) -> None:
        """The same for the committed view, when its deletion is committed."""
        _drop(self._committed, topic, group)

    def snapshot(self) -> object:
        return msgspec.to_builtins(self._committed, str_keys=True)

    def restore(self, state: Any) -> None:
        _merge(self._committed, state)
        _merge(self.live, state)


def _put(table: Offsets, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
    topics = table.get(group)
    if topics is None:
        topics = table[group] = {}
    queues = topics.get(topic)
    if queues is None:
        queues = topics[topic] = {}
    queues[queue_id] = offset


def _merge(table: Offsets, body: Any) -> None:
    changes = msgspec.convert(body, dict[str, dict[str, dict[int, int]]], strict=False)
    for group, topics in changes.items():
        for topic, queues in topics.items():
            table.setdefault(group, {}).setdefault(topic, {}).update((q, QueueOffset(o)) for q, o in queues.items())


def _drop(table: Offsets, topic: str | None, group: str | None) -> None:
    if group is not None:
        table.pop(group, None)
    if topic is not None:
        for topics in table.values():
            topics.pop(topic, None)
