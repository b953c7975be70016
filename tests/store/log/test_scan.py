from __future__ import annotations

import pytest

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset
from posthouse.store.log import scan
from posthouse.store.log.batch import HEADER_BYTES, FrameKind, encode_batch, encode_end, encode_gap
from posthouse.store.log.engine import START, LogDamaged, Position
from posthouse.store.log.scan import (
    Flaw,
    Frame,
    Scan,
    Why,
    ends_with_mark,
    first_frame,
    first_position,
    next_good,
    records_of,
)
from posthouse.store.log.segments import Segment
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import record

BASE = LogOffset(1000)
BEFORE = 77
"""Checksum of what would be before the segment."""
BEGIN = Position(BASE, BEFORE)


def chain(*sizes: int) -> list[bytes]:
    """Batches of one segment, of as many records of 20 bytes as each size says; then an end mark."""
    found: list[bytes] = []
    at, previous, name = BASE, BEFORE, 0
    for size in sizes:
        records = [record(name + number, 20) for number in range(size)]
        data, previous = encode_batch(at, 3, previous, 500, BASE, records, 20 * size)
        found.append(data)
        at, name = LogOffset(at + len(data)), name + size
    return [*found, encode_end(at, 3, previous, 600, BASE)[0]]


def segment_of(data: bytes) -> Segment:
    file = FaultyDisk({"log/x": data}).open("log/x")
    return Segment(BASE, LogOffset(BASE + len(data)), file, EpochMs(0))


def scanned(data: bytes, position: Position = BEGIN) -> tuple[list[Frame], Scan]:
    found = Scan(segment_of(data), position)
    return list(found), found


def why(data: bytes, position: Position = BEGIN) -> tuple[int, Why | None]:
    """How far into the segment belief goes, and why not further."""
    _, found = scanned(data, position)
    return found.position.offset - BASE, found.flaw.why if found.flaw else None


def test_all_frames_are_given_with_where_they_are() -> None:
    parts = chain(1, 3, 2)
    found, scan_of = scanned(b"".join(parts))
    assert [frame.kind for frame in found] == [FrameKind.BATCH] * 3 + [FrameKind.END]
    assert [bytes(frame.data[frame.at : frame.at + frame.header.size]) for frame in found] == parts
    assert scan_of.flaw is None
    assert scan_of.position == found[-1].after
    records = [(bytes(frame.data[at : at + size]), offset) for frame in found for at, size, offset in records_of(frame)]
    assert [data for data, _ in records] == [record(name, 20) for name in range(6)]
    assert [offset - BASE for _, offset in records] == [48, 116, 136, 156, 224, 244]


def test_a_scan_goes_on_from_any_frame() -> None:
    data = b"".join(chain(1, 3, 2))
    found, _ = scanned(data)
    for number, frame in enumerate(found):
        rest, scan_of = scanned(data, frame.after)
        assert [other.header for other in rest] == [other.header for other in found[number + 1 :]]
        assert scan_of.flaw is None


def test_why_belief_ends_is_told() -> None:
    one, two, end = chain(1, 2)
    at = len(one)
    assert why(one) == (at, None)
    assert why(one + bytes(10)) == (at, Why.ZEROS)
    assert why(one + bytes(500)) == (at, Why.ZEROS)
    assert why(one + b"PHB1") == (at, Why.TRUNCATED)
    assert why(one + two[:-1]) == (at, Why.TRUNCATED)
    assert why(one + b"Q" + two[1:]) == (at, Why.BAD_MAGIC)
    assert why(one + two[:4] + bytes(4) + two[8:]) == (at, Why.BAD_SIZE)
    assert why(one + two[:-1] + b"?") == (at, Why.BAD_CHECKSUM)
    assert why(one + one) == (at, Why.WRONG_OFFSET)
    other, _ = encode_batch(LogOffset(BASE + at), 3, 12345, 500, BASE, [record(9, 20)], 20)
    assert why(one + other) == (at, Why.BROKEN_CHAIN)
    assert why(one + two + end + b"x") == (len(one + two + end), Why.AFTER_END)
    assert why(one, Position(BASE, BEFORE + 1)) == (0, Why.BROKEN_CHAIN)
    assert why(b"") == (0, None)


def test_a_flaw_says_in_words_what_is_wrong() -> None:
    one, two, _ = chain(1, 2)
    for data, word in (
        (one + bytes(60), "only zeros"),
        (one + two[:20], "only 20 bytes are left"),
        (one + two[:60], f"a frame of {len(two)} bytes begins here, and only 60 bytes are left"),
        (one + b"what" + two, "b'what' does not begin a frame"),
        (one + one, f"belongs at log offset {BASE}"),
    ):
        _, found = scanned(data)
        assert found.flaw is not None
        assert word in found.flaw.text


