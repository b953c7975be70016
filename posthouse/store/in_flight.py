"""Messages that are popped and not yet acknowledged, as a fold over the log; two views, as in topic_table.

For each (group, topic, queue) there is a table: queue offset -> when it was popped and for how long it is invisible.
A message is in it from its pop until it is acknowledged, or given back (revived). For ordered pops there is an Order
in its place: the offset of the group stays where it is, and what was given last is remembered in whole.

All records have one shape, a list of rows; a row says what is new in one queue. Three kinds say why:
- POPPED: the entries of one pop together with the group's new offset. The messages leave when this is committed, so
  a process that is killed knows every receipt that anybody has.
- POP_CHANGED: acknowledgements, and renewals. What is acknowledged changes the live view at once and is written once a
  second, as offsets are: a crash loses at most that second, which costs redeliveries. A renewal is a record of its own,
  told to its holder when it is committed.
- REVIVED: entries that ended because their message was stored again, committed together with that message.
To apply a row twice changes nothing. A record takes back what was not yet written about the same messages.

The opening of a segment has the live view in whole, so there the committed view becomes what the opening says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.state_record import Kind


class GroupQueue(NamedTuple):
    """A queue as one group pops from it. `topic` may be a retry topic."""

    group: str
    topic: str
    queue_id: int


class Popped(NamedTuple):
    """When, by the wall clock, and for how long nobody else gets the message. One value for all of one pop."""

    at_ms: EpochMs
    invisible_ms: int

    @property
    def due_ms(self) -> EpochMs:
        return EpochMs(self.at_ms + self.invisible_ms)


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What an ordered pop gave last of one queue; the tuples are parallel to `offsets`, which ascend.

    `due_ms`: when each is visible again. `times`: how often each was given before. No offsets: there is no order.
    """

    at_ms: int
    invisible_ms: int
    attempt_id: str
    offsets: tuple[int, ...] = ()
    due_ms: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    acked: tuple[bool, ...] = ()


NO_ORDER = Order(0, 0, "")


class Row(msgspec.Struct, array_like=True):
    """What is new in one queue of a group. `ended` and the third of each `popped` (at, invisible, ...) are runs."""

    group: str
    topic: str
    queue_id: int
    next_offset: int | None = None
    ended: list[int] = []
    popped: list[tuple[int, int, list[int]]] = []
    order: Order | None = None

    @property
    def queue(self) -> GroupQueue:
        return GroupQueue(self.group, self.topic, self.queue_id)


def runs(offsets: Iterable[int]) -> list[int]:
    """Ascending offsets as first, count, first, count, ..."""
    found: list[int] = []
    end = -1
    for offset in offsets:
        if offset == end:
            found[-1] += 1
        else:
            found += (offset, 1)
        end = offset + 1
    return found


def offsets_of(flat: list[int]) -> Iterator[QueueOffset]:
    """What `runs` was given."""
    for at in range(0, len(flat) - 1, 2):
        yield from map(QueueOffset, range(flat[at], flat[at] + flat[at + 1]))


def rows_of(body: Any) -> list[Row]:
    """The rows of a record's body, as it was written or as it was read."""
    if body and isinstance(body[0], Row):
        return body  # type: ignore[no-any-return]
    return msgspec.convert(body, list[Row], strict=False)


Entries = dict[QueueOffset, Popped]


class View:
    """`messages` is how many entries there are in all, orders not counted."""

    def __init__(self) -> None:
        self.queues: dict[GroupQueue, Entries] = {}
        self.orders: dict[GroupQueue, Order] = {}
        self.messages = 0

    def put(self, queue: GroupQueue, offsets: Iterable[QueueOffset], popped: Popped) -> None:
        entries = self.queues.get(queue)
        if entries is None:
            entries = self.queues[queue] = {}
        before = len(entries)
        entries.update(dict.fromkeys(offsets, popped))
        self.messages += len(entries) - before

    def end(self, queue: GroupQueue, offset: QueueOffset) -> None:
        entries = self.queues.get(queue)
        if entries is not None and entries.pop(offset, None) is not None:
            self.messages -= 1
            if not entries:
                del self.queues[queue]

    def set_order(self, queue: GroupQueue, order: Order) -> None:
        if order.offsets:
            self.orders[queue] = order
        else:
            self.orders.pop(queue, None)

    def apply(self, row: Row) -> None:
        queue = row.queue
        for offset in offsets_of(row.ended):
            self.end(queue, offset)
        for at_ms, invisible_ms, flat in row.popped:
            self.put(queue, offsets_of(flat), Popped(EpochMs(at_ms), invisible_ms))
        if row.order is not None:
            self.set_order(queue, row.order)

    def drop(self, topic: str | None, group: str | None) -> None:
        for queue in [each for each in self.queues if each.topic == topic or each.group == group]:
            self.messages -= len(self.queues.pop(queue))
        for queue in [each for each in self.orders if each.topic == topic or each.group == group]:
            del self.orders[queue]

    def clear(self) -> None:
        self.queues.clear()
        self.orders.clear()
        self.messages = 0

    def rows(self) -> Iterator[Row]:
        """All that there is, the same for equal views."""
        for queue in sorted(self.queues.keys() | self.orders.keys()):
            row = Row(*queue, order=self.orders.get(queue))
            row.popped = _by_pop(self.queues.get(queue, {}))
            yield row


