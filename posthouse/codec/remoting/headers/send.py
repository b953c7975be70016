"""Headers of sending: 10 with long names; 310, 320 and 325 with one letter for each; and the answer.

The letters are a table over the same struct, so that the rest of the code sees one `SendMessage`. The answer of a
plain send is the most frequent thing that a broker says; `encode_send_reply` formats its frame by hand.
Source: RocketMQ 5.3 SendMessageRequestHeader, SendMessageRequestHeaderV2, SendMessageResponseHeader.
"""

from __future__ import annotations

import struct
from typing import TypeVar

import msgspec
from msgspec import field

from posthouse.codec.remoting.codes import ResponseCode
from posthouse.codec.remoting.command import OUR_LANGUAGE, OUR_VERSION, RESPONSE_FLAG, HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.model.properties import DEFAULT_REGION


class SendMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """Requests 10 and 324. `queue_id` below 0 leaves the choice to the broker; `batch` decides, not the code."""

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
    reconsume_times_max: Int32 | None = field(name="maxReconsumeTimes", default=None)
    batch: bool | None = None
    broker_name: str | None = field(name="bname", default=None)


H = TypeVar("H", bound=msgspec.Struct)


def respell(struct_type: type[H], spelling: dict[str, str]) -> type[H]:
    """The same struct, the same attributes, other names on the wire. Every attribute must be in the table."""
    fields = msgspec.structs.fields(struct_type)
    assert {each.name for each in fields} == set(spelling)
    return msgspec.defstruct(  # type: ignore[return-value]
        f"{struct_type.__name__}V2",
        [
            (each.name, each.type, field(name=spelling[each.name]))
            if each.required
            else (each.name, each.type, field(name=spelling[each.name], default=each.default))
            for each in fields
        ],
        bases=(struct_type,),
        kw_only=True,
    )


SendMessageV2 = respell(
    SendMessage,
    {
        "producer_group": "a",
        "topic": "b",
        "default_topic": "c",
        "default_topic_queues": "d",
        "queue_id": "e",
        "sys_flag": "f",
        "born_at_ms": "g",
        "flag": "h",
        "properties": "i",
        "reconsume_times": "j",
        "unit_mode": "k",
        "reconsume_times_max": "l",
        "batch": "m",
        "broker_name": "n",
    },
)


class SendMessageReply(msgspec.Struct, kw_only=True, rename="camel"):
    """Of codes 0, 10, 11 and 12. `msg_id` is the offset id (of a batch: all of them, with commas).

    `durability` is what was reached: "disk" or "os". RocketMQ has no such field, and its clients pass over it.
    """

    msg_id: str
    queue_id: Int32
    queue_offset: Int64
    transaction_id: str | None = None
    batch_uniq_id: str | None = None
    recall_handle: str | None = None
    region: str | None = field(name="MSG_REGION", default=None)
    trace_on: bool | None = field(name="TRACE_ON", default=None)
    durability: str | None = None


SEND_MESSAGE = HeaderType(SendMessage)
SEND_MESSAGE_V2 = HeaderType(SendMessageV2)
SEND_MESSAGE_REPLY = HeaderType(SendMessageReply)

_quote = msgspec.json.Encoder().encode
_HEAD = struct.Struct(">II")
_BEFORE_ID = tuple(
    f'"extFields":{{"MSG_REGION":"{DEFAULT_REGION}","TRACE_ON":"true","durability":"{reached}","msgId":"'
    for reached in ("os", "disk")
)
_STORED = tuple(f'{{"code":{ResponseCode.SUCCESS:d},{before}' for before in _BEFORE_ID)
_AFTER_ID = f'"}},"flag":{RESPONSE_FLAG},"language":"{OUR_LANGUAGE}","opaque":'
_END = f',"serializeTypeCurrentRPC":"JSON","version":{OUR_VERSION}}}'


def encode_send_reply(
    request_id: int,
    msg_id: str,
    queue_id: int,
    queue_offset: int,
    transaction_id: str,
    synced: bool,
    code: int = ResponseCode.SUCCESS,
    recall_handle: str = "",
) -> bytes:
    """The whole frame of the answer to a stored send, as `encode_command` would give it, three times as fast.

    `msg_id` is hex digits and commas; `recall_handle` is base64. `transaction_id` came from the peer: it may be any
    text.
    """
    if not transaction_id.isalnum():  # almost always hex; else it may need escapes
        transaction_id = _quote(transaction_id).decode()[1:-1]
    if recall_handle:
        transaction_id = f'{transaction_id}","recallHandle":"{recall_handle}'
    begin = _STORED[synced] if code == 0 else f'{{"code":{code:d},{_BEFORE_ID[synced]}'
    header = (
        f'{begin}{msg_id}","queueId":"{queue_id}","queueOffset":"{queue_offset}",'
        f'"transactionId":"{transaction_id}{_AFTER_ID}{request_id}{_END}'
    ).encode()
    size = len(header)
    return _HEAD.pack(4 + size, size) + header
