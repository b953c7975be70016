"""The body of BATCH_ACK_MESSAGE, 200151: deliveries of several queues, each queue's offsets as a set of bits.

Bit i of byte i / 8 stands for offset start + i; the bytes travel as base64, or, from some clients, as an array of
numbers. Members have short names and long ones, both are read. `topic` is the one that was popped, `source` tells from
which of its topics. Source: RocketMQ 5.3 BatchAckMessageRequestBody, BatchAck, BitSetSerializerDeserializer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import field

from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.host.clock import EpochMs
from posthouse.model.limits import ACKS_PER_ENTRY_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import Source


class BatchAck(NamedTuple):
    """Deliveries of one pop in one queue."""

    group: str
    topic: str
    source: Source
    start: QueueOffset
    queue_id: int
    revive_queue_id: int
    at_ms: EpochMs
    invisible_ms: int
    offsets: tuple[QueueOffset, ...]


class _AckShape(msgspec.Struct):
    """The long names are those of older clients and of the Go client."""

    c: str | None = None
    t: str | None = None
    r: str | int | None = None
    so: Int64 | None = None
    q: Int32 | None = None
    rq: Int32 | None = None
    pt: Int64 | None = None
    it: Int64 | None = None
    b: Any = None
    group: str | None = field(name="consumerGroup", default=None)
    topic: str | None = None
    retry: str | int | None = None
    start: Int64 | None = field(name="startOffset", default=None)
    queue_id: Int32 | None = field(name="queueId", default=None)
    revive_queue_id: Int32 | None = field(name="reviveQueueId", default=None)
    at_ms: Int64 | None = field(name="popTime", default=None)
    invisible_ms: Int64 | None = field(name="invisibleTime", default=None)
    bits: Any = field(name="bitSet", default=None)


class _BodyShape(msgspec.Struct, rename="camel"):
    broker_name: str | None = None
    acks: list[_AckShape] | None = None


_BODY = BodyType(_BodyShape, "a batch of acknowledgements")


def decode_batch_ack(data: bytes) -> list[BatchAck]:
    """Raises WireError."""
    return [_value(each) for each in _BODY.decode(data).acks or ()]


def _value(said: _AckShape) -> BatchAck:
    group, topic = said.c or said.group, said.t or said.topic
    if not group or not topic:
        raise WireError("an acknowledgement without a group or a topic")
    start = QueueOffset(_first(said.so, said.start))
    bits = said.b if said.b is not None else said.bits
    return BatchAck(
        group,
        topic,
        _source(said.r if said.r is not None else said.retry),
        start,
        _first(said.q, said.queue_id),
        _first(said.rq, said.revive_queue_id),
        EpochMs(_first(said.pt, said.at_ms)),
        _first(said.it, said.invisible_ms),
        tuple(QueueOffset(start + bit) for bit in decode_bits(bits)),
    )


def _first(short: int | None, long: int | None) -> int:
    return short if short is not None else long or 0


def _source(said: str | int | None) -> Source:
    try:
        return Source(int(said or 0))
    except ValueError:
        raise WireError(f"{str(said)[:60]!r} in an acknowledgement is no source of messages") from None


def decode_bits(said: Any) -> Iterator[int]:
    """The numbers of the bits that are set, ascending. Raises WireError."""
    try:
        if isinstance(said, str):
            data = base64.b64decode(said, validate=True)
        else:
            data = bytes(int(each) & 0xFF for each in said or ())
    except (binascii.Error, TypeError, ValueError, OverflowError):
        raise WireError("the bit set of an acknowledgement is neither base64 nor an array of numbers") from None
    if len(data) * 8 > ACKS_PER_ENTRY_MAX:
        raise WireError(f"the bit set of an acknowledgement has {len(data)} bytes; {ACKS_PER_ENTRY_MAX // 8} may be")
    bits = int.from_bytes(data, "little")
    return (number for number in range(bits.bit_length()) if bits >> number & 1)


def encode_bits(numbers: Iterable[int]) -> str:
    """Base64 of the bit set with these bits."""
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def encode_batch_ack(broker_name: str, acks: Iterable[BatchAck]) -> bytes:
    return write_json({"brokerName": broker_name, "acks": [_members(each) for each in acks]})


def _members(ack: BatchAck) -> dict[str, Any]:
    return {
        "c": ack.group,
        "t": ack.topic,
        "r": str(int(ack.source)),
        "so": ack.start,
        "q": ack.queue_id,
        "rq": ack.revive_queue_id,
        "pt": ack.at_ms,
        "it": ack.invisible_ms,
        "b": encode_bits(offset - ack.start for offset in ack.offsets),
    }
