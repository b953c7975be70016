from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.record import (
    HEAD_BYTES_MAX,
    MAGIC_V1,
    MAGIC_V2,
    RECORD_BYTES_MIN,
    RecordError,
    decode_record,
    decode_records,
    encode_record,
    peek_log_offset,
    peek_magic,
    peek_queue_id,
    peek_queue_offset,
    peek_size,
    peek_stored_at_ms,
    record_properties,
    record_properties_bytes,
    record_size,
    record_summary,
    tail_at,
    tail_properties,
)
from posthouse.host.clock import EpochMs
from posthouse.model.filter import tag_hash
from posthouse.model.message import Endpoint, NewMessage, StoredMessage, SysFlag
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import encode_properties
from tests.codec.golden import golden
from tests.codec.strategies import damaged, endpoints, gives_a_value_or, int64, new_messages, properties

V4 = Endpoint(bytes((10, 0, 0, 1)), 10911)
V6 = Endpoint(bytes(range(16)), 10911)
MESSAGE = NewMessage("T", 3, b"hi", "", 0, 0, EpochMs(1_700_000_000_000), Endpoint(bytes((10, 0, 0, 9)), 40000))


def record(
    message: NewMessage = MESSAGE,
    text: str = "TAGS\x01TagA\x02",
    store_host: Endpoint = V4,
    queue_offset: int = 5,
    log_offset: int = 1000,
    stored_at_ms: int = 1_700_000_000_001,
    prepared: int = 0,
) -> bytes:
    return encode_record(
        message,
        topic=message.topic.encode(),
        properties=text.encode(),
        queue_offset=QueueOffset(queue_offset),
        log_offset=LogOffset(log_offset),
        stored_at_ms=EpochMs(stored_at_ms),
        store_host=store_host,
        prepared_transaction_offset=LogOffset(prepared),
    )


def patched(at: int, replacement: bytes, whole: bytes | None = None) -> bytes:
    data = bytearray(record() if whole is None else whole)
    data[at : at + len(replacement)] = replacement
    return bytes(data)


def test_record_is_the_published_layout() -> None:
    assert record() == golden("record_v1")


def test_golden_record_decodes_to_what_its_comment_says() -> None:
    assert decode_record(golden("record_v1"), check_crc=True) == StoredMessage(
        topic="T",
        queue_id=3,
        queue_offset=QueueOffset(5),
        log_offset=LogOffset(1000),
        body=b"hi",
        properties={"TAGS": "TagA"},
        flag=0,
        sys_flag=0,
        born_at_ms=EpochMs(1_700_000_000_000),
        born_host=Endpoint(bytes((10, 0, 0, 9)), 40000),
        stored_at_ms=EpochMs(1_700_000_000_001),
        store_host=V4,
        reconsume_times=0,
        prepared_transaction_offset=LogOffset(0),
        store_size_bytes=104,
        body_crc=zlib.crc32(b"hi") & 0x7FFFFFFF,
    )


@given(new_messages, properties, endpoints, int64, int64, int64, int64)
def test_what_was_encoded_is_decoded(
    message: NewMessage,
    pairs: dict[str, str],
    store_host: Endpoint,
    queue_offset: int,
    log_offset: int,
    stored_at_ms: int,
    prepared: int,
) -> None:
    data = record(message, encode_properties(pairs), store_host, queue_offset, log_offset, stored_at_ms, prepared)
    found = decode_record(b"before" + data + b"behind", 6, check_crc=True)
    v6 = (0x10 if len(message.born_host.ip) == 16 else 0) | (0x20 if len(store_host.ip) == 16 else 0)
    assert found.sys_flag == message.sys_flag & ~0x30 | v6
    assert (found.topic, found.queue_id, found.body, found.flag) == (
        message.topic,
        message.queue_id,
        message.body,
        message.flag,
    )
    assert found.properties == pairs
    assert (found.born_at_ms, found.born_host, found.reconsume_times) == (
        message.born_at_ms,
        message.born_host,
        message.reconsume_times,
    )
    assert (found.queue_offset, found.log_offset, found.stored_at_ms) == (queue_offset, log_offset, stored_at_ms)
    assert (found.store_host, found.prepared_transaction_offset) == (store_host, prepared)
    assert found.store_size_bytes == len(data)


@given(new_messages, properties, endpoints)
def test_size_is_known_before_the_record(message: NewMessage, pairs: dict[str, str], store_host: Endpoint) -> None:
    text = encode_properties(pairs)
    size = record_size(
        len(message.body), len(message.topic.encode()), len(text.encode()), message.born_host, store_host
    )
    assert size == len(record(message, text, store_host))


@given(new_messages, properties, endpoints, int64, int64, int64)
def test_peeks_and_summary_agree_with_the_whole_message(
    message: NewMessage, pairs: dict[str, str], store_host: Endpoint, queue_offset: int, log_offset: int, stored: int
) -> None:
    text = encode_properties(pairs)
    data = b"xyz" + record(message, text, store_host, queue_offset, log_offset, stored)
    whole = decode_record(data, 3)
    summary = record_summary(data, 3)
    assert peek_size(data, 3) == summary.size == whole.store_size_bytes
    assert peek_magic(data, 3) == (MAGIC_V1 if len(message.topic.encode()) <= 127 else MAGIC_V2)
    assert peek_queue_id(data, 3) == summary.queue_id == whole.queue_id
    assert peek_queue_offset(data, 3) == summary.queue_offset == whole.queue_offset
    assert peek_log_offset(data, 3) == summary.log_offset == whole.log_offset
    assert peek_stored_at_ms(data, 3) == summary.stored_at_ms == whole.stored_at_ms
    assert (summary.topic, summary.sys_flag) == (whole.topic, whole.sys_flag)
    assert summary.tag_hash == tag_hash(pairs.get("TAGS", ""))
    assert record_properties(data, 3) == text


