"""The stored record: what the log holds and what a pull answer carries, byte for byte.

    bytes    field                  note
    4        total size             this field included
    4        magic                  0xDAA320A7 V1, 0xDAA320AB V2
    4        body CRC               CRC-32 of the body as stored, & 0x7fffffff
    4        queue id
    4        flag                   the user's, verbatim
    8        queue offset
    8        log offset             where this record begins in the log
    4        sys flag               model.message.SysFlag; 0x10 and 0x20 say how long the two hosts are
    8        born at                ms, the producer's clock
    4 or 16  born host              the producer's address as the broker saw it
    4        born port
    8        stored at              ms, the broker's clock
    4 or 16  store host             the broker's advertised address
    4        store port
    4        reconsume times
    8        prepared offset        the log offset of the record that this one replaces: of a half message that was
                                    committed, of a delayed one that was due. 0: none
    4 + n    body
    1 or 2   topic length           V1: one signed byte. V2: int16, only for topics over 127 bytes
    n        topic                  UTF-8
    2 + n    properties             UTF-8; at most 32,767 bytes

Big endian, signed. Records follow one another without padding. The writer knows the size before the log offset
(`record_size`), and takes topic and properties as bytes, so that nothing is encoded twice on the hot path. The
decoder trusts nothing: what is not a whole, consistent record is a RecordError.
Source: RocketMQ 5.3 MessageDecoder, CommitLog.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.filter import tag_hash
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage, StoredMessage, SysFlag
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import decode_properties, find_property

Bytes = bytes | bytearray | memoryview

MAGIC_V1 = 0xDAA320A7
MAGIC_V2 = 0xDAA320AB

HEAD_BYTES_MAX = 112
"""Everything before the body, with two IPv6 hosts."""

RECORD_BYTES_MIN = 91
"""V1, IPv4, everything empty."""

_V6_FLAGS = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6  # 0x30
_HEADS = {
    flags: struct.Struct(
        f">IIIiiqqiq{16 if flags & SysFlag.BORN_HOST_V6 else 4}siq{16 if flags & SysFlag.STORE_HOST_V6 else 4}siiqi"
    )
    for flags in (0, SysFlag.BORN_HOST_V6, SysFlag.STORE_HOST_V6, _V6_FLAGS)
}
_HEAD_V4 = _HEADS[0]
_NOT_PREPARED = LogOffset(0)

_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
_I16 = struct.Struct(">h")

QUEUE_ID_AT = 12
QUEUE_OFFSET_AT = 20
LOG_OFFSET_AT = 28
SYS_FLAG_AT = 36


_DUE_DIGITS_MAX = 18
"""Of a due time in ms; with more it is nonsense, and would not fit where times are kept."""


class RecordError(Exception):
    """These bytes are not a record."""


def record_size(
    body_bytes: int, topic_bytes: int, properties_bytes: int, born_host: Endpoint, store_host: Endpoint
) -> int:
    """Bytes of the record that `encode_record` will give."""
    return (
        83 + len(born_host.ip) + len(store_host.ip) + body_bytes + topic_bytes + properties_bytes + (topic_bytes > 127)
    )


def encode_record(
    message: NewMessage,
    topic: bytes,
    properties: bytes,
    queue_offset: QueueOffset,
    log_offset: LogOffset,
    stored_at_ms: EpochMs,
    store_host: Endpoint,
    prepared_transaction_offset: LogOffset = _NOT_PREPARED,
) -> bytes:
    """The record. `topic` and `properties` are what is written, in UTF-8; the message's own texts are not looked at.

    The caller has checked the limits: over PROPERTIES_BYTES_MAX, or a topic over 32,767 bytes, is our own mistake.
    """
    _, queue_id, body, _, flag, sys_flag, born_at_ms, (born_ip, born_port), reconsume_times = message
    store_ip, store_port = store_host
    topic_bytes, properties_bytes, body_bytes = len(topic), len(properties), len(body)
    assert properties_bytes <= PROPERTIES_BYTES_MAX
    size = 83 + len(born_ip) + len(store_ip) + body_bytes + topic_bytes + properties_bytes
    sys_flag &= ~_V6_FLAGS
    head = _HEAD_V4
    if len(born_ip) + len(store_ip) != 8:
        hosts = (0x10 if len(born_ip) == 16 else 0) | (0x20 if len(store_ip) == 16 else 0)
        sys_flag |= hosts
        head = _HEADS[hosts]
    if topic_bytes <= 127:
        magic, topic_length = MAGIC_V1, _ONE_BYTE[topic_bytes]
    else:
        magic, topic_length = MAGIC_V2, _I16.pack(topic_bytes)
        size += 1
    return b"".join(
        (
            head.pack(
                size,
                magic,
                zlib.crc32(body) & 0x7FFFFFFF,
                queue_id,
                flag,
                queue_offset,
                log_offset,
                sys_flag,
                born_at_ms,
                born_ip,
                born_port,
                stored_at_ms,
                store_ip,
                store_port,
                reconsume_times,
                prepared_transaction_offset,
                body_bytes,
            ),
            body,
            topic_length,
            topic,
            properties_bytes.to_bytes(2, "big"),
            properties,
        )
    )


_ONE_BYTE = tuple(bytes((size,)) for size in range(128))


_GATE = struct.Struct(">II28xi")  # size, magic, sys flag


def _open(data: Bytes, at: int) -> tuple[tuple[Any, ...], int, int, int, int]:
    """The fixed fields, and where body, topic and properties begin and the record ends.

    Raises RecordError unless all lengths add up to the size and the whole record is there.
    """
    there = len(data) - at
    if at < 0 or there < RECORD_BYTES_MIN:
        raise RecordError(f"record at {at}: {there} bytes, at least {RECORD_BYTES_MIN} are needed")
    size, magic, sys_flag = _GATE.unpack_from(data, at)
    head = _HEADS[sys_flag & _V6_FLAGS]
    if (magic != MAGIC_V1 and magic != MAGIC_V2) or not head.size + 3 <= size <= there:
        raise RecordError(f"record at {at}: magic {magic:#010x}, size {size}, and {there} bytes are there")
    fields = head.unpack_from(data, at)
    end = at + size
    body_at = at + head.size
    topic_length_at = body_at + fields[16]
    if fields[16] < 0 or topic_length_at + 4 > end + (magic == MAGIC_V1):
        raise RecordError(f"record at {at}: a body of {fields[16]} bytes in {size}")
    if magic == MAGIC_V1:
        topic_at, topic_bytes = topic_length_at + 1, data[topic_length_at]
        legal = topic_bytes <= 127
    else:
        topic_at, topic_bytes = topic_length_at + 2, _I16.unpack_from(data, topic_length_at)[0]
        legal = topic_bytes >= 0
    properties_at = topic_at + topic_bytes + 2
    if not legal or properties_at > end:
        raise RecordError(f"record at {at}: a topic of {topic_bytes} bytes in {size}")
    (properties_bytes,) = _I16.unpack_from(data, properties_at - 2)
    if properties_at + properties_bytes != end:
        raise RecordError(f"record at {at}: properties of {properties_bytes} bytes do not end a record of {size}")
    return fields, body_at, topic_at, properties_at, end


def decode_record(data: Bytes, at: int = 0, *, check_crc: bool = False) -> StoredMessage:
    """The message in the record that begins at `at`; it ends at `at + store_size_bytes`.

    Raises RecordError. Properties that are not UTF-8 are kept as well as they can be: one odd message of a foreign
    producer must not hide its neighbours.
    """
    fields, body_at, topic_at, properties_at, end = _open(data, at)
    (
        size,
        _magic,
        crc,
        queue_id,
        flag,
        queue_offset,
        log_offset,
        sys_flag,
        born_at_ms,
        born_ip,
        born_port,
        stored_at_ms,
        store_ip,
        store_port,
        reconsume_times,
        prepared_offset,
        body_bytes,
    ) = fields
    body = bytes(data[body_at : body_at + body_bytes])
    if check_crc and zlib.crc32(body) & 0x7FFFFFFF != crc:
        raise RecordError(f"record at {at}: the body does not match its CRC")
    return StoredMessage(
        _topic(data, at, topic_at, properties_at - 2),
        queue_id,
        queue_offset,
        log_offset,
        body,
        decode_properties(_text(data, properties_at, end)),
        flag,
        sys_flag,
        born_at_ms,
        Endpoint(born_ip, born_port),
        stored_at_ms,
        Endpoint(store_ip, store_port),
        reconsume_times,
        prepared_offset,
        size,
        crc,
    )


def _text(data: Bytes, start: int, end: int) -> str:
    return bytes(data[start:end]).decode(errors="replace")


def _topic(data: Bytes, at: int, start: int, end: int) -> str:
    try:
        return bytes(data[start:end]).decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"record at {at}: the topic: {error}") from None


def decode_records(body: Bytes) -> list[StoredMessage]:
    """The messages of a pull answer's body. Raises RecordError if any of them is not whole."""
    found: list[StoredMessage] = []
    at, end = 0, len(body)
    while at < end:
        message = decode_record(body, at)
        found.append(message)
        at += message.store_size_bytes
    return found


