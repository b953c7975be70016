"""Headers of popping: 200050 to 200056.

Source: RocketMQ 5.3 PopMessageRequestHeader, PopMessageResponseHeader, AckMessageRequestHeader,
ChangeInvisibleTimeRequestHeader, PeekMessageRequestHeader, NotificationRequestHeader, PollingInfoRequestHeader and
their answers.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class PopMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """200050. `queue_id` -1: any. `init_mode` 1: a group without an offset begins at the end."""

    consumer_group: str
    topic: str
    queue_id: Int32
    messages_max: Int32 = field(name="maxMsgNums")
    invisible_ms: Int64 = field(name="invisibleTime")
    poll_ms: Int64 = field(name="pollTime")
    born_at_ms: Int64 = field(name="bornTime", default=0)
    init_mode: Int32 = 0
    expression_type: str | None = field(name="expType", default=None)
    expression: str | None = field(name="exp", default=None)
    order: bool | None = None
    attempt_id: str | None = None
    broker_name: str | None = field(name="bname", default=None)


class PopMessageReply(msgspec.Struct, kw_only=True, rename="camel"):
    """Needed whatever the code is: clients take the four numbers without asking whether they are there."""

    at_ms: Int64 = field(name="popTime")
    invisible_ms: Int64 = field(name="invisibleTime")
    revive_queue_id: Int32 = field(name="reviveQid")
    rest: Int64 = field(name="restNum")
    start_offset_info: str | None = None
    offset_info: str | None = field(name="msgOffsetInfo", default=None)
    order_count_info: str | None = None


class AckMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """200051. `topic` is the one that the message was read from; `receipt` is the message's property POP_CK."""

    consumer_group: str
    topic: str
    queue_id: Int32
    receipt: str = field(name="extraInfo")
    offset: Int64
    broker_name: str | None = field(name="bname", default=None)


class ChangeInvisibleTime(msgspec.Struct, kw_only=True, rename="camel"):
    """200053."""

    consumer_group: str
    topic: str
    queue_id: Int32
    receipt: str = field(name="extraInfo")
    offset: Int64
    invisible_ms: Int64 = field(name="invisibleTime")
    broker_name: str | None = field(name="bname", default=None)


class ChangeInvisibleTimeReply(msgspec.Struct, kw_only=True, rename="camel"):
    """What the client makes its new receipt of."""

    at_ms: Int64 = field(name="popTime")
    invisible_ms: Int64 = field(name="invisibleTime")
    revive_queue_id: Int32 = field(name="reviveQid")


class PeekMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """200052."""

    consumer_group: str
    topic: str
    queue_id: Int32
    messages_max: Int32 = field(name="maxMsgNums")
    broker_name: str | None = field(name="bname", default=None)


class Notification(msgspec.Struct, kw_only=True, rename="camel"):
    """200054."""

    consumer_group: str
    topic: str
    queue_id: Int32
    poll_ms: Int64 = field(name="pollTime")
    born_at_ms: Int64 = field(name="bornTime", default=0)
    order: bool | None = None
    attempt_id: str | None = None
    expression_type: str | None = field(name="expType", default=None)
    expression: str | None = field(name="exp", default=None)
    broker_name: str | None = field(name="bname", default=None)


class NotificationReply(msgspec.Struct, kw_only=True, rename="camel"):
    has_message: bool = field(name="hasMsg")
    polling_full: bool


class PollingInfo(msgspec.Struct, kw_only=True, rename="camel"):
    """200055."""

    consumer_group: str
    topic: str
    queue_id: Int32
    broker_name: str | None = field(name="bname", default=None)


class PollingInfoReply(msgspec.Struct, kw_only=True, rename="camel"):
    waiting: Int32 = field(name="pollingNum")


POP_MESSAGE = HeaderType(PopMessage)
POP_MESSAGE_REPLY = HeaderType(PopMessageReply)
ACK_MESSAGE = HeaderType(AckMessage)
CHANGE_INVISIBLE_TIME = HeaderType(ChangeInvisibleTime)
CHANGE_INVISIBLE_TIME_REPLY = HeaderType(ChangeInvisibleTimeReply)
PEEK_MESSAGE = HeaderType(PeekMessage)
NOTIFICATION = HeaderType(Notification)
NOTIFICATION_REPLY = HeaderType(NotificationReply)
POLLING_INFO = HeaderType(PollingInfo)
POLLING_INFO_REPLY = HeaderType(PollingInfoReply)
