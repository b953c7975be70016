"""Header of 326, with which a broker hands the answer to a request to the client that asked.

The answer comes to the broker as an ordinary send: 324 has the header of 10, 325 that of 310.
Source: RocketMQ 5.3 ReplyMessageRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class PushReply(msgspec.Struct, kw_only=True, rename="camel"):
    """326. The hosts are `ip:port`, an IPv6 address without brackets. The body is the message's, maybe compressed."""

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queues: Int32 = field(name="defaultTopicQueueNums")
    queue_id: Int32
    sys_flag: Int32
    born_at_ms: Int64 = field(name="bornTimestamp")
    flag: Int32
    properties: str | None = None
    reconsume_times: Int32 | None = None
    unit_mode: bool | None = None
    born_host: str
    store_host: str
    stored_at_ms: Int64 = field(name="storeTimestamp")


PUSH_REPLY = HeaderType(PushReply)
