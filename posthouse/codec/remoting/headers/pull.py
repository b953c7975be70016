"""Headers of pulling, 11 and 361. A pull answer's body is slices of the log, so only its head is made here.

Source: RocketMQ 5.3 PullMessageRequestHeader, PullMessageResponseHeader.
"""

from __future__ import annotations

import struct

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import OUR_LANGUAGE, OUR_VERSION, RESPONSE_FLAG, HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.model.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX


class PullFlag:
    """Bits of a pull's sysFlag. Source: RocketMQ 5.3 PullSysFlag."""

    COMMIT_OFFSET = 0x1  # the field commitOffset counts
    SUSPEND = 0x2  # the broker may hold the request
    SUBSCRIPTION = 0x4  # the request brings its own expression
    CLASS_FILTER = 0x8
    LITE_PULL = 0x10


class PullMessage(msgspec.Struct, kw_only=True, rename="camel"):
    consumer_group: str
    topic: str
    queue_id: Int32
    queue_offset: Int64
    messages_max: Int32 = field(name="maxMsgNums")
    sys_flag: Int32
    commit_offset: Int64
    suspend_timeout_ms: Int64 = field(name="suspendTimeoutMillis")
    subscription: str | None = None
    sub_version: Int64
    expression_type: str | None = None
    bytes_max: Int32 | None = field(name="maxMsgBytes", default=None)
    request_source: Int32 | None = None
    proxy_client_id: str | None = field(name="proxyFrowardClientId", default=None)
    broker_name: str | None = field(name="bname", default=None)


class PullMessageReply(msgspec.Struct, kw_only=True, rename="camel"):
    """Needed on 0, 19, 20 and 21: clients take the four numbers without asking whether they are there."""

    suggest_which_broker_id: Int64
    next_begin_offset: Int64
    min_offset: Int64
    max_offset: Int64
    offset_delta: Int64 | None = None
    topic_sys_flag: Int32 | None = None
    group_sys_flag: Int32 | None = None
    forbidden_type: Int32 | None = None


PULL_MESSAGE = HeaderType(PullMessage)
PULL_MESSAGE_REPLY = HeaderType(PullMessageReply)

_quote = msgspec.json.Encoder().encode
_HEAD = struct.Struct(">II")
_MIDDLE = f'"suggestWhichBrokerId":"0"}},"flag":{RESPONSE_FLAG},"language":"{OUR_LANGUAGE}","opaque":'
_END = f',"serializeTypeCurrentRPC":"JSON","version":{OUR_VERSION}}}'


def encode_pull_reply_head(
    request_id: int,
    code: int,
    next_offset: int,
    min_offset: int,
    max_offset: int,
    body_bytes: int = 0,
    remark: str | None = None,
) -> bytes:
    """The frame of a pull answer up to its body; exactly `body_bytes` must follow, in as many buffers as one likes."""
    said = f'"remark":{_quote(remark).decode()},' if remark else ""
    header = (
        f'{{"code":{code:d},"extFields":{{"maxOffset":"{max_offset}","minOffset":"{min_offset}",'
        f'"nextBeginOffset":"{next_offset}",{_MIDDLE}{request_id},{said}'
        f"{_END[1:]}"
    ).encode()
    size = len(header)
    assert size <= HEADER_BYTES_MAX
    assert 8 + size + body_bytes <= FRAME_BYTES_MAX
    return _HEAD.pack(4 + size + body_bytes, size) + header
