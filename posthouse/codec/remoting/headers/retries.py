"""Header of giving a message back: 36.

Source: RocketMQ 5.3 ConsumerSendMsgBackRequestHeader.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class SendMessageBack(msgspec.Struct, kw_only=True, rename="camel"):
    """`offset` is in the log. `delay_level`: 0 leaves it to the broker, below 0 asks for no more attempts.

    The origin is what the client knows; the record knows better. `reconsume_times_max` wins over the group's.
    """

    offset: Int64
    group: str
    delay_level: Int32
    origin_msg_id: str | None = None
    origin_topic: str | None = None
    unit_mode: bool | None = None
    reconsume_times_max: Int32 | None = field(name="maxReconsumeTimes", default=None)
    broker_name: str | None = field(name="bname", default=None)


SEND_MESSAGE_BACK = HeaderType(SendMessageBack)