@given(new_messages, properties, endpoints)
def test_properties_are_found_without_the_body(
    message: NewMessage, pairs: dict[str, str], store_host: Endpoint
) -> None:
    text = encode_properties(pairs)
    data = record(message, text, store_host)
    at = tail_at(data[:HEAD_BYTES_MAX])
    assert tail_properties(data[:HEAD_BYTES_MAX], data[at:]) == text.encode()
    assert record_properties_bytes(b"before" + data, 6) == text.encode()


def test_a_wrong_length_before_the_properties_is_refused() -> None:
    data = bytearray(record(MESSAGE._replace(body=b"x" * 300)))
    at = tail_at(data)
    for wrong in (data[at:-1], data[at:] + b"x", bytes((120,)) + data[at + 1 :]):
        with pytest.raises(RecordError):
            tail_properties(data, wrong)
    data[at - 300 - 2] ^= 0x40  # the length of the body
    with pytest.raises(RecordError):
        tail_at(data)


def test_summary_hashes_the_tag() -> None:
    assert record_summary(record()).tag_hash == 2598919
    assert record_summary(record(text="")).tag_hash == 0


def test_topic_of_127_bytes_is_v1_and_one_more_is_v2() -> None:
    assert peek_magic(record(MESSAGE._replace(topic="t" * 127))) == MAGIC_V1
    long = record(MESSAGE._replace(topic="t" * 128))
    assert peek_magic(long) == MAGIC_V2
    assert decode_record(long).topic == "t" * 128


def test_flags_of_the_hosts_are_set_by_the_writer_alone() -> None:
    lying = MESSAGE._replace(sys_flag=SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6 | SysFlag.COMPRESSED)
    assert decode_record(record(lying)).sys_flag == SysFlag.COMPRESSED
    assert decode_record(record(lying, store_host=V6)).sys_flag == SysFlag.COMPRESSED | SysFlag.STORE_HOST_V6


def test_smallest_record_and_largest_head_have_the_published_sizes() -> None:
    empty = MESSAGE._replace(topic="", body=b"")
    assert len(record(empty, "")) == RECORD_BYTES_MIN == 91
    assert len(record(empty._replace(born_host=V6), "", V6)) == HEAD_BYTES_MAX + 3


def test_body_may_be_a_view_of_a_larger_buffer() -> None:
    assert record(MESSAGE._replace(body=memoryview(b"xhix")[1:3])) == record()


def test_properties_over_the_limit_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        record(text="x" * 32_768)
    assert len(record_properties(record(text="x" * 32_767))) == 32_767


@pytest.mark.parametrize("end", range(len(golden("record_v1"))))
def test_truncated_record_is_refused(end: int) -> None:
    with pytest.raises(RecordError):
        decode_record(record()[:end])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(104), id="zeros"),
        pytest.param(patched(4, b"\xcb\xd4\x31\x94"), id="magic of the filler at a file's end"),
        pytest.param(patched(0, struct.pack(">I", 90)), id="size below the smallest"),
        pytest.param(patched(0, struct.pack(">I", 103)), id="size one short"),
        pytest.param(patched(0, struct.pack(">I", 0xFFFFFFFF)), id="size beyond the buffer"),
        pytest.param(patched(84, struct.pack(">i", -1)), id="negative body length"),
        pytest.param(patched(84, struct.pack(">i", 3)), id="body length one too long"),
        pytest.param(patched(84, struct.pack(">i", 2**31 - 1)), id="huge body length"),
        pytest.param(patched(90, b"\x80"), id="topic length with the sign bit"),
        pytest.param(patched(90, b"\x02"), id="topic length one too long"),
        pytest.param(patched(92, b"\x00\x09"), id="properties end early"),
        pytest.param(patched(92, b"\xff\xff"), id="negative properties length"),
        pytest.param(patched(91, b"\xff"), id="topic is not UTF-8"),
        pytest.param(patched(36, b"\0\0\0\x30"), id="hosts said to be longer than they are"),
    ],
)
def test_damaged_record_is_refused(data: bytes) -> None:
    for read in (decode_record, record_summary):
        with pytest.raises(RecordError):
            read(data)


def test_negative_position_is_refused() -> None:
    with pytest.raises(RecordError):
        decode_record(record(), -104)


def test_flipped_bit_in_the_body_is_seen_when_asked_for() -> None:
    data = patched(88, b"H")
    assert decode_record(data).body == b"Hi"
    with pytest.raises(RecordError, match="CRC"):
        decode_record(data, check_crc=True)


def test_properties_that_are_not_utf8_do_not_hide_the_message() -> None:
    found = decode_record(patched(99, b"\xff"))
    assert (found.body, found.properties) == (b"hi", {"TAGS": "\ufffdagA"})


def test_records_follow_one_another_without_padding() -> None:
    other = MESSAGE._replace(topic="t" * 200, body=b"")
    assert [each.topic for each in decode_records(record() + record(other) + record())] == ["T", "t" * 200, "T"]
    assert decode_records(b"") == []


def test_records_with_a_torn_end_are_refused() -> None:
    with pytest.raises(RecordError):
        decode_records(record() + record()[:-1])


@given(st.binary(max_size=200) | damaged(st.sampled_from([record(), record(store_host=V6), record() * 2])))
def test_any_bytes_are_a_message_or_a_record_error(data: bytes) -> None:
    for read in (decode_record, record_summary, record_properties, decode_records):
        gives_a_value_or(RecordError, read, data)
