"""Message ids: the place of a record (offset id) and the producer's own unique id. Upper-case hex on the wire.

Source: RocketMQ 5.3 MessageDecoder.createMessageId, MessageClientIDSetter; 32 digits for IPv4, 56 for IPv6.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from posthouse.model.offsets import LogOffset

if TYPE_CHECKING:
    from posthouse.model.message import Endpoint

_TAIL = struct.Struct(">iq")


def offset_message_id(store_host: Endpoint, log_offset: LogOffset) -> str:
    """Hex of ip (4 or 16 bytes), port (int32), log offset (int64)."""
    return (store_host.ip + _TAIL.pack(store_host.port, log_offset)).hex().upper()


def parse_offset_message_id(text: str) -> tuple[Endpoint, LogOffset]:
    """Raises ValueError when it is not 32 or 56 hex digits."""
    from posthouse.model.message import Endpoint

    raw = bytes.fromhex(text)
    if len(raw) not in (16, 28):
        raise ValueError(f"{text!r} is not a message id: 32 or 56 hex digits")
    port, offset = _TAIL.unpack(raw[-12:])
    return Endpoint(raw[:-12], port), LogOffset(offset)
