from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.batch import BatchEntry, decode_batch, encode_batch
from posthouse.codec.remoting.frame import WireError
from posthouse.model.limits import MESSAGE_BYTES_MAX
from tests.codec.golden import golden
from tests.codec.strategies import gives_a_value_or, int32, samples, text

entries = st.builds(BatchEntry, st.binary(max_size=50), text, int32)
ONE = BatchEntry(b"a", "TAGS\x01x\x02")


def test_entry_is_the_published_layout() -> None:
    assert encode_batch([ONE]) == golden("batch_entry")
    assert decode_batch(golden("batch_entry")) == [ONE]


@given(st.lists(entries, min_size=1, max_size=6))
def test_what_was_encoded_is_decoded(batch: list[BatchEntry]) -> None:
    assert decode_batch(encode_batch(batch)) == batch


@given(samples([golden("batch_entry") * 2]))
def test_any_bytes_are_entries_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_batch, data)


def test_empty_batch_is_refused() -> None:
    with pytest.raises(WireError):
        decode_batch(b"")


def test_batch_over_the_limit_is_refused_both_ways() -> None:
    fits = [BatchEntry(bytes(MESSAGE_BYTES_MAX - 22), "")]
    assert decode_batch(encode_batch(fits)) == fits
    with pytest.raises(ValueError, match="the limit is"):
        encode_batch([*fits, ONE])
    with pytest.raises(WireError, match=str(MESSAGE_BYTES_MAX)):
        decode_batch(bytes(MESSAGE_BYTES_MAX + 1))


def test_properties_over_the_limit_are_refused_both_ways() -> None:
    with pytest.raises(ValueError, match="32767"):
        encode_batch([BatchEntry(b"", "x" * 32_768)])
    size = 22 + 32_768
    entry = size.to_bytes(4, "big") + bytes(16) + (32_768).to_bytes(2, "big") + b"x" * 32_768
    with pytest.raises(WireError, match="properties of 32768"):
        decode_batch(entry)


def test_magic_and_crc_are_not_looked_at() -> None:
    data = golden("batch_entry")
    assert decode_batch(data[:4] + b"\xff" * 8 + data[12:]) == [ONE]


@pytest.mark.parametrize("end", range(1, 30))
def test_truncated_entry_is_refused(end: int) -> None:
    with pytest.raises(WireError):
        decode_batch(golden("batch_entry")[:end])
