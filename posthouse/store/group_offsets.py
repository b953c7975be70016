"""How far each consumer group is, as a fold over the log; two views, as in topic_table.

Offsets change at message rate, so `commit` only changes the live view and marks what changed; `take_changes` gives
one record's body for everything since the last call, written within a second and without a sync of its own. Losing
that second costs a redelivery, never a message. `drop` forgets a topic or a group in both views at the point of the
log where the topic or group itself is deleted.

A reset by an admin is a record of its own (OFFSETS_SET), waited for. It is pending until a consumer follows it; what
consumers commit before that is of the time before the reset. That it was followed needs no record: the next OFFSETS
record that names the queue comes after it, so it ends the reset. A crash before that has the consumer told again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.state_record import Kind

Offsets = dict[str, dict[str, dict[int, QueueOffset]]]
"""group -> topic -> queue id -> the next message to consume."""


class GroupOffsets:
    kinds = (Kind.OFFSETS, Kind.OFFSETS_SET)

    def __init__(self) -> None:
        self.live: Offsets = {}
        self.resets: Offsets = {}
        """Where an admin moved groups that have not followed yet."""
        self._committed: Offsets = {}
        self._committed_resets: Offsets = {}
        self._changed: Offsets = {}

    def find(self, group: str, topic: str, queue_id: int) -> QueueOffset | None:
        topics = self.live.get(group)
        queues = topics.get(topic) if topics is not None else None
        return queues.get(queue_id) if queues is not None else None

    def pending_reset(self, group: str, topic: str, queue_id: int) -> QueueOffset | None:
        """Where the group is to go on in this queue, if it has not done so yet."""
        if not self.resets:
            return None
        return self.resets.get(group, {}).get(topic, {}).get(queue_id)

    def commit(self, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
        """Stores what a consumer says, even a smaller value, as RocketMQ does. Ends a pending reset of the queue."""
        topics = None if self.resets else self.live.get(group)
        queues = None if topics is None else topics.get(topic)
        if queues is not None and queues.get(queue_id) == offset:
            return  # consumers that have nothing to do say it again and again
        _put(self.live, group, topic, queue_id, offset)
        _put(self._changed, group, topic, queue_id, offset)
        if self.resets:
            _take(self.resets, group, topic, queue_id)

    def move(self, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
        """The live view, when a record of another kind that says so is decided: a pop takes its messages with it."""
        _put(self.live, group, topic, queue_id, offset)
        _take(self._changed, group, topic, queue_id)
        if self.resets:
            _take(self.resets, group, topic, queue_id)

    def move_committed(self, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
        """The same for the committed view, when that record is committed."""
        _put(self._committed, group, topic, queue_id, offset)
        if self._committed_resets:
            _take(self._committed_resets, group, topic, queue_id)

    def take_changes(self) -> Offsets | None:
        """What changed since the last call, as a record's body; None if nothing did."""
        changed, self._changed = self._changed, {}
        return changed or None

    @staticmethod
    def set_body(group: str, topic: str, queues: dict[int, QueueOffset], *, pending: bool) -> object:
        return {"group": group, "topic": topic, "queues": queues, "pending": pending}

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        if kind is Kind.OFFSETS_SET:  # of OFFSETS the live view changed when the consumer said so
            _set(self.live, self.resets, body)
            for queue_id in body["queues"]:  # what was said before would end the reset when it is written
                _take(self._changed, body["group"], body["topic"], int(queue_id))

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        if kind is Kind.OFFSETS_SET:
            _set(self._committed, self._committed_resets, body)
        else:
            _merge(self._committed, self._committed_resets, body)

    def replay(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        """An OFFSETS record from the log."""
        _merge(self._committed, self._committed_resets, body)
        _merge(self.live, self.resets, body)

    def apply_opening(self, offsets: Any, resets: Any) -> None:
        """What an opening says, which may be newer than what was committed before it."""
        _open(self._committed, self._committed_resets, offsets, resets)

    def replay_opening(self, offsets: Any, resets: Any) -> None:
        _open(self._committed, self._committed_resets, offsets, resets)
        _open(self.live, self.resets, offsets, resets)

    def drop_live(self, *, topic: str | None = None, group: str | None = None) -> None:
        """Forgets a topic or a group: the live view, when its deletion is decided."""
        _drop(self.live, topic, group)
        _drop(self.resets, topic, group)
        _drop(self._changed, topic, group)

    def drop_committed(self, *, topic: str | None = None, group: str | None = None) -> None:
        """The same for the committed view, when its deletion is committed."""
        _drop(self._committed, topic, group)
        _drop(self._committed_resets, topic, group)

    def snapshot(self) -> object:
        return msgspec.to_builtins(self._committed, str_keys=True)

    def snapshot_resets(self) -> object:
        return msgspec.to_builtins(self._committed_resets, str_keys=True)

    def restore(self, state: Any, resets: Any = None) -> None:
        self.replay_opening(state, resets or {})


def _put(table: Offsets, group: str, topic: str, queue_id: int, offset: QueueOffset) -> None:
    topics = table.get(group)
    if topics is None:
        topics = table[group] = {}
    queues = topics.get(topic)
    if queues is None:
        queues = topics[topic] = {}
    queues[queue_id] = offset


def _take(table: Offsets, group: str, topic: str, queue_id: int) -> None:
    """Forgets one queue, and what is empty without it."""
    topics = table.get(group)
    queues = topics.get(topic) if topics is not None else None
    if topics is None or queues is None or queues.pop(queue_id, None) is None:
        return
    if not queues:
        del topics[topic]
        if not topics:
            del table[group]


def _table(body: Any) -> Offsets:
    return msgspec.convert(body, dict[str, dict[str, dict[int, QueueOffset]]], strict=False)


def _merge(table: Offsets, resets: Offsets, body: Any) -> None:
    """What consumers said, who by then had followed their resets."""
    for group, topics in _table(body).items():
        for topic, queues in topics.items():
            table.setdefault(group, {}).setdefault(topic, {}).update(queues)
            if resets:
                for queue_id in queues:
                    _take(resets, group, topic, queue_id)


def _set(table: Offsets, resets: Offsets, body: Any) -> None:
    """What an admin said."""
    group, topic = body["group"], body["topic"]
    for queue_id, offset in msgspec.convert(body["queues"], dict[int, QueueOffset], strict=False).items():
        _put(table, group, topic, queue_id, offset)
        if body["pending"]:
            _put(resets, group, topic, queue_id, offset)
        else:
            _take(resets, group, topic, queue_id)


def _open(table: Offsets, resets: Offsets, offsets_body: Any, resets_body: Any) -> None:
    """All that some groups have: where a reset is not named, there is none."""
    pending = _table(resets_body)
    for group, topics in _table(offsets_body).items():
        for topic, queues in topics.items():
            table.setdefault(group, {}).setdefault(topic, {}).update(queues)
        resets.pop(group, None)
        if group in pending:
            resets[group] = pending[group]


def _drop(table: Offsets, topic: str | None, group: str | None) -> None:
    if group is not None:
        table.pop(group, None)
    if topic is not None:
        for name in [name for name, topics in table.items() if topic in topics]:
            topics = table[name]
            del topics[topic]
            if not topics:
                del table[name]
