"""Message bodies that a producer compressed: only consumers open them, a broker never does.

zlib is always there. LZ4 and ZSTD need a package; without it the error says which extra brings it. What comes out is
bounded, as a small body may claim to be any size.
Source: RocketMQ 5.3 CompressionType, MessageSysFlag; type bits 0 with COMPRESSED mean zlib (older clients, Go, C++).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

from posthouse.codec.record import RecordError
from posthouse.model.limits import INFLATED_BYTES_MAX
from posthouse.model.message import StoredMessage, SysFlag

LZ4 = 0x100
ZSTD = 0x200
ZLIB = 0x300

_ZSTD_STEP_BYTES = 1024


def inflate_body(message: StoredMessage) -> bytes:
    """The body as the program sent it. Raises RecordError if it is damaged, too large, or in need of a package."""
    if not message.sys_flag & SysFlag.COMPRESSED:
        return message.body
    kind = message.sys_flag & SysFlag.COMPRESSION_TYPE_MASK
    inflate = _INFLATERS.get(kind)
    if inflate is None:
        raise RecordError(f"a body of the unknown compression type {kind:#x}")
    return inflate(message.body)


def inflate_zlib(data: bytes) -> bytes:
    """Raises RecordError unless it is one whole stream of at most INFLATED_BYTES_MAX."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise RecordError(f"zlib: {error}") from None
    if not stream.eof:
        more = "is over" if stream.unconsumed_tail else "ends early, or is at"
        raise RecordError(f"a zlib stream that {more} the limit of {INFLATED_BYTES_MAX} bytes")
    return found


def _inflate_lz4(data: bytes) -> bytes:
    frame = _package("lz4.frame", "LZ4")
    try:
        stream = frame.LZ4FrameDecompressor()
        found: bytes = stream.decompress(data, max_length=INFLATED_BYTES_MAX)
    except (RuntimeError, EOFError) as error:
        raise RecordError(f"LZ4: {error}") from None
    if not stream.eof:
        raise RecordError(f"an LZ4 frame that ends early, or is over the limit of {INFLATED_BYTES_MAX} bytes")
    return found


def _inflate_zstd(data: bytes) -> bytes:
    zstandard = _package("zstandard", "ZSTD")
    stream = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    total = at = 0
    try:
        while at < len(data) and not stream.eof:  # in small steps: each may become 30,000 times as much
            parts.append(stream.decompress(data[at : at + _ZSTD_STEP_BYTES]))
            at += _ZSTD_STEP_BYTES
            total += len(parts[-1])
            if total > INFLATED_BYTES_MAX:
                raise RecordError(f"a ZSTD frame over the limit of {INFLATED_BYTES_MAX} bytes")
    except zstandard.ZstdError as error:
        raise RecordError(f"ZSTD: {error}") from None
    if not stream.eof:
        raise RecordError("a ZSTD frame that ends early")
    return b"".join(parts)


def _package(name: str, kind: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RecordError(
            f"this body is {kind} compressed; to read such messages: pip install 'posthouse[compression]'"
        ) from None


_INFLATERS: dict[int, Callable[[bytes], bytes]] = {
    0: inflate_zlib,
    ZLIB: inflate_zlib,
    LZ4: _inflate_lz4,
    ZSTD: _inflate_zstd,
}
