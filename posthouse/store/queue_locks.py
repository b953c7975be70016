"""Which member of an ordered group holds which queue, as a fold over the log; two views, as in topic_table.

Only that a queue changes hands is recorded, so a record is rare: renewals are not. When a lease ends is not in it:
whoever holds a queue when the broker stops holds it for a whole lease after the next start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset
from posthouse.store.state_record import Kind

Holders = dict[str, dict[tuple[str, int], str]]
"""group -> (topic, queue id) -> client id."""


QUEUES_PER_HELD = 1000


class Held(NamedTuple):
    """Queues of one member, by topic; without a `client` nobody holds them any more."""

    group: str
    client: str
    queues: dict[str, list[int]]


class QueueLocks:
    kinds = (Kind.LOCKS,)

    def __init__(self) -> None:
        self.live: Holders = {}
        self._committed: Holders = {}

    @staticmethod
    def body(group: str, client_id: str, queues: Iterable[MessageQueue]) -> object:
        """`client_id` empty: they are given back, or their time was over."""
        by_topic: dict[str, list[int]] = {}
        for queue in queues:
            by_topic.setdefault(queue.topic, []).append(queue.queue_id)
        return list(Held(group, client_id, by_topic))

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _change(self.live, body)

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _change(self._committed, body)

    def fill(self, held: Held) -> None:
        """What the opening of a segment has. For replays."""
        _change(self.live, held)
        _change(self._committed, held)

    def drop_live(self, *, topic: str | None = None, group: str | None = None) -> None:
        _drop(self.live, topic, group)

    def drop_committed(self, *, topic: str | None = None, group: str | None = None) -> None:
        _drop(self._committed, topic, group)

    def held(self) -> list[Held]:
        """For an opening."""
        return _held(self.live)

    def snapshot(self) -> object:
        return [list(each) for each in _held(self._committed)]

    def restore(self, state: Any) -> None:
        for each in msgspec.convert(state, list[Held]):
            self.fill(each)


def _change(table: Holders, body: Any) -> None:
    held = msgspec.convert(body, Held)
    queues = table.setdefault(held.group, {})
    for topic, queue_ids in held.queues.items():
        for queue_id in queue_ids:
            if held.client:
                queues[topic, queue_id] = held.client
            else:
                queues.pop((topic, queue_id), None)
    if not queues:
        del table[held.group]


def _held(table: Holders) -> list[Held]:
    """In portions of QUEUES_PER_HELD, so that an opening can have as many as there is room for in a record."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for group, queues in table.items():
        for queue, client in queues.items():
            found.setdefault((group, client), []).append(queue)
    helds: list[Held] = []
    for (group, client), held in found.items():
        held.sort()
        for at in range(0, len(held), QUEUES_PER_HELD):
            by_topic: dict[str, list[int]] = {}
            for topic, queue_id in held[at : at + QUEUES_PER_HELD]:
                by_topic.setdefault(topic, []).append(queue_id)
            helds.append(Held(group, client, by_topic))
    return helds


def _drop(table: Holders, topic: str | None, group: str | None) -> None:
    if group is not None:
        table.pop(group, None)
    if topic is not None:
        for name, queues in list(table.items()):
            for key in [key for key in queues if key[0] == topic]:
                del queues[key]
            if not queues:
                del table[name]
