"""Scanning: reads the frames of a segment as far as they can be believed, and says why belief ends where it does.

A frame is believed only if its place, its chain and its checksum hold. This is the one reader of frames: recovery,
`posthouse check`, `repair` and `dump` all see the log through it. Everything here waits for the device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from posthouse.model.offsets import LogOffset
from posthouse.store.log.batch import (
    HEADER_BYTES,
    KINDS,
    FrameHeader,
    FrameKind,
    checksum_holds,
    decode_header,
)
from posthouse.store.log.engine import START, LogDamaged, Position
from posthouse.store.log.segments import Segment

READ_BYTES = 8 * 1024 * 1024
_ANY_MAGIC = re.compile(b"|".join(re.escape(magic) for magic in KINDS))
_MAGIC_BYTES = 4


class Frame(NamedTuple):
    """A believed frame: it begins at `at` in `data`. Of a gap only the header is sure to be in there."""

    header: FrameHeader
    data: bytes
    at: int

    @property
    def kind(self) -> FrameKind:
        return self.header.kind

    @property
    def after(self) -> Position:
        """Where the next frame begins."""
        return Position(self.header.end, self.header.chain, self.header.epoch)


class Why(StrEnum):
    """Why bytes are not believed to be the next frame, in the order of the questions."""

    ZEROS = "zeros"
    TRUNCATED = "truncated"
    BAD_MAGIC = "bad magic"
    BAD_SIZE = "bad size"
    BAD_CHECKSUM = "bad checksum"
    WRONG_OFFSET = "wrong offset"
    BROKEN_CHAIN = "broken chain"
    AFTER_END = "bytes after the end mark"


class Flaw(NamedTuple):
    """`why` for programs; `text` for people, as a clause."""

    why: Why
    text: str


class Scan:
    """Iterate once over the believed frames of one segment from `position` on.

    `position` is always after the last frame that was given. In the end `flaw` says why bytes of the segment are left
    over, None if it was believed to its end. An end mark is the last frame.
    """

    def __init__(self, segment: Segment, position: Position) -> None:
        self._segment = segment
        self.position = position
        self.flaw: Flaw | None = None

    def __iter__(self) -> Iterator[Frame]:
        wanted = READ_BYTES
        while (left := self._segment.end - self.position.offset) > 0:
            data = self._segment.file.read_wait(self.position.offset - self._segment.base, min(wanted, left))
            at = 0
            while (header := self._believed(data, at)) is not None:
                frame = Frame(header, data, at)
                at += header.size
                self.position = frame.after
                yield frame
                if header.kind is FrameKind.END:
                    self._end()
                    return
            if at:
                wanted = READ_BYTES
                continue
            header = decode_header(data, 0)
            if header is None or header.covered_bytes <= len(data) or header.size > left or wanted >= header.size:
                self.flaw = self._find_flaw(data, header)
                return
            wanted = header.size  # a batch larger than one read

    def _believed(self, data: bytes, at: int) -> FrameHeader | None:
        header = decode_header(data, at)
        if header is None or header.offset != self.position.offset or header.previous != self.position.checksum:
            return None
        return header if header.end <= self._segment.end and checksum_holds(data, at, header) else None

    def _end(self) -> None:
        left = self._segment.end - self.position.offset
        if left:
            self.flaw = Flaw(Why.AFTER_END, f"{left} bytes follow the end mark")

    def _find_flaw(self, data: bytes, header: FrameHeader | None) -> Flaw:
        left = self._segment.end - self.position.offset
        if not any(data[:HEADER_BYTES]):
            return Flaw(Why.ZEROS, "there are only zeros")
        if len(data) < HEADER_BYTES:
            return Flaw(Why.TRUNCATED, f"only {left} bytes are left, less than the header of a frame")
        if header is None:
            magic = bytes(data[:_MAGIC_BYTES])
            if magic not in KINDS:
                return Flaw(Why.BAD_MAGIC, f"{magic!r} does not begin a frame")
            return Flaw(Why.BAD_SIZE, f"a {magic.decode()} frame cannot have the size and number of records it claims")
        if header.size > left or len(data) < header.covered_bytes:
            return Flaw(Why.TRUNCATED, f"a frame of {header.size} bytes begins here, and only {left} bytes are left")
        if not checksum_holds(data, 0, header):
            return Flaw(Why.BAD_CHECKSUM, "the checksum does not fit the bytes")
        if header.offset != self.position.offset:
            return Flaw(Why.WRONG_OFFSET, f"the frame here says that it belongs at log offset {header.offset}")
        return Flaw(
            Why.BROKEN_CHAIN,
            f"the frame here follows one with checksum {header.previous:08x}, "
            f"and the one before it has {self.position.checksum:08x}",
        )


def first_frame(segment: Segment) -> Frame | Flaw:
    """The segment's first frame, if all but its chain can be believed; else what is wrong with it."""
    header = decode_header(segment.file.read_wait(0, HEADER_BYTES), 0)
    scan = Scan(segment, Position(segment.base, header.previous if header is not None else 0))
    for frame in scan:
        return frame
    return scan.flaw or Flaw(Why.TRUNCATED, "the file is empty")