# Single fixed fields, for code that walks records and wants one number. They do not check: the record is whole.


def peek_size(data: Bytes, at: int = 0) -> int:
    return int(_U32.unpack_from(data, at)[0])


def peek_magic(data: Bytes, at: int = 0) -> int:
    return int(_U32.unpack_from(data, at + 4)[0])


def peek_queue_id(data: Bytes, at: int = 0) -> int:
    return int(_I32.unpack_from(data, at + QUEUE_ID_AT)[0])


def peek_queue_offset(data: Bytes, at: int = 0) -> QueueOffset:
    return QueueOffset(_I64.unpack_from(data, at + QUEUE_OFFSET_AT)[0])


def peek_log_offset(data: Bytes, at: int = 0) -> LogOffset:
    return LogOffset(_I64.unpack_from(data, at + LOG_OFFSET_AT)[0])


def peek_stored_at_ms(data: Bytes, at: int = 0) -> EpochMs:
    """The one with a place that depends on the length of the born host."""
    born_v6 = _I32.unpack_from(data, at + SYS_FLAG_AT)[0] & SysFlag.BORN_HOST_V6
    return EpochMs(_I64.unpack_from(data, at + (68 if born_v6 else 56))[0])


class RecordSummary(NamedTuple):
    """What a fold needs of a record. `tag_hash` is 0 without a tag; `unique_id` and `keys` are properties."""

    topic: str
    queue_id: int
    queue_offset: QueueOffset
    size: int
    tag_hash: int
    stored_at_ms: EpochMs
    sys_flag: int
    log_offset: LogOffset
    unique_id: str | None
    keys: str | None
    replaces: LogOffset
    """The record in whose place this one is, 0 for none. See `store.timers`."""
    due_ms: int
    """TIMER_OUT_MS, 0 without it."""