def test_a_gap_is_passed_whatever_its_size() -> None:
    one, two, end = chain(1, 2)
    (first, *_), _ = scanned(one)
    gap = encode_gap(BASE, len(one), 3, BEFORE, 400, first.header.checksum).ljust(len(one), b"\0")
    found, scan_of = scanned(gap + two + end)
    assert [frame.kind for frame in found] == [FrameKind.GAP, FrameKind.BATCH, FrameKind.END]
    assert scan_of.flaw is None
    assert list(records_of(found[0])) == []
    too_long = encode_gap(BASE, len(one) + 1, 3, BEFORE, 400, 5).ljust(len(one), b"\0")
    assert why(too_long) == (0, Why.TRUNCATED)


def test_frames_are_the_same_whatever_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three, end = chain(1, 20, 3)
    (first, *_), _ = scanned(one)
    gap = encode_gap(BASE, len(one), 3, BEFORE, 400, first.header.checksum).ljust(len(one), b"\0")
    for data in (one + two + three + end, gap + two + three + end, one + two + three[:-1] + b"?" + end):
        found, whole = scanned(data)
        headers = [frame.header for frame in found]
        for size in range(HEADER_BYTES, 700, 11):
            monkeypatch.setattr(scan, "READ_BYTES", size)
            again, scan_of = scanned(data)
            assert [frame.header for frame in again] == headers
            assert (scan_of.position, scan_of.flaw) == (whole.position, whole.flaw)
        monkeypatch.undo()


def test_a_file_that_is_shorter_than_it_was_ends_the_scan() -> None:
    one, two, _ = chain(1, 2)
    segment = segment_of(one + two)
    segment.file.truncate(len(one) + 60)
    found = Scan(segment, BEGIN)
    assert len(list(found)) == 1
    assert found.flaw is not None
    assert found.flaw.why is Why.TRUNCATED


def test_the_next_good_frame_is_found_behind_a_bad_place(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three, end = chain(1, 4, 2)
    data = one + two[:30] + b"?" + two[31:] + three + end
    segment, bad = segment_of(data), LogOffset(BASE + len(one))
    for size in (48, 50, 100, 1000, 1 << 20):
        monkeypatch.setattr(scan, "READ_BYTES", size)
        good = next_good(segment, LogOffset(bad + 1))
        assert good is not None
        assert good.header.offset == bad + len(two)
        assert bytes(good.data[good.at : good.at + good.header.size]) == three
        last = next_good(segment, good.header.end)
        assert last is not None
        assert last.kind is FrameKind.END
        assert next_good(segment, last.header.end) is None


def test_a_frame_that_is_not_where_it_says_is_no_good_one() -> None:
    one, two, _ = chain(1, 4)
    assert next_good(segment_of(b"xx" + one + two), BASE) is None
    assert next_good(segment_of(one[:-1]), BASE) is None
    assert next_good(segment_of(one[:-1] + b"?"), BASE) is None


def test_the_first_frame_is_judged_without_what_was_before_it() -> None:
    one, two, _ = chain(1, 2)
    found = first_frame(segment_of(one + two))
    assert isinstance(found, Frame)
    assert first_position(segment_of(one + two)) == Position(BASE, BEFORE, 3)
    for data, reason in ((b"", Why.TRUNCATED), (bytes(90), Why.ZEROS), (one[:-1] + b"?" + two, Why.BAD_CHECKSUM)):
        for flaw in (first_frame(segment_of(data)), first_position(segment_of(data))):
            assert isinstance(flaw, Flaw)
            assert flaw.why is reason
    begin = Segment(LogOffset(0), LogOffset(90), segment_of(bytes(90)).file, EpochMs(0))
    assert first_position(begin) == START, "the whole log begins at its start, whatever is there"


def test_an_end_mark_is_seen_at_the_very_end_only() -> None:
    one, end = chain(1)
    mark = ends_with_mark(segment_of(one + end))
    assert mark is not None
    assert mark.end == BASE + len(one + end)
    for data in (b"", end[:-1], one, end + one, one + end + b"x", one + end[:-1] + b"?", b"x" + one + end):
        assert ends_with_mark(segment_of(data)) is None


def test_records_that_do_not_fill_their_batch_are_damage() -> None:
    good = record(1, 20)
    for payload, count in (
        (good, 2),
        (good + good, 1),
        ((21).to_bytes(4, "big") + good[4:], 1),
        ((7).to_bytes(4, "big") + b"xyz" + good, 2),
        (b"xy", 1),
    ):
        data, _ = encode_batch(BASE, 3, BEFORE, 500, BASE, [payload] + [b""] * (count - 1), len(payload))
        (frame,), _ = scanned(data)
        with pytest.raises(LogDamaged, match=f"the batch at log offset {BASE}"):
            list(records_of(frame))
