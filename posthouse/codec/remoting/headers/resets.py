"""Headers about moving groups: 220, 222, 308, 314.

Source: RocketMQ 5.3 ResetOffsetRequestHeader, QueryCorrectionOffsetHeader, CloneGroupOffsetRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class ResetOffsets(msgspec.Struct, kw_only=True, rename="camel"):
    """222. A time of -1: behind the last message. `offset` counts if a queue is named (not -1).

    `through_clients` is Posthouse's own: true asks for the older way, in which the members move themselves.
    """

    topic: str
    group: str
    timestamp_ms: Int64 = field(name="timestamp", default=-1)
    force: bool = field(name="isForce", default=True)
    queue_id: Int32 | None = None
    offset: Int64 | None = None
    through_clients: bool | None = None


class ResetClientOffsets(msgspec.Struct, kw_only=True, rename="camel"):
    """220, from the broker to the members, one-way."""

    topic: str
    group: str
    timestamp_ms: Int64 = field(name="timestamp", default=-1)
    force: bool = field(name="isForce", default=True)


class QueryCorrection(msgspec.Struct, kw_only=True, rename="camel"):
    """308. `filter_groups`: names with commas between, left out of the comparison."""

    filter_groups: str | None = None
    compare_group: str
    topic: str


class CloneOffsets(msgspec.Struct, kw_only=True, rename="camel"):
    """314. Without a topic: all of the source's."""

    source_group: str = field(name="srcGroup")
    target_group: str = field(name="destGroup")
    topic: str | None = None
    offline: bool = False


RESET_OFFSETS = HeaderType(ResetOffsets)
RESET_CLIENT_OFFSETS = HeaderType(ResetClientOffsets)
QUERY_CORRECTION = HeaderType(QueryCorrection)
CLONE_OFFSETS = HeaderType(CloneOffsets)
