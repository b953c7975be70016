"""A consumer group: its configuration, and what its members say of themselves.

Source: RocketMQ 5.3 SubscriptionGroupConfig, ConsumerData.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from posthouse.model.filter import Subscription


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


@dataclass(frozen=True, slots=True)
class GroupConfig:
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


@dataclass(frozen=True, slots=True)
class Membership:
    """What one member's heartbeat says about one consumer group."""

    group: str
    consume_type: ConsumeType
    message_model: MessageModel
    consume_from: ConsumeFrom
    subscriptions: tuple[Subscription, ...]
