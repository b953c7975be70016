"""Frames: how commands are cut out of a stream of bytes.

A frame is: u32 length of what follows; u8 serialize type (0 JSON, 1 ROCKETMQ binary); u24 header length; header;
body. There is no magic number and no handshake. A frame that is over a limit, or whose header would not fit into
it, is a WireError, and the only thing left to do with such a stream is to close it.
Source: RocketMQ 5.3 NettyDecoder, RemotingCommand.decode.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from posthouse.model.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX

JSON = 0
ROCKETMQ = 1

_HEAD = struct.Struct(">II")


class WireError(Exception):
    """These bytes are not the protocol."""


class Frame(NamedTuple):
    serialize_type: int
    header: bytes
    body: bytes


class FrameReader:
    """Feed it bytes in any split; it gives whole frames. What it holds is never more than one frame.

    After a WireError it must not be fed again.
    """

    __slots__ = ("_frame_bytes_max", "_held", "_held_bytes", "_wanted")

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._wanted = 8  # bytes without which there is nothing to look at

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._held_bytes > 0

    def receive_data(self, data: bytes) -> list[Frame]:
        """The frames that are complete now, in order.

        Raises: WireError if a declared size is over its limit or a header does not fit into its frame.
        """
        if self._held_bytes:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._wanted:
                return []
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
        frames: list[Frame] = []
        at, size = 0, len(data)
        wanted = 8
        while size - at >= 8:
            length, word = _HEAD.unpack_from(data, at)
            if not 4 <= length <= self._frame_bytes_max - 4:
                raise WireError(f"a frame of {length + 4} bytes; the limit is {self._frame_bytes_max}")
            header_length = word & 0xFFFFFF
            if header_length > length - 4 or header_length > HEADER_BYTES_MAX:
                raise WireError(f"a header of {header_length} bytes in a frame of {length + 4}")
            end = at + 4 + length
            if end > size:
                wanted = end - at
                break
            body_at = at + 8 + header_length
            frames.append(Frame(word >> 24, data[at + 8 : body_at], data[body_at:end]))
            at = end
        if at < size:
            self._held.append(data[at:] if at else data)
            self._held_bytes = size - at
            self._wanted = wanted
        return frames


def encode_frame(header: bytes, body: bytes = b"", serialize_type: int = JSON) -> bytes:
    """One frame. Raises ValueError past a limit: nothing of ours may be larger than what peers accept."""
    length = 4 + len(header) + len(body)
    if length + 4 > FRAME_BYTES_MAX or len(header) > HEADER_BYTES_MAX:
        raise ValueError(f"a frame of {length + 4} bytes with a header of {len(header)}")
    return b"".join((_HEAD.pack(length, serialize_type << 24 | len(header)), header, body))
