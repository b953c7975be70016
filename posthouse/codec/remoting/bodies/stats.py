"""Figures of topics (202), groups (208, 317) and the broker itself (28, 315). Tables are keyed by message queue.

Source: RocketMQ 5.3 TopicStatsTable, TopicOffset, ConsumeStats, OffsetWrapper, KVTable, BrokerStatsData,
ConsumeStatsList.
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
from posthouse.model.stats import (
    BrokerConsumeStats,
    GroupStats,
    QueueBounds,
    QueueProgress,
    TopicStats,
    Window,
    Windows,
)

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


class _WindowShape(msgspec.Struct):
    sum: Int64 = 0
    tps: float = 0.0
    avgpt: float = 0.0

    def value(self) -> Window:
        return Window(self.sum, self.tps, self.avgpt)


class _WindowsShape(msgspec.Struct, rename="camel"):
    stats_minute: _WindowShape | None = None
    stats_hour: _WindowShape | None = None
    stats_day: _WindowShape | None = None


_WINDOWS = BodyType(_WindowsShape, "statistics of a broker")
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
    return write_json(_group_members(stats))


def _group_members(stats: GroupStats) -> dict[str, Any]:
    table = {
        queue: {
            "brokerOffset": progress.broker_offset,
            "consumerOffset": progress.consumer_offset,
            "lastTimestamp": progress.consumed_at_ms,
            "pullOffset": progress.pull_offset,
        }
        for queue, progress in stats.queues.items()
    }
    return {"consumeTps": stats.consume_per_second, "offsetTable": table}


def decode_group_stats(data: bytes) -> GroupStats:
    """Raises WireError."""
    return _group_stats(read_json(data))


def _group_stats(found: Any) -> GroupStats:
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


def encode_broker_consume_stats(stats: BrokerConsumeStats) -> bytes:
    """317: one map for each group."""
    groups = [{group: [_group_members(each) for each in found]} for group, found in stats.groups.items()]
    return write_json(
        {
            "brokerAddr": stats.broker_address,
            "consumeStatsList": groups,
            "totalDiff": stats.backlog,
            "totalInflightDiff": stats.in_flight,
        }
    )


def decode_broker_consume_stats(data: bytes) -> BrokerConsumeStats:
    """Raises WireError."""
    found = read_json(data)
    listed = found.get("consumeStatsList") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise WireError("consumption of a broker without a consumeStatsList")
    groups: dict[str, tuple[GroupStats, ...]] = {}
    for each in listed:
        if not isinstance(each, dict) or not all(isinstance(stats, list) for stats in each.values()):
            raise WireError("a consumeStatsList holds maps of a group to a list")
        groups |= {str(group): tuple(_group_stats(stats) for stats in found) for group, found in each.items()}
    return BrokerConsumeStats(groups, str(found.get("brokerAddr") or ""))


def encode_windows(windows: Windows) -> bytes:
    """315."""
    return write_json(
        {
            name: {"avgpt": window.per_time, "sum": window.total, "tps": window.per_second}
            for name, window in (
                ("statsDay", windows.day),
                ("statsHour", windows.hour),
                ("statsMinute", windows.minute),
            )
        }
    )


def decode_windows(data: bytes) -> Windows:
    """Raises WireError."""
    found = _WINDOWS.decode(data)
    shapes = (found.stats_minute, found.stats_hour, found.stats_day)
    return Windows(*(Window() if shape is None else shape.value() for shape in shapes))
