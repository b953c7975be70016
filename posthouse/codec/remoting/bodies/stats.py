"""Figures of topics (202), groups (208) and the broker itself (28). Tables are keyed by message queue.

Source: RocketMQ 5.3 TopicStatsTable, TopicOffset, ConsumeStats, OffsetWrapper, KVTable.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, mapping_of
from posthouse.codec.remoting.bodies.topics import decode_kv_table, encode_kv_table
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int64
from posthouse.codec.remoting.json_dialect import queue_of, read_json, write_json
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.stats import GroupStats, QueueBounds, QueueProgress, TopicStats

encode_runtime_info = encode_kv_table
"""28: `{"table":{name:text}}`."""

decode_runtime_info = decode_kv_table


class _BoundsShape(msgspec.Struct, rename="camel"):
    min_offset: Int64 = 0
    max_offset: Int64 = 0
    last_update_timestamp: Int64 = 0


class _ProgressShape(msgspec.Struct, rename="camel"):
    broker_offset: Int64 = 0
    consumer_offset: Int64 = 0
    pull_offset: Int64 = 0
    last_timestamp: Int64 = 0


_BOUNDS = BodyType(_BoundsShape, "a topic's figures")
_PROGRESS = BodyType(_ProgressShape, "a group's figures")


def encode_topic_stats(stats: TopicStats) -> bytes:
    table = {
        queue: {
            "lastUpdateTimestamp": bounds.updated_at_ms,
            "maxOffset": bounds.max_offset,
            "minOffset": bounds.min_offset,
        }
        for queue, bounds in stats.queues.items()
    }
    return write_json({"offsetTable": table, "topicPutTps": stats.put_per_second})


def decode_topic_stats(data: bytes) -> TopicStats:
    """Raises WireError."""
    found = read_json(data)
    queues = {}
    for key, value in mapping_of(found, "offsetTable").items():
        shape = _BOUNDS.convert(value)
        queues[queue_of(key)] = QueueBounds(
            QueueOffset(shape.min_offset), QueueOffset(shape.max_offset), EpochMs(shape.last_update_timestamp)
        )
    return TopicStats(queues, _number(found, "topicPutTps"))


def encode_group_stats(stats: GroupStats) -> bytes:
    table = {
        queue: {
            "brokerOffset": progress.broker_offset,
            "consumerOffset": progress.consumer_offset,
            "lastTimestamp": progress.consumed_at_ms,
            "pullOffset": progress.pull_offset,
        }
        for queue, progress in stats.queues.items()
    }
    return write_json({"consumeTps": stats.consume_per_second, "offsetTable": table})


def decode_group_stats(data: bytes) -> GroupStats:
    """Raises WireError."""
    found = read_json(data)
    queues = {}
    for key, value in mapping_of(found, "offsetTable").items():
        shape = _PROGRESS.convert(value)
        queues[queue_of(key)] = QueueProgress(
            QueueOffset(shape.broker_offset),
            QueueOffset(shape.consumer_offset),
            QueueOffset(shape.pull_offset),
            EpochMs(shape.last_timestamp),
        )
    return GroupStats(queues, _number(found, "consumeTps"))


def _number(body: dict[Any, Any], member: str) -> float:
    value = body.get(member)
    try:
        return float(value) if isinstance(value, (int, float)) else 0.0
    except OverflowError:
        raise WireError(f"{member} is out of range") from None
