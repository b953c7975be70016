"""Where queues begin and end, and how far groups are. Source: RocketMQ 5.3 TopicStatsTable, ConsumeStats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """First message kept, next one to be written, and when the last one was stored (0: never)."""

    min_offset: QueueOffset
    max_offset: QueueOffset
    updated_at_ms: EpochMs


@dataclass(frozen=True, slots=True)
class TopicStats:
    queues: Mapping[MessageQueue, QueueBounds]
    put_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """A group on one queue. `consumed_at_ms`: when the last consumed message was stored (0: unknown)."""

    broker_offset: QueueOffset
    consumer_offset: QueueOffset
    pull_offset: QueueOffset
    consumed_at_ms: EpochMs

    @property
    def backlog(self) -> int:
        return self.broker_offset - self.consumer_offset


@dataclass(frozen=True, slots=True)
class GroupStats:
    queues: Mapping[MessageQueue, QueueProgress]
    consume_per_second: float = 0.0
