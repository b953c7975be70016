"""Headers of queries for single messages: 12 and 33.

Source: RocketMQ 5.3 QueryMessageRequestHeader, QueryMessageResponseHeader, ViewMessageRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class QueryMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """12. With `unique` "true" the key is the message's unique key, and the broker alone limits how many are given."""

    topic: str
    key: str
    messages_max: Int32 = field(name="maxNum")
    begin_ms: Int64 = field(name="beginTimestamp")
    end_ms: Int64 = field(name="endTimestamp")
    unique: str | None = field(name="_UNIQUE_KEY_QUERY", default=None)
    broker_name: str | None = field(name="bname", default=None)


class QueryMessageReply(msgspec.Struct, kw_only=True, rename="camel"):
    """How far the index was. Clients take both without asking whether they are there."""

    indexed_at_ms: Int64 = field(name="indexLastUpdateTimestamp")
    indexed_offset: Int64 = field(name="indexLastUpdatePhyoffset")


class ViewMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """33. `offset` is in the log. Clients before 5.0 do not name the topic."""

    topic: str | None = None
    offset: Int64
    broker_name: str | None = field(name="bname", default=None)


QUERY_MESSAGE = HeaderType(QueryMessage)
QUERY_MESSAGE_REPLY = HeaderType(QueryMessageReply)
VIEW_MESSAGE = HeaderType(ViewMessage)
