"""What was sent, what was acknowledged, what was found; and the check of the one against the other.

The ledger knows nothing of the server but the promises:
- every acknowledged message is there, once, at the queue offset and the log offset that the answer named;
- what was not acknowledged is whole or absent, a batch altogether;
- the offsets of a queue are dense, and one connection's messages are in the order in which they were sent;
- a committed offset is one that was committed, never beyond the end of its queue, and never goes back.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from posthouse.model.message import StoredMessage

Key = tuple[int, int, int]
"""(cycle, connection, number): numbers grow on each connection."""


class Queue(NamedTuple):
    topic: str
    queue_id: int


@dataclass(slots=True)
class Sent:
    """One message. `acknowledged_at` is (queue offset, log offset) once the answer came."""

    key: Key
    queue: Queue
    batch: tuple[Key, ...]
    acknowledged_at: tuple[int, int] | None = None
    found_at: tuple[int, int] | None = None


@dataclass(slots=True)
class Found:
    """What a queue holds from `first` on, as it was pulled, and what the server says of it."""

    first: int
    messages: list[StoredMessage]
    max_offset: int
    committed_offset: int | None = None


def make_body(key: Key, rng: random.Random) -> bytes:
    """A body that no other message has and that shows any change."""
    size = rng.choice((0, 20, 100, 100, 500, 500, 1000, 3000, rng.randrange(20_000)))
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
    checked: dict[Queue, int] = field(default_factory=dict)  # below this queue offset all has been found before
    committed: dict[Queue, set[int]] = field(default_factory=dict)  # every offset that was ever committed
    committed_before: dict[Queue, int] = field(default_factory=dict)
    unchecked: list[Sent] = field(default_factory=list)

    def add(self, keys: Iterable[Key], queue: Queue) -> list[Sent]:
        """Notes a message, or a batch, before it is sent."""
        batch = tuple(keys)
        found = [Sent(key, queue, batch) for key in batch]
        for each in found:
            assert each.key not in self.sent
            self.sent[each.key] = each
        self.unchecked += found
        return found

    def commit(self, queue: Queue, offset: int) -> None:
        self.committed.setdefault(queue, set()).add(offset)

    def check(self, found: dict[Queue, Found]) -> list[str]:
        """Everything that is wrong with what was found, in words; found things count as checked afterwards."""
        problems: list[str] = []
        for queue, each in found.items():
            problems += self._check_queue(queue, each)
        for sent in self.unchecked:
            if sent.acknowledged_at is not None and sent.found_at is None:
                problems.append(f"{sent.key} in {sent.queue} was acknowledged at {sent.acknowledged_at} and is lost")
            elif sent.acknowledged_at not in (None, sent.found_at):
                problems.append(f"{sent.key} was acknowledged at {sent.acknowledged_at} and is at {sent.found_at}")
            there = [self.sent[key].found_at is not None for key in sent.batch]
            if any(there) and not all(there):
                problems.append(f"{sent.key} belongs to a batch that is half there: {there}")
        self.unchecked = []
        return problems

    def check_again(self, found: dict[Queue, Found]) -> list[str]:
        """The same for queues that are read from their beginning once more: nothing may have moved or gone."""
        problems = []
        for queue, each in found.items():
            here = {sent.found_at for sent in self.sent.values() if sent.queue == queue and sent.found_at}
            again = {(message.queue_offset, message.log_offset) for message in each.messages}
            problems += [f"what was found in {queue} at {at} is no longer there" for at in sorted(here - again)]
            for message in each.messages:
                key = read_body(message.body)
                if key is None or self.sent[key].found_at != (message.queue_offset, message.log_offset):
                    problems.append(f"what is in {queue} at {message.queue_offset} is not what was found there before")
        return problems

    def _check_queue(self, queue: Queue, found: Found) -> list[str]:
        problems: list[str] = []
        expected = self.checked.get(queue, 0)
        assert found.first == expected
        last: dict[tuple[int, int], int] = {}
        for message in found.messages:
            if message.queue_offset != expected:
                problems.append(f"{queue}: queue offset {message.queue_offset} where {expected} was expected")
            expected = message.queue_offset + 1
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
            return [f"{where}: {key} was never sent"]
        problems = []
        if (message.topic, message.queue_id) != queue or sent.queue != queue:
            problems.append(f"{where}: {key} was sent to {sent.queue}")
        if sent.found_at is not None:
            problems.append(f"{where}: {key} is there a second time; it was found at {sent.found_at}")
        if key[2] <= last.get(key[:2], -1):
            problems.append(f"{where}: {key} comes after number {last[key[:2]]} of the same connection")
        last[key[:2]] = key[2]
        sent.found_at = message.queue_offset, message.log_offset
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
