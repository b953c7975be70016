"""What a consumer answers to an operator: its offsets (221), all about it (307), one message handled (309).

And the offsets to which it is moved (220), which come as a map, or for C++ clients as a list.
Source: RocketMQ 5.3 GetConsumerStatusBody, ConsumerRunningInfo, ConsumeMessageDirectlyResult, ResetOffsetBody,
ResetOffsetBodyForC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, mapping_of
from posthouse.codec.remoting.bodies.subscriptions import SubscriptionShape, subscription_members
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int64
from posthouse.codec.remoting.json_dialect import queue_of, read_json, write_json
from posthouse.host.clock import EpochMs
from posthouse.model.client_status import ConsumeRates, DirectOutcome, DirectResult, QueueStatus, RunningInfo
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

_MIB = 1024 * 1024


class _QueueShape(msgspec.Struct, rename="camel"):
    commit_offset: Int64 = 0
    cached_msg_min_offset: Int64 = 0
    cached_msg_max_offset: Int64 = 0
    cached_msg_count: Int64 = 0
    cached_msg_size_in_mi_b: Int64 = msgspec.field(name="cachedMsgSizeInMiB", default=0)
    locked: bool = False
    last_lock_timestamp: Int64 = 0
    droped: bool = False
    last_pull_timestamp: Int64 = 0
    last_consume_timestamp: Int64 = 0


class _RatesShape(msgspec.Struct, rename="camel"):
    pull_rt: float = msgspec.field(name="pullRT", default=0.0)
    pull_tps: float = msgspec.field(name="pullTPS", default=0.0)
    consume_rt: float = msgspec.field(name="consumeRT", default=0.0)
    consume_ok_tps: float = msgspec.field(name="consumeOKTPS", default=0.0)
    consume_failed_tps: float = msgspec.field(name="consumeFailedTPS", default=0.0)
    consume_failed_msgs: Int64 = 0


class _DirectShape(msgspec.Struct, rename="camel"):
    consume_result: str | None = None
    remark: str | None = None
    spent_time_mills: Int64 = 0
    order: bool = False


_QUEUE = BodyType(_QueueShape, "a queue's status")
_RATES = BodyType(_RatesShape, "a topic's rates")
_SUBSCRIPTION = BodyType(SubscriptionShape, "a subscription")
_DIRECT = BodyType(_DirectShape, "the result of a message")


def encode_running_info(info: RunningInfo) -> bytes:
    return write_json(
        {
            "jstack": info.stacks or None,
            "mqPopTable": {},
            "mqTable": {queue: _queue_members(status) for queue, status in info.queues.items()},
            "properties": dict(info.properties),
            "statusTable": {topic: _rate_members(rates) for topic, rates in info.rates.items()},
            "subscriptionSet": [subscription_members(each) for each in info.subscriptions],
            "userConsumerInfo": {},
        }
    )


def _queue_members(status: QueueStatus) -> dict[str, Any]:
    return {
        "cachedMsgCount": status.held,
        "cachedMsgMaxOffset": status.held_max_offset,
        "cachedMsgMinOffset": status.held_min_offset,
        "cachedMsgSizeInMiB": status.held_bytes // _MIB,
        "commitOffset": status.commit_offset,
        "droped": status.dropped,
        "lastConsumeTimestamp": status.consumed_at_ms,
        "lastLockTimestamp": status.locked_at_ms,
        "lastPullTimestamp": status.pulled_at_ms,
        "locked": status.locked,
        "transactionMsgCount": 0,
        "transactionMsgMaxOffset": 0,
        "transactionMsgMinOffset": 0,
        "tryUnlockTimes": 0,
    }


def _rate_members(rates: ConsumeRates) -> dict[str, Any]:
    return {
        "consumeFailedMsgs": rates.failed_in_hour,
        "consumeFailedTPS": rates.failed_per_second,
        "consumeOKTPS": rates.consumed_per_second,
        "consumeRT": rates.consume_ms,
        "pullRT": rates.pull_ms,
        "pullTPS": rates.pulled_per_second,
    }


def decode_running_info(data: bytes) -> RunningInfo:
    """Sizes come back in whole MiB. Raises WireError."""
    found = read_json(data)
    subscriptions = found.get("subscriptionSet") if isinstance(found, dict) else None
    stacks = found.get("jstack") if isinstance(found, dict) else None
    return RunningInfo(
        {str(name): str(value) for name, value in mapping_of(found, "properties").items()},
        tuple(_SUBSCRIPTION.convert(each).value() for each in subscriptions or ()),
        {queue_of(key): _queue_status(_QUEUE.convert(value)) for key, value in mapping_of(found, "mqTable").items()},
        {str(key): _rates(_RATES.convert(value)) for key, value in mapping_of(found, "statusTable").items()},
        stacks if isinstance(stacks, str) else "",
    )


def _queue_status(shape: _QueueShape) -> QueueStatus:
    return QueueStatus(
        QueueOffset(shape.commit_offset),
        QueueOffset(shape.cached_msg_min_offset),
        QueueOffset(shape.cached_msg_max_offset),
        shape.cached_msg_count,
        shape.cached_msg_size_in_mi_b * _MIB,
        shape.locked,
        EpochMs(shape.last_lock_timestamp),
        shape.droped,
        EpochMs(shape.last_pull_timestamp),
        EpochMs(shape.last_consume_timestamp),
    )


def _rates(shape: _RatesShape) -> ConsumeRates:
    return ConsumeRates(
        shape.pull_rt,
        shape.pull_tps,
        shape.consume_rt,
        shape.consume_ok_tps,
        shape.consume_failed_tps,
        shape.consume_failed_msgs,
    )


def encode_direct_result(result: DirectResult) -> bytes:
    return write_json(
        {
            "autoCommit": True,
            "consumeResult": result.outcome.value,
            "order": result.ordered,
            "remark": result.remark or None,
            "spentTimeMills": result.spent_ms,
        }
    )


def decode_direct_result(data: bytes) -> DirectResult:
    """Raises WireError."""
    found = _DIRECT.decode(data)
    try:
        outcome = DirectOutcome(found.consume_result)
    except ValueError:
        raise WireError(f"{str(found.consume_result)[:60]!r} is no result of a message") from None
    return DirectResult(outcome, found.remark or "", found.spent_time_mills, found.order)


def encode_client_offsets(offsets: Mapping[MessageQueue, QueueOffset]) -> bytes:
    return write_json({"messageQueueTable": dict(offsets)})


def decode_client_offsets(data: bytes) -> dict[MessageQueue, QueueOffset]:
    """Raises WireError."""
    table = mapping_of(read_json(data), "messageQueueTable")
    return {queue_of(key): _offset(value) for key, value in table.items()}


def decode_reset_offsets(data: bytes) -> dict[MessageQueue, QueueOffset]:
    """Where to move each queue. Raises WireError."""
    found = read_json(data)
    table = found.get("offsetTable") if isinstance(found, dict) else None
    if isinstance(table, list):
        return {queue_of(each): _offset(each.get("offset") if isinstance(each, dict) else None) for each in table}
    if not isinstance(table, dict):
        raise WireError("an offset reset without an offsetTable")
    return {queue_of(key): _offset(value) for key, value in table.items()}


def _offset(value: Any) -> QueueOffset:
    if type(value) is not int or value < 0:
        raise WireError(f"{str(value)[:40]!r} is no offset of a queue")
    return QueueOffset(value)