def record_summary(data: Bytes, at: int = 0) -> RecordSummary:
    """Raises RecordError. The body is neither copied nor checked."""
    fields, _, topic_at, properties_at, end = _open(data, at)
    text = _text(data, properties_at, end)
    tag = find_property(text, names.TAGS)
    return RecordSummary(
        _topic(data, at, topic_at, properties_at - 2),
        fields[3],
        fields[5],
        fields[0],
        tag_hash(tag) if tag else 0,
        fields[11],
        fields[7],
        fields[6],
        find_property(text, names.UNIQ_KEY),
        find_property(text, names.KEYS) if names.KEYS in text else None,
        fields[15],
        due_of(text) if names.TIMER_OUT_MS in text else 0,
    )


def due_of(properties: str) -> int:
    """TIMER_OUT_MS, 0 if it is not there or no number."""
    value = find_property(properties, names.TIMER_OUT_MS) or ""
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= _DUE_DIGITS_MAX else 0


class RecordAgain(NamedTuple):
    """A stored record as a message that can be stored once more: in another place, with other properties."""

    message: NewMessage
    store_host: Endpoint
    log_offset: LogOffset
    queue_offset: QueueOffset
    stored_at_ms: EpochMs
    replaces: LogOffset


def record_again(data: Bytes, at: int = 0) -> RecordAgain:
    """Raises RecordError, also for a body that does not match its checksum: it would get a new one.

    The body is a view of `data`; the properties are the text as it is stored.
    """
    fields, body_at, topic_at, properties_at, end = _open(data, at)
    if not body_is_whole(data, at):
        raise RecordError(f"record at {at}: the body does not match its CRC")
    message = NewMessage(
        _topic(data, at, topic_at, properties_at - 2),
        fields[3],
        memoryview(data)[body_at : body_at + fields[16]],
        _text(data, properties_at, end),
        fields[4],
        fields[7] & ~_V6_FLAGS,
        fields[8],
        Endpoint(fields[9], fields[10]),
        fields[14],
    )
    return RecordAgain(message, Endpoint(fields[12], fields[13]), fields[6], fields[5], fields[11], fields[15])


