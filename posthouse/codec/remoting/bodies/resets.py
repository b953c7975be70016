"""Where groups are moved to: the offsets of a reset (222, and 220 to the members) and corrections (308).

C++ clients take a list where others take a map keyed by queues.
Source: RocketMQ 5.3 ResetOffsetBody, ResetOffsetBodyForC, QueryCorrectionOffsetBody.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int64
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset


class _CorrectionShape(msgspec.Struct, rename="camel"):
    correction_offsets: dict[str, Int64] | None = None


_CORRECTION = BodyType(_CorrectionShape, "corrections")


def encode_reset_offsets(offsets: Mapping[MessageQueue, QueueOffset], *, as_list: bool = False) -> bytes:
    """`decode_reset_offsets` in client_status reads both forms."""
    if not as_list:
        return write_json({"offsetTable": dict(offsets)})
    return write_json(
        {
            "offsetTable": [
                {"brokerName": queue.broker_name, "offset": offset, "queueId": queue.queue_id, "topic": queue.topic}
                for queue, offset in offsets.items()
            ]
        }
    )


def encode_correction(offsets: Mapping[int, QueueOffset]) -> bytes:
    return write_json({"correctionOffsets": dict(offsets)})


def decode_correction(data: bytes) -> dict[int, QueueOffset]:
    """Raises WireError."""
    found = _CORRECTION.decode(data).correction_offsets or {}
    try:
        return {int(key): QueueOffset(value) for key, value in found.items()}
    except ValueError:
        raise WireError("a correction is of something that is no queue id") from None
