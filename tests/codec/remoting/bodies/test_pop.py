from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.pop import BatchAck, decode_batch_ack, decode_bits, encode_batch_ack, encode_bits
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model.limits import ACKS_PER_ENTRY_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import Source
from tests.codec.strategies import gives_a_value_or

int64 = st.integers(0, 2**62)


@st.composite
def batches(draw: st.DrawFn) -> BatchAck:
    start = QueueOffset(draw(int64))
    bits = sorted(draw(st.sets(st.integers(0, 500))))
    return BatchAck(
        draw(st.text("abc%_-", min_size=1)),
        draw(st.text("abc%_-", min_size=1)),
        draw(st.sampled_from(Source)),
        start,
        draw(st.integers(0, 2**31 - 1)),
        draw(st.integers(0, 999)),
        EpochMs(draw(int64)),
        draw(int64),
        tuple(QueueOffset(start + bit) for bit in bits),
    )


@given(st.lists(batches(), max_size=4))
def test_a_batch_of_acknowledgements_survives_the_wire(acks: list[BatchAck]) -> None:
    assert decode_batch_ack(encode_batch_ack("broker-a", acks)) == acks


@given(st.sets(st.integers(0, ACKS_PER_ENTRY_MAX - 1), max_size=40))
def test_bits_come_back_from_text_and_from_numbers(bits: set[int]) -> None:
    text = encode_bits(bits)
    assert list(decode_bits(text)) == sorted(bits)
    signed = [byte - 256 if byte > 127 else byte for byte in base64.b64decode(text)]
    assert list(decode_bits(signed)) == sorted(bits), "Java's bytes have a sign"


def test_the_bits_are_those_of_javas_bit_set() -> None:
    """BitSet.toByteArray is little endian: bits 0, 9 and 15 are the bytes 0x01 0x82."""
    assert encode_bits([0, 9, 15]) == base64.b64encode(b"\x01\x82").decode()


LONG = {
    "consumerGroup": "g", "topic": "t", "retry": "1", "startOffset": 3, "queueId": 0, "reviveQueueId": 7,
    "popTime": 5, "invisibleTime": 6, "bitSet": "Aw==",
}  # fmt: skip
SHORT = {"c": "g", "t": "t", "r": "1", "so": 3, "q": 0, "rq": 7, "pt": 5, "it": 6, "b": [3]}


@pytest.mark.parametrize("said", [LONG, SHORT, SHORT | {"r": 1, "so": "3"}])
def test_short_and_long_names_are_read(said: dict[str, Any]) -> None:
    body = json.dumps({"brokerName": "b", "acks": [said]}).encode()
    offsets = (QueueOffset(3), QueueOffset(4))
    assert decode_batch_ack(body) == [BatchAck("g", "t", Source.RETRY, QueueOffset(3), 0, 7, EpochMs(5), 6, offsets)]


@pytest.mark.parametrize(
    "wrong",
    [{"b": "not base64"}, {"b": [300, "x"]}, {"b": 7}, {"r": "9"}, {"r": "x"}, {"c": None}, {"t": ""},
     {"b": base64.b64encode(bytes(ACKS_PER_ENTRY_MAX // 8 + 1)).decode()}],
)  # fmt: skip
def test_a_wrong_acknowledgement_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        decode_batch_ack(json.dumps({"acks": [SHORT | wrong]}).encode())


@pytest.mark.parametrize("body", [b"{}", b'{"acks": null}', b'{"acks": []}'])
def test_an_empty_batch_is_empty(body: bytes) -> None:
    assert decode_batch_ack(body) == []


@given(st.binary(max_size=80))
def test_any_bytes_give_a_batch_or_an_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_batch_ack, data)
