"""Looks inside a broker for operators: how far every group is, and what a queue's entries are.

All of it is cold: it waits for the device where it must, lets others run in between, and is bounded in what one answer
may hold. Source: RocketMQ 5.3 AdminBrokerProcessor.fetchAllConsumeStatsInBroker, queryConsumeQueue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from posthouse.broker.clients import Clients
from posthouse.broker.config import BrokerConfig
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.stats import Stats, What
from posthouse.broker.topics import Topics
from posthouse.codec.record import RecordError, record_properties_bytes
from posthouse.host.clock import Clock, EpochMs
from posthouse.model.connection import ClientConnection
from posthouse.model.filter import Subscription
from posthouse.model.limits import INSPECTED_ENTRIES_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.stats import BrokerConsumeStats, GroupStats, QueueEntry, QueueProgress, QueueSight, Windows
from posthouse.store.consume_queue import ConsumeQueue, Entry
from posthouse.store.message_store import MessageStore

_STATS = {
    "TOPIC_PUT_NUMS": (What.TOPIC_PUT, False),
    "TOPIC_PUT_SIZE": (What.TOPIC_PUT, True),
    "GROUP_GET_NUMS": (What.GROUP_GET, False),
    "GROUP_GET_SIZE": (What.GROUP_GET, True),
    "GROUP_ACK_NUMS": (What.GROUP_ACK, False),
    "SNDBCK_PUT_NUMS": (What.SENT_BACK, False),
    "DLQ_PUT_NUMS": (What.DEAD_LETTERED, False),
    "BROKER_PUT_NUMS": (What.BROKER_PUT, False),
    "BROKER_GET_NUMS": (What.BROKER_GET, False),
    "BROKER_ACK_NUMS": (What.BROKER_ACK, False),
}
"""RocketMQ's names of what is counted, and whether its bytes are meant. It has more: by queue, latencies, accounts."""


