"""Where queues begin and end, how far groups are, how much goes in and out.

Source: RocketMQ 5.3 TopicStatsTable, ConsumeStats, BrokerStatsData.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.host.clock import EpochMs
from posthouse.model.filter import Subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset, QueueOffset


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


@dataclass(frozen=True, slots=True)
class Window:
    """What came in some span of time; `per_time` is the mean of one go (a commit, an answer)."""

    total: int = 0
    per_second: float = 0.0
    per_time: float = 0.0


@dataclass(frozen=True, slots=True)
class Windows:
    """The last minute, hour and day."""

    minute: Window = Window()
    hour: Window = Window()
    day: Window = Window()


@dataclass(frozen=True, slots=True)
class BrokerConsumeStats:
    """Every group of a broker, by name: how far it is in each of its topics."""

    groups: Mapping[str, tuple[GroupStats, ...]]
    broker_address: str = ""

    @property
    def backlog(self) -> int:
        progress = (each for found in self.groups.values() for stats in found for each in stats.queues.values())
        return sum(each.backlog for each in progress)

    @property
    def in_flight(self) -> int:
        """Given to consumers and not yet consumed."""
        progress = (each for found in self.groups.values() for stats in found for each in stats.queues.values())
        return sum(max(0, each.pull_offset - each.consumer_offset) for each in progress)


class QueueEntry(NamedTuple):
    """A message as its queue knows it. `matched` by a group's subscription, else `why_not`."""

    log_offset: LogOffset
    size: int
    tag_hash: int
    matched: bool = True
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class QueueSight:
    """Some entries of a queue, and the subscription that they were tried against."""

    entries: tuple[QueueEntry, ...]
    min_offset: QueueOffset
    max_offset: QueueOffset
    subscription: Subscription | None = None


@dataclass(frozen=True, slots=True)
class QueueTimes:
    """When messages of one queue were stored: the first that is kept, the last, the last that a group has consumed.

    -1: there is none. `lag_ms`: how long the first message that the group has not consumed has been waiting; 0: none.
    """

    first_at_ms: EpochMs
    last_at_ms: EpochMs
    consumed_at_ms: EpochMs
    lag_ms: int
