"""The body of a batch: messages of one topic, one after another.

    bytes    field
    4        size of this entry, this field included
    4        magic                  written 0, not looked at
    4        body CRC               written 0, not looked at
    4        flag
    4 + n    body
    2 + n    properties, UTF-8

Source: RocketMQ 5.3 MessageDecoder.encodeMessages, decodeMessages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from posthouse.codec.remoting.frame import WireError
from posthouse.model.limits import MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX

_HEAD = struct.Struct(">iIIii")  # up to and with the body's length
_U16 = struct.Struct(">H")
ENTRY_BYTES_MIN = 22


class BatchEntry(NamedTuple):
    """`properties` is the encoded text, see model.properties."""

    body: bytes
    properties: str
    flag: int = 0


def encode_batch(entries: Iterable[BatchEntry]) -> bytes:
    """Raises ValueError past a limit, naming it."""
    parts: list[bytes] = []
    total = 0
    for body, text, flag in entries:
        properties = text.encode()
        if len(properties) > PROPERTIES_BYTES_MAX:
            raise ValueError(f"properties of {len(properties)} bytes; the limit is {PROPERTIES_BYTES_MAX}")
        size = ENTRY_BYTES_MIN + len(body) + len(properties)
        total += size
        parts += (_HEAD.pack(size, 0, 0, flag, len(body)), body, _U16.pack(len(properties)), properties)
    if total > MESSAGE_BYTES_MAX:
        raise ValueError(f"a batch of {total} bytes; the limit is {MESSAGE_BYTES_MAX}")
    return b"".join(parts)


def decode_batch(data: bytes) -> list[BatchEntry]:
    """At least one entry. Raises WireError, also for a batch over MESSAGE_BYTES_MAX."""
    if not data or len(data) > MESSAGE_BYTES_MAX:
        raise WireError(f"a batch of {len(data)} bytes; 1 to {MESSAGE_BYTES_MAX} are taken")
    entries: list[BatchEntry] = []
    at = 0
    while at < len(data):
        if len(data) - at < ENTRY_BYTES_MIN:
            raise WireError(f"entry {len(entries)} of the batch: {len(data) - at} bytes are left")
        size, _, _, flag, body_bytes = _HEAD.unpack_from(data, at)
        body_at, end = at + _HEAD.size, at + size
        properties_at = body_at + body_bytes + 2
        if end > len(data) or body_bytes < 0 or properties_at > end:
            raise WireError(f"entry {len(entries)} of the batch: size {size} with a body of {body_bytes} bytes")
        (properties_bytes,) = _U16.unpack_from(data, properties_at - 2)
        if properties_at + properties_bytes != end or properties_bytes > PROPERTIES_BYTES_MAX:
            raise WireError(
                f"entry {len(entries)} of the batch: size {size} with properties of {properties_bytes} bytes"
            )
        try:
            properties = data[properties_at:end].decode()
        except UnicodeDecodeError as error:
            raise WireError(f"entry {len(entries)} of the batch: the properties: {error}") from None
        entries.append(BatchEntry(data[body_at : properties_at - 2], properties, flag))
        at = end
    return entries