def record_properties(data: Bytes, at: int = 0) -> str:
    """The encoded properties of the record. Raises RecordError."""
    _, _, _, properties_at, end = _open(data, at)
    return _text(data, properties_at, end)


def record_properties_bytes(data: Bytes, at: int = 0) -> bytes:
    """The same, not decoded: a filter looks only for the names that it asks for. Raises RecordError."""
    _, _, _, properties_at, end = _open(data, at)
    return bytes(data[properties_at:end])


def tail_at(head: Bytes) -> int:
    """Where in a record what follows its body begins: topic and properties. `head` is its first HEAD_BYTES_MAX bytes.

    Raises RecordError if the record is not that long.
    """
    size, _magic, sys_flag = _GATE.unpack_from(head)
    body_at = _HEADS[sys_flag & _V6_FLAGS].size
    (body_bytes,) = _I32.unpack_from(head, body_at - 4)
    if body_bytes < 0 or body_at + body_bytes + 3 > size:
        raise RecordError(f"a body of {body_bytes} bytes in a record of {size}")
    return int(body_at + body_bytes)


def tail_properties(head: Bytes, tail: Bytes) -> bytes:
    """The encoded properties, given a record's head and all that follows its body. Raises RecordError."""
    if peek_magic(head) == MAGIC_V1:
        topic_at, topic_bytes = 1, tail[0]
    else:
        topic_at, topic_bytes = 2, _I16.unpack_from(tail)[0]
    properties_at = topic_at + topic_bytes + 2
    if topic_bytes < 0 or properties_at > len(tail):
        raise RecordError(f"a topic of {topic_bytes} bytes in the {len(tail)} that follow the body")
    (properties_bytes,) = _I16.unpack_from(tail, properties_at - 2)
    if properties_at + properties_bytes != len(tail):
        raise RecordError(f"properties of {properties_bytes} bytes do not end the record")
    return bytes(tail[properties_at:])


def body_is_whole(data: Bytes, at: int = 0) -> bool:
    """Whether the body of the record at `at`, whose structure is whole, matches its checksum."""
    (flags,) = _I32.unpack_from(data, at + SYS_FLAG_AT)
    body_at = at + _HEADS[flags & _V6_FLAGS].size
    (body_bytes,) = _I32.unpack_from(data, body_at - 4)
    crc: int = _U32.unpack_from(data, at + 8)[0]
    return zlib.crc32(memoryview(data)[body_at : body_at + body_bytes]) & 0x7FFFFFFF == crc
