"""Recovery: finds the segments, believes what can be believed, cuts a torn tail, and refuses damage.

A commit that a crash interrupted can only be the last thing in the log, because the next segment gets its first byte
after the end mark before it is durable. So what cannot be believed is a torn tail only in the last segment that has
bytes, and only if no good frame behind it says that those bytes had been durable. Everything else is damage: nothing
is changed, and a person is told which file, which byte, what is wrong and what to do.

What an interrupted roll may leave: the empty file of the next segment, with or without the end mark before it. With
it the log goes on in that file; without it the file is removed.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import NamedTuple, NoReturn

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk
from posthouse.model.offsets import LogOffset
from posthouse.store.log.batch import FrameKind
from posthouse.store.log.engine import START, LogDamaged, OnGap, OnRecord, Position, Recovered
from posthouse.store.log.format import check_format
from posthouse.store.log.scan import (
    READ_BYTES,
    Flaw,
    Frame,
    Scan,
    Why,
    ends_with_mark,
    first_frame,
    next_good,
    records_of,
)
from posthouse.store.log.segments import Segment, open_segments, segment_name

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """The segments as they are believed to follow one another, and where the first begins."""

    segments: list[Segment]
    begin: Position
    unfinished: Segment | None
    """An empty file that an interrupted roll left behind the last segment."""


def find_segments(disk: Disk) -> Found:
    """Opens the log: segments that follow one another, each but the last with a good first frame. Changes nothing,
    but writes the format into a folder without a log. Raises LogDamaged, OSError.
    """
    check_format(disk)
    segments = open_segments(disk)
    try:
        return _checked(disk, segments)
    except (LogDamaged, OSError):
        for segment in segments:
            segment.file.close()
        raise


def _checked(disk: Disk, segments: list[Segment]) -> Found:
    unfinished: Segment | None = None
    if len(segments) > 1:
        before, last = segments[-2:]
        if last.end == last.base >= before.end and ends_with_mark(before) is None:
            unfinished = segments.pop()
    for before, after in pairwise(segments):
        if before.end != after.base:
            _refuse(
                disk,
                f"{after.file.name} begins at log offset {after.base}, but {before.file.name} ends at {before.end}: "
                f"a segment is missing, cut or doubled",
            )
    begin = START
    for at, segment in enumerate(segments):
        first = first_frame(segment)
        if isinstance(first, Frame):
            segment.begun_at_ms = first.header.stored_at_ms
            if at == 0 and segment.base:
                begin = Position(segment.base, first.header.previous, first.header.epoch)
        elif at + 1 < len(segments) or (at == 0 and segment.base):
            _refuse(disk, _where(segment, segment.base, first))
    return Found(segments, begin, unfinished)


class Recovery:
    """One pass over the log after a position. `recover` returns when the log is ready to be appended to."""

    def __init__(self, disk: Disk, found: Found, on_record: OnRecord, on_gap: OnGap) -> None:
        self._disk = disk
        self._segments = found.segments
        self._begin = found.begin
        self._unfinished = found.unfinished
        self._on_record = on_record
        self._on_gap = on_gap
        self._opening: list[Frame] = []
        self._opening_begins = START
        self._records = 0
        self._last_kind: FrameKind | None = None
        self._durable = START.offset  # the last frame says that everything below was synced when it was written
        self.stored_at_ms = EpochMs(0)

    def run(self, after: Position) -> Recovered:
        """Raises LogDamaged, OSError."""
        segments = self._segments
        begin, end = self._begin.offset, segments[-1].end if segments else START.offset
        if not begin <= after.offset <= end:
            _refuse(
                self._disk,
                f"the newest snapshot is of log offset {after.offset}, but the log holds {begin} to {end}: "
                f"segments are missing",
            )
        position, flaw, self._durable = after, None, after.offset
        for at, segment in enumerate(segments):
            if segment.end <= position.offset and at + 1 < len(segments):
                continue
            position, flaw = self._scan(segment, position)
            if flaw is not None:
                self._check_torn(at, position, flaw)
                break
            if at + 1 < len(segments) and self._last_kind not in (FrameKind.END, FrameKind.GAP):
                _refuse(
                    self._disk,
                    f"{segment.file.name} has no end mark at log offset {position.offset} (byte "
                    f"{position.offset - segment.base} of the file), but {segments[at + 1].file.name} follows",
                )
        self._check_nothing_follows(position)
        cut_bytes = self._make_ready(position, flaw)
        return Recovered(position if not self._opening else self._opening_begins, cut_bytes, self._records)

    def _scan(self, segment: Segment, position: Position) -> tuple[Position, Flaw | None]:
        """Replays a segment from `position` on; where belief ends, and why if that is not at the segment's end."""
        scan = Scan(segment, position)
        self._last_kind = None
        for frame in scan:
            self._last_kind = frame.kind
            if frame.kind is not FrameKind.GAP:
                self._durable = max(self._durable, frame.header.durable)
            if frame.kind is FrameKind.OPENING:
                if not self._opening:
                    self._opening_begins = position
                self._opening.append(frame)
            else:
                for held in self._opening:
                    self._replay(segment, held)
                self._opening.clear()
                self._replay(segment, frame)
            position = scan.position
        return position, scan.flaw

    def _replay(self, segment: Segment, frame: Frame) -> None:
        header = frame.header
        if frame.kind is FrameKind.GAP:
            log.warning("log offsets %d to %d are a gap: a repair could not save them", header.offset, header.end)
            self._on_gap(header.offset, header.end)
            return
        try:
            records = list(records_of(frame))
        except LogDamaged as error:
            _refuse(self._disk, f"{segment.file.name} is damaged: {error}")
        for at, size, offset in records:
            self._on_record(frame.data, at, size, offset)
        self._records += header.records
        self.stored_at_ms = max(self.stored_at_ms, header.stored_at_ms)

    def _check_torn(self, at: int, position: Position, flaw: Flaw) -> None:
        """Raises LogDamaged if what is at `position` had been durable once."""
        segment = self._segments[at]
        if flaw.why is Why.AFTER_END:
            _refuse(self._disk, _where(segment, position.offset, flaw))
        if any(later.end > later.base for later in self._segments[at + 1 :]):
            follows = self._segments[at + 1].base
        else:
            good = next_good(segment, LogOffset(position.offset + 1))
            while good is not None and not _says_durable(good, position.offset):
                good = next_good(segment, good.header.end)
            if good is None:
                return
            follows = good.header.offset
        where = _where(segment, position.offset, flaw)
        _refuse(self._disk, f"{where}; these bytes had been on disk, and good ones follow at {follows}")

    def _check_nothing_follows(self, position: Position) -> None:
        """Raises LogDamaged if the log ends with an end mark and the file that it promises is not there."""
        if not self._segments:
            return
        last = self._segments[-1]
        if position.offset != last.end or last.end == last.base:
            return
        mark = ends_with_mark(last)
        if mark is not None and mark.checksum == position.checksum:
            _refuse(
                self._disk,
                f"{last.file.name} ends with an end mark, so {segment_name(last.end)} was there: a segment is missing",
            )

    def _make_ready(self, position: Position, flaw: Flaw | None) -> int:
        """Cuts what is after `position`, and an opening that is not whole. How many bytes were cut.

        What survived the process before may not have reached the disk yet, and new frames will say that it has. A sync
        is not enough: if one has failed, the system takes bytes for written that never were. So they are written again.
        """
        segments = self._segments
        if self._unfinished is not None:
            self._remove(self._unfinished)
        if flaw is not None and len(segments) > 1 and position.offset < segments[-1].base:
            self._remove(segments.pop())
        if not segments:
            return 0
        last = segments[-1]
        end = self._opening_begins.offset if self._opening else position.offset
        cut_bytes = last.end - end
        if cut_bytes:
            why = flaw.text if flaw is not None else "the opening of the segment is not whole"
            log.warning(
                "%s: cut %d bytes after log offset %d: the tail of a write that a crash interrupted, never "
                "acknowledged (%s)",
                last.file.name,
                cut_bytes,
                end,
                why,
            )
        last.file.truncate(end - last.base)
        last.end = end
        for segment in segments[-2:] if end == last.base else [last]:
            self._write_again(segment)
        if end == last.base:
            last.begun_at_ms = EpochMs(0)
        return cut_bytes

    def _write_again(self, segment: Segment) -> None:
        start = max(segment.base, self._durable)
        while start < segment.end:
            data = segment.file.read_wait(start - segment.base, min(READ_BYTES, segment.end - start))
            segment.file.write_wait(start - segment.base, data)
            start = LogOffset(start + len(data))

    def _remove(self, segment: Segment) -> None:
        log.info("%s: removed an empty file that an interrupted roll left", segment.file.name)
        segment.file.close()
        self._disk.remove(segment.file.name, sync=True)


def _says_durable(frame: Frame, bad: LogOffset) -> bool:
    """Whether a good frame was written when bytes beyond `bad` were durable."""
    header = frame.header
    return frame.kind is not FrameKind.GAP and bad < header.durable <= header.offset


def _where(segment: Segment, offset: LogOffset, flaw: Flaw) -> str:
    return (
        f"{segment.file.name} is damaged at log offset {offset} (byte {offset - segment.base} of the file): {flaw.text}"
    )


def _refuse(disk: Disk, what: str) -> NoReturn:
    raise LogDamaged(
        f"{what}. Nothing was changed. `posthouse check {disk.place}` shows what is damaged; "
        f"`posthouse repair {disk.place}` moves what cannot be saved into a .lost file"
    )
