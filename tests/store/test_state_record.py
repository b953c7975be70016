from __future__ import annotations

import struct

import pytest

from posthouse.codec.record import encode_record
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.state_record import (
    Kind,
    StateRecord,
    UnknownRecord,
    decode_state_record,
    encode_state_body,
    encode_state_record,
    state_record_size,
)
from tests.store.stores import HERE, message

BODY = {"name": "中文", "config": {"n": 1, "list": [1, 2], "none": None}}


def encoded(kind: int = Kind.TOPIC_SET) -> bytes:
    return encode_state_record(Kind(kind), encode_state_body(BODY), LogOffset(1 << 40), EpochMs(77))


@pytest.mark.parametrize("kind", list(Kind))
def test_a_change_is_read_where_it_was_written(kind: Kind) -> None:
    data = b"xyz" + encoded(kind) + b"after"
    assert decode_state_record(data, 3) == StateRecord(kind, BODY, LogOffset(1 << 40), EpochMs(77))


def test_a_record_says_its_size_as_messages_do() -> None:
    body = encode_state_body(BODY)
    data = encoded()
    assert len(data) == state_record_size(body) == int.from_bytes(data[:4], "big")
    assert data[4:8] == b"PHST"
    assert struct.unpack(">HHQQ", data[8:28]) == (1, 1, 1 << 40, 77)
    assert data[28:] == body


def test_a_message_is_no_change() -> None:
    record = encode_record(
        message("t"), topic=b"t", properties=b"", queue_offset=QueueOffset(0), log_offset=LogOffset(0),
        stored_at_ms=EpochMs(0), store_host=HERE,
    )  # fmt: skip
    assert decode_state_record(record, 0) is None


@pytest.mark.parametrize(("at", "value"), [(8, 99), (8, 0), (10, 2)])
def test_what_a_newer_version_wrote_is_refused_with_what_to_do(at: int, value: int) -> None:
    data = bytearray(encoded())
    data[at : at + 2] = value.to_bytes(2, "big")
    with pytest.raises(UnknownRecord, match=f"log offset {1 << 40}, .* newer Posthouse"):
        decode_state_record(bytes(data), 0)


def test_kinds_keep_their_numbers() -> None:
    """Old logs must read for ever: this table only grows."""
    assert {kind.name: int(kind) for kind in Kind} == {
        "TOPIC_SET": 1,
        "TOPIC_DELETED": 2,
        "GROUP_SET": 3,
        "GROUP_DELETED": 4,
        "OFFSETS": 5,
        "OPENING": 6,
        "TIMERS_ENDED": 7,
        "POPPED": 9,
        "POP_CHANGED": 10,
        "REVIVED": 11,
        "OFFSETS_SET": 12,
        "GROUP_RULE": 13,
        "LOCKS": 14,
    }
