"""What a broker shows of its inside: a queue's entries (321), producers (328), a subscription (345), offsets of all
groups (43), offsets of consumers by client (223), replication (907).

Source: RocketMQ 5.3 QueryConsumeQueueResponseBody, ConsumeQueueData, ProducerTableInfo, QuerySubscriptionResponseBody,
ConsumerOffsetSerializeWrapper, GetConsumerStatusBody, HARuntimeInfo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, mapping_of
from posthouse.codec.remoting.bodies.subscriptions import SubscriptionShape, subscription_members
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.codec.remoting.json_dialect import queue_of, read_json, write_json
from posthouse.host.clock import EpochMs
from posthouse.model.connection import ClientConnection
from posthouse.model.filter import Subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.stats import QueueEntry, QueueSight

ProducerTable = Mapping[str, Iterable[tuple[ClientConnection, EpochMs]]]
"""By group: who is connected, and when it was last heard of."""
OffsetTable = Mapping[str, Mapping[str, Mapping[int, QueueOffset]]]
"""By group, topic and queue id."""


class _EntryShape(msgspec.Struct, rename="camel"):
    physic_offset: Int64 = 0
    physic_size: Int32 = 0
    tags_code: Int64 = 0
    eval: bool = True
    msg: str | None = None

    def value(self) -> QueueEntry:
        return QueueEntry(LogOffset(self.physic_offset), self.physic_size, self.tags_code, self.eval, self.msg or "")


class _SightShape(msgspec.Struct, rename="camel"):
    subscription_data: SubscriptionShape | None = None
    queue_data: list[_EntryShape] | None = None
    max_queue_index: Int64 = 0
    min_queue_index: Int64 = 0


class _ProducerShape(msgspec.Struct, rename="camel"):
    client_id: str | None = None
    remote_ip: str | None = msgspec.field(name="remoteIP", default=None)
    language: str | int | None = None
    version: Int32 = 0
    last_update_timestamp: Int64 = 0

    def value(self) -> tuple[ClientConnection, EpochMs]:
        client = ClientConnection(
            self.client_id or "", self.remote_ip or "", str(self.language or "OTHER"), self.version
        )
        return client, EpochMs(self.last_update_timestamp)


class _ProducersShape(msgspec.Struct):
    data: dict[str, list[_ProducerShape]] | None = None


class _SubscriptionOfShape(msgspec.Struct, rename="camel"):
    subscription_data: SubscriptionShape | None = None


_SIGHT = BodyType(_SightShape, "a look at a queue")
_PRODUCERS = BodyType(_ProducersShape, "a table of producers")
_SUBSCRIPTION_OF = BodyType(_SubscriptionOfShape, "a group's subscription")


def encode_queue_sight(sight: QueueSight) -> bytes:
    """321."""
    subscription = sight.subscription
    members: dict[str, Any] = {
        "maxQueueIndex": sight.max_offset,
        "minQueueIndex": sight.min_offset,
        "queueData": [_entry_members(entry) for entry in sight.entries],
    }
    if subscription is not None:
        members["subscriptionData"] = subscription_members(subscription)
    return write_json(members)


def _entry_members(entry: QueueEntry) -> dict[str, Any]:
    return {
        "eval": entry.matched,
        "msg": entry.why_not or None,
        "physicOffset": entry.log_offset,
        "physicSize": entry.size,
        "tagsCode": entry.tag_hash,
    }


def decode_queue_sight(data: bytes) -> QueueSight:
    """Raises WireError."""
    found = _SIGHT.decode(data)
    return QueueSight(
        tuple(shape.value() for shape in found.queue_data or ()),
        QueueOffset(found.min_queue_index),
        QueueOffset(found.max_queue_index),
        None if found.subscription_data is None else found.subscription_data.value(),
    )


def encode_producer_table(producers: ProducerTable) -> bytes:
    """328."""
    return write_json({"data": {group: [_producer_members(*each) for each in who] for group, who in producers.items()}})


def _producer_members(client: ClientConnection, seen_at_ms: EpochMs) -> dict[str, Any]:
    return {
        "clientId": client.client_id,
        "language": client.language,
        "lastUpdateTimestamp": seen_at_ms,
        "remoteIP": client.address,
        "version": client.version,
    }


def decode_producer_table(data: bytes) -> dict[str, list[tuple[ClientConnection, EpochMs]]]:
    """Raises WireError."""
    found = _PRODUCERS.decode(data).data or {}
    return {group: [shape.value() for shape in shapes] for group, shapes in found.items()}


def encode_subscription_of(group: str, topic: str, subscription: Subscription | None) -> bytes:
    """345. No subscription: the group has no member, or none that wants the topic."""
    members: dict[str, Any] = {"group": group, "topic": topic}
    if subscription is not None:
        members["subscriptionData"] = subscription_members(subscription)
    return write_json(members)


def decode_subscription_of(data: bytes) -> Subscription | None:
    """Raises WireError."""
    found = _SUBSCRIPTION_OF.decode(data).subscription_data
    return None if found is None else found.value()


def encode_offset_table(offsets: OffsetTable) -> bytes:
    """43: keyed by `topic@group`."""
    table = {
        f"{topic}@{group}": {str(queue_id): offset for queue_id, offset in queues.items()}
        for group, topics in offsets.items()
        for topic, queues in topics.items()
    }
    return write_json({"offsetTable": table})


def decode_offset_table(data: bytes) -> dict[str, dict[str, dict[int, QueueOffset]]]:
    """Raises WireError."""
    offsets: dict[str, dict[str, dict[int, QueueOffset]]] = {}
    for key, queues in mapping_of(read_json(data), "offsetTable").items():
        topic, at, group = str(key).rpartition("@")
        if not at or not isinstance(queues, dict):
            raise WireError(f"an offset table needs topic@group, and queues below it, not {str(key)[:60]!r}")
        try:
            found = {int(queue_id): QueueOffset(int(offset)) for queue_id, offset in queues.items()}
        except (TypeError, ValueError):
            raise WireError(f"an offset of {str(key)[:60]!r} is no number") from None
        offsets.setdefault(group, {})[topic] = found
    return offsets


def encode_consumer_status(by_client: Mapping[str, Mapping[MessageQueue, QueueOffset]]) -> bytes:
    """The broker's answer to 223: what each client said to 221."""
    return write_json({"consumerTable": {client: dict(offsets) for client, offsets in by_client.items()}})


def decode_consumer_status(data: bytes) -> dict[str, dict[MessageQueue, QueueOffset]]:
    """Raises WireError."""
    found: dict[str, dict[MessageQueue, QueueOffset]] = {}
    for client, table in mapping_of(read_json(data), "consumerTable").items():
        if not isinstance(table, dict) or not all(type(offset) is int for offset in table.values()):
            raise WireError(f"the offsets of client {str(client)[:60]!r} are no map of numbers")
        found[str(client)] = {queue_of(key): QueueOffset(offset) for key, offset in table.items()}
    return found


def encode_lone_master_status(max_log_offset: LogOffset) -> bytes:
    """907 of a broker that has no slaves."""
    return write_json(
        {
            "haClientRuntimeInfo": {},
            "haConnectionInfo": [],
            "inSyncSlaveNums": 0,
            "master": True,
            "masterCommitLogMaxOffset": max_log_offset,
        }
    )
