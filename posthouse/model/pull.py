"""A pull as values: what a consumer asks of one queue, and what it gets."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from posthouse.model.offsets import QueueOffset


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
