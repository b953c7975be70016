"""Reads a broker's log on its own: from the bytes of the segment files to what the folds must hold.

Written from the description of the format and of RocketMQ's record, sharing no code with the store: what the store
gets wrong the logbook does not get wrong in the same way. It is no tool for damaged logs: it stops where the chain
of checksums ends, as recovery would.

    frame    "PHB1" (batch), "PHO1" (batch of an opening), "PHE1" (end of a segment) or "PHG1" (gap): u32 size, u64
             offset, u32 epoch, u32 previous checksum, u32 records, u64 stored at, u64 durable, u32 checksum; records
    record   RocketMQ's, or a state record: u32 size, "PHST", u16 kind, u16 version, u64 offset, u64 ms, JSON
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_FRAME = struct.Struct(">4sIQIIIQQI")
_V1, _V2 = 0xDAA320A7, 0xDAA320AB
_GAP_SIZE_MAX = 1 << 40

TOPIC_SET, TOPIC_DELETED, GROUP_SET, GROUP_DELETED, OFFSETS, OPENING, TIMERS_ENDED = range(1, 8)
POPPED, POP_CHANGED, REVIVED, OFFSETS_SET, GROUP_RULE, LOCKS = range(9, 15)
_TIMER_TOPICS = ("SCHEDULE_TOPIC_XXXX", "rmq_sys_wheel_timer")
_TICK_MS = 100


class Message(NamedTuple):
    """A message record. `tag_hash` is Java's, 0 without a tag.

    `replaces`: the log offset of the record in whose place it is, or 0. `due_ms`: when it is due, or 0.
    """

    topic: str
    queue: int
    offset: int
    log_offset: int
    size: int
    tag_hash: int
    body: bytes
    replaces: int = 0
    due_ms: int = 0
    reconsume_times: int = 0
    stored_at_ms: int = 0


class Change(NamedTuple):
    """A state record."""

    kind: int
    body: Any
    log_offset: int


class Folds(NamedTuple):
    """What the records of a log amount to.

    `topics`: name to [id, queues that can be written, permission]; `queues`: "topic/queue" to the [log offset, size,
    tag hash] of each message, and `starts` to the offset of the first one; `groups`: name to [the most retries];
    `offsets`: "group/topic/queue" to the offset. `odd` says what no log may hold. `later`: where else a queue may
    begin,
    as openings say: old segments whose removal was interrupted are there yet, and their messages need not be.
    """

    topics: dict[str, list[Any]]
    queues: dict[str, list[list[int]]]
    groups: dict[str, list[Any]]
    offsets: dict[str, int]
    starts: dict[str, int]
    odd: list[str]
    later: dict[str, list[int]] = {}  # noqa: RUF012
    in_flight: dict[str, dict[int, int]] = {}  # noqa: RUF012
    """"group/topic/queue" to what is popped and not acknowledged: the offset, and when it is visible again."""
    timers: dict[str, int] = {}  # noqa: RUF012
    """What is due later: the log offset, and the time."""


def log_bytes(files: Mapping[str, bytes], first: int = 0) -> tuple[int, bytes]:
    """The segments of a data folder from log offset `first` on, and the log offset at which they begin."""
    names = sorted(name for name in files if name.startswith("log/") and name.endswith(".log"))
    kept = [name for name in names if int(name[4:-4]) >= first]
    return int(kept[0][4:-4]) if kept else first, b"".join(files[name] for name in kept)


def read_log(first: int, data: bytes, until: int | None = None) -> Iterator[Message | Change]:
    """The records of all good frames that begin before `until`, in order."""
    at, previous = 0, None
    opening: list[Message | Change] = []  # worth nothing before something else follows
    while len(data) - at >= _FRAME.size and (until is None or first + at < until):
        magic, size, offset, _, before, records, _, durable, checksum = _FRAME.unpack_from(data, at)
        if offset != first + at or (previous is not None and before != previous):
            return
        if magic == b"PHG1":
            if size > _GAP_SIZE_MAX or zlib.crc32(data[at : at + 44]) != checksum:
                return
            previous, at = durable & 0xFFFFFFFF, at + size
            continue
        if magic not in (b"PHB1", b"PHO1", b"PHE1") or not _FRAME.size <= size <= len(data) - at:
            return
        body = data[at + 48 : at + size]
        if zlib.crc32(body, zlib.crc32(data[at : at + 44])) != checksum:
            return
        inside = 0
        if magic != b"PHO1":
            yield from opening
            opening.clear()
        for _ in range(records):
            record = _record(body, inside, offset + 48 + inside)
            if magic == b"PHO1":
                opening.append(record)
            else:
                yield record
            inside += int.from_bytes(body[inside : inside + 4], "big")
        previous, at = checksum, at + size


def _record(data: bytes, at: int, log_offset: int) -> Message | Change:
    size, magic = struct.unpack_from(">I4s", data, at)
    if magic == b"PHST":
        kind = struct.unpack_from(">H", data, at + 8)[0]
        return Change(kind, json.loads(data[at + 28 : at + size]), log_offset)
    return read_message(data[at : at + size], log_offset)


def read_message(record: bytes, log_offset: int | None = None) -> Message:
    """One message record. With `log_offset` the record must say that it is there."""
    size, magic, _, queue, _, offset, own_offset, sys_flag = struct.unpack_from(">IIIiiqqi", record, 0)
    assert magic in (_V1, _V2), f"no record at log offset {log_offset}: magic {magic:#x}"
    assert size == len(record), f"the record at log offset {log_offset} says {size} bytes and has {len(record)}"
    assert log_offset in (None, own_offset), f"the record at log offset {log_offset} says that it is at {own_offset}"
    born, store = (16 if sys_flag & 0x10 else 4), (16 if sys_flag & 0x20 else 4)
    (stored_at_ms,) = struct.unpack_from(">q", record, 40 + 8 + born + 4)
    at = 40 + 8 + born + 4 + 8 + store + 4
    reconsume_times, replaces = struct.unpack_from(">iq", record, at)
    at += 4 + 8
    (body_bytes,) = struct.unpack_from(">i", record, at)
    body, at = record[at + 4 : at + 4 + body_bytes], at + 4 + body_bytes
    wide = magic == _V2
    topic_bytes = struct.unpack_from(">h", record, at)[0] if wide else record[at]
    at += 2 if wide else 1
    topic, at = record[at : at + topic_bytes].decode(), at + topic_bytes
    properties = record[at + 2 : at + 2 + struct.unpack_from(">h", record, at)[0]].decode()
    named = dict(pair.split("\x01", 1) for pair in properties.split("\x02") if "\x01" in pair)
    tag, due_ms = named.get("TAGS", ""), int(named.get("TIMER_OUT_MS", 0))
    return Message(
        topic, queue, offset, own_offset, size, _java_hash(tag), body, replaces, due_ms, reconsume_times, stored_at_ms
    )


def _java_hash(text: str) -> int:
    found = 0
    units = text.encode("utf-16-be")
    for high, low in zip(units[::2], units[1::2], strict=True):
        found = (31 * found + (high << 8 | low)) & 0xFFFFFFFF
    return found - (1 << 32) if found >= 1 << 31 else found


def fold(records: Iterator[Message | Change]) -> Folds:
    """Goes through the records once, in order, and keeps what they amount to."""
    folds = Folds({}, {}, {}, {}, {}, [], {}, {}, {})
    fills = True  # a log that begins with an opening: it says what was before it
    for record in records:
        if isinstance(record, Change) and record.kind == OPENING:
            _fold_opening(folds, record.body, fills)
            continue
        fills = False
        if isinstance(record, Message):
            _fold_message(folds, record)
        else:
            _fold_change(folds, record)
    return folds


def _fold_message(folds: Folds, message: Message) -> None:
    if message.topic not in folds.topics:
        folds.odd.append(
            f"a message of topic {message.topic}, which does not exist, at log offset {message.log_offset}"
        )
        return
    key = f"{message.topic}/{message.queue}"
    entries = folds.queues.setdefault(key, [])
    following = folds.starts.get(key, 0) + len(entries)
    if message.offset != following:
        folds.odd.append(f"{key}: offset {message.offset} where {following} should be, at {message.log_offset}")
        return
    entries.append([message.log_offset, message.size, message.tag_hash])
    folds.timers.pop(str(message.replaces), None)
    if message.topic in _TIMER_TOPICS and message.due_ms:
        folds.timers[str(message.log_offset)] = -(-message.due_ms // _TICK_MS) * _TICK_MS


def _fold_change(folds: Folds, change: Change) -> None:
    body = change.body
    if change.kind == TOPIC_SET:
        config = body["config"]
        before = folds.topics.get(config["name"])
        topic_id = before[0] if before is not None else change.log_offset
        folds.topics[config["name"]] = [topic_id, config["write_queues"], config["perm"]]
    elif change.kind == TOPIC_DELETED:
        _forget_topic(folds, body["name"])
    elif change.kind == GROUP_SET:
        folds.groups[body["config"]["name"]] = [body["config"]["retry_max_times"]]
    elif change.kind == GROUP_DELETED:
        folds.groups.pop(body["name"], None)
        if body.get("clean_offsets"):
            for table in (folds.offsets, folds.in_flight):
                for key in [key for key in table if key.split("/")[0] == body["name"]]:
                    table.pop(key)
    elif change.kind == OFFSETS:
        _fold_offsets(folds, body)
    elif change.kind == OFFSETS_SET:
        _fold_offsets(folds, {body["group"]: {body["topic"]: body["queues"]}})
    elif change.kind in (POPPED, POP_CHANGED, REVIVED):
        _fold_pops(folds, body)
    elif change.kind == TIMERS_ENDED:
        for _, log_offset in body["ended"]:
            folds.timers.pop(str(log_offset), None)
    elif change.kind not in (GROUP_RULE, LOCKS):
        folds.odd.append(f"a state record of kind {change.kind} at log offset {change.log_offset}")


def _forget_topic(folds: Folds, name: str) -> None:
    folds.topics.pop(name, None)
    for key in [key for key in folds.queues.keys() | folds.starts.keys() if key.rpartition("/")[0] == name]:
        folds.queues.pop(key, None)
        folds.starts.pop(key, None)
        folds.later.pop(key, None)
    for table in (folds.offsets, folds.in_flight):
        for key in [key for key in table if key.split("/")[1] == name]:
            table.pop(key)


def _fold_offsets(folds: Folds, body: Any) -> None:
    for group, topics in body.items():
        for topic, queues in topics.items():
            folds.offsets.update({f"{group}/{topic}/{queue}": offset for queue, offset in queues.items()})


def _fold_pops(folds: Folds, rows: list[Any]) -> None:
    """Rows of: group, topic, queue, the group's new offset, what ended, [popped at, for how long, what], order."""
    for row in rows:
        group, topic, queue, next_offset, ended, popped = row[:6]
        key = f"{group}/{topic}/{queue}"
        if next_offset is not None:
            folds.offsets[key] = next_offset
        entries = folds.in_flight.setdefault(key, {})
        for offset in _runs(ended):
            entries.pop(offset, None)
        for at_ms, invisible_ms, flat in popped:
            entries.update((offset, at_ms + invisible_ms) for offset in _runs(flat))
        if not entries:
            del folds.in_flight[key]