class Inspection:
    def __init__(
        self,
        config: BrokerConfig,
        clock: Clock,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        clients: Clients,
        offsets: Offsets,
        stats: Stats,
    ) -> None:
        self._cluster = config.cluster
        self._broker_name = config.name
        self._clock = clock
        self._store = store
        self._topics = topics
        self._groups = groups
        self._clients = clients
        self._offsets = offsets
        self._stats = stats

    async def consumption(self, *, ordered_only: bool = False) -> BrokerConsumeStats:
        """How far every group is in each topic where it has an offset. Groups without one are left out."""
        groups: dict[str, tuple[GroupStats, ...]] = {}
        for config in self._groups.all():
            found = [
                await self._progress(config.name, topic)
                for topic in self._offsets.topics_of(config.name)
                if self._is_wanted(topic, ordered_only)
            ]
            if found:
                groups[config.name] = tuple(found)
            await asyncio.sleep(0)
        return BrokerConsumeStats(groups)

    def _is_wanted(self, topic: str, ordered_only: bool) -> bool:
        found = self._topics.find(topic)
        return found is not None and (found.config.order or not ordered_only)

    async def _progress(self, group: str, topic: str) -> GroupStats:
        queues: dict[MessageQueue, QueueProgress] = {}
        found = self._topics.find(topic)
        for queue_id in range(found.config.read_queues if found else 0):
            queue = MessageQueue(topic, self._broker_name, queue_id)
            queues[queue] = await self._offsets.progress(group, topic, queue_id)
        return GroupStats(queues, self._stats.per_second(What.GROUP_GET, (topic, group)))

    def windows(self, name: str, key: str) -> Windows:
        """What was counted under RocketMQ's name and key: a topic, `topic@group`, or the cluster.

        Raises Refused(FAILED) for what is not counted, and for a topic or group that does not exist.
        """
        if name not in _STATS:
            raise Refused(Reason.FAILED, f"no statistics {name[:60]!r} are kept; {', '.join(_STATS)} are")
        what, of_size = _STATS[name]
        if name.startswith("BROKER_"):
            found = self._stats.windows(what, (), of_size=of_size) if key == self._cluster else None
        elif what is What.TOPIC_PUT:
            found = self._stats.windows(what, (key,), of_size=of_size) or self._nothing(key)
        else:
            topic, _, group = key.partition("@")
            found = self._stats.windows(what, (topic, group), of_size=of_size) or self._nothing(topic, group)
        if found is None:
            raise Refused(Reason.FAILED, f"the stats <{key[:255]}> do not exist: no such topic, group or cluster here")
        return found

    def _nothing(self, topic: str, group: str | None = None) -> Windows | None:
        is_there = self._topics.find(topic) is not None and (group is None or self._groups.find(group) is not None)
        return Windows() if is_there else None

    def producers(self) -> dict[str, list[tuple[ClientConnection, EpochMs]]]:
        """By group, who is connected and when it was last heard of."""
        now_ms = self._clock.now_ms()
        return {
            group: [(client, EpochMs(now_ms - int(silent_s * 1000))) for client, silent_s in members]
            for group, members in self._clients.producers().items()
        }

    def offsets(self) -> Mapping[str, Mapping[str, Mapping[int, QueueOffset]]]:
        """Of all groups: by group, topic and queue id."""
        return self._store.offsets.live

    async def queue_entries(
        self, topic: str, queue_id: int, first: QueueOffset, count: int, group: str | None = None
    ) -> QueueSight:
        """Entries of a queue from `first` on, at most INSPECTED_ENTRIES_MAX.

        With a group that is connected, each is tried against what the group subscribed. Raises Refused:
        TOPIC_NOT_EXIST, INVALID_PARAMETER, FAILED when there is no such entry or it cannot be read.
        """
        found = self._topics.require(topic)
        if not 0 <= queue_id < found.config.queues:
            raise Refused(
                Reason.INVALID_PARAMETER, f"queue {queue_id} of {topic!r}; it has {found.config.queues} queues"
            )
        if count <= 0:
            raise Refused(Reason.INVALID_PARAMETER, f"{count} entries; ask for 1 to {INSPECTED_ENTRIES_MAX}")
        queue = found.queue(queue_id)
        low, high = queue.min_offset, queue.max_offset
        if not low <= first < high:
            raise Refused(Reason.FAILED, f"queue {queue_id} of {topic!r} has no entry {first}; it has {low} to {high}")
        subscription = self._subscription(group, topic)
        try:
            entries = await self._entries(queue, first, min(count, INSPECTED_ENTRIES_MAX))
            tried = tuple([await self._try(entry, subscription) for entry in entries])
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading {topic!r} failed: {error}") from error
        return QueueSight(tried, low, high, subscription)

    def _subscription(self, group: str | None, topic: str) -> Subscription | None:
        connected = self._clients.consumer_group(group) if group else None
        return None if connected is None else connected.subscriptions.get(topic)

    async def _entries(self, queue: ConsumeQueue, first: QueueOffset, count: int) -> list[Entry]:
        """Raises OSError. One read may give less than it was asked for: it ends with a file."""
        found: list[Entry] = []
        while len(found) < count:
            at = QueueOffset(first + len(found))
            some = queue.read(at, count - len(found))
            if some is None:
                some = await _read_later(queue, at, count - len(found))
            if not some:
                break
            found.extend(some)
        return found

    async def _try(self, entry: Entry, subscription: Subscription | None) -> QueueEntry:
        """Raises OSError, Refused."""
        shown = QueueEntry(entry.log_offset, entry.size, entry.tag_hash)
        if entry.size == 0:
            return shown._replace(matched=False, why_not="the message was lost, and cut out by a repair")
        if subscription is None:
            return shown
        if subscription.wants_hash is not None and not subscription.wants_hash(entry.tag_hash):
            return shown._replace(matched=False, why_not="the hash of its tag is not among those subscribed")
        if subscription.wants_properties is not None:
            record = await self._store.read_record(entry.log_offset, entry.size)
            try:
                properties = record_properties_bytes(record)
            except RecordError as error:
                return shown._replace(matched=False, why_not=f"the record cannot be read: {error}")
            if not subscription.wants_properties(properties):
                return shown._replace(matched=False, why_not="the expression is not true for its properties")
        return shown


async def _read_later(queue: ConsumeQueue, first: QueueOffset, count: int) -> list[Entry]:
    """Raises OSError."""
    waiting: asyncio.Future[list[Entry] | OSError] = asyncio.get_running_loop().create_future()
    queue.read_later(first, count, lambda found: None if waiting.done() else waiting.set_result(found))
    found = await waiting
    if isinstance(found, OSError):
        raise found
    return found
