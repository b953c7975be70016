"""What was sent, what was acknowledged, what was found; and the check of the one against the other.

The ledger knows nothing of the server but the promises:
- every acknowledged message is there, once, at the queue offset and the log offset that the answer named;
- what a consumer was given stays there;
- what was not acknowledged is whole or absent, a batch altogether;
- the offsets of a queue are dense, and one connection's messages are in the order in which they were sent;
- retention takes whole segments, the oldest first: of all queues the messages below one segment's begin, no others;
- a committed offset is one that was committed, never beyond the end of its queue, and never goes back;
- a topic or group is as its last acknowledged change says, or as the one that was under way says.

What has been checked is forgotten but for its place, so a ledger may run for a million messages.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from posthouse.model.message import StoredMessage

Key = tuple[int, int, int]
"""(cycle, connection, number): numbers grow on each connection."""

Place = tuple[int, int]
"""(queue offset, log offset)"""

Setting = tuple[int, ...] | None
"""What is compared of a topic or a group; None: there is none."""

SIZES = (0, 20, 100, 500, 1000, 3000)


class Queue(NamedTuple):
    topic: str
    queue_id: int


class Named(NamedTuple):
    """A topic or a group; `kind` is "topic" or "group"."""

    kind: str
    name: str


@dataclass(slots=True)
class Sent:
    """One message. `acknowledged_at` once the answer came, `shown_at` once a consumer got it."""

    key: Key
    queue: Queue
    batch: tuple[Key, ...]
    acknowledged_at: Place | None = None
    shown_at: Place | None = None
    found_at: Place | None = None
    is_gone: bool = False
    """Retention took it before it was looked for."""


@dataclass(slots=True)
class Found:
    """What a queue holds from `first` on, as it was pulled, and what the server says of it."""

    first: int
    messages: list[StoredMessage]
    max_offset: int
    committed_offset: int | None = None
    min_offset: int = 0


def make_body(key: Key, rng: random.Random) -> bytes:
    """A body that no other message has and that shows any change."""
    size = rng.choice((*SIZES, rng.randrange(16_000)))
    text = b"%d %d %d " % key + rng.randbytes(size)
    return zlib.crc32(text).to_bytes(4, "big") + text


def read_body(body: bytes) -> Key | None:
    """The key in a body, None if the body is not as it was made."""
    text = body[4:]
    if len(body) < 10 or zlib.crc32(text) != int.from_bytes(body[:4], "big"):
        return None
    cycle, connection, number, _ = text.split(b" ", 3)
    return int(cycle), int(connection), int(number)


@dataclass
class Ledger:
    sent: dict[Key, Sent] = field(default_factory=dict)
    """Not checked yet."""
    checked: dict[Queue, int] = field(default_factory=dict)  # below this queue offset all has been found before
    committed: dict[Queue, set[int]] = field(default_factory=dict)  # every offset that was ever committed
    committed_before: dict[Queue, int] = field(default_factory=dict)
    trimmed_before: dict[Queue, int] = field(default_factory=dict)
    kept: dict[Queue, deque[tuple[int, int, Key]]] = field(default_factory=dict)
    """(queue offset, log offset, key) of what was found and may still be there."""
    settings: dict[Named, Setting] = field(default_factory=dict)
    settings_under_way: dict[Named, Setting] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What was seen to be wrong between two checks."""
    sent_messages: int = 0
    acknowledged_messages: int = 0
    found_messages: int = 0
    unacknowledged_found: int = 0
    gone_messages: int = 0
    """Acknowledged, and taken by retention before they were looked for."""
    lost_messages: int = 0
    shown_messages: int = 0

    def add(self, keys: Iterable[Key], queue: Queue) -> list[Sent]:
        """Notes a message, or a batch, before it is sent."""
        batch = tuple(keys)
        found = [Sent(key, queue, batch) for key in batch]
        for each in found:
            assert each.key not in self.sent
            self.sent[each.key] = each
        self.sent_messages += len(found)
        return found

    def acknowledge(self, sent: Sent, place: Place) -> None:
        sent.acknowledged_at = place
        self.acknowledged_messages += 1

    def show(self, queue: Queue, message: StoredMessage) -> None:
        """A consumer got this message, sent since the last check."""
        key, place = read_body(message.body), (message.queue_offset, message.log_offset)
        sent = None if key is None else self.sent.get(key)
        if sent is None or sent.queue != queue:
            self.problems.append(f"{queue} at {place}: a consumer was given {key}, which was not sent there")
        elif sent.shown_at not in (None, place):
            self.problems.append(f"{key} was given to consumers at {sent.shown_at} and at {place}")
        else:
            self.shown_messages += sent.shown_at is None
            sent.shown_at = place

    def commit(self, queue: Queue, offset: int) -> None:
        self.committed.setdefault(queue, set()).add(offset)

    def change(self, named: Named, setting: Setting) -> None:
        """Notes a change before it is asked for; `changed` when it is acknowledged. One at a time for each name."""
        assert named not in self.settings_under_way
        self.settings_under_way[named] = setting

    def changed(self, named: Named) -> None:
        self.settings[named] = self.settings_under_way.pop(named)

    def check(self, found: dict[Queue, Found], bases: Sequence[int] = (), *, may_trim: bool = False) -> list[str]:
        """Everything that is wrong with what was found, in words; found things count as checked afterwards.

        `bases` are the log offsets at which segments begin.
        """
        problems, self.problems = self.problems, []
        problems += self._check_trims(found, bases, may_trim)
        for queue, each in found.items():
            self._mark_gone(queue, each)
            problems += self._check_queue(queue, each)
        for sent in self.sent.values():
            problems += self._check_sent(sent)
        self.sent = {}
        return problems

    def check_settings(self, found: dict[Named, Setting]) -> list[str]:
        """The same for all topics and groups that were ever changed."""
        problems = []
        for named, setting in found.items():
            possible = [self.settings.get(named)]
            if named in self.settings_under_way:
                possible.append(self.settings_under_way.pop(named))
            if setting not in possible:
                problems.append(f"{named} is {setting}, and should be {' or '.join(map(str, possible))}")
            self.settings[named] = setting
        return problems

    def check_again(self, found: dict[Queue, Found]) -> list[str]:
        """The same for queues that are read from their min offset once more: nothing may have moved or gone."""
        problems = []
        for queue, each in found.items():
            known = {(at, log_offset): key for at, log_offset, key in self.kept.get(queue, ()) if at >= each.min_offset}
            for message in each.messages:
                place = message.queue_offset, message.log_offset
                key = known.pop(place, None)
                if key is None or read_body(message.body) != key:
                    problems.append(f"what is in {queue} at {message.queue_offset} is not what was found there before")
            problems += [f"what was found in {queue} at {place} is no longer there" for place in sorted(known)]
        return problems

    def forget_below(self, base: int) -> None:
        """The file of everything below this log offset is not there any more."""
        for kept in self.kept.values():
            while kept and kept[0][1] < base:
                kept.popleft()

    def _check_trims(self, found: dict[Queue, Found], bases: Sequence[int], may_trim: bool) -> list[str]:
        """The highest log offset that is gone is below the lowest that is kept, and a segment begins between them."""
        problems = []
        gone, kept = -1, 1 << 62
        for queue, each in found.items():
            before, self.trimmed_before[queue] = self.trimmed_before.get(queue, 0), each.min_offset
            if each.min_offset > before and not may_trim:
                problems.append(f"{queue}: the min offset went from {before} to {each.min_offset} without retention")
            known = [(at, log_offset) for at, log_offset, _ in self.kept.get(queue, ())]
            known += [(message.queue_offset, message.log_offset) for message in each.messages]
            gone = max([gone, *(log_offset for at, log_offset in known if at < each.min_offset)])
            kept = min([kept, *(log_offset for at, log_offset in known if at >= each.min_offset)])
        for sent in self.sent.values():
            place = sent.acknowledged_at
            if place is not None and sent.queue in found and place[0] < found[sent.queue].min_offset:
                gone = max(gone, place[1])
        if gone > kept:
            problems.append(f"retention took the message at log offset {gone} and left the older one at {kept}")
        elif gone >= 0 and not any(gone < base <= kept for base in bases):
            problems.append(f"retention took {gone} and left {kept}, and no segment begins between them: {bases}")
        return problems

    def _mark_gone(self, queue: Queue, found: Found) -> None:
        if found.min_offset > self.checked.get(queue, 0):
            for sent in self.sent.values():
                place = sent.acknowledged_at or sent.shown_at
                if sent.queue == queue and place is not None and place[0] < found.min_offset:
                    sent.is_gone = True

    def _check_queue(self, queue: Queue, found: Found) -> list[str]:
        problems: list[str] = []
        expected = self.checked.get(queue, 0)
        assert found.first == expected
        if found.min_offset > expected:
            expected = found.min_offset
        last: dict[tuple[int, int], int] = {}
        log_offset = -1
        for message in found.messages:
            if message.queue_offset < found.min_offset:  # it was there when it was read; retention took it since
                expected = found.min_offset
            elif message.queue_offset != expected:
                problems.append(f"{queue}: queue offset {message.queue_offset} where {expected} was expected")
                expected = message.queue_offset + 1
            else:
                expected += 1
            if message.log_offset <= log_offset:
                problems.append(f"{queue}: log offset {message.log_offset} after {log_offset}")
            log_offset = message.log_offset
            problems += self._check_message(queue, message, last)
        if found.max_offset != expected:
            problems.append(f"{queue}: the max offset is {found.max_offset}, but {expected - 1} is the last message")
        problems += self._check_committed(queue, found)
        self.checked[queue] = expected
        return problems

    def _check_message(self, queue: Queue, message: StoredMessage, last: dict[tuple[int, int], int]) -> list[str]:
        where = f"{queue} at {message.queue_offset}"
        key = read_body(message.body)
        if key is None:
            return [f"{where}: the body is not as it was sent"]
        sent = self.sent.get(key)
        if sent is None:
            return [f"{where}: {key} was never sent, or was found before"]
        problems = []
        if (message.topic, message.queue_id) != queue or sent.queue != queue:
            problems.append(f"{where}: {key} was sent to {sent.queue}")
        if sent.found_at is not None:
            problems.append(f"{where}: {key} is there a second time; it was found at {sent.found_at}")
        if key[2] <= last.get(key[:2], -1):
            problems.append(f"{where}: {key} comes after number {last[key[:2]]} of the same connection")
        last[key[:2]] = key[2]
        sent.found_at = message.queue_offset, message.log_offset
        self.kept.setdefault(queue, deque()).append((*sent.found_at, key))
        self.found_messages += 1
        self.unacknowledged_found += sent.acknowledged_at is None
        return problems

    def _check_sent(self, sent: Sent) -> list[str]:
        problems = []
        for what, place in (("acknowledged", sent.acknowledged_at), ("given to a consumer", sent.shown_at)):
            if place is None or sent.found_at == place:
                continue
            if sent.found_at is not None:
                problems.append(f"{sent.key} was {what} at {place} and is at {sent.found_at}")
            elif not sent.is_gone:
                problems.append(f"{sent.key} in {sent.queue} was {what} at {place} and is lost")
                self.lost_messages += 1
            elif what == "acknowledged":
                self.gone_messages += 1
        batch = [self.sent[key] for key in sent.batch]
        there = [each.found_at is not None for each in batch]
        if any(there) and not all(there) and not any(each.is_gone for each in batch):
            problems.append(f"{sent.key} belongs to a batch that is half there: {there}")
        return problems

    def _check_committed(self, queue: Queue, found: Found) -> list[str]:
        offset, before = found.committed_offset, self.committed_before.get(queue)
        if offset is None:
            return [] if before is None else [f"{queue}: the committed offset {before} is forgotten"]
        problems = []
        if offset > found.max_offset:
            problems.append(f"{queue}: the committed offset {offset} is beyond the max offset {found.max_offset}")
        if offset not in self.committed.get(queue, ()):
            problems.append(f"{queue}: the offset {offset} was never committed")
        if before is not None and offset < before:
            problems.append(f"{queue}: the committed offset went back from {before} to {offset}")
        self.committed_before[queue] = offset
        return problems
