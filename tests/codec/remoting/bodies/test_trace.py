"""Trace bodies: what Java's client writes is read, what cannot be read is skipped, what we write comes back."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.trace import (
    ContextCode,
    Delivered,
    Handled,
    MessageType,
    Published,
    Recalled,
    TraceLine,
    TransactionEnded,
    decode_trace,
    encode_trace,
)
from posthouse.host.clock import EpochMs

PUB = (
    "Pub\x011700000000000\x01DefaultRegion\x01shop\x01orders\x01ID-1\x01paid\x01k1 k2\x01127.0.0.1:10911\x0111"
    "\x013\x010\x01OFFSET-1\x01true\x02"
)
BEFORE = "SubBefore\x011700000000005\x01DefaultRegion\x01billing\x01REQ\x01ID-1\x012\x01k1 k2\x02"
AFTER = "SubAfter\x01REQ\x01ID-1\x017\x01false\x01k1 k2\x012\x011700000000006\x01billing\x02"

PUBLISHED = Published(
    EpochMs(1700000000000), "shop", "orders", "ID-1", "paid", "k1 k2", "127.0.0.1:10911", 11, 3, MessageType.NORMAL,
    "OFFSET-1", True, "", "DefaultRegion",
)  # fmt: skip
DELIVERED = Delivered(EpochMs(1700000000005), "billing", "REQ", "ID-1", 2, "k1 k2", "DefaultRegion")
HANDLED = Handled("REQ", "ID-1", 7, False, "k1 k2", ContextCode.EXCEPTION, EpochMs(1700000000006), "billing")


def test_lines_of_a_java_client_are_read_and_written_alike() -> None:
    text = (PUB + BEFORE + AFTER).encode()
    lines: list[TraceLine] = [PUBLISHED, DELIVERED, HANDLED]
    assert decode_trace(text) == (lines, 0)
    assert encode_trace(lines) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "EndTransaction\x015\x01R\x01g\x01t\x01ID\x01tag\x01k\x01h:1\x012\x01TX\x01COMMIT_MESSAGE\x01true\x02",
            TransactionEnded(
                EpochMs(5), "g", "t", "ID", "tag", "k", "h:1", MessageType.COMMIT, "TX", "COMMIT_MESSAGE", True, "R"
            ),
        ),
        ("Recall\x015\x01R\x01g\x01t\x01ID\x01true\x02", Recalled(EpochMs(5), "g", "t", "ID", True, "R")),
    ],
)
def test_transactions_and_recalls_are_read_and_written_alike(text: str, line: TraceLine) -> None:
    assert decode_trace(text.encode()) == ([line], 0)
    assert encode_trace([line]) == text.encode()


def test_older_clients_say_less() -> None:
    old_pub = "Pub\x015\x01R\x01g\x01t\x01ID\x01\x01\x01h:1\x0111\x013\x014\x01true\x02"
    (found,), unread = decode_trace(old_pub.encode())
    assert isinstance(found, Published)
    assert (found.offset_message_id, found.success, found.message_type, unread) == ("", True, MessageType.ORDER, 0)
    assert decode_trace(b"SubAfter\x01REQ\x01ID\x017\x01true\x01k\x02") == ([Handled("REQ", "ID", 7, True, "k")], 0)
    assert decode_trace(b"SubBefore\x015\x01R\x01g\x01REQ\x01ID\x010") == (
        [Delivered(EpochMs(5), "g", "REQ", "ID", 0, "", "R")],
        0,
    )


def test_newer_clients_may_say_more() -> None:
    (found,), unread = decode_trace(PUB.replace("\x02", "\x01192.0.2.1:7\x01and more\x02").encode())
    assert isinstance(found, Published)
    assert (found.client_host, found.success, unread) == ("192.0.2.1:7", True, 0)


def test_null_is_nothing() -> None:
    (found,), _ = decode_trace(PUB.replace("paid", "null").replace("k1 k2", "null").encode())
    assert isinstance(found, Published)
    assert (found.tag, found.keys) == ("", "")


def test_lines_that_cannot_be_read_are_counted_and_the_others_kept() -> None:
    broken = "Pub\x01not a number" + PUB[3 + 1 + 13 :]
    text = f"Nonsense\x01x\x02{PUB}{broken}Pub\x015\x02SubAfter\x02Recall\x01{2**63}\x01R\x01g\x01t\x01I\x01true\x02"
    assert decode_trace(text.encode()) == ([PUBLISHED], 5)
    assert decode_trace(b"") == ([], 0)
    assert decode_trace(b"\xff\xfe\x02\x00") == ([], 2)


def test_a_separator_inside_a_text_does_not_break_the_line() -> None:
    (found,), unread = decode_trace(encode_trace([Recalled(EpochMs(1), "a\x01b", "t\x02", "ID")]))
    assert isinstance(found, Recalled)
    assert (found.group, found.topic, unread) == ("a b", "t ", 0)


words = st.text(st.characters(codec="utf-8", exclude_characters="\x01\x02"), max_size=8).filter(lambda t: t != "null")
numbers = st.integers(-(2**63), 2**63 - 1)
small = st.integers(0, 2**31 - 1)
lines: st.SearchStrategy[TraceLine] = st.one_of(
    st.builds(Published, numbers.map(EpochMs), words, words, words, words, words, words, small, small, small, words,
              st.booleans(), words, words),
    st.builds(Delivered, numbers.map(EpochMs), words, words, words, small, words, words),
    st.builds(Handled, words, words, small, st.booleans(), words, small, numbers.map(EpochMs), words),
    st.builds(Handled, words, words, small, st.booleans(), words, small),
    st.builds(TransactionEnded, numbers.map(EpochMs), words, words, words, words, words, words, small, words, words,
              st.booleans(), words),
    st.builds(Recalled, numbers.map(EpochMs), words, words, words, st.booleans(), words),
)  # fmt: skip


@given(st.lists(lines, max_size=5))
def test_lines_survive_the_wire(given_lines: list[TraceLine]) -> None:
    assert decode_trace(encode_trace(given_lines)) == (given_lines, 0)


@given(st.binary(max_size=200))
def test_any_body_is_taken(body: bytes) -> None:
    found, unread = decode_trace(body)
    assert unread >= 0
    assert all(isinstance(each, get_args(TraceLine)) for each in found)
