"""Frames: what the log is made of, framed so that a torn tail, a flipped bit and a missing piece are all seen.

    u32 magic      which kind of frame, below
    u32 size       of the whole frame, this header included
    u64 offset     log offset of the frame's first byte: it says itself where it belongs
    u32 epoch      grows by one with every start of the log
    u32 previous   checksum of the frame before it (0 for the first of the log): the chain
    u32 records    how many
    u64 stored_at  ms, for people and retention
    u64 durable    everything below this log offset had been synced when this frame was written
    u32 checksum   CRC-32 of all the bytes above and of the records

    "PHB1" batch    what one commit writes: whole records follow, one after another, each at its true log offset
    "PHO1" batch    the same, of a segment's opening: worth nothing until a frame that is not PHO1 follows it
    "PHE1" end mark the last frame of a segment that another one follows: no records, size 48
    "PHG1" gap      what a repair puts in place of bytes that it could not save: zeros follow up to `size`, which the
                    checksum does not cover; `durable` is the `previous` of the frame after it, so the chain goes on

`durable` tells a torn tail from damage. A commit that a crash interrupted may leave any of its pages; bytes that
are bad below the `durable` of a good later batch had been safe once, so that is damage and is never cut.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer
from posthouse.model.offsets import LogOffset

_HEAD = struct.Struct(">4sIQIIIQQ")
_CHECKSUM = struct.Struct(">I")
HEADER_BYTES = _HEAD.size + _CHECKSUM.size
BATCH_BYTES_MAX = 64 * 1024 * 1024
"""Larger sizes in the header of a batch are not believed."""
GAP_BYTES_MAX = 0xFFFF_FFFF

assert HEADER_BYTES == 48


class FrameKind(Enum):
    BATCH = b"PHB1"
    OPENING = b"PHO1"
    END = b"PHE1"
    GAP = b"PHG1"

    @property
    def holds_records(self) -> bool:
        return self is FrameKind.BATCH or self is FrameKind.OPENING


KINDS = {kind.value: kind for kind in FrameKind}


class FrameHeader(NamedTuple):
    kind: FrameKind
    size: int
    offset: LogOffset
    epoch: int
    previous: int
    records: int
    stored_at_ms: EpochMs
    durable: LogOffset
    checksum: int

    @property
    def end(self) -> LogOffset:
        return LogOffset(self.offset + self.size)

    @property
    def covered_bytes(self) -> int:
        """How much of the frame the checksum is about."""
        return HEADER_BYTES if self.kind is FrameKind.GAP else self.size

    @property
    def chain(self) -> int:
        """What the next frame has as `previous`."""
        return self.durable if self.kind is FrameKind.GAP else self.checksum


def encode_batch(
    offset: LogOffset,
    epoch: int,
    previous: int,
    stored_at_ms: int,
    durable: LogOffset,
    records: Sequence[Buffer],
    records_bytes: int,
    *,
    opening: bool = False,
) -> tuple[bytes, int]:
    """The whole batch and its checksum."""
    size = HEADER_BYTES + records_bytes
    magic = (FrameKind.OPENING if opening else FrameKind.BATCH).value
    head = _HEAD.pack(magic, size, offset, epoch, previous, len(records), stored_at_ms, durable)
    payload = b"".join(records)
    assert len(payload) == records_bytes
    checksum = zlib.crc32(payload, zlib.crc32(head))
    return b"".join((head, _CHECKSUM.pack(checksum), payload)), checksum


def encode_end(
    offset: LogOffset, epoch: int, previous: int, stored_at_ms: int, durable: LogOffset
) -> tuple[bytes, int]:
    """An end mark and its checksum; the next segment begins HEADER_BYTES after `offset`."""
    return _bare(FrameKind.END, HEADER_BYTES, offset, epoch, previous, stored_at_ms, durable)


def encode_gap(offset: LogOffset, size: int, epoch: int, previous: int, stored_at_ms: int, next_previous: int) -> bytes:
    """The header of a gap of `size` bytes, this header included; zeros follow it.

    `previous`: chain of the frame before; `next_previous`: what the frame after the gap has as its `previous`.
    """
    assert HEADER_BYTES <= size <= GAP_BYTES_MAX
    return _bare(FrameKind.GAP, size, offset, epoch, previous, stored_at_ms, next_previous)[0]


def _bare(
    kind: FrameKind, size: int, offset: int, epoch: int, previous: int, stored_at_ms: int, durable: int
) -> tuple[bytes, int]:
    head = _HEAD.pack(kind.value, size, offset, epoch, previous, 0, stored_at_ms, durable)
    checksum = zlib.crc32(head)
    return head + _CHECKSUM.pack(checksum), checksum


def decode_header(data: Buffer, at: int) -> FrameHeader | None:
    """The header at `at`, or None if those bytes cannot be one. The checksum is not looked at."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, size, offset, epoch, previous, records, stored_at_ms, durable = _HEAD.unpack_from(data, at)
    kind = KINDS.get(magic)
    if kind is None or not _size_can_be(kind, size, records):
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, at + _HEAD.size)
    return FrameHeader(
        kind, size, LogOffset(offset), epoch, previous, records, EpochMs(stored_at_ms), LogOffset(durable), checksum
    )


def _size_can_be(kind: FrameKind, size: int, records: int) -> bool:
    if kind.holds_records:
        return HEADER_BYTES < size <= BATCH_BYTES_MAX and records > 0
    return size >= HEADER_BYTES and not records and (size == HEADER_BYTES or kind is FrameKind.GAP)


def checksum_holds(data: Buffer, at: int, header: FrameHeader) -> bool:
    """Whether what the checksum covers of the frame at `at` is as it was written."""
    view = memoryview(data)
    end = at + header.covered_bytes
    if len(view) < end:
        return False
    found = zlib.crc32(view[at + HEADER_BYTES : end], zlib.crc32(view[at : at + _HEAD.size]))
    return found == header.checksum
