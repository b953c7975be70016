"""Records as a broker would store them, and pull answers made of them."""

from __future__ import annotations

from posthouse.codec.record import encode_record
from posthouse.codec.remoting.command import encode_command, response
from posthouse.codec.remoting.headers.pull import PULL_MESSAGE_REPLY, PullMessageReply
from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import encode_properties

HOST = Endpoint(bytes((10, 0, 0, 1)), 10911)


def record(
    offset: int,
    body: bytes = b"x",
    properties: dict[str, str] | None = None,
    *,
    topic: str = "t",
    sys_flag: int = 0,
    reconsume_times: int = 0,
    queue_id: int = 0,
) -> bytes:
    message = NewMessage(topic, queue_id, body, "", 3, sys_flag, EpochMs(1000), HOST, reconsume_times)
    return encode_record(
        message,
        topic=topic.encode(),
        properties=encode_properties({"UNIQ_KEY": f"ID{offset}", **(properties or {})}).encode(),
        queue_offset=QueueOffset(offset),
        log_offset=LogOffset(offset * 1000),
        stored_at_ms=EpochMs(2000),
        store_host=HOST,
    )


def pull_answer(
    request_id: int, code: int, next_offset: int, records: bytes = b"", *, broker_id: int = 0, max_offset: int = 100
) -> bytes:
    reply = PullMessageReply(
        suggest_which_broker_id=broker_id, next_begin_offset=next_offset, min_offset=0, max_offset=max_offset
    )
    return encode_command(response(code, request_id, PULL_MESSAGE_REPLY.encode(reply), records))
