"""Reads the records of a store, or of one file of its log, for people and programs: `posthouse dump`.

It takes no lock and changes nothing, so it also reads the log of a broker that is running: what it shows of that has
been written, if not yet synced. It goes on behind damage: records that can be recognised in there are shown as such.
What is chosen by topic or key is looked for in the bytes of a whole frame before its records are opened, so a rare
word is found at the speed of the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.codec.record import decode_record, peek_queue_id, peek_stored_at_ms
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk, File
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.message import StoredMessage
from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import START, Position
from posthouse.store.log.scan import Frame, Scan, Why, next_good, records_of
from posthouse.store.log.segments import Segment, segment_bases, segment_name
from posthouse.store.salvage import recognise
from posthouse.store.state_record import STATE_MAGIC, Kind, StateRecord, decode_state_record

MESSAGE = "message"
KINDS = (MESSAGE, *(kind.name.lower() for kind in Kind))
"""Words for kinds of records."""


NO_TIME = EpochMs(0)


class DumpError(Exception):
    """There is nothing to read there; the text is one line for a person."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to show. `until_ms` and `to_offset` are not included. Empty or None: all."""

    topic: str = ""
    queue_id: int | None = None
    key: str = ""
    tag: str = ""
    from_offset: LogOffset = START.offset
    to_offset: LogOffset | None = None
    since_ms: EpochMs | None = None
    until_ms: EpochMs | None = None
    kinds: frozenset[str] = frozenset()

    @property
    def only_messages(self) -> bool:
        return bool(self.topic or self.queue_id is not None or self.key or self.tag)

    def takes_kind(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds

    def takes_message(self, message: StoredMessage) -> bool:
        return (
            self.takes_kind(MESSAGE)
            and (not self.topic or message.topic == self.topic)
            and (self.queue_id is None or message.queue_id == self.queue_id)
            and (not self.tag or message.tag == self.tag)
            and (not self.key or self.key in message.keys or self.key == message.message_id)
            and self._takes_time(message.stored_at_ms)
        )

    def takes_state(self, state: StateRecord) -> bool:
        return (
            not self.only_messages and self.takes_kind(kind_word(state.kind)) and self._takes_time(state.stored_at_ms)
        )

    def _takes_time(self, stored_at_ms: int) -> bool:
        return (self.since_ms is None or stored_at_ms >= self.since_ms) and (
            self.until_ms is None or stored_at_ms < self.until_ms
        )


class Shown(NamedTuple):
    """A record at its place. `is_sure`: its frame is as it was written; else it was only recognised in damage."""

    log_offset: LogOffset
    size: int
    record: StoredMessage | StateRecord
    is_sure: bool = True


class Damage(NamedTuple):
    """Bytes [first, end) of the log that are not as they were written, or are not there."""

    file: str
    first: LogOffset
    end: LogOffset
    why: str


Item = Shown | Frame | Damage


def kind_word(kind: Kind) -> str:
    return kind.name.lower()


class Dump:
    """Reads a store's log from `selection.from_offset` on. `more` can be asked again: it goes on where it ended."""

    def __init__(self, disk: Disk, selection: Selection, *, frames: bool = False) -> None:
        self._disk = disk
        self._selection = selection
        self._chooser = _Chooser(selection, frames)
        self._place: LogOffset | None = None  # after what was read
        self._chain: int | None = None  # what the frame there names as the one before it; None if that is not known
        self.bytes_done = 0
        if not segment_bases(disk):
            raise DumpError(f"there is no log in {disk.place}: is it the data folder of a broker?")

    def more(self, *, follow: bool = False) -> Iterator[Item]:
        """What there is now. With `follow` a bad end is not shown: it may be a write that is under way."""
        bases = segment_bases(self._disk)
        begin = self._selection.from_offset if self._place is None else self._place
        first = max((number for number, base in enumerate(bases) if base <= begin), default=0)
        for number in range(first, len(bases)):
            base, is_last = bases[number], number + 1 == len(bases)
            if self._is_done:
                return
            if self._place is not None and self._place < base:
                yield Damage(segment_name(base), self._place, base, "no file has these bytes")
                self._place = None
            try:
                file = self._disk.open(segment_name(base))
            except FileNotFoundError:
                continue  # retention took it meanwhile
            try:
                end = LogOffset(base + file.size_bytes())
                segment = Segment(base, end if is_last else min(end, bases[number + 1]), file, NO_TIME)
                yield from self._segment(segment, is_open=follow and is_last)
            finally:
                file.close()

    @property
    def _is_done(self) -> bool:
        to = self._selection.to_offset
        return to is not None and self._place is not None and self._place >= to

    def _segment(self, segment: Segment, is_open: bool) -> Iterator[Item]:
        if self._place is None:
            self._place, self._chain = segment.base, None
        for piece in _pieces(segment, self._place, self._chain, is_open):
            if isinstance(piece, Frame):
                self._place, self._chain = piece.header.end, piece.header.chain
                self.bytes_done += piece.header.size
                yield from self._chooser.of_frame(piece)
            else:
                self._place, self._chain = piece.end, None
                yield from self._chooser.of_damage(piece, segment)
            if self._is_done:
                return


def dump_file(
    file: File, selection: Selection, *, frames: bool = False, base: LogOffset | None = None
) -> Iterator[Item]:
    """What one file holds, whatever it is called: frames as far as there are any, and records that can be recognised.

    `base` is the log offset of its first byte; None if that is not known.
    """
    size = file.size_bytes()
    if base is None:
        yield from _recognised(file, None, LogOffset(0), LogOffset(size), selection)
        return
    segment = Segment(base, LogOffset(base + size), file, NO_TIME)
    chooser = _Chooser(selection, frames)
    if next_good(segment, base) is None and next(recognise(file.read_wait, 0, size, base), None) is None:
        yield from _recognised(file, None, LogOffset(0), LogOffset(size), selection)  # its name is not to be trusted
        return
    for piece in _pieces(segment, base, None, is_open=False):
        yield from chooser.of_frame(piece) if isinstance(piece, Frame) else chooser.of_damage(piece, segment)


def _pieces(segment: Segment, place: LogOffset, chain: int | None, is_open: bool) -> Iterator[Frame | Damage]:
    """The frames from `place` on and what lies between them; a bad end is left out if it `is_open`."""
    while place < segment.end:
        if chain is None:
            there = next_good(segment, place)
            chain = there.header.previous if there is not None and there.header.offset == place else 0
        scan = Scan(segment, Position(place, chain))
        yield from scan
        place = scan.position.offset
        if scan.flaw is None or (scan.flaw.why is Why.AFTER_END and is_open):
            return
        behind = next_good(segment, place)
        if behind is None and is_open:
            return
        end = segment.end if behind is None else behind.header.offset
        if end > place:
            yield Damage(segment.file.name, place, end, scan.flaw.text)
        place, chain = end, None


class _Chooser:
    """Gives of frames and of damage what is wanted."""

    def __init__(self, selection: Selection, frames: bool) -> None:
        self._selection = selection
        self._frames = frames
        words = [selection.topic, selection.tag, selection.key]
        if _is_message_id(selection.key):  # the id may be that of the record's place, which is not in it as text
            words.pop()
        self._needles = tuple(word.encode() for word in words if word)

    def of_frame(self, frame: Frame) -> Iterator[Item]:
        header, selection = frame.header, self._selection
        to = selection.to_offset
        if header.end <= selection.from_offset or (to is not None and header.offset >= to):
            return
        if self._frames:
            yield frame
        if not header.kind.holds_records or not self._may_be_in(frame.data, frame.at, frame.at + header.size):
            return
        for at, size, log_offset in records_of(frame):
            if log_offset >= selection.from_offset and (to is None or log_offset < to):
                record = self._chosen(frame.data, at, size)
                if record is not None:
                    yield Shown(log_offset, size, record)

    def of_damage(self, damage: Damage, segment: Segment) -> Iterator[Item]:
        if damage.end > self._selection.from_offset:
            yield damage
            yield from _recognised(segment.file, segment.base, damage.first, damage.end, self._selection)

    def _may_be_in(self, data: bytes, start: int, end: int) -> bool:
        return all(data.find(needle, start, end) >= 0 for needle in self._needles)

    def _chosen(self, data: bytes, at: int, size: int) -> StoredMessage | StateRecord | None:
        """The record at `at`, opened only if what is seen at a glance is wanted. Raises RecordError, UnknownRecord."""
        selection = self._selection
        if int.from_bytes(data[at + 4 : at + 8], "big") == STATE_MAGIC:
            if selection.only_messages:
                return None
            state = decode_state_record(data, at)
            return state if state is not None and selection.takes_state(state) else None
        if not selection.takes_kind(MESSAGE):
            return None
        if selection.queue_id is not None and peek_queue_id(data, at) != selection.queue_id:
            return None
        if selection.since_ms is not None and peek_stored_at_ms(data, at) < selection.since_ms:
            return None
        if not self._may_be_in(data, at, at + size):
            return None
        message = decode_record(data, at)
        return message if selection.takes_message(message) else None


def _is_message_id(key: str) -> bool:
    try:
        parse_offset_message_id(key)
    except ValueError:
        return False
    return True


def _recognised(
    file: File, base: LogOffset | None, first: LogOffset, end: LogOffset, selection: Selection
) -> Iterator[Shown]:
    shift = base or LogOffset(0)
    for found in recognise(file.read_wait, first - shift, end - shift, base):
        record = found.record
        takes = selection.takes_message(record) if isinstance(record, StoredMessage) else selection.takes_state(record)
        if takes:
            yield Shown(LogOffset(shift + found.at), found.size, record, is_sure=False)