def first_position(segment: Segment) -> Position | Flaw:
    """Where a scan of the whole log begins, given its first segment; the chain is taken from its first frame."""
    if segment.base == START.offset:
        return START
    found = first_frame(segment)
    return found if isinstance(found, Flaw) else Position(segment.base, found.header.previous, found.header.epoch)


def ends_with_mark(segment: Segment) -> FrameHeader | None:
    """The end mark that the segment's last bytes are, if they are one."""
    if segment.end - segment.base < HEADER_BYTES:
        return None
    at = segment.end - segment.base - HEADER_BYTES
    data = segment.file.read_wait(at, HEADER_BYTES)
    header = decode_header(data, 0)
    if header is None or header.kind is not FrameKind.END or header.end != segment.end:
        return None
    return header if checksum_holds(data, 0, header) else None


def next_good(segment: Segment, start: LogOffset) -> Frame | None:
    """The first frame at or after `start` that names its own offset and whose checksum holds, or None.

    For going on after a bad place: its chain cannot be asked. What lies inside a good frame is not looked at if the
    search goes on from that frame's end.
    """
    while start < segment.end:
        data = segment.file.read_wait(start - segment.base, READ_BYTES)
        for match in _ANY_MAGIC.finditer(data):
            frame = _good_at(segment, LogOffset(start + match.start()), data, match.start())
            if frame is not None:
                return frame
        if len(data) < READ_BYTES:
            return None
        start = LogOffset(start + len(data) - _MAGIC_BYTES + 1)
    return None


def _good_at(segment: Segment, offset: LogOffset, data: bytes, at: int) -> Frame | None:
    """The good frame at `offset` of the log, which is at `at` in `data`."""
    position = offset - segment.base
    if len(data) - at < HEADER_BYTES:
        data, at = segment.file.read_wait(position, HEADER_BYTES), 0
    header = decode_header(data, at)
    if header is None or header.offset != offset or header.end > segment.end:
        return None
    if len(data) - at < header.covered_bytes:
        data, at = segment.file.read_wait(position, header.covered_bytes), 0
    return Frame(header, data, at) if checksum_holds(data, at, header) else None


def records_of(frame: Frame) -> Iterator[tuple[int, int, LogOffset]]:
    """(start in `frame.data`, size, log offset) of each record. Raises LogDamaged if they do not fill the frame."""
    header, data = frame.header, frame.data
    if not header.kind.holds_records:
        return
    at, end = frame.at + HEADER_BYTES, frame.at + header.size
    shift = header.offset - frame.at
    for _ in range(header.records):
        size = int.from_bytes(data[at : at + 4], "big") if end - at >= 4 else 0
        if not 8 <= size <= end - at:
            raise LogDamaged(f"the batch at log offset {header.offset} holds records that do not fit, at {shift + at}")
        yield at, size, LogOffset(shift + at)
        at += size
    if at != end:
        raise LogDamaged(f"the batch at log offset {header.offset} has {end - at} bytes behind its last record")
