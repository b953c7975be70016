"""Recognises records in bytes that cannot be trusted: damaged stretches of the log, files that a repair put aside.

Nothing vouches for such bytes but the records themselves, so one counts only if all of it fits together: sizes, its
own log offset, the checksum of its body, a topic that is text. What a record does not protect (its properties, its
times) may still be wrong; who shows it says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from posthouse.codec.record import MAGIC_V1, MAGIC_V2, RecordError, decode_record, peek_log_offset
from posthouse.model.limits import MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX
from posthouse.model.message import StoredMessage
from posthouse.model.offsets import LogOffset
from posthouse.store.log.segments import Segment
from posthouse.store.state_record import STATE_MAGIC, StateRecord, UnknownRecord, decode_state_record

WINDOW_BYTES = 32 * 1024 * 1024
"""Looked at in one go."""
TOPICS_SHOWN = 5
_RECORD_BYTES_MAX = MESSAGE_BYTES_MAX + 2 * PROPERTIES_BYTES_MAX + 4096
_STATE_BYTES_MIN = 32
_MAGICS = re.compile(b"|".join(re.escape(magic.to_bytes(4, "big")) for magic in (MAGIC_V1, MAGIC_V2, STATE_MAGIC)))

ReadAt = Callable[[int, int], bytes]
"""(position, size) -> the bytes there, fewer at the end."""


class Recognised(NamedTuple):
    """A record that was found at byte `at`, `size` bytes long."""

    at: int
    size: int
    record: StoredMessage | StateRecord


def recognise(read: ReadAt, begin: int, end: int, base: LogOffset | None) -> Iterator[Recognised]:
    """The records in bytes [begin, end), in order. `base` is the log offset of byte 0.

    Without `base` a record may be of any place of the log.
    """
    at = begin
    while at < end:
        data = read(at, min(WINDOW_BYTES, end - at))
        if not data:
            return
        is_last = at + len(data) >= end
        # A record that begins near the end of the window may go on behind it: it is found by the next one.
        limit = len(data) if is_last else max(len(data) - _RECORD_BYTES_MAX, 1)
        done = 0
        while (found := _MAGICS.search(data, done + 4)) is not None and found.start() - 4 < limit:
            start = found.start() - 4
            record = _record_at(data, start, None if base is None else LogOffset(base + at + start))
            if record is None:
                done = start + 1
            else:
                size = int.from_bytes(data[start : start + 4], "big")
                yield Recognised(at + start, size, record)
                done = start + size
        at += max(done, limit)


def _record_at(data: bytes, start: int, log_offset: LogOffset | None) -> StoredMessage | StateRecord | None:
    if int.from_bytes(data[start + 4 : start + 8], "big") == STATE_MAGIC:
        return _state_at(data, start, log_offset)
    if log_offset is not None and (len(data) - start < 36 or peek_log_offset(data, start) != log_offset):
        return None
    try:
        return decode_record(data, start, check_crc=True)
    except RecordError:
        return None


def _state_at(data: bytes, start: int, log_offset: LogOffset | None) -> StateRecord | None:
    size = int.from_bytes(data[start : start + 4], "big")
    if not _STATE_BYTES_MIN <= size <= len(data) - start:
        return None
    try:
        state = decode_state_record(data, start)
    except (UnknownRecord, ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if state is None or (log_offset is not None and state.log_offset != log_offset):
        return None
    return state


def messages_by_topic(segment: Segment, first: LogOffset, end: LogOffset) -> Counter[str]:
    """How many messages of each topic can be recognised in [first, end) of the log, as far as the file has it."""
    found: Counter[str] = Counter()
    for each in recognise(segment.file.read_wait, first - segment.base, end - segment.base, segment.base):
        if isinstance(each.record, StoredMessage):
            found[each.record.topic] += 1
    return found


def in_words(topics: Mapping[str, int]) -> str:
    """As "12 messages (orders 10, mail 2)"."""
    total = sum(topics.values())
    listed = [f"{name} {count}" for name, count in sorted(topics.items(), key=lambda item: -item[1])]
    shown = ", ".join(listed[:TOPICS_SHOWN]) + (", ..." if len(listed) > TOPICS_SHOWN else "")
    return f"{total} message{'s' if total != 1 else ''}" + (f" ({shown})" if shown else "")