def _runs(flat: list[int]) -> Iterator[int]:
    for first, count in zip(flat[::2], flat[1::2], strict=True):
        yield from range(first, first + count)


def _fold_opening(folds: Folds, body: Any, fills: bool) -> None:
    """What a segment begins with: it fills the folds of a log that begins there, and else says again what is so."""
    for topic_id, config, queues in body.get("topics", ()):
        folds.topics.setdefault(config["name"], [topic_id, config["write_queues"], config["perm"]])
        for queue, offset in queues:
            key = f"{config['name']}/{queue}"
            following = folds.starts.get(key, 0) + len(folds.queues.get(key, ()))
            folds.later.setdefault(key, []).append(offset)
            if fills:
                folds.starts[key] = offset
            elif following != offset:
                folds.odd.append(f"{key}: an opening says that offset {offset} follows, the log before it {following}")
    for config in body.get("groups", ()):
        folds.groups.setdefault(config["name"], [config["retry_max_times"]])
    _fold_offsets(folds, body.get("offsets", {}))
    if body["part"] == 0:
        folds.in_flight.clear()
    _fold_pops(folds, body.get("in_flight", []))


def differences(live: Folds, rebuilt: Folds) -> list[str]:
    """What a store holds and its log does not say, and the other way round; empty if they are the same."""
    found = [f"the log: {odd}" for odd in rebuilt.odd]
    for key in sorted(live.queues.keys() | rebuilt.queues.keys()):
        mine, theirs = live.queues.get(key, []), rebuilt.queues.get(key, [])
        start, first = live.starts.get(key, 0), rebuilt.starts.get(key, 0)
        if not mine and not theirs:
            continue
        if start in rebuilt.later.get(key, ()):
            theirs, first = theirs[start - first :], start
        if start != first:
            found.append(f"queue {key}: the store begins at {start}, the log at {first}")
        elif mine != theirs:
            found.append(f"queue {key} from {start} on: {_difference(mine, theirs)}")
    for what in ("topics", "groups", "offsets", "in_flight", "timers"):
        there, wanted = getattr(live, what), getattr(rebuilt, what)
        for key in sorted(there.keys() | wanted.keys()):
            one, other = there.get(key), wanted.get(key)
            if one != other:
                found.append(f"{what} {key}: {_difference(one, other)}")
    return found


def _difference(one: Any, other: Any) -> str:
    if not isinstance(one, list) or not isinstance(other, list) or not all(isinstance(e, list) for e in one + other):
        return f"the store has {one}, the log says {other}"
    if len(one) != len(other):
        return f"the store has {len(one)} entries, the log says {len(other)}"
    at = next(at for at, (mine, theirs) in enumerate(zip(one, other, strict=True)) if mine != theirs)
    return f"at offset {at} the store has {one[at]}, the log says {other[at]}"
