"""Stores for tests: opened on any disk, filled and read with few words, and compared fold by fold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from posthouse.codec.record import decode_record
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk
from posthouse.host.real import RealNet, RealRandomness
from posthouse.model.filter import tag_hash
from posthouse.model.group import GroupConfig
from posthouse.model.message import Endpoint, NewMessage, StoredMessage
from posthouse.model.offsets import QueueOffset
from posthouse.model.properties import encode_properties
from posthouse.model.topic import TopicConfig
from posthouse.store.config import StoreConfig
from posthouse.store.consume_queue import ConsumeQueue, Entry
from posthouse.store.group_table import GroupTable
from posthouse.store.log.engine import LogConfig
from posthouse.store.message_store import LogError, MessageStore, Put, local_log
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic, TopicTable
from tests.store.disks import ManualClock

HERE = Endpoint(bytes((127, 0, 0, 1)), 10911)
THERE = Endpoint(bytes((127, 0, 0, 2)), 40000)


@dataclass
class Opened:
    """A store that is open, and what it told."""

    store: MessageStore
    clock: ManualClock
    acknowledged: list[Put] = field(default_factory=list)
    refused: list[tuple[Put, LogError]] = field(default_factory=list)
    arrivals: list[list[Put]] = field(default_factory=list)
    broken: list[LogError] = field(default_factory=list)

    def topic(self, name: str, queues: int = 4) -> Topic:
        """The topic, made if it is not there."""
        if name not in self.store.topics.live:
            self.change(Kind.TOPIC_SET, TopicTable.set_body(TopicConfig(name, queues, queues)))
        return self.store.topics.live[name]

    def delete(self, name: str) -> None:
        self.change(Kind.TOPIC_DELETED, TopicTable.deleted_body(name))

    def group(self, name: str) -> None:
        self.change(Kind.GROUP_SET, GroupTable.set_body(GroupConfig(name)))

    def change(self, kind: Kind, body: object) -> None:
        self.store.record(kind, body, lambda error: None)

    def done(self, put: Put, error: LogError | None) -> None:
        if error is None:
            self.acknowledged.append(put)
        else:
            self.refused.append((put, error))

    def put(self, topic: str, body: bytes = b"body", queue_id: int = 0, tag: str = "") -> Put:
        return self.store.put(self.topic(topic), message(topic, body, queue_id, tag), tag_hash(tag), HERE, self.done)

    def put_many(self, topic: str, bodies: list[bytes], queue_id: int = 0) -> list[Put]:
        messages = [(message(topic, body, queue_id), 0) for body in bodies]
        return self.store.put_many(self.topic(topic), messages, HERE, self.done)

    def write_offsets(self) -> None:
        """What the store does every second."""
        changes = self.store.offsets.take_changes()
        if changes is not None:
            self.store.record(Kind.OFFSETS, changes, lambda error: None, sync=False)

    def read(self, topic: str, queue_id: int = 0, begin: int = 0) -> list[StoredMessage]:
        """All visible messages of a queue, through `get`, each checked against where it says it is."""
        queue = self.store.topics.live[topic].queue(queue_id)
        found: list[StoredMessage] = []
        at = QueueOffset(begin)
        while at < queue.max_offset:
            got = self.store.get(queue, at, 32, 1 << 20)
            assert got is not None
            assert at < got.next_offset, "no progress"
            for buffer in got.buffers:
                start = 0
                while start < len(buffer):
                    each = decode_record(buffer, start, check_crc=True)
                    assert (each.topic, each.queue_id, each.queue_offset) == (topic, queue_id, at)
                    found.append(each)
                    start += each.store_size_bytes
                    at = QueueOffset(at + 1)
            assert at == got.next_offset
        return found

    def bodies(self, topic: str, queue_id: int = 0) -> list[bytes]:
        return [each.body for each in self.read(topic, queue_id)]

    async def settled(self) -> None:
        """Until everything that was appended is committed."""
        async with asyncio.timeout(20):
            while self.store.log.waiting_bytes:
                await asyncio.sleep(0)

    def folds(self) -> object:
        """Everything that is a fold over the log, in a form that can be compared; live views and committed ones."""
        store = self.store
        return {
            "topics": {
                name: (
                    topic.id,
                    topic.config,
                    {
                        number: (
                            queue.min_offset,
                            queue.max_offset,
                            queue.next_offset,
                            every_entry(queue),
                        )
                        for number, queue in sorted(topic.queues.items())
                        if queue.max_offset
                    },
                )
                for name, topic in sorted(store.topics.live.items())
            },
            "groups": sorted(store.groups.live.items()),
            "offsets": without_empty(store.offsets.live),
            "timers": store.folds.timers.entries(),
            "snapshots": (
                sorted(map(repr, store.topics.snapshot())),  # type: ignore[call-overload]
                sorted(map(repr, store.groups.snapshot())),  # type: ignore[call-overload]
                without_empty(store.offsets.snapshot()),
            ),
        }


def without_empty(table: object) -> object:
    """Nested maps without the empty ones, which mean the same as none."""
    if not isinstance(table, dict):
        return table
    found = {key: without_empty(value) for key, value in table.items()}
    return {key: value for key, value in found.items() if value != {}}


def every_entry(queue: ConsumeQueue) -> list[Entry]:
    found: list[Entry] = []
    while (at := queue.min_offset + len(found)) < queue.max_offset:
        found += queue.read_wait(QueueOffset(at), 100)
    return found


def message(topic: str, body: bytes = b"body", queue_id: int = 0, tag: str = "") -> NewMessage:
    properties = encode_properties({"TAGS": tag} if tag else {})
    return NewMessage(topic, queue_id, body, properties, 0, 0, EpochMs(1_600_000_000_000), THERE)


def open_store(
    disk: Disk,
    clock: ManualClock | None = None,
    *,
    checkpoint_bytes: int = 1 << 30,
    segment_bytes: int = 1 << 30,
    batch_bytes: int = 8 << 20,
) -> Opened:
    """An open store; what an earlier one on the same disk acknowledged is in it. Raises StoreBroken."""
    clock = clock or ManualClock()
    found: list[Opened] = []
    store = MessageStore(
        Host(clock, disk, RealNet(), RealRandomness()),
        StoreConfig(segment_bytes=segment_bytes, checkpoint_bytes=checkpoint_bytes),
        make_log=local_log(LogConfig(segment_bytes, batch_bytes)),
        on_arrivals=lambda puts: found[0].arrivals.append(puts),
        on_broken=lambda error: found[0].broken.append(error),
    )
    found.append(Opened(store, clock))
    store.open()
    return found[0]
