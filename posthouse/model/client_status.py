"""What a consumer says of itself when an operator asks: what it reads, how far it is, how fast it goes.

Source: RocketMQ 5.3 ConsumerRunningInfo, ProcessQueueInfo, ConsumeStatus, ConsumeMessageDirectlyResult.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from posthouse.host.clock import EpochMs
from posthouse.model.filter import Subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

NEVER = EpochMs(0)
_ZERO = QueueOffset(0)


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One queue that a member reads. `held` messages are pulled and not done; times are 0 for never."""

    commit_offset: QueueOffset
    held_min_offset: QueueOffset = _ZERO
    held_max_offset: QueueOffset = _ZERO
    held: int = 0
    held_bytes: int = 0
    locked: bool = False
    locked_at_ms: EpochMs = NEVER
    dropped: bool = False
    pulled_at_ms: EpochMs = NEVER
    consumed_at_ms: EpochMs = NEVER


@dataclass(frozen=True, slots=True)
class ConsumeRates:
    """Of one topic: means and rates over the last minute, `failed_in_hour` over the last hour."""

    pull_ms: float = 0.0
    pulled_per_second: float = 0.0
    consume_ms: float = 0.0
    consumed_per_second: float = 0.0
    failed_per_second: float = 0.0
    failed_in_hour: int = 0


@dataclass(frozen=True, slots=True)
class RunningInfo:
    """`properties` has PROP_* names as Apache's tools print them; `stacks` says where handlers wait, as text."""

    properties: Mapping[str, str] = field(default_factory=dict)
    subscriptions: tuple[Subscription, ...] = ()
    queues: Mapping[MessageQueue, QueueStatus] = field(default_factory=dict)
    rates: Mapping[str, ConsumeRates] = field(default_factory=dict)
    stacks: str = ""


class DirectOutcome(Enum):
    """How one message ended that an operator had a member handle."""

    SUCCESS = "CR_SUCCESS"
    LATER = "CR_LATER"
    ROLLBACK = "CR_ROLLBACK"
    COMMIT = "CR_COMMIT"
    THREW = "CR_THROW_EXCEPTION"
    RETURNED_NULL = "CR_RETURN_NULL"


@dataclass(frozen=True, slots=True)
class DirectResult:
    outcome: DirectOutcome
    remark: str = ""
    spent_ms: int = 0
    ordered: bool = False
