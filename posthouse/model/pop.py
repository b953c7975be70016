"""A pop as values: what a consumer asks of a topic, what it gets, and the receipt that it acknowledges with.

Source: RocketMQ 5.3 PopMessageProcessor, ExtraInfoUtil.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import NamedTuple

from posthouse.host.clock import EpochMs
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import QueueOffset

ANY_QUEUE = -1


class Source(IntEnum):
    """Which topic a popped message was read from: the one asked for, or one of the two where retries wait for it."""

    NORMAL = 0
    RETRY = 1  # what this broker writes: RocketMQ's V1 name
    RETRY_V2 = 2  # only read


def pop_retry_topic(group: str, topic: str) -> str:
    """Where messages of the topic wait that the group was given and did not acknowledge."""
    return f"{RETRY_PREFIX}{group}_{topic}"


def pop_retry_topic_v2(group: str, topic: str) -> str:
    """The same under the name that RocketMQ gives with enableRetryTopicV2."""
    return f"{RETRY_PREFIX}{group}+{topic}"


def source_topic(source: Source, group: str, topic: str) -> str:
    """The topic in which a receipt's queue and offset count."""
    if source is Source.RETRY:
        return pop_retry_topic(group, topic)
    return pop_retry_topic_v2(group, topic) if source is Source.RETRY_V2 else topic


class PopRequest(NamedTuple):
    """`queue_id` may be ANY_QUEUE. `poll_ms` above 0 lets the broker hold the request for so long.

    `from_latest`: where a group without an offset begins. `attempt_id`: an ordered pop that is tried again gets the
    same messages.
    """

    group: str
    topic: str
    queue_id: int
    messages_max: int
    invisible_ms: int
    poll_ms: int = 0
    from_latest: bool = False
    expression: str | None = None
    expression_type: str | None = None
    ordered: bool = False
    attempt_id: str = ""


class PopStatus(Enum):
    FOUND = auto()
    NOTHING = auto()  # the time is up, and nothing came
    FULL = auto()  # too many pops are held


@dataclass(slots=True)
class PopPart:
    """What was given of one queue. `buffers` are whole records as stored, `offsets` theirs, in the same order.

    `times`: for an ordered pop, how often each was given before.
    """

    source: Source
    queue_id: int
    offsets: list[QueueOffset]
    buffers: list[bytes | memoryview]
    times: list[int] = field(default_factory=list)


class PopResult(NamedTuple):
    """`rest`: about how many more there are."""

    status: PopStatus
    at_ms: EpochMs
    invisible_ms: int
    rest: int = 0
    parts: tuple[PopPart, ...] = ()


class PopReceipt(NamedTuple):
    """Names one delivery of one message. `offset` counts in `topic`'s queue, where `topic` may be a retry topic."""

    group: str
    topic: str
    queue_id: int
    offset: QueueOffset
    at_ms: EpochMs
    invisible_ms: int = 0
    ordered: bool = False


class NotificationRequest(NamedTuple):
    """Asks whether a pop would get something, without taking it."""

    group: str
    topic: str
    queue_id: int
    poll_ms: int = 0
    expression: str | None = None
    expression_type: str | None = None
    ordered: bool = False
    attempt_id: str = ""
