"""Remoting frames for the load: requests as the official Java client writes them, and what is needed of the answers.

Nothing here comes from the package under test: a codec that is wrong in the same way on both ends would measure
nothing. A frame is u32 size (of what follows), u8 header codec (0 is JSON), u24 header size, header, body.

SEND_MESSAGE_V2 frames are cut once into constant pieces around the three things that differ from message to message
(queue, unique key, request id), so that a message costs the load generator one join. Those three have a fixed
width, so the sizes at the front of the frame are constants as well.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

PULL_MESSAGE: Final = 11
UPDATE_AND_CREATE_TOPIC: Final = 17
HEART_BEAT: Final = 34
GET_ROUTE_INFO: Final = 105
SEND_MESSAGE_V2: Final = 310

SUCCESS: Final = 0
SYSTEM_BUSY: Final = 2
TOPIC_NOT_EXIST: Final = 17
PULL_NOT_FOUND: Final = 19
PULL_RETRY_IMMEDIATELY: Final = 20
# The message is stored, but a sync or a replica was late: FLUSH_DISK_TIMEOUT, SLAVE_NOT_AVAILABLE, FLUSH_SLAVE_TIMEOUT.
STORED_CODES: Final = frozenset({0, 10, 11, 12})

CLIENT_VERSION: Final = 479  # V5_3_3
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
# Ten digits in every request id keep the header's size constant and stay below 2**31.
FIRST_REQUEST_ID: Final = 1_000_000_000
QUEUES_MAX: Final = 10  # one digit

_SIZES: Final = struct.Struct(">II")
_RECORD_SIZE_MAGIC: Final = struct.Struct(">II")
_RECORD_QUEUE_OFFSET: Final = struct.Struct(">q")
_RECORD_SYS_FLAG: Final = struct.Struct(">I")
_RECORD_BODY_SIZE: Final = struct.Struct(">I")
_RECORD_MAGICS: Final = frozenset({0xDAA320A7, 0xDAA320AB})


class WrongAnswer(Exception):
    """The server answered something that fails the run; the text says what and to which request."""


class Answer(msgspec.Struct, rename={"ext_fields": "extFields"}):
    """The header of an answer. `flag` has bit 0 set on answers."""

    code: int
    opaque: int
    flag: int = 0
    remark: str | None = None
    ext_fields: dict[str, str] | None = None


class BriefAnswer(msgspec.Struct):
    """The header of an answer to a send, without the fields that the load does not look at."""

    code: int
    opaque: int
    flag: int = 0
    remark: str | None = None


def request(code: int, request_id: int, ext_fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """One whole request frame with a JSON header, members in the order in which the Java client writes them."""
    members: dict[str, object] = {"code": code}
    if ext_fields:
        members["extFields"] = dict(ext_fields)
    members |= {"flag": 0, "language": "JAVA", "opaque": request_id}
    members |= {"serializeTypeCurrentRPC": "JSON", "version": CLIENT_VERSION}
    header = json.dumps(members, separators=(",", ":")).encode()
    return _SIZES.pack(4 + len(header) + len(body), len(header)) + header + body


def create_topic(request_id: int, topic: str, queue_count: int) -> bytes:
    ext_fields = {
        "topic": topic,
        "defaultTopic": "TBW102",
        "readQueueNums": str(queue_count),
        "writeQueueNums": str(queue_count),
        "perm": "6",
        "topicFilterType": "SINGLE_TAG",
        "topicSysFlag": "0",
        "order": "false",
    }
    return request(UPDATE_AND_CREATE_TOPIC, request_id, ext_fields)


def producer_heartbeat(request_id: int, client_id: str) -> bytes:
    body = {"clientID": client_id, "consumerDataSet": [], "producerDataSet": [{"groupName": "bench_producer"}]}
    return request(HEART_BEAT, request_id, {}, json.dumps(body, separators=(",", ":")).encode())


def route_query(request_id: int, topic: str) -> bytes:
    return request(GET_ROUTE_INFO, request_id, {"topic": topic})


def pull(request_id: int, topic: str, queue_id: int, queue_offset: int, messages_max: int) -> bytes:
    """A pull that carries its own subscription (`*`, so no heartbeat is needed) and never waits at the server."""
    ext_fields = {
        "consumerGroup": "bench_consumer",
        "topic": topic,
        "queueId": str(queue_id),
        "queueOffset": str(queue_offset),
        "maxMsgNums": str(messages_max),
        "sysFlag": "4",
        "commitOffset": "0",
        "suspendTimeoutMillis": "15000",
        "subscription": "*",
        "subVersion": "0",
        "expressionType": "TAG",
    }
    return request(PULL_MESSAGE, request_id, ext_fields)


class SendFrames:
    """SEND_MESSAGE_V2 frames of one topic; message `index` goes to queue `index % queue_count`."""

    def __init__(self, topic: str, body: bytes, queue_count: int) -> None:
        assert 1 <= queue_count <= QUEUES_MAX
        self._queue_count = queue_count
        unique_key = "7F000001000014DAD5DC7333" + "@unique"
        properties = f"KEYS\x01bench\x02UNIQ_KEY\x01{unique_key}\x02WAIT\x01true\x02TAGS\x01TagA\x02"
        ext_fields = {
            "a": "bench_producer",
            "b": topic,
            "c": "TBW102",
            "d": "4",
            "e": "@queue",
            "f": "0",
            "g": str(time.time_ns() // 1_000_000),
            "h": "0",
            "i": properties,
            "j": "0",
            "k": "false",
            "m": "false",
            "n": "broker-a",  # only static topics look at the broker's name
        }
        template = request(SEND_MESSAGE_V2, FIRST_REQUEST_ID, ext_fields)[8:]
        before_queue, rest = template.split(b"@queue")
        before_key, rest = rest.split(b"@unique")
        before_id, after_id = rest.split(str(FIRST_REQUEST_ID).encode())
        header_bytes = len(before_queue) + 1 + len(before_key) + 8 + len(before_id) + 10 + len(after_id)
        sizes = _SIZES.pack(4 + header_bytes + len(body), header_bytes)
        self._pieces = (sizes + before_queue, before_key, before_id, after_id + body)
        assert len(self.frame(0)) == 8 + header_bytes + len(body)

    def frame(self, index: int) -> bytes:
        """The request of message `index`; its request id is FIRST_REQUEST_ID + index."""
        start, before_key, before_id, end = self._pieces
        request_id = FIRST_REQUEST_ID + index
        return b"%b%d%b%08X%b%d%b" % (
            start,
            index % self._queue_count,
            before_key,
            index,
            before_id,
            request_id,
            end,
        )


class FrameReader:
    """Cuts a byte stream into frames. Sans-IO: bytes in, (header, body) out."""

    def __init__(self) -> None:
        self._held = b""

    def frames(self, data: bytes) -> Iterator[tuple[memoryview, memoryview]]:
        """Header and body of every frame that `data` completes; both are views, valid while the caller holds them.

        Raises: WrongAnswer if a frame is over 16 MiB or its header is not JSON.
        """
        held = self._held + data if self._held else data
        view = memoryview(held)
        end, start = len(held), 0
        while end - start >= 8:
            size, header_word = _SIZES.unpack_from(held, start)
            if size > FRAME_BYTES_MAX or header_word > size - 4:
                raise WrongAnswer(f"answer frame of {size} bytes with header word {header_word:#x}: JSON expected")
            if end - start - 4 < size:
                break
            body_start, start = start + 8 + header_word, start + 4 + size
            yield view[body_start - header_word : body_start], view[body_start:start]
        self._held = held[start:] if start < end else b""


def check_records(body: memoryview, queue_offset: int, body_bytes: int) -> int:
    """Walks the message records of a pull answer and gives their number.

    Raises: WrongAnswer unless the records fill the body exactly, their queue offsets count up from `queue_offset`
    and each holds `body_bytes` bytes of message body.
    Source: RocketMQ message record: size at 0, magic at 4, queue offset at 20, sysFlag at 36, body size at 84, the
    latter twelve later for each of the two host addresses that is IPv6 (sysFlag bits 0x10 and 0x20).
    """
    start, end, expected = 0, len(body), queue_offset
    while start < end:
        if end - start < 91:
            raise WrongAnswer(f"{end - start} bytes left over after {expected - queue_offset} records of a pull answer")
        size, magic = _RECORD_SIZE_MAGIC.unpack_from(body, start)
        if magic not in _RECORD_MAGICS or not 91 <= size <= end - start:
            raise WrongAnswer(f"record with magic {magic:#x} and size {size} at byte {start} of a pull answer")
        offset = _RECORD_QUEUE_OFFSET.unpack_from(body, start + 20)[0]
        if offset != expected:
            raise WrongAnswer(f"record at queue offset {offset} where {expected} was due")
        sys_flag = _RECORD_SYS_FLAG.unpack_from(body, start + 36)[0]
        body_at = start + 84 + 12 * bool(sys_flag & 0x10) + 12 * bool(sys_flag & 0x20)
        found_bytes = _RECORD_BODY_SIZE.unpack_from(body, body_at)[0]
        if found_bytes != body_bytes:
            raise WrongAnswer(f"message body of {found_bytes} bytes where {body_bytes} were sent")
        start, expected = start + size, expected + 1
    return expected - queue_offset
