"""Headers of offsets: a group's progress (14, 15) and the bounds of a queue (29 to 32).

Source: RocketMQ 5.3 QueryConsumerOffsetRequestHeader, UpdateConsumerOffsetRequestHeader, SearchOffsetRequestHeader,
GetMaxOffsetRequestHeader, GetMinOffsetRequestHeader, GetEarliestMsgStoretimeRequestHeader and their answers.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class QueryConsumerOffset(msgspec.Struct, kw_only=True, rename="camel"):
    """14. `set_zero_if_not_found` false: answer 22 where a young queue would be answered 0."""

    consumer_group: str
    topic: str
    queue_id: Int32
    set_zero_if_not_found: bool | None = None
    broker_name: str | None = field(name="bname", default=None)


class UpdateConsumerOffset(msgspec.Struct, kw_only=True, rename="camel"):
    """15, mostly one-way. The two numbers may be missing: that is INVALID_PARAMETER, not a broken header."""

    consumer_group: str
    topic: str
    queue_id: Int32 | None = None
    commit_offset: Int64 | None = None
    broker_name: str | None = field(name="bname", default=None)


class SearchOffset(msgspec.Struct, kw_only=True, rename="camel"):
    """29. `boundary_type` is LOWER or UPPER in any case; LOWER when absent."""

    topic: str
    queue_id: Int32
    timestamp_ms: Int64 = field(name="timestamp")
    boundary_type: str | None = None
    broker_name: str | None = field(name="bname", default=None)


class GetMaxOffset(msgspec.Struct, kw_only=True, rename="camel"):
    """30."""

    topic: str
    queue_id: Int32
    committed: bool | None = None
    broker_name: str | None = field(name="bname", default=None)


class GetMinOffset(msgspec.Struct, kw_only=True, rename="camel"):
    """31."""

    topic: str
    queue_id: Int32
    broker_name: str | None = field(name="bname", default=None)


class GetEarliestStoreTime(msgspec.Struct, kw_only=True, rename="camel"):
    """32."""

    topic: str
    queue_id: Int32
    broker_name: str | None = field(name="bname", default=None)


class OffsetReply(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer of 14, 29, 30 and 31."""

    offset: Int64


class EarliestStoreTimeReply(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer of 32; -1 when the queue is empty."""

    timestamp_ms: Int64 = field(name="timestamp")


QUERY_CONSUMER_OFFSET = HeaderType(QueryConsumerOffset)
UPDATE_CONSUMER_OFFSET = HeaderType(UpdateConsumerOffset)
SEARCH_OFFSET = HeaderType(SearchOffset)
GET_MAX_OFFSET = HeaderType(GetMaxOffset)
GET_MIN_OFFSET = HeaderType(GetMinOffset)
GET_EARLIEST_STORE_TIME = HeaderType(GetEarliestStoreTime)
OFFSET_REPLY = HeaderType(OffsetReply)
EARLIEST_STORE_TIME_REPLY = HeaderType(EarliestStoreTimeReply)
