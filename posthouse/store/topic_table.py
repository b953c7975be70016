"""Topics as a fold over the log. A topic's id is the log offset of the record that made it.

There are two views. `live` changes when a change is decided (its record is appended): the next request sees it.
`committed` changes when the record is committed: snapshots are made of it. A crash between the two takes the
undecided future with it, as the log does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from posthouse.model.offsets import LogOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.key_index import key_hash
from posthouse.store.state_record import Kind


class Topic:
    """A topic that exists, with its queues. `queues` grows as messages come; ids without one are empty queues."""

    __slots__ = ("config", "id", "key_seed", "name_bytes", "queues")

    def __init__(self, topic_id: int, config: TopicConfig) -> None:
        self.id = topic_id
        self.config = config
        self.queues: dict[int, ConsumeQueue] = {}
        self.name_bytes = config.name.encode()
        self.key_seed = key_hash(config.name, "")
        """Where the hash of each key in this topic begins."""

    def queue(self, queue_id: int) -> ConsumeQueue:
        """The queue, made if it is not there yet."""
        found = self.queues.get(queue_id)
        if found is None:
            found = self.queues[queue_id] = ConsumeQueue(queue_id)
        return found


class TopicTable:
    """See the module's text for the two views."""

    kinds = (Kind.TOPIC_SET, Kind.TOPIC_DELETED)

    def __init__(self) -> None:
        self.live: dict[str, Topic] = {}
        self._committed: dict[str, tuple[int, TopicConfig]] = {}
        self._by_id: dict[int, Topic] = {}

    @staticmethod
    def set_body(config: TopicConfig) -> object:
        return {"config": msgspec.to_builtins(config)}

    @staticmethod
    def deleted_body(name: str) -> object:
        return {"name": name}

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        if kind is Kind.TOPIC_DELETED:
            self.live.pop(body["name"], None)
            return
        config = msgspec.convert(body["config"], TopicConfig)
        topic = self.live.get(config.name)
        if topic is None:
            topic = self.live[config.name] = self._by_id[log_offset] = Topic(log_offset, config)
        topic.config = config

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        if kind is Kind.TOPIC_DELETED:
            gone = self._committed.pop(body["name"], None)
            if gone is not None:
                self._by_id.pop(gone[0], None)
            return
        config = msgspec.convert(body["config"], TopicConfig)
        before = self._committed.get(config.name)
        self._committed[config.name] = (before[0] if before is not None else log_offset, config)

    def rename_id(self, topic: Topic, topic_id: int) -> None:
        """A topic that was made anew in a replay has the id that it had before. It keeps its queues."""
        self._by_id[topic_id] = self._by_id.pop(topic.id)
        topic.id = topic_id

    def fill(self, topic_id: int, config: TopicConfig) -> Topic:
        """A topic as the opening of a segment has it, which changes nothing in a table that is whole. For replays."""
        topic = self._by_id.get(topic_id)
        if topic is None:
            before = self.live.get(config.name)
            if before is not None:  # its deletion was lost
                del self._by_id[before.id]
            topic = self.live[config.name] = self._by_id[topic_id] = Topic(topic_id, config)
        topic.config = config
        self._committed[config.name] = (topic_id, config)
        return topic

    def by_id(self, topic_id: int) -> Topic | None:
        """A topic that is not deleted as far as the committed log says."""
        return self._by_id.get(topic_id)

    def all(self) -> Iterator[Topic]:
        """Topics whose queues are kept."""
        return iter(self._by_id.values())

    def snapshot(self) -> object:
        return [[topic_id, msgspec.to_builtins(config)] for topic_id, config in self._committed.values()]

    def restore(self, state: Any) -> None:
        for topic_id, config in msgspec.convert(state, list[tuple[int, TopicConfig]]):
            self._committed[config.name] = (topic_id, config)
            self.live[config.name] = self._by_id[topic_id] = Topic(topic_id, config)
