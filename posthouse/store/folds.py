"""The folds of a log, together: topics with their consume queues, groups, how far groups are, and the key index.

A fold is what a log says when it is read from its beginning, or from a snapshot, to its end. There is one way to
say it again (`replay`), used by a start and by whoever wants to compare. While the store runs, the same folds are
changed step by step: `decide` when a record is appended, `apply` when it is committed.

A log that a repair has cut something out of has gaps. Behind a gap, and only there, the folds take what would
otherwise be a mistake of ours: a queue offset that jumps (the offsets between are lost), and a message of a topic
that nobody made (it is made anew).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from posthouse.codec.record import RecordSummary, record_summary
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.consume_queue import ConsumeQueue, Stretch
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.group_rules import GroupRules
from posthouse.store.group_table import GroupTable
from posthouse.store.in_flight import InFlight, rows_of
from posthouse.store.key_index import KeyIndex, key_hashes
from posthouse.store.opening import Part, decode_part, opening_bodies
from posthouse.store.queue_locks import QueueLocks
from posthouse.store.run import QueueKey
from posthouse.store.snapshot import Snapshot
from posthouse.store.state_record import Kind, StateRecord, decode_state_record
from posthouse.store.timers import Timers
from posthouse.store.topic_table import Topic, TopicTable

log = logging.getLogger(__name__)

_LOST_TOPIC_QUEUES = 4
"""Queues of a topic whose record was lost, until a message of a higher one comes."""


class _Fold(Protocol):
    @property
    def kinds(self) -> tuple[Kind, ...]: ...

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None: ...

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None: ...


class Folds:
    """`stored_at_ms` is the latest time that any record has. Everything below `applied_offset` is in every fold."""

    def __init__(self) -> None:
        self.topics = TopicTable()
        self.groups = GroupTable()
        self.offsets = GroupOffsets()
        self.rules = GroupRules()
        self.locks = QueueLocks()
        self.in_flight = InFlight()
        self.timers = Timers()
        self.keys = KeyIndex()
        self.stored_at_ms = EpochMs(0)
        self.applied_offset = LogOffset(0)
        self.gaps: list[tuple[LogOffset, LogOffset]] = []
        self._made_anew: dict[str, Topic] = {}  # behind a gap; their own ids are not known yet
        folds: tuple[_Fold, ...] = (
            self.topics, self.groups, self.offsets, self.rules, self.locks, self.in_flight, self.timers,
        )  # fmt: skip
        self._by_kind: dict[Kind, _Fold] = {kind: fold for fold in folds for kind in fold.kinds}

    # Step by step

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        """A state record is appended: the live views have it."""
        if kind is Kind.OPENING:
            return  # it says what is so already
        self._by_kind[kind].decide(kind, body, log_offset)
        if kind is Kind.POPPED:
            for row in rows_of(body):
                if row.next_offset is not None:
                    self.offsets.move(*row.queue, QueueOffset(row.next_offset))
        elif kind is Kind.TOPIC_DELETED:
            self.in_flight.drop_live(topic=body["name"])
            self.offsets.drop_live(topic=body["name"])
            self.rules.drop_live(topic=body["name"])
            self.locks.drop_live(topic=body["name"])
        elif kind is Kind.GROUP_DELETED:
            self.in_flight.drop_live(group=body["name"])
            self.rules.drop_live(group=body["name"])
            self.locks.drop_live(group=body["name"])
            if body.get("clean_offsets"):
                self.offsets.drop_live(group=body["name"])

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        """A state record is committed: the committed views have it."""
        if kind is Kind.OPENING:  # its offsets may be newer than what was committed before it
            self.offsets.apply_opening(body.get("offsets", {}), body.get("resets", {}))
            self.in_flight.apply_opening(body.get("in_flight", []), body["part"])
            return
        self._by_kind[kind].apply(kind, body, log_offset)
        if kind is Kind.POPPED:
            for row in rows_of(body):
                if row.next_offset is not None:
                    self.offsets.move_committed(*row.queue, QueueOffset(row.next_offset))
        elif kind is Kind.TOPIC_DELETED:
            self.in_flight.drop_committed(topic=body["name"])
            self.offsets.drop_committed(topic=body["name"])
            self.rules.drop_committed(topic=body["name"])
            self.locks.drop_committed(topic=body["name"])
        elif kind is Kind.GROUP_DELETED:
            self.in_flight.drop_committed(group=body["name"])
            self.rules.drop_committed(group=body["name"])
            self.locks.drop_committed(group=body["name"])
            if body.get("clean_offsets"):
                self.offsets.drop_committed(group=body["name"])

    def opening(self) -> list[object]:
        """The bodies of the records that a segment which begins now opens with."""
        return opening_bodies(
            self.topics.live.values(),
            self.groups.live.values(),
            self.offsets.live,
            self.offsets.resets,
            self.rules.live.values(),
            self.in_flight.opening(),
            self.locks.held(),
        )

    # From the log again

    def restore(self, snapshot: Snapshot, stretches: dict[QueueKey, list[Stretch]]) -> None:
        """What a snapshot and the runs that it names say. For empty folds."""
        self.stored_at_ms = EpochMs(snapshot.stored_at_ms)
        self.applied_offset = snapshot.position.offset
        self.topics.restore(msgspec.json.decode(snapshot.topics))
        self.groups.restore(msgspec.json.decode(snapshot.groups))
        self.offsets.restore(msgspec.json.decode(snapshot.offsets), msgspec.json.decode(snapshot.resets))
        self.rules.restore(msgspec.json.decode(snapshot.rules))
        self.locks.restore(msgspec.json.decode(snapshot.locks))
        self.in_flight.restore(msgspec.json.decode(snapshot.in_flight))
        self.timers.restore(snapshot.timers)
        for topic_id, queue_id, min_offset, next_offset in snapshot.queues:
            topic = self.topics.by_id(topic_id)
            assert topic is not None, "a snapshot has queues of a topic that it does not have"
            queue = topic.queue(queue_id)
            for stretch in stretches.get(QueueKey(topic_id, queue_id), ()):
                queue.add_stretch(stretch)
            if queue.max_offset == 0 and next_offset:
                queue.begin_at(QueueOffset(next_offset))  # all that it had was too old to be kept
            assert queue.max_offset == next_offset, "the runs of a queue do not end where the snapshot says"
            queue.trim(QueueOffset(min_offset))

    def replay(self, data: bytes, at: int, size: int, log_offset: LogOffset) -> RecordSummary | StateRecord:
        """One record of the log, in order, unless it is applied already; what it is. Raises UnknownRecord."""
        is_new = log_offset >= self.applied_offset
        if not self.applied_offset:
            self.timers.floor = log_offset
        self.applied_offset = max(self.applied_offset, LogOffset(log_offset + size))
        state = decode_state_record(data, at)
        if state is None:
            message = record_summary(data, at)
            if is_new:
                self._replay_message(message, log_offset)
            return message
        if is_new:
            self._replay_state(state)
        return state

    def _replay_state(self, state: StateRecord) -> None:
        self.stored_at_ms = max(self.stored_at_ms, state.stored_at_ms)
        if state.kind is Kind.OPENING:
            self._replay_opening(decode_part(state.body))
            return
        if state.kind is Kind.TOPIC_DELETED:
            self._made_anew.pop(state.body["name"], None)
        self.decide(state.kind, state.body, state.log_offset)
        self.apply(state.kind, state.body, state.log_offset)
        if state.kind is Kind.OFFSETS:
            self.offsets.replay(state.kind, state.body, state.log_offset)

    def on_gap(self, first: LogOffset, end: LogOffset) -> None:
        """A repair has cut these bytes out of the log."""
        self.gaps.append((first, end))

    def _replay_message(self, message: RecordSummary, log_offset: LogOffset) -> None:
        self.stored_at_ms = max(self.stored_at_ms, message.stored_at_ms)
        topic = self.topics.live.get(message.topic)
        if topic is None or (self.gaps and message.queue_id >= topic.config.queues):
            topic = self._make_anew(topic, message, log_offset)
        queue = topic.queue(message.queue_id)
        if message.queue_offset != queue.max_offset:
            assert self.gaps, f"queue offset {message.queue_offset} after {queue.max_offset - 1} at {log_offset}"
            queue = self._jump(topic, message, log_offset)
        queue.apply(message.queue_offset, log_offset, message.size, message.tag_hash)
        hashes = key_hashes(message.topic, message.unique_id, message.keys)
        self.keys.apply(hashes, log_offset, message.stored_at_ms)
        if message.due_ms:
            self.timers.apply_message(message.topic, log_offset, message.size, message.due_ms, message.replaces)

    def _jump(self, topic: Topic, message: RecordSummary, log_offset: LogOffset) -> ConsumeQueue:
        """The queue of a message that does not follow the one before: some were lost between them.

        An offset that goes back is of another topic of that name: that the first was deleted was lost as well.
        """
        if message.queue_offset < topic.queue(message.queue_id).max_offset:
            topic = self._made_anew[message.topic] = self.topics.fill(log_offset, topic.config)
        queue = topic.queue(message.queue_id)
        if message.queue_offset > queue.max_offset:
            _lose(queue, message.queue_offset)
        return queue

    def _make_anew(self, topic: Topic | None, message: RecordSummary, log_offset: LogOffset) -> Topic:
        """The topic of a message whose own record was lost, with as many queues as are known of."""
        assert self.gaps, f"a message of topic {message.topic!r} before the topic, at log offset {log_offset}"
        queues = max(_LOST_TOPIC_QUEUES, message.queue_id + 1)
        if topic is None:
            log.warning("topic %r was lost with a part of the log; it is made anew", message.topic)
            topic = self.topics.fill(log_offset, TopicConfig(message.topic, queues, queues))
            self._made_anew[message.topic] = topic
            return topic
        return self.topics.fill(topic.id, replace(topic.config, read_queues=queues, write_queues=queues))

    def _replay_opening(self, part: Part) -> None:
        for topic_id, config, queues in part.topics:
            anew = self._made_anew.pop(config.name, None)
            if anew is not None and self.topics.by_id(topic_id) is None:
                self.topics.rename_id(anew, topic_id)
            topic = self.topics.fill(topic_id, config)
            for queue_id, next_offset in queues:
                queue = topic.queue(queue_id)
                if queue.max_offset < next_offset:
                    assert self.gaps or queue.is_fresh, "an opening knows more than the log before it"
                    _lose(queue, QueueOffset(next_offset))
        for group in part.groups:
            self.groups.fill(group)
        self.offsets.replay_opening(part.offsets, part.resets)
        self.in_flight.replay_opening(part.in_flight, part.part)
        for rule in part.rules:
            self.rules.fill(rule)
        for held in part.locks:
            self.locks.fill(held)


def _lose(queue: ConsumeQueue, queue_offset: QueueOffset) -> None:
    """What is between the end of the queue and `queue_offset` is not in the log."""
    if queue.is_fresh:
        queue.begin_at(queue_offset)
    else:
        queue.lose_until(queue_offset)
