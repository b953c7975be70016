"""The batch: what one commit writes, framed so that a torn tail, a flipped bit and a missing piece are all seen.

    u32 magic      "PHB1"
    u32 size       of the whole batch, this header included
    u64 offset     log offset of the batch's first byte: it says itself where it belongs
    u32 epoch      grows by one with every start of the log
    u32 previous   checksum of the batch before it (0 for the first of the log): the chain
    u32 records    how many
    u64 stored_at  ms, for people and retention
    u64 durable    everything below this log offset had been synced when this batch was written
    u32 checksum   CRC-32 of all the bytes above and of the records
    records        whole, one after another, each at its true log offset

`durable` tells a torn tail from damage. A commit that a crash interrupted may leave any of its pages; bytes that
are bad below the `durable` of a good later batch had been safe once, so that is damage and is never cut.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from posthouse.host.disk import Buffer
from posthouse.model.offsets import LogOffset

MAGIC = b"PHB1"
_HEAD = struct.Struct(">4sIQIIIQQ")
_CHECKSUM = struct.Struct(">I")
HEADER_BYTES = _HEAD.size + _CHECKSUM.size
BATCH_BYTES_MAX = 64 * 1024 * 1024
"""Larger sizes in a header are not believed."""

assert HEADER_BYTES == 48


class BatchHeader(NamedTuple):
    size: int
    offset: LogOffset
    epoch: int
    previous: int
    records: int
    stored_at_ms: int
    durable: LogOffset
    checksum: int


def encode_batch(
    offset: LogOffset,
    epoch: int,
    previous: int,
    stored_at_ms: int,
    durable: LogOffset,
    records: Sequence[Buffer],
    records_bytes: int,
) -> tuple[bytes, int]:
    """The whole batch and its checksum."""
    size = HEADER_BYTES + records_bytes
    head = _HEAD.pack(MAGIC, size, offset, epoch, previous, len(records), stored_at_ms, durable)
    payload = b"".join(records)
    assert len(payload) == records_bytes
    checksum = zlib.crc32(payload, zlib.crc32(head))
    return b"".join((head, _CHECKSUM.pack(checksum), payload)), checksum


def decode_header(data: Buffer, at: int) -> BatchHeader | None:
    """The header at `at`, or None if those bytes are not one. The checksum is not looked at."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, size, offset, epoch, previous, records, stored_at_ms, durable = _HEAD.unpack_from(data, at)
    if magic != MAGIC or not HEADER_BYTES < size <= BATCH_BYTES_MAX or not records:
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, at + _HEAD.size)
    return BatchHeader(size, LogOffset(offset), epoch, previous, records, stored_at_ms, LogOffset(durable), checksum)


def checksum_holds(data: Buffer, at: int, header: BatchHeader) -> bool:
    """Whether the whole batch at `at` is as it was written."""
    view = memoryview(data)
    if len(view) - at < header.size:
        return False
    found = zlib.crc32(view[at + HEADER_BYTES : at + header.size], zlib.crc32(view[at : at + _HEAD.size]))
    return found == header.checksum
