"""Openings: what each segment but the first begins with, so that no part of the log needs what was before it.

An opening holds the small state as it stands where its segment begins: topics with their ids and the next offset of
each queue, groups, and how far they are. It is written when the segment is begun, as ordinary state records in parts
of bounded size. To replay one changes nothing in folds that are whole; folds that begin there are filled by it.

So the oldest segments can go at any time, and every fold is still rebuilt from the log alone. The first offset of a
queue that is kept is the one that the opening of the oldest segment names.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from posthouse.model.group import GroupConfig, GroupRule
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.group_offsets import Offsets
from posthouse.store.in_flight import Row
from posthouse.store.log.batch import HEADER_BYTES, FrameKind, checksum_holds, decode_header
from posthouse.store.log.engine import LogDamaged
from posthouse.store.queue_locks import Held
from posthouse.store.run import QueueKey
from posthouse.store.state_record import Kind, decode_state_record
from posthouse.store.topic_table import Topic

TOPICS_PER_PART = 1000
GROUPS_PER_PART = 1000
GROUPS_BYTES_PER_PART = 8 * 1024 * 1024
"""Of the groups that say more than numbers; a single one may be above it."""
LOCKS_PER_PART = 100
IN_FLIGHT_QUEUES_PER_PART = 100
"""Each has up to some thousand messages."""


class OpenedTopic(NamedTuple):
    """A topic as an opening has it: `queues` are (queue id, next offset) of those that had a message."""

    id: int
    config: TopicConfig
    queues: list[tuple[int, int]]


class Part(msgspec.Struct, kw_only=True):
    """One record of an opening: the `part`th of `of`, counted from 0."""

    part: int
    of: int
    topics: list[OpenedTopic] = []
    groups: list[GroupConfig] = []
    offsets: dict[str, dict[str, dict[int, int]]] = {}
    resets: dict[str, dict[str, dict[int, int]]] = {}  # of the groups whose offsets are in this part
    rules: list[GroupRule] = []
    locks: list[Held] = []
    in_flight: list[Row] = []


def opening_bodies(
    topics: Iterable[Topic],
    groups: Iterable[GroupConfig],
    offsets: Offsets,
    resets: Offsets,
    rules: Iterable[GroupRule],
    in_flight: Iterable[Row],
    locks: Iterable[Held] = (),
) -> list[object]:
    """The bodies of the records of an opening, at least one."""
    parts: list[dict[str, object]] = []
    for some_topics in _chunks(topics, TOPICS_PER_PART):
        parts.append({"topics": [_topic(topic) for topic in some_topics]})
    for some_groups in _group_chunks(groups):
        parts.append({"groups": [msgspec.to_builtins(group) for group in some_groups]})
    for some_offsets in _chunks(offsets.items(), GROUPS_PER_PART):
        part: dict[str, object] = {"offsets": msgspec.to_builtins(dict(some_offsets), str_keys=True)}
        pending = {group: resets[group] for group, _ in some_offsets if group in resets}
        if pending:
            part["resets"] = msgspec.to_builtins(pending, str_keys=True)
        parts.append(part)
    for some_rules in _chunks(rules, GROUPS_PER_PART):
        parts.append({"rules": [msgspec.to_builtins(rule) for rule in some_rules]})
    for some_rows in _chunks(in_flight, IN_FLIGHT_QUEUES_PER_PART):
        parts.append({"in_flight": some_rows})
    for some_locks in _chunks(locks, LOCKS_PER_PART):
        parts.append({"locks": [list(held) for held in some_locks]})
    parts = parts or [{}]
    return [{"part": number, "of": len(parts), **part} for number, part in enumerate(parts)]


def _topic(topic: Topic) -> list[object]:
    queues = [(queue.queue_id, queue.next_offset) for queue in topic.queues.values() if queue.next_offset]
    return [topic.id, msgspec.to_builtins(topic.config), queues]


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _group_chunks(groups: Iterable[GroupConfig]) -> Iterator[list[GroupConfig]]:
    """One group may have as much to say as a thousand others."""
    chunk: list[GroupConfig] = []
    size = 0
    for group in groups:
        is_long = bool(group.attributes or group.fixed_subscriptions)
        more = len(msgspec.json.encode(group)) if is_long else 0
        if chunk and (len(chunk) >= GROUPS_PER_PART or size + more > GROUPS_BYTES_PER_PART):
            yield chunk
            chunk, size = [], 0
        chunk.append(group)
        size += more
    if chunk:
        yield chunk


def decode_part(body: object) -> Part:
    """Raises msgspec.ValidationError for what is no part of an opening."""
    return msgspec.convert(body, Part, strict=False)


def read_opening(base: LogOffset) -> Generator[tuple[LogOffset, int], bytes, list[Part]]:
    """Reads the opening of the segment that begins at `base`: asks for (log offset, size) and is sent the bytes.

    Gives its parts; fewer than there were if a repair had to cut some out. Raises LogDamaged.
    """
    parts: list[Part] = []
    at = base
    while not parts or len(parts) < parts[0].of:
        header = decode_header((yield at, HEADER_BYTES), 0)
        if header is None or header.kind is not FrameKind.OPENING:
            return parts
        data = yield at, header.size
        if not checksum_holds(data, 0, header):
            raise LogDamaged(f"the opening of a segment is damaged at log offset {at}")
        record_at = HEADER_BYTES
        for _ in range(header.records):
            state = decode_state_record(data, record_at)
            if state is None or state.kind is not Kind.OPENING:
                return parts
            parts.append(decode_part(state.body))
            record_at += int.from_bytes(data[record_at : record_at + 4], "big")
        at = LogOffset(at + header.size)
    return parts


def next_offsets(parts: Iterable[Part]) -> dict[QueueKey, QueueOffset]:
    """Where each queue stood at the opening; queues without a message then are not in it."""
    return {
        QueueKey(topic.id, queue_id): QueueOffset(offset)
        for part in parts
        for topic in part.topics
        for queue_id, offset in topic.queues
    }
