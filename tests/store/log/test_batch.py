from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset
from posthouse.store.log.batch import (
    BATCH_BYTES_MAX,
    HEADER_BYTES,
    FrameHeader,
    FrameKind,
    checksum_holds,
    decode_header,
    encode_batch,
    encode_end,
    encode_gap,
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
    assert header == FrameHeader(
        FrameKind.BATCH, len(data), LogOffset(7), 2, 99, len(records), EpochMs(1000), LogOffset(3), checksum
    )
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


def test_a_batch_of_an_opening_differs_in_its_magic_only() -> None:
    data, checksum = encode_batch(LogOffset(7), 2, 99, 1000, LogOffset(3), [b"one"], 3, opening=True)
    assert data[:4] == b"PHO1"
    assert data[4:44] == batch([b"one"])[0][4:44]
    header = decode_header(data, 0)
    assert header is not None
    assert (header.kind, header.kind.holds_records, header.chain) == (FrameKind.OPENING, True, checksum)


def test_an_end_mark_is_a_header_without_records() -> None:
    data, checksum = encode_end(LogOffset(7), 2, 99, 1000, LogOffset(3))
    assert data[:4] == b"PHE1"
    header = decode_header(data, 0)
    assert header == FrameHeader(
        FrameKind.END, HEADER_BYTES, LogOffset(7), 2, 99, 0, EpochMs(1000), LogOffset(3), checksum
    )
    assert checksum_holds(data, 0, header)
    assert (header.end, header.chain, header.kind.holds_records) == (55, checksum, False)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        flipped = decode_header(changed, 0)
        assert flipped is None or not checksum_holds(changed, 0, flipped)


def test_a_gap_covers_more_than_its_header_and_hands_the_chain_on() -> None:
    data = encode_gap(LogOffset(7), 3_000_000_000, 2, 99, 1000, 0xFFFFFFFF)
    assert (len(data), data[:4]) == (HEADER_BYTES, b"PHG1")
    header = decode_header(data, 0)
    assert header is not None
    assert (header.kind, header.size, header.end) == (FrameKind.GAP, 3_000_000_000, 3_000_000_007)
    assert (header.previous, header.chain) == (99, 0xFFFFFFFF)
    assert checksum_holds(data, 0, header), "of what follows the head nothing is asked"
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        flipped = decode_header(changed, 0)
        assert flipped is None or not checksum_holds(changed, 0, flipped)


def test_marks_with_records_or_another_size_are_no_header() -> None:
    for data in (encode_end(LogOffset(7), 2, 99, 1000, LogOffset(3))[0], encode_gap(LogOffset(7), 100, 2, 99, 1000, 5)):
        with_records = data[:24] + (1).to_bytes(4, "big") + data[28:]
        assert decode_header(with_records, 0) is None
        too_small = data[:4] + (47).to_bytes(4, "big") + data[8:]
        assert decode_header(too_small, 0) is None
    longer = encode_end(LogOffset(7), 2, 99, 1000, LogOffset(3))[0]
    assert decode_header(longer[:4] + (49).to_bytes(4, "big") + longer[8:], 0) is None
