from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.record import decode_record, encode_record
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.receipts import (
    Receipt,
    decode_offset_info,
    decode_order_count_info,
    decode_receipt,
    decode_start_offset_info,
    encode_receipt,
    offset_info,
    order_count_info,
    retry_record,
    start_offset_info,
)
from posthouse.host.clock import EpochMs
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.pop import PopPart, Source
from posthouse.model.properties import encode_properties

HERE = Endpoint(bytes((127, 0, 0, 1)), 10911)
numbers = st.integers(0, 2**62)
receipts = st.builds(
    Receipt,
    numbers.map(QueueOffset),
    numbers.map(EpochMs),
    numbers,
    st.integers(0, 999),
    st.sampled_from(Source),
    st.text("abcZ-_.09", min_size=1, max_size=30),
    st.integers(0, 2**31 - 1),
    numbers.map(QueueOffset),
)


@st.composite
def parts(draw: st.DrawFn) -> list[PopPart]:
    found: list[PopPart] = []
    keys = draw(st.sets(st.tuples(st.sampled_from(Source), st.integers(0, 9)), max_size=5))
    for source, queue_id in sorted(keys):
        offsets = sorted(draw(st.sets(numbers, min_size=1, max_size=8)))
        times = [draw(st.integers(0, 3)) for _ in offsets]
        found.append(PopPart(source, queue_id, list(map(QueueOffset, offsets)), [], times))
    return found


@given(receipts)
def test_a_receipt_survives_its_text(receipt: Receipt) -> None:
    text = encode_receipt(receipt)
    assert len(text.split(" ")) == 8
    assert decode_receipt(text) == receipt


def test_a_receipt_has_its_words_in_the_order_of_rocketmq() -> None:
    receipt = Receipt(QueueOffset(10), EpochMs(170), 60, 5, Source.RETRY, "broker-a", 3, QueueOffset(12))
    assert encode_receipt(receipt) == "10 170 60 5 1 broker-a 3 12"


@pytest.mark.parametrize(
    "text",
    ["", "1 2 3 4 0 b 5", "1 2 3 4 0 b 5 x", "1 2 3 4 7 b 5 6", "- 2 3 4 0 b 5 6", "1 2 3 4 0 b 5 ٣", "1  3 4 0 b 5 6"],
)
def test_what_is_no_receipt_is_told(text: str) -> None:
    with pytest.raises(WireError):
        decode_receipt(text)


@given(st.text(max_size=60))
def test_any_text_is_a_receipt_or_an_error(text: str) -> None:
    for read in (decode_receipt, decode_offset_info, decode_start_offset_info, decode_order_count_info):
        try:
            read(text)
        except WireError:
            pass


@given(parts())
def test_what_an_answer_says_of_its_messages_survives(given_parts: list[PopPart]) -> None:
    keys = [(part.source, part.queue_id) for part in given_parts]
    assert decode_start_offset_info(start_offset_info(given_parts)) == {
        key: part.offsets[0] for key, part in zip(keys, given_parts, strict=True)
    }
    assert decode_offset_info(offset_info(given_parts)) == {
        key: part.offsets for key, part in zip(keys, given_parts, strict=True)
    }
    assert decode_order_count_info(order_count_info(given_parts)) == {
        (*key, offset): times
        for key, part in zip(keys, given_parts, strict=True)
        for offset, times in zip(part.offsets, part.times, strict=True)
        if times
    }


def test_the_texts_are_spelled_as_clients_parse_them() -> None:
    some = [
        PopPart(Source.NORMAL, 2, [QueueOffset(7), QueueOffset(9)], [], [0, 3]),
        PopPart(Source.RETRY, 0, [QueueOffset(1)], [], [0]),
    ]
    assert start_offset_info(some) == "0 2 7;1 0 1"
    assert offset_info(some) == "0 2 7,9;1 0 1"
    assert order_count_info(some) == "0 qo2%9 3"
    assert decode_order_count_info("0 1 2") == {(Source.NORMAL, 1, None): 2}


def record(properties: dict[str, str]) -> bytes:
    message = NewMessage(
        "%RETRY%G_T", 0, b"body", encode_properties(properties), 3, 0, EpochMs(5), Endpoint(b"\x7f\x00\x00\x02", 9), 4
    )
    return encode_record(
        message, message.topic.encode(), message.properties.encode(), QueueOffset(6), LogOffset(700), EpochMs(8), HERE
    )


def test_a_message_of_a_retry_topic_is_given_under_the_topic_asked_for_with_its_receipt() -> None:
    receipt = Receipt(QueueOffset(6), EpochMs(170), 60, 5, Source.RETRY, "broker-a", 0, QueueOffset(6))
    before = decode_record(record({"UNIQ_KEY": "id", "POP_CK": "an older one"}))
    found = decode_record(retry_record(record({"UNIQ_KEY": "id", "POP_CK": "an older one"}), "T", receipt))
    assert (found.topic, found.properties) == ("T", {"UNIQ_KEY": "id", "POP_CK": encode_receipt(receipt)})
    for name in ("queue_id", "queue_offset", "log_offset", "body", "flag", "born_at_ms", "stored_at_ms",
                 "reconsume_times", "store_host", "born_host"):  # fmt: skip
        assert getattr(found, name) == getattr(before, name), name


def test_a_message_without_room_for_its_receipt_is_given_as_it_is() -> None:
    data = record({"x": "y" * (PROPERTIES_BYTES_MAX - 10)})
    receipt = Receipt(QueueOffset(6), EpochMs(170), 60, 5, Source.RETRY, "broker-a", 0, QueueOffset(6))
    assert retry_record(data, "T", receipt) == data