def _by_pop(entries: Entries) -> list[tuple[int, int, list[int]]]:
    found: dict[Popped, list[QueueOffset]] = {}
    for offset, popped in entries.items():
        found.setdefault(popped, []).append(offset)
    return [(*popped, runs(sorted(found[popped]))) for popped in sorted(found)]


class InFlight:
    """See the module's text for the two views. The methods of the first half are for who pops and acknowledges."""

    kinds = (Kind.POPPED, Kind.POP_CHANGED, Kind.REVIVED)

    def __init__(self) -> None:
        self.live = View()
        self._committed = View()
        self._ended: dict[GroupQueue, set[QueueOffset]] = {}
        self._changed_orders: dict[GroupQueue, Order] = {}

    def find(self, queue: GroupQueue, offset: QueueOffset) -> Popped | None:
        entries = self.live.queues.get(queue)
        return None if entries is None else entries.get(offset)

    def end(self, queue: GroupQueue, offset: QueueOffset) -> None:
        """Acknowledged: forgotten at once, written soon."""
        self.live.end(queue, offset)
        ended = self._ended.get(queue)
        if ended is None:
            ended = self._ended[queue] = set()
        ended.add(offset)

    def set_order(self, queue: GroupQueue, order: Order) -> None:
        self.live.set_order(queue, order)
        self._changed_orders[queue] = order

    def take_changes(self) -> list[Row] | None:
        """What was acknowledged since the last call, as a record's body; None if nothing was."""
        if not self._ended and not self._changed_orders:
            return None
        ended, orders = self._ended, self._changed_orders
        self._ended, self._changed_orders = {}, {}
        return [
            Row(*queue, ended=runs(sorted(ended.get(queue, ()))), order=orders.get(queue))
            for queue in dict.fromkeys((*ended, *orders))
        ]

    # The fold

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        for row in rows_of(body):
            self.live.apply(row)
            self._forget_changes(row)

    def _forget_changes(self, row: Row) -> None:
        """What this record says is newer than what was to be written about the same messages."""
        queue = row.queue
        ended = self._ended.get(queue)
        if ended is not None:
            for flat in (row.ended, *(each[2] for each in row.popped)):
                ended.difference_update(offsets_of(flat))
            if not ended:
                del self._ended[queue]
        if row.order is not None:
            self._changed_orders.pop(queue, None)

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        for row in rows_of(body):
            self._committed.apply(row)

    def opening(self) -> Iterator[Row]:
        """What an opening says: all that is in flight."""
        return self.live.rows()

    def apply_opening(self, rows: Any, part: int) -> None:
        """One part of an opening; the first one says that nothing else is in flight."""
        if part == 0:
            self._committed.clear()
        for row in rows_of(rows):
            self._committed.apply(row)

    def replay_opening(self, rows: Any, part: int) -> None:
        """The same in a replay, where the live view is made of what the log says."""
        self.apply_opening(rows, part)
        if part == 0:
            self.live.clear()
        for row in rows_of(rows):
            self.live.apply(row)

    def drop_live(self, *, topic: str | None = None, group: str | None = None) -> None:
        """Forgets a topic or a group: the live view, when its deletion is decided."""
        self.live.drop(topic, group)
        for table in (self._ended, self._changed_orders):
            for queue in [each for each in table if each.topic == topic or each.group == group]:
                del table[queue]

    def drop_committed(self, *, topic: str | None = None, group: str | None = None) -> None:
        """The same for the committed view, when its deletion is committed."""
        self._committed.drop(topic, group)

    def snapshot(self) -> object:
        return list(self._committed.rows())

    def restore(self, state: Any) -> None:
        for row in rows_of(state):
            self._committed.apply(row)
            self.live.apply(row)
