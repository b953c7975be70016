"""Moving a group: to a time, to an offset, to the end; as far as another group is; or to where others are (correction).

A reset is a record that is durable before it is acknowledged: the group is moved at once, on-line or not, and every
pull is told where to go on until it does (see offsets). RocketMQ's other way, in which the broker only asks the
members to move themselves, is kept for those who ask for it: `targets` and then a word to each member, by the endpoint.
Source: RocketMQ 5.3 AdminBrokerProcessor.resetOffset, Broker2Client.resetOffset, ConsumerOffsetManager.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from posthouse.broker.clients import Clients
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.topics import Topics
from posthouse.host.clock import EpochMs
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.message_store import MessageStore
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic

log = logging.getLogger(__name__)

Targets = dict[int, QueueOffset]
"""By queue id of one topic: the next message to consume."""

NOBODY_HAS_MORE = QueueOffset(2**63 - 1)
"""A correction for a queue on which the compared group is behind all others. RocketMQ: Long.MAX_VALUE."""


class Resets:
    """`moved` is told of queues whose readers should look again, `on_reset` of (group, topic) afterwards."""

    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        clients: Clients,
        offsets: Offsets,
        moved: Callable[[ConsumeQueue], None],
    ) -> None:
        self._store = store
        self._topics = topics
        self._groups = groups
        self._clients = clients
        self._offsets = offsets
        self._moved = moved
        self.on_reset: Callable[[str, str], None] = lambda group, topic: None

    async def targets(
        self,
        group: str,
        topic: str,
        *,
        at_ms: EpochMs | None = None,
        queue_id: int | None = None,
        offset: QueueOffset | None = None,
        force: bool = True,
    ) -> Targets:
        """Where a reset would bring the group: in one queue, or in all that can be read.

        `offset` counts if a queue is named; else the first message stored at or after `at_ms`, None: behind the last
        one. Without `force` nothing moves forward. Raises Refused: GROUP_NOT_EXIST, TOPIC_NOT_EXIST,
        INVALID_PARAMETER.
        """
        found = self._topics.require(topic)
        self._groups.known(group)
        if queue_id is None:
            queue_ids: Iterable[int] = range(found.config.read_queues)
        else:
            _check_queue(found, queue_id)
            queue_ids = (queue_id,)
        moves: Targets = {}
        for each in queue_ids:
            target = await self._target(topic, each, at_ms, offset if queue_id is not None else None)
            stored = self._offsets.stored(group, topic, each)
            moves[each] = target if force or stored is None else min(target, stored)
        return moves

    async def _target(
        self, topic: str, queue_id: int, at_ms: EpochMs | None, offset: QueueOffset | None
    ) -> QueueOffset:
        low, high = self._offsets.bounds(topic, queue_id)
        if offset is not None:
            if not low <= offset <= high + 1:  # RocketMQ lets one more pass
                raise Refused(
                    Reason.INVALID_PARAMETER, f"offset {offset}; queue {queue_id} of {topic!r} has {low} to {high}"
                )
            return min(offset, high)
        if at_ms is None:
            return high
        return await self._offsets.search(topic, queue_id, at_ms, upper=False)

    async def reset(self, group: str, topic: str, moves: Mapping[int, QueueOffset]) -> None:
        """Moves the group; every reader of these queues is told. Raises Refused."""
        if not moves:
            return
        body = GroupOffsets.set_body(group, topic, dict(moves), pending=True)
        await self._store.record_and_wait(Kind.OFFSETS_SET, body)
        log.info("group %s is moved on topic %s by an admin, to %s", group, topic, dict(moves))
        found = self._topics.find(topic)
        queues = {} if found is None else found.queues
        for queue_id in moves:
            if (queue := queues.get(queue_id)) is not None:
                self._moved(queue)
        self.on_reset(group, topic)

    async def clone(self, source: str, target: str, topic: str | None, *, offline: bool) -> list[str]:
        """Gives a group the offsets of another, on one topic or on all but its retries; the names of these topics.

        Unless `offline`, topics that the source's members have not subscribed are passed over, if it has members.
        Raises Refused: GROUP_NOT_EXIST, NOT_WRITABLE.
        """
        self._groups.known(source)
        self._groups.require(target)
        wanted = self._clients.consumer_group(source)
        names = (
            [topic]
            if topic
            else [name for name in self._offsets.topics_of(source) if not name.startswith(RETRY_PREFIX)]
        )
        cloned: list[str] = []
        for name in names:
            offsets = self._store.offsets.live.get(source, {}).get(name)
            if self._topics.find(name) is None or not offsets:
                continue
            if not offline and wanted is not None and wanted.subscriptions and name not in wanted.subscriptions:
                log.info("offsets of group %s on %s are not cloned: its members have not subscribed it", source, name)
                continue
            body = GroupOffsets.set_body(target, name, dict(offsets), pending=False)
            await self._store.record_and_wait(Kind.OFFSETS_SET, body)
            cloned.append(name)
        return cloned

    def correction(self, topic: str, compared: str, left_out: Iterable[str] = ()) -> Targets:
        """The smallest offset of any group, by queue; NOBODY_HAS_MORE where the compared group's is smaller.

        Offsets below what is kept do not count. Asking changes nothing, unlike in RocketMQ, where the offsets of
        `left_out` are forgotten.
        """
        out = set(left_out)
        smallest: Targets = {}
        for group, topics in self._store.offsets.live.items():
            if group in out:
                continue
            for queue_id, offset in topics.get(topic, {}).items():
                if offset >= self._offsets.bounds(topic, queue_id)[0]:
                    smallest[queue_id] = min(offset, smallest.get(queue_id, offset))
        for queue_id, offset in self._store.offsets.live.get(compared, {}).get(topic, {}).items():
            if queue_id not in smallest or smallest[queue_id] > offset:
                smallest[queue_id] = NOBODY_HAS_MORE
        return smallest


def _check_queue(topic: Topic, queue_id: int) -> None:
    if not 0 <= queue_id < topic.config.read_queues:
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"queue {queue_id} of {topic.config.name!r}; it has {topic.config.read_queues} read queues",
        )
