from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from posthouse.client.inbox import INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, INBOX_SPAN_MAX, QueueInbox
from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, MessageQueue, StoredMessage
from posthouse.model.offsets import LogOffset, QueueOffset

QUEUE = MessageQueue("t", "b", 0)
HOST = Endpoint(bytes(4), 1)


def message(offset: int, body: bytes = b"x") -> StoredMessage:
    return StoredMessage(
        "t", 0, QueueOffset(offset), LogOffset(0), body, {}, 0, 0, EpochMs(0), HOST, EpochMs(0), HOST, 0,
        LogOffset(0), 0, 0,
    )  # fmt: skip


def inbox(next_offset: int = 0) -> QueueInbox:
    return QueueInbox(QUEUE, QueueOffset(next_offset))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=60), st.integers(), st.integers(0, 1000))
def test_the_offset_to_commit_is_the_smallest_that_is_not_done(gaps: list[int], seed: int, first: int) -> None:
    """Whatever is missing between them, and in whatever order they are done."""
    offsets, at = [], first
    for gap in gaps:
        offsets.append(at)
        at += gap
    box = inbox(first)
    box.pulled([message(offset) for offset in offsets], QueueOffset(at))
    left = set(offsets)
    order = list(offsets)
    Random(seed).shuffle(order)
    for offset in order:
        assert box.commit_offset == min(left)
        box.done(QueueOffset(offset))
        left.remove(offset)
    assert box.commit_offset == at
    assert (len(box), box.size_bytes) == (0, 0)


def test_done_twice_counts_once() -> None:
    box = inbox()
    box.pulled([message(0, b"abc"), message(1, b"de")], QueueOffset(2))
    box.done(QueueOffset(0))
    box.done(QueueOffset(0))
    assert (len(box), box.size_bytes, box.commit_offset) == (1, 2, 1)


def test_it_is_full_by_number() -> None:
    box = inbox()
    box.pulled([message(n) for n in range(INBOX_MESSAGES_MAX)], QueueOffset(INBOX_MESSAGES_MAX))
    assert box.full is False
    box.pulled([message(INBOX_MESSAGES_MAX)], QueueOffset(INBOX_MESSAGES_MAX + 1))
    full_before = box.full
    box.done(QueueOffset(5))
    assert (full_before, box.full) == (True, False)


def test_it_is_full_by_bytes() -> None:
    box = inbox()
    body = bytes(INBOX_BYTES_MAX // 4 + 1)
    box.pulled([message(n, body) for n in range(3)], QueueOffset(3))
    assert not box.full
    box.pulled([message(3, body)], QueueOffset(4))
    assert box.full


def test_it_is_full_by_span_when_one_message_is_slow() -> None:
    box = inbox()
    box.pulled([message(0)], QueueOffset(INBOX_SPAN_MAX))
    found = [box.full]
    box.pulled([], QueueOffset(INBOX_SPAN_MAX + 1))
    found.append(box.full)
    box.done(QueueOffset(0))
    found.append(box.full)
    assert found == [False, True, False]
