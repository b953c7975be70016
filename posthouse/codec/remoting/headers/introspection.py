"""Headers of questions that a broker passes on to a consumer: 223, 307, 309.

Source: RocketMQ 5.3 GetConsumerStatusRequestHeader, GetConsumerRunningInfoRequestHeader,
ConsumeMessageDirectlyResultRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32


class GetConsumerStatus(msgspec.Struct, kw_only=True, rename="camel"):
    """223. `client_id`: that one only; the wire calls it an address."""

    topic: str
    group: str
    client_id: str | None = field(name="clientAddr", default=None)


class GetRunningInfo(msgspec.Struct, kw_only=True, rename="camel"):
    """307."""

    consumer_group: str
    client_id: str
    with_stacks: bool = field(name="jstackEnable", default=False)


class ConsumeDirectly(msgspec.Struct, kw_only=True, rename="camel"):
    """309. `message_id` is an offset id."""

    consumer_group: str
    client_id: str | None = None
    message_id: str | None = field(name="msgId", default=None)
    broker_name: str | None = None
    topic: str | None = None
    topic_sys_flag: Int32 | None = None
    group_sys_flag: Int32 | None = None


GET_CONSUMER_STATUS = HeaderType(GetConsumerStatus)
GET_RUNNING_INFO = HeaderType(GetRunningInfo)
CONSUME_DIRECTLY = HeaderType(ConsumeDirectly)
