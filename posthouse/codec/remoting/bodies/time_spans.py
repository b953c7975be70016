"""How far behind a group is, in time (303): a list with a queue in each entry.

Source: RocketMQ 5.3 QueryConsumeTimeSpanBody, QueueTimeSpan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.headers.numbers import Int64
from posthouse.codec.remoting.json_dialect import queue_of, write_json
from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.stats import QueueTimes


class _SpanShape(msgspec.Struct, rename="camel"):
    message_queue: Any = None
    min_time_stamp: Int64 = -1
    max_time_stamp: Int64 = -1
    consume_time_stamp: Int64 = -1
    delay_time: Int64 = 0


class _SpansShape(msgspec.Struct, rename="camel"):
    consume_time_span_set: list[_SpanShape] | None = None


_SPANS = BodyType(_SpansShape, "time spans of a group")


def encode_time_spans(spans: Mapping[MessageQueue, QueueTimes]) -> bytes:
    return write_json(
        {
            "consumeTimeSpanSet": [
                {
                    "consumeTimeStamp": times.consumed_at_ms,
                    "delayTime": times.lag_ms,
                    "maxTimeStamp": times.last_at_ms,
                    "messageQueue": queue,
                    "minTimeStamp": times.first_at_ms,
                }
                for queue, times in spans.items()
            ]
        }
    )


def decode_time_spans(data: bytes) -> dict[MessageQueue, QueueTimes]:
    """Raises WireError."""
    return {
        queue_of(each.message_queue): QueueTimes(
            EpochMs(each.min_time_stamp),
            EpochMs(each.max_time_stamp),
            EpochMs(each.consume_time_stamp),
            each.delay_time,
        )
        for each in _SPANS.decode(data).consume_time_span_set or ()
    }
