from __future__ import annotations

import random

import pytest

from posthouse.model.message import StoredMessage
from posthouse.model.offsets import LogOffset
from posthouse.store import salvage
from posthouse.store.salvage import in_words, messages_by_topic, recognise
from tests.store.damage import a_store, frames_of
from tests.store.test_check import message_record, topic_record


def found_in(data: bytes, base: int | None = 0) -> list[tuple[int, int]]:
    def read(at: int, size: int) -> bytes:
        return data[at : at + size]

    return [(each.at, each.size) for each in recognise(read, 0, len(data), None if base is None else LogOffset(base))]


def test_records_are_recognised_between_anything_else() -> None:
    first, second = topic_record(100), message_record(100 + 200, 0)
    data = bytes(100) + first + b"?" * (200 - len(first)) + second + b"\xda\xa3 \xa7" * 9
    assert found_in(data) == [(100, len(first)), (300, len(second))]


def test_record_at_another_place_than_it_says_is_not_believed_unless_the_place_is_not_known() -> None:
    record = message_record(300, 0)
    assert found_in(record, 0) == []
    assert found_in(record, 300) == [(0, len(record))]
    assert found_in(record, None) == [(0, len(record))]


def test_record_whose_body_is_damaged_is_not_believed() -> None:
    assert found_in(message_record(0, 0).replace(b"body", b"bodY")) == []


@pytest.mark.parametrize("cut", [1, 40, 90])
def test_half_a_record_is_not_believed(cut: int) -> None:
    assert found_in(message_record(0, 0)[:-cut]) == []
    assert found_in(topic_record(0)[: -min(cut, 30)]) == []


def test_noise_is_survived() -> None:
    rng = random.Random(3)
    words = [b"\xda\xa3 \xa7", b"\xda\xa3 \xab", b"PHST", b"\0\0\0\x40"]
    for _ in range(300):
        data = b"".join(rng.choice(words) if rng.random() < 0.3 else rng.randbytes(9) for _ in range(40))
        assert found_in(data, None) == []


def test_records_across_the_windows_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    records, at = [], 0
    for number in range(60):
        records.append(message_record(at, number))
        at += len(records[-1])
    data = b"".join(records)
    for window in (300, 301, 555, 1024):
        monkeypatch.setattr(salvage, "WINDOW_BYTES", window)
        monkeypatch.setattr(salvage, "_RECORD_BYTES_MAX", 150)
        assert len(found_in(data)) == 60


@pytest.mark.asyncio
async def test_messages_of_a_stretch_are_counted_by_topic() -> None:
    disk = await a_store(messages=12)
    segment = frames_of(disk)[0].segment
    found = messages_by_topic(segment, segment.base, segment.end)
    assert set(found) == {"orders", "mails", "bills"}
    records = [each.record for each in recognise(segment.file.read_wait, 0, segment.end, segment.base)]
    assert sum(found.values()) == sum(isinstance(record, StoredMessage) for record in records)


def test_counts_in_words() -> None:
    assert in_words({}) == "0 messages"
    assert in_words({"a": 1}) == "1 message (a 1)"
    assert in_words({"a": 1, "b": 5}) == "6 messages (b 5, a 1)"
    assert in_words({str(each): 1 for each in range(9)}).endswith(", ...)")
