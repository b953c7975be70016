"""Surveys a whole log, damage and all: every byte of it as one piece after another. For check and repair.

A start must stop at the first frame that it cannot believe; a survey goes on behind it with the next frame that is
good by itself. It tells a torn tail from damage as a start does: bytes that are bad had been on disk if a good frame
further on says so, or if a snapshot was made after them; otherwise they are the rest of a write that a crash
interrupted, and so is everything behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from posthouse.host.disk import Disk
from posthouse.model.offsets import LogOffset
from posthouse.store.log.batch import FrameKind
from posthouse.store.log.engine import START, Position
from posthouse.store.log.scan import Frame, Scan, Why, ends_with_mark, next_good
from posthouse.store.log.segments import Segment, open_segments


class Kept(NamedTuple):
    """A frame that is as it was written."""

    segment: Segment
    frame: Frame


class Gone(NamedTuple):
    """Bytes [first, end) of the log that had been on disk and are not as they were written.

    They belong into the file of `base`. As far as they are there at all (below `there`), `segment` has them. `frames`
    are good by themselves, but what follows was not written after them.
    """

    base: LogOffset
    first: LogOffset
    end: LogOffset
    there: LogOffset
    segment: Segment
    why: str
    frames: int = 0


class Tail(NamedTuple):
    """The rest of a write that was never acknowledged, up to the end of what is there; the next start cuts it."""

    segment: Segment
    first: LogOffset
    end: LogOffset
    why: str


class Excess(NamedTuple):
    """Bytes of a file behind the place where the next segment begins: [first, end) as the file counts."""

    segment: Segment
    first: LogOffset
    end: LogOffset


class Foreign(NamedTuple):
    """A file that is named as a segment and is none of this log."""

    segment: Segment
    why: str


class NextMissing(NamedTuple):
    """The newest file ends with an end mark, so another one followed it: that one is not there."""

    segment: Segment
    base: LogOffset


class Unused(NamedTuple):
    """An empty newest file: a segment was about to begin."""

    segment: Segment


Piece = Kept | Gone | Tail | Excess | Foreign | NextMissing | Unused


class Survey:
    """Iterate once. `position` is where the good part of the log ends so far. Waits for the disk; raises OSError.

    `vouched` is the log offset of the newest valid snapshot: everything below it had been on disk.
    """

    def __init__(self, disk: Disk, vouched: LogOffset = START.offset) -> None:
        self._vouched = vouched
        self._foreign: list[Foreign] = []
        self.opened = open_segments(disk)
        self.segments = self._credible(self.opened)
        self.position = START
        self._held: list[Kept] = []  # the newest frame, or the frames of an opening that is not whole yet
        self._fresh = True  # the next frame need not follow from anything

    @property
    def total_bytes(self) -> int:
        return sum(segment.end - segment.base for segment in self.segments)

    def close(self) -> None:
        for segment in self.opened:
            segment.file.close()

    def _credible(self, segments: list[Segment]) -> list[Segment]:
        """The files that are part of this log; the others become foreign."""
        found: list[Segment] = []
        for segment in segments:
            before = found[-1] if found else None
            why = None
            if before is not None and segment.end > segment.base:
                if segment.base < before.end and next_good(before, segment.base) is not None:
                    why = f"what it should hold is in {before.file.name} already"
                elif segment.base != before.end and next_good(segment, segment.base) is None:
                    why = "nothing in it belongs where its name says"
            elif before is not None and segment.base < before.end:
                why = "it is empty, and the segment before it goes on where it should begin"
            if why is None:
                found.append(segment)
            else:
                self._foreign.append(Foreign(segment, why))
        return found

    def __iter__(self) -> Iterator[Piece]:
        yield from self._foreign
        if self.segments:
            self.position = Position(self.segments[0].base, 0)
            self._fresh = self.segments[0].base != START.offset
        for number, segment in enumerate(self.segments):
            is_last = number + 1 == len(self.segments)
            unused = self._unused_behind(number)
            follower = segment.end if is_last or unused is not None else self.segments[number + 1].base
            torn = False
            for piece in self._segment(number, replace(segment, end=min(segment.end, follower))):
                torn = torn or isinstance(piece, Tail)
                yield piece
            if torn:
                return
            if unused is not None:
                yield from self._at_the_end()
                yield Unused(unused)
                return
            if not is_last:
                yield from self._between(segment, follower)
        yield from self._at_the_end()

    # One segment

    def _segment(self, number: int, segment: Segment) -> Iterator[Piece]:
        """The pieces of [segment.base, segment.end)."""
        while self.position.offset < segment.end:
            if self._fresh:
                self._follow_what_is_there(segment)
            scan = Scan(segment, self.position)
            for frame in scan:
                self._fresh = False
                yield from self._take(Kept(segment, frame))
            if scan.flaw is None or scan.flaw.why is Why.AFTER_END:
                return
            bad = self.position.offset
            if not self._is_vouched(number, bad):
                yield from self._tail(segment, bad, scan.flaw.text)
                return
            self._fresh = True
            if scan.flaw.why is Why.BROKEN_CHAIN and self._held:
                last = self._held.pop()
                yield from self._let_go()
                yield self._stale(last, bad, scan.flaw.text)
                continue
            yield from self._let_go()
            behind = next_good(segment, LogOffset(bad + 1))
            end = segment.end if behind is None else behind.header.offset
            yield Gone(segment.base, bad, end, end, segment, scan.flaw.text)
            self.position = Position(end, 0)

    def _follow_what_is_there(self, segment: Segment) -> None:
        """Takes the chain from the frame that is at the position, if a good one is."""
        at = self.position.offset
        found = next_good(segment, at)
        if found is not None and found.header.offset == at:
            self.position = Position(at, found.header.previous, found.header.epoch)

    def _take(self, kept: Kept) -> Iterator[Piece]:
        opens = kept.frame.kind is FrameKind.OPENING
        if not (opens and self._held and self._held[-1].frame.kind is FrameKind.OPENING):
            yield from self._let_go()
        self._held.append(kept)
        self.position = kept.frame.after

    def _let_go(self) -> Iterator[Piece]:
        held, self._held = self._held, []
        yield from held

    def _stale(self, last: Kept, end: LogOffset, why: str) -> Gone:
        """A frame that is good by itself, but the one behind it was written after another one."""
        header = last.frame.header
        self.position = Position(end, 0)
        return Gone(last.segment.base, header.offset, end, end, last.segment, why, frames=1)

    def _is_vouched(self, number: int, bad: LogOffset) -> bool:
        """Whether the bytes at `bad` had been on disk: who came later says so."""
        if bad < self._vouched or any(later.end > later.base for later in self.segments[number + 1 :]):
            return True
        segment, at = self.segments[number], bad
        while (frame := next_good(segment, at)) is not None:
            if frame.kind is not FrameKind.GAP and bad < frame.header.durable <= frame.header.offset:
                return True
            at = frame.header.end
        return False

    def _tail(self, segment: Segment, bad: LogOffset, why: str) -> Iterator[Piece]:
        if self._held and self._held[-1].frame.kind is FrameKind.OPENING:
            first = self._held[0]
            segment, bad = first.segment, first.frame.header.offset
            self.position = Position(bad, first.frame.header.previous, self.position.epoch)
            self._held = []
        yield from self._let_go()
        yield Tail(segment, bad, LogOffset(max(each.end for each in self.segments)), why)

    # From one segment to the next, and the end

    def _between(self, segment: Segment, follower: LogOffset) -> Iterator[Piece]:
        """What lies between the end of a segment and the beginning of the next file."""
        ended = bool(self._held) and self._held[-1].frame.kind in (FrameKind.END, FrameKind.GAP)
        end = self.position.offset
        marked = bool(self._held) and self._held[-1].frame.kind is FrameKind.END
        cut_at = end if marked else follower
        if segment.end > cut_at:
            yield Excess(segment, cut_at, segment.end)
        if end == follower:
            if self._held and not ended:
                last = self._held.pop()
                yield from self._let_go()
                yield self._stale(last, end, "there is no end mark behind this frame, and another segment follows")
                self._fresh = True
            return
        yield from self._let_go()
        if marked:
            yield Gone(end, end, follower, end, segment, "the file of this segment is missing")
        else:
            yield Gone(segment.base, end, follower, end, segment, "the file ends before the next one begins")
        self.position = Position(follower, 0)
        self._fresh = True

    def _unused_behind(self, number: int) -> Segment | None:
        """The newest file, if it is an empty one behind this segment that no end mark promises."""
        if number + 2 != len(self.segments):
            return None
        segment, last = self.segments[number:]
        promised = segment.end == last.base and ends_with_mark(segment) is not None
        return last if last.end == last.base >= segment.end and not promised else None

    def _at_the_end(self) -> Iterator[Piece]:
        if not self._held:
            return
        last = self._held[-1]
        if last.frame.kind is FrameKind.OPENING:
            yield from self._tail(last.segment, last.frame.header.offset, "the opening of the segment is not whole")
            return
        yield from self._let_go()
        end, newest = last.frame.header.end, self.segments[-1]
        if last.frame.kind is FrameKind.END and newest.base < end:
            if newest.end > end:
                yield Excess(newest, end, newest.end)
            yield NextMissing(last.segment, end)
