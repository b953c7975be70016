"""A pull as values: what a consumer asks of one queue, and what it gets."""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import NamedTuple

from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused


class PullRequest(NamedTuple):
    """`commit_offset` is piggybacked progress, or None. `suspend_ms` above 0 lets the broker hold the request.

    `expression` is the request's own subscription, or None to use the one of the group's heartbeats.
    """

    group: str
    topic: str
    queue_id: int
    queue_offset: QueueOffset
    messages_max: int
    commit_offset: QueueOffset | None = None
    suspend_ms: int = 0
    expression: str | None = None
    expression_type: str | None = None
    subscription_version: int = 0


class PullStatus(Enum):
    FOUND = auto()
    NOTHING_NEW = auto()  # the queue ends here for now
    NOTHING_MATCHED = auto()  # looked at some, none passed the filter; go on at next_offset
    OFFSET_MOVED = auto()  # no such offset; go on at next_offset


class PullResult(NamedTuple):
    """`buffers` are records one after another, `size` their bytes in all; min and max are the queue's bounds."""

    status: PullStatus
    next_offset: QueueOffset
    min_offset: QueueOffset
    max_offset: QueueOffset
    buffers: list[bytes | memoryview]
    size: int


class Forbids(IntEnum):
    """Who does not let a consumer pull. Source: RocketMQ 5.3 ForbiddenType."""

    BROKER = 1
    GROUP = 2
    TOPIC = 3
    BROADCAST = 4
    SUBSCRIPTION = 5  # this group on this topic


class Forbidden(Refused):
    """A pull that is not allowed: Refused(NO_PERMISSION) that says by what."""

    def __init__(self, by: Forbids, remark: str) -> None:
        super().__init__(Reason.NO_PERMISSION, remark)
        self.by = by
