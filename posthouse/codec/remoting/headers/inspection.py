"""Headers of looks inside a broker: 317, 321.

Source: RocketMQ 5.3 GetConsumeStatsInBrokerHeader, QueryConsumeQueueRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class GetBrokerConsumeStats(msgspec.Struct, kw_only=True, rename="camel"):
    """317. `ordered_only`: topics that are not ordered are left out."""

    ordered_only: bool = field(name="isOrder")


class QueryConsumeQueue(msgspec.Struct, kw_only=True, rename="camel"):
    """321. With a group each entry is tried against its subscription."""

    topic: str
    queue_id: Int32
    index: Int64
    count: Int32
    consumer_group: str | None = None


GET_BROKER_CONSUME_STATS = HeaderType(GetBrokerConsumeStats)
QUERY_CONSUME_QUEUE = HeaderType(QueryConsumeQueue)
