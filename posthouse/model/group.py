"""A consumer group: its configuration, and what its members say of themselves.

Source: RocketMQ 5.3 SubscriptionGroupConfig, GroupRetryPolicy, SimpleSubscriptionData, ConsumerData,
SetMessageRequestModeRequestBody, GroupForbidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from posthouse.model.filter import TAG, Subscription


class ConsumeType(IntEnum):
    CONSUME_ACTIVELY = 0  # the program pulls
    CONSUME_PASSIVELY = 1  # the client pulls and pushes to a listener
    CONSUME_POP = 2


class MessageModel(IntEnum):
    BROADCASTING = 0
    CLUSTERING = 1


class ConsumeFrom(IntEnum):
    """Where a group without a stored offset begins. 1 to 3 are old names that clients treat as 0."""

    CONSUME_FROM_LAST_OFFSET = 0
    CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST = 1
    CONSUME_FROM_MIN_OFFSET = 2
    CONSUME_FROM_MAX_OFFSET = 3
    CONSUME_FROM_FIRST_OFFSET = 4
    CONSUME_FROM_TIMESTAMP = 5


class RequestMode(StrEnum):
    """How a client that asks the broker for its queues gets their messages."""

    PULL = "PULL"
    POP = "POP"


class RetryPolicyType(StrEnum):
    CUSTOMIZED = "CUSTOMIZED"  # a list of times
    EXPONENTIAL = "EXPONENTIAL"  # min(max, initial * multiplier ** times)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a group wants a failed message again; used by proxies and gRPC clients. All times in ms.

    `next_ms` is of CUSTOMIZED, empty for RocketMQ's own list; the other three are of EXPONENTIAL.
    """

    type: RetryPolicyType = RetryPolicyType.CUSTOMIZED
    next_ms: tuple[int, ...] = ()
    initial_ms: int = 5_000
    max_ms: int = 7_200_000
    multiplier: int = 2


@dataclass(frozen=True, slots=True)
class FixedSubscription:
    """A subscription that is part of a group's configuration. Kept, not used: heartbeats say what a group wants."""

    topic: str
    expression: str = "*"
    expression_type: str = TAG
    version: int = 0


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """`fixed_subscriptions` None: not set, which is not the same as none."""

    name: str
    consume_enable: bool = True
    consume_from_min_enable: bool = True
    consume_broadcast_enable: bool = True
    consume_message_orderly: bool = False
    retry_queues: int = 1
    retry_max_times: int = 16
    broker_id: int = 0
    which_broker_when_consume_slowly: int = 1
    notify_consumer_ids_changed_enable: bool = True
    group_sys_flag: int = 0
    consume_timeout_minutes: int = 15
    attributes: dict[str, str] = field(default_factory=dict)
    retry_policy: RetryPolicy = RetryPolicy()
    fixed_subscriptions: tuple[FixedSubscription, ...] | None = None


@dataclass(frozen=True, slots=True)
class GroupRule:
    """What an admin has set for a group on one topic. `mode` None: as the broker has it.

    `share_queues`: with POP, how many of the next members' shares a member reads as well; 0 or less: all queues.
    """

    group: str
    topic: str
    mode: RequestMode | None = None
    share_queues: int = 0
    readable: bool = True

    @property
    def says_nothing(self) -> bool:
        return self.mode is None and self.readable


@dataclass(frozen=True, slots=True)
class Membership:
    """What one member's heartbeat says about one consumer group."""

    group: str
    consume_type: ConsumeType
    message_model: MessageModel
    consume_from: ConsumeFrom
    subscriptions: tuple[Subscription, ...]
