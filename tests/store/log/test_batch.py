from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.model.offsets import LogOffset
from posthouse.store.log.batch import (
    BATCH_BYTES_MAX,
    HEADER_BYTES,
    BatchHeader,
    checksum_holds,
    decode_header,
    encode_batch,
)
from tests.store.log.recorder import record


def batch(records: list[bytes], offset: int = 7, durable: int = 3) -> tuple[bytes, int]:
    return encode_batch(LogOffset(offset), 2, 99, 1000, LogOffset(durable), records, sum(map(len, records)))


def test_the_bytes_are_as_the_module_draws_them() -> None:
    data, checksum = batch([b"onetwo", b"three"])
    assert data[:4] == b"PHB1"
    assert struct.unpack(">IQIIIQQ", data[4:44]) == (HEADER_BYTES + 11, 7, 2, 99, 2, 1000, 3)
    assert int.from_bytes(data[44:48], "big") == checksum == zlib.crc32(data[:44] + b"onetwothree")
    assert data[48:] == b"onetwothree"


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), st.binary(max_size=60), st.binary())
def test_a_header_is_read_where_it_was_written(records: list[bytes], before: bytes, after: bytes) -> None:
    data, checksum = batch(records)
    whole, at = before + data + after, len(before)
    header = decode_header(whole, at)
    assert header == BatchHeader(len(data), LogOffset(7), 2, 99, len(records), 1000, LogOffset(3), checksum)
    assert checksum_holds(whole, at, header)
    assert not checksum_holds(whole[: at + len(data) - 1], at, header)


def test_every_flipped_bit_is_seen() -> None:
    data, _ = batch([record(1, 60)])
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        header = decode_header(changed, 0)
        assert header is None or not checksum_holds(changed, 0, header)


@pytest.mark.parametrize("size", [0, HEADER_BYTES, BATCH_BYTES_MAX + 1, 2**32 - 1])
def test_a_size_that_cannot_be_is_no_header(size: int) -> None:
    data = bytearray(batch([b"x"])[0])
    data[4:8] = size.to_bytes(4, "big")
    assert decode_header(data, 0) is None


def test_too_few_bytes_and_other_bytes_are_no_header() -> None:
    data, _ = batch([b"x"])
    for size in range(HEADER_BYTES):
        assert decode_header(data[:size], 0) is None
    assert decode_header(bytes(100), 0) is None
    assert decode_header(b"PHB2" + data[4:], 0) is None
