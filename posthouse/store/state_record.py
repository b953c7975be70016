"""State records: how a change of state is kept in the log, beside the messages.

    u32 size       of the whole record
    u32 magic      "PHST", where a message record has its own magic
    u16 kind       what changed (Kind)
    u16 version    of the body's shape, 1
    u64 offset     log offset of the record
    u64 stored_at  ms
    body           JSON

The frame of the batch holds the checksum. Kinds are never renumbered: old logs must read for ever.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset

STATE_MAGIC = 0x50485354
_HEAD = struct.Struct(">IIHHQQ")
_VERSION = 1


class Kind(IntEnum):
    TOPIC_SET = 1  # {"config": {...}}: made, or its configuration changed
    TOPIC_DELETED = 2  # {"name": ...}
    GROUP_SET = 3  # {"config": {...}}
    GROUP_DELETED = 4  # {"name": ...}
    OFFSETS = 5  # {group: {topic: {queue id: queue offset}}}: what was committed in the last second
    OPENING = 6  # part of what a segment begins with: see opening
    TIMERS_ENDED = 7  # {"ended": [[due ms, log offset]]}: delayed messages that will never be delivered
    POPPED = 9  # rows of in_flight: given to a consumer, with the group's new offset
    POP_CHANGED = 10  # rows of in_flight: acknowledged in the last second, or one renewal
    REVIVED = 11  # rows of in_flight: ended, as the message is stored again
    OFFSETS_SET = 12  # {"group", "topic", "queues": {queue id: queue offset}, "pending": bool}: moved by an admin
    GROUP_RULE = 13  # {"rule": {...}}: what an admin has set for a group on one topic
    LOCKS = 14  # [group, client id or "", {topic: [queue id]}]: queues of an ordered group change hands


_KINDS = frozenset(map(int, Kind))


class UnknownRecord(Exception):
    """A state record of a kind or version that this code does not know: a newer Posthouse wrote it."""


class StateRecord(NamedTuple):
    kind: Kind
    body: Any
    log_offset: LogOffset
    stored_at_ms: EpochMs


def encode_state_body(body: object) -> bytes:
    return msgspec.json.encode(body)


def state_record_size(body: bytes) -> int:
    return _HEAD.size + len(body)


def encode_state_record(kind: Kind, body: bytes, log_offset: LogOffset, stored_at_ms: EpochMs) -> bytes:
    return _HEAD.pack(state_record_size(body), STATE_MAGIC, kind, _VERSION, log_offset, stored_at_ms) + body


def decode_state_record(data: bytes, at: int) -> StateRecord | None:
    """The record at `at`, or None if another kind of record is there. Raises UnknownRecord."""
    size, magic, kind, version, offset, stored_at_ms = _HEAD.unpack_from(data, at)
    if magic != STATE_MAGIC:
        return None
    if version != _VERSION or kind not in _KINDS:
        raise UnknownRecord(
            f"the log has a state record of kind {kind}, version {version} at log offset {offset}, which this version "
            f"does not know; a newer Posthouse wrote it: start that one"
        )
    body = msgspec.json.decode(data[at + _HEAD.size : at + size])
    return StateRecord(Kind(kind), body, LogOffset(offset), EpochMs(stored_at_ms))
