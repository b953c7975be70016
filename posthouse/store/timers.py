"""Messages that are due later, as a fold over the log: which wait, until when, and where their records are.

A delayed message is a record in one of the timer topics, with its due time as a property (TIMER_OUT_MS). It waits from
its commit until a record that replaces it is committed: one whose `prepared transaction offset` is its log offset.
That is the message itself in its real topic when it is due; or a copy in the timer topic, when the segment that it is
in must go; or a state record says that it ended. So firing is one record: there is no moment at which a message is
neither waiting nor delivered, or both.

Pending ones are not in openings: before a segment goes, those in it are carried forward (`store.carrying`).

Two views. Who takes an entry out, to deliver or to carry it, has it until its replacement is committed; snapshots
have it as waiting until then.

Memory: 14 bytes for each, in buckets. Far away a bucket is a stretch of ten minutes; one that comes near is poured into
buckets of one tick (100 ms), in portions, so that a tick is ready when its time comes. Entries that are struck out
elsewhere than at the front of their bucket are noted as gone, and dropped on the way.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from posthouse.host.clock import EpochMs
from posthouse.model.delays import TICK_MS
from posthouse.model.names import TIMER_TOPICS
from posthouse.model.offsets import LogOffset
from posthouse.store.state_record import Kind

STRETCH_MS = 600_000
TICKS_PER_STRETCH = STRETCH_MS // TICK_MS
NEAR_STRETCHES = 2
"""The one that is now, and the one after it: these are poured."""
_ENTRY = struct.Struct(">HQI")  # tick in its stretch, log offset, size
ENTRY_BYTES = _ENTRY.size
_GONE_MIN = 64
"""Below so many it is not worth the while to write a bucket anew."""
_NEVER = 1 << 62


class Waiting(NamedTuple):
    """A delayed message: when it is due, and the place of its record."""

    due_ms: EpochMs
    log_offset: LogOffset
    size: int


class _Bucket:
    """Entries in the order in which they were added. `version` changes when those that stay move."""

    __slots__ = ("entries", "gone", "version")

    def __init__(self) -> None:
        self.entries = bytearray()
        self.gone: set[int] | None = None
        self.version = 0

    def __len__(self) -> int:
        return max(0, len(self.entries) // ENTRY_BYTES - len(self.gone or ()))

    def strike(self, log_offset: int) -> None:
        gone = self.gone
        if gone is None:
            gone = self.gone = set()
        gone.add(log_offset)
        size = len(gone) * ENTRY_BYTES
        if size >= len(self.entries) or (len(gone) >= _GONE_MIN and 2 * size > len(self.entries)):
            self.drop_gone()

    def drop_gone(self) -> None:
        if self.gone:
            gone = self.gone
            kept = [_ENTRY.pack(*each) for each in _ENTRY.iter_unpack(self.entries) if each[1] not in gone]
            self.entries[:] = b"".join(kept)
            self.gone = None
            self.version += 1

    def take(self, count: int) -> list[tuple[int, int, int]]:
        """The first `count` entries, without those that are gone."""
        size = count * ENTRY_BYTES
        first = self.entries[:size]
        del self.entries[:size]
        self.version += 1
        found: list[tuple[int, int, int]] = list(_ENTRY.iter_unpack(first))
        if self.gone:
            there = {each[1] for each in found}
            found = [each for each in found if each[1] not in self.gone]
            self.gone -= there
        return found


class _Shelf:
    """Buckets by the number of their stretch or tick."""

    def __init__(self) -> None:
        self.buckets: dict[int, _Bucket] = {}
        self._order: list[int] = []  # a heap

    @property
    def first(self) -> int | None:
        """The number of the earliest bucket."""
        while self._order and self._order[0] not in self.buckets:
            heapq.heappop(self._order)
        return self._order[0] if self._order else None

    def add(self, number: int, entry: bytes) -> None:
        bucket = self.buckets.get(number)
        if bucket is None:
            bucket = self.buckets[number] = _Bucket()
            heapq.heappush(self._order, number)
        bucket.entries += entry

    def drop_if_empty(self, number: int) -> None:
        bucket = self.buckets.get(number)
        if bucket is not None and not bucket.entries:
            del self.buckets[number]

    def strike(self, number: int, log_offset: int) -> None:
        bucket = self.buckets.get(number)
        if bucket is not None:
            bucket.strike(log_offset)
            self.drop_if_empty(number)


class Timers:
    """See the module's text. `on_sooner` is called when something is added that is due before `alarm_ms`."""

    kinds = (Kind.TIMERS_ENDED,)

    def __init__(self) -> None:
        self._near = _Shelf()  # by tick
        self._far = _Shelf()  # by stretch
        self._poured = 0  # stretches below it are on the near shelf
        self._taken: dict[LogOffset, Waiting] = {}
        self.floor = LogOffset(0)
        """Where the log begins that was replayed, if no snapshot was: what is below it is not known here."""
        self.given_back = LogOffset(_NEVER)
        """The lowest place of what was given back since `watch_given_back`."""
        self.alarm_ms = 0
        self.on_sooner: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        """How many wait, those that are being delivered included. Walks the buckets."""
        shelves = (self._near, self._far)
        return len(self._taken) + sum(len(bucket) for shelf in shelves for bucket in shelf.buckets.values())

    @property
    def is_empty(self) -> bool:
        return not (self._taken or self._near.buckets or self._far.buckets)

    # The fold

    @staticmethod
    def ended_body(ended: Iterable[Waiting]) -> object:
        return {"ended": [[each.due_ms, each.log_offset] for each in ended]}

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        pass  # who takes one out says so himself

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        for due_ms, ended in msgspec.convert(body["ended"], list[tuple[int, int]]):
            self._remove(due_ms, LogOffset(ended))

    def apply_message(self, topic: str, log_offset: LogOffset, size: int, due_ms: int, replaces: LogOffset) -> None:
        """A message with a due time is committed: it waits, or it is what replaces one that did."""
        if replaces and due_ms:
            self._remove(due_ms, replaces)
        if due_ms and topic in TIMER_TOPICS:
            self._add(Waiting(EpochMs(due_ms), log_offset, size))
            if due_ms < self.alarm_ms:
                self.on_sooner()

    def _add(self, waiting: Waiting) -> None:
        tick = -(-waiting.due_ms // TICK_MS)
        stretch, tick_in_stretch = divmod(tick, TICKS_PER_STRETCH)
        entry = _ENTRY.pack(tick_in_stretch, waiting.log_offset, waiting.size)
        if stretch < self._poured:
            self._near.add(tick, entry)
        else:
            self._far.add(stretch, entry)

    def _remove(self, due_ms: int, log_offset: LogOffset) -> None:
        if self._taken.pop(log_offset, None) is not None or log_offset < self.floor:
            return
        tick = -(-due_ms // TICK_MS)
        self._near.strike(tick, log_offset)
        self._far.strike(tick // TICKS_PER_STRETCH, log_offset)

    def snapshot(self) -> list[tuple[int, bytes]]:
        """(stretch, its entries) of all that wait, also of those that are taken."""
        found: dict[int, list[bytes]] = {}
        for shelf, per_stretch in ((self._near, TICKS_PER_STRETCH), (self._far, 1)):
            for number, bucket in sorted(shelf.buckets.items()):
                bucket.drop_gone()
                found.setdefault(number // per_stretch, []).append(bytes(bucket.entries))
        for due_ms, log_offset, size in self._taken.values():
            stretch, tick = divmod(-(-due_ms // TICK_MS), TICKS_PER_STRETCH)
            found.setdefault(stretch, []).append(_ENTRY.pack(tick, log_offset, size))
        return [(stretch, data) for stretch, pieces in found.items() if (data := b"".join(pieces))]

    def restore(self, state: Any) -> None:
        """For an empty fold: nothing is near yet."""
        for stretch, data in msgspec.convert(state, list[tuple[int, bytes]]):
            self._far.add(stretch, data)

    def entries(self) -> list[Waiting]:
        """All that wait, in the order of their due times and places. For tests and tools."""
        return sorted(entries_of(self.snapshot()))

    # Delivering

    def pour(self, now_ms: int, count: int) -> bool:
        """Pours up to `count` entries of the earliest stretch that is near; True if there is more to pour."""
        near = now_ms // STRETCH_MS + NEAR_STRETCHES
        stretch = self._far.first
        if stretch is None or stretch >= near:
            self._poured = max(self._poured, near)
            return False
        bucket = self._far.buckets[stretch]
        begin = stretch * TICKS_PER_STRETCH
        for tick, log_offset, size in bucket.take(count):
            self._near.add(begin + tick, _ENTRY.pack(tick, log_offset, size))
        if not bucket.entries:
            del self._far.buckets[stretch]
            self._poured = max(self._poured, stretch + 1)
        return True

    def has_late_stretches(self, now_ms: int) -> bool:
        """Whether something that may be due is not poured yet."""
        stretch = self._far.first
        return stretch is not None and stretch <= now_ms // STRETCH_MS

    def take(self, now_ms: int, count: int) -> list[Waiting]:
        """Up to `count` that are due, the earliest first. Each is the taker's until its replacement is committed."""
        found: list[Waiting] = []
        while len(found) < count and (tick := self._near.first) is not None and tick * TICK_MS <= now_ms:
            due_ms = EpochMs(tick * TICK_MS)
            for _, log_offset, size in self._near.buckets[tick].take(count - len(found)):
                waiting = Waiting(due_ms, LogOffset(log_offset), size)
                self._taken[waiting.log_offset] = waiting
                found.append(waiting)
            self._near.drop_if_empty(tick)
        return found

    def next_ms(self) -> int:
        """When to look again: what is near is due, or a stretch comes near. Far in the future if nothing waits."""
        tick, stretch = self._near.first, self._far.first
        return min(
            _NEVER if tick is None else tick * TICK_MS,
            _NEVER if stretch is None else (stretch - NEAR_STRETCHES + 1) * STRETCH_MS,
        )

    def first_due_ms(self) -> int | None:
        """When the first one that waits is due, to ten minutes if that is far away; None if nothing waits."""
        found = [each.due_ms for each in self._taken.values()]
        if (tick := self._near.first) is not None:
            found.append(EpochMs(tick * TICK_MS))
        if (stretch := self._far.first) is not None:
            found.append(EpochMs(stretch * STRETCH_MS))
        return min(found, default=None)

    # Carrying forward

    def take_below(self, log_offset: LogOffset, count: int) -> Iterator[list[Waiting]]:
        """Takes out all whose records are below `log_offset`, looking at `count` entries for each list that it gives.

        Whoever iterates may wait between two lists, while others add and take. What others took is not given.
        """
        for shelf, per_number in (
            (self._far, STRETCH_MS),
            (self._near, TICK_MS),
        ):  # what is poured goes from far to near
            for number in list(shelf.buckets):
                bucket = shelf.buckets.get(number)
                at, version = 0, -1
                while bucket is not None and at < len(bucket.entries):
                    if bucket.version != version:
                        at, version = 0, bucket.version
                    size = len(bucket.entries)
                    found = self._take_below(bucket, number * per_number, log_offset, at, count)
                    at += count * ENTRY_BYTES - (size - len(bucket.entries))
                    if not bucket.entries:
                        shelf.drop_if_empty(number)
                    yield found
                    bucket = shelf.buckets.get(number)

    def _take_below(self, bucket: _Bucket, begin_ms: int, log_offset: int, at: int, count: int) -> list[Waiting]:
        portion = bucket.entries[at : at + count * ENTRY_BYTES]
        stretch_ms = begin_ms // STRETCH_MS * STRETCH_MS
        kept = bytearray()
        found: list[Waiting] = []
        for entry in _ENTRY.iter_unpack(portion):
            tick, place, size = entry
            if place >= log_offset:
                kept += _ENTRY.pack(*entry)
            elif bucket.gone and place in bucket.gone:
                bucket.gone.discard(place)
            else:
                waiting = Waiting(EpochMs(stretch_ms + tick * TICK_MS), LogOffset(place), size)
                self._taken[waiting.log_offset] = waiting
                found.append(waiting)
        if len(kept) < len(portion):
            bucket.entries[at : at + len(portion)] = kept
        return found

    def give_back(self, waiting: Waiting) -> None:
        """It was taken and is not replaced: it waits again."""
        if self._taken.pop(waiting.log_offset, None) is not None:
            self.given_back = min(self.given_back, waiting.log_offset)
            self._add(waiting)

    def watch_given_back(self) -> None:
        """From now on `given_back` counts."""
        self.given_back = LogOffset(_NEVER)

    def is_taken_below(self, log_offset: LogOffset) -> bool:
        """Whether somebody has one whose record is below `log_offset`, and its replacement is not committed."""
        return any(each < log_offset for each in self._taken)


def entries_of(state: Iterable[tuple[int, bytes]]) -> list[Waiting]:
    """What a snapshot holds."""
    return [
        Waiting(EpochMs((stretch * TICKS_PER_STRETCH + tick) * TICK_MS), LogOffset(log_offset), size)
        for stretch, data in state
        for tick, log_offset, size in _ENTRY.iter_unpack(data)
    ]
