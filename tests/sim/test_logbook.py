"""The independent reader of logs: against logs that the store wrote, and with records left out or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import pytest

from posthouse.codec.record import encode_record
from posthouse.host.clock import EpochMs
from posthouse.model.filter import tag_hash
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.log.batch import encode_batch
from posthouse.store.state_record import Kind, encode_state_body, encode_state_record
from posthouse.testing.sim.logbook import (
    OPENING,
    Change,
    Folds,
    Message,
    differences,
    fold,
    log_bytes,
    read_log,
    read_message,
)

HOST = Endpoint(b"\x0a\0\0\1", 10911)
HOST_V6 = Endpoint(b"\x0a" * 16, 10911)


def record(
    log_offset: int,
    queue_offset: int,
    *,
    body: bytes = b"x",
    tag: str = "",
    topic: str = "letters",
    host: Endpoint = HOST,
) -> bytes:
    message = NewMessage(topic, 1, body, "", 0, 0, EpochMs(1), host)
    return encode_record(
        message,
        topic=topic.encode(),
        properties=(f"TAGS\x01{tag}\x02" if tag else "").encode(),
        queue_offset=QueueOffset(queue_offset),
        log_offset=LogOffset(log_offset),
        stored_at_ms=EpochMs(2),
        store_host=host,
    )


@pytest.mark.parametrize("host", [HOST, HOST_V6])
@pytest.mark.parametrize("topic", ["letters", "t" * 200])
@pytest.mark.parametrize("tag", ["", "A", "驿站𝄞"])
def test_message_is_read_as_the_codec_wrote_it(host: Endpoint, topic: str, tag: str) -> None:
    data = record(700, 3, body=b"hello", tag=tag, topic=topic, host=host)
    hashed = tag_hash(tag) if tag else 0
    assert read_message(data, 700) == Message(topic, 1, 3, 700, len(data), hashed, b"hello", stored_at_ms=2)


def test_record_that_says_another_place_is_none() -> None:
    with pytest.raises(AssertionError, match="says that it is at 700"):
        read_message(record(700, 3), 800)


def test_zeros_are_no_record() -> None:
    with pytest.raises(AssertionError, match="no record at log offset 5"):
        read_message(bytes(100), 5)


class Log:
    """Batches one after another, as the store would write them."""

    def __init__(self) -> None:
        self.data = b""
        self.previous = 0

    def batch(self, *kinds: str) -> Log:
        """Of "topic" (the record that makes the topic) and queue offsets (messages)."""
        records: list[bytes] = []
        at = len(self.data) + 48
        for kind in kinds:
            if kind == "topic":
                body = encode_state_body({"config": {"name": "letters", "write_queues": 2, "perm": 6}})
                records.append(encode_state_record(Kind.TOPIC_SET, body, LogOffset(at), EpochMs(1)))
            else:
                records.append(record(at, int(kind)))
            at += len(records[-1])
        size = sum(map(len, records))
        start = LogOffset(len(self.data))
        data, self.previous = encode_batch(start, 1, self.previous, 1, start, records, size)
        self.data += data
        return self


def test_log_of_the_store_is_read_record_by_record() -> None:
    log = Log().batch("topic", "0").batch("1", "2")
    found = list(read_log(0, log.data))
    assert [type(each) for each in found] == [Change, Message, Message, Message]
    assert [each.offset for each in found if isinstance(each, Message)] == [0, 1, 2]


def test_reading_ends_where_a_batch_is_damaged_or_the_log_is_said_to_end() -> None:
    log = Log().batch("topic", "0")
    end = len(log.data)
    log.batch("1")
    assert len(list(read_log(0, log.data, until=end))) == 2
    assert len(list(read_log(0, log.data[:-1]))) == 2
    damaged = bytearray(log.data)
    damaged[-1] ^= 1
    assert len(list(read_log(0, bytes(damaged)))) == 2


def test_opening_is_worth_nothing_before_something_follows_it() -> None:
    log = Log().batch("topic")
    begin = len(log.data)
    log.batch("0")
    head = b"PHO1" + log.data[begin + 4 : begin + 44]
    records = log.data[begin + 48 :]
    log.previous = crc32(records, crc32(head))
    log.data = log.data[:begin] + head + log.previous.to_bytes(4, "big") + records
    assert len(list(read_log(0, log.data))) == 1
    assert len(list(read_log(0, log.batch("1").data))) == 3


def test_segments_are_put_together_in_order_from_the_first_that_is_kept() -> None:
    files = {f"log/{base:020d}.log": bytes([base]) for base in (20, 10, 0)} | {"queues/x.run": b"?", "log/lost": b"?"}
    assert log_bytes(files) == (0, bytes([0, 10, 20]))
    assert log_bytes(files, 10) == (10, bytes([10, 20]))
    assert log_bytes({}) == (0, b"")


# Folds


def topic_set(name: str = "letters", at: int = 0) -> Change:
    return Change(1, {"config": {"name": name, "write_queues": 2, "perm": 6}}, at)


def message(offset: int, at: int = 100, topic: str = "letters") -> Message:
    return Message(topic, 0, offset, at, 90, 0, b"x")


def folded(*records: Message | Change) -> Folds:
    def each() -> Iterator[Message | Change]:
        yield from records

    return fold(each())


def test_folds_hold_what_the_records_say() -> None:
    group = Change(3, {"config": {"name": "readers", "retry_max_times": 7}}, 5)
    offsets = Change(5, {"readers": {"letters": {"0": 2}}}, 6)
    folds = folded(topic_set(), group, message(0, 100), message(1, 200), offsets)
    assert folds == Folds(
        {"letters": [0, 2, 6]},
        {"letters/0": [[100, 90, 0], [200, 90, 0]]},
        {"readers": [7]},
        {"readers/letters/0": 2},
        {},
        [],
    )


def test_deleted_topic_takes_its_queues_and_offsets_with_it_and_comes_back_as_another() -> None:
    offsets = Change(5, {"readers": {"letters": {"0": 2}}}, 6)
    folds = folded(topic_set(), message(0), offsets, Change(2, {"name": "letters"}, 7), topic_set(at=8))
    assert folds == Folds({"letters": [8, 2, 6]}, {}, {}, {}, {}, [])


def test_topic_that_is_changed_stays_the_same_topic() -> None:
    assert folded(topic_set(at=3), topic_set(at=9)).topics == {"letters": [3, 2, 6]}


def test_what_no_log_may_hold_is_odd() -> None:
    assert folded(message(0)).odd == ["a message of topic letters, which does not exist, at log offset 100"]
    assert "offset 1 where 0 should be" in folded(topic_set(), message(1)).odd[0]
    assert "offset 0 where 1 should be" in folded(topic_set(), message(0), message(0, 200)).odd[0]
    assert "kind 99" in folded(Change(99, {}, 0)).odd[0]


def opening(offset: int) -> Change:
    config = {"name": "letters", "write_queues": 2, "perm": 6}
    body = {"part": 0, "of": 1, "topics": [[3, config, [[0, offset]]]], "offsets": {"readers": {"letters": {"0": 1}}}}
    return Change(OPENING, body, 50)


def test_log_that_begins_with_an_opening_goes_on_where_it_says() -> None:
    folds = folded(opening(5), message(5))
    assert folds.topics == {"letters": [3, 2, 6]}
    assert (folds.starts, folds.queues) == ({"letters/0": 5}, {"letters/0": [[100, 90, 0]]})
    assert folds.odd == []


def test_opening_in_the_middle_must_agree_with_what_was_before() -> None:
    assert folded(topic_set(), message(0), opening(1)).odd == []
    assert "offset 2 follows" in folded(topic_set(), message(0), opening(2)).odd[0]


def test_folds_that_are_alike_do_not_differ() -> None:
    assert differences(folded(topic_set(), message(0)), folded(topic_set(), message(0))) == []


def test_store_forgets_what_the_log_forgets_and_no_more() -> None:
    live = folded(topic_set())._replace(starts={"letters/0": 5}, queues={"letters/0": [[100, 90, 0]]})
    assert differences(live, folded(opening(5), message(5))._replace(topics=live.topics, offsets={})) == []
    whole = folded(topic_set(), *(message(offset) for offset in range(6)))
    assert differences(live, whole) == ["queue letters/0: the store begins at 5, the log at 0"]


@pytest.mark.parametrize(
    ("live", "text"),
    [
        (folded(topic_set()), "the store has 0 entries, the log says 1"),
        (folded(topic_set(), message(0, 200)), "the store has [200, 90, 0], the log says [100, 90, 0]"),
        (folded(topic_set(at=4), message(0)), "topics letters: the store has [4, 2, 6]"),
        (folded(topic_set(), message(0), Change(5, {"g": {"letters": {"0": 2}}}, 6)), "the log says None"),
    ],
)
def test_every_difference_is_told(live: Folds, text: str) -> None:
    found = differences(live, folded(topic_set(), message(0)))
    assert len(found) == 1
    assert text in found[0]
