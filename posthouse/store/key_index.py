"""The key index: from a key of a message to the places in the log where it may be, a fold over the log.

Keys are the tokens of KEYS and the UNIQ_KEY, each in its topic. An entry is 8 bytes, little endian: u32 log offset from
the start of its block, u32 CRC-32 of `topic#key`. As one number that is the hash, then the offset, so a sorted block
is sorted by hash and for one hash by age.

What must stay true
- Entries come in log order, and stored times never go back; so blocks follow one another in offset and in time.
- The newest blocks are in memory as they came: taking an entry costs an append and nothing is ever sorted while
  messages wait. A checkpoint sorts them, in steps, into the run file of the same stretch of the log.
- A hash proves nothing: who asks must compare the record. What is not in the index is found by replay, never by
  searching the log.

Source: RocketMQ 5.3 IndexService for what is indexed; its layout is another.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol
from zlib import crc32

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, File
from posthouse.model import properties as names
from posthouse.model.offsets import LogOffset
from posthouse.model.properties import NAME_END, PAIR_END, find_property

_ENTRY = struct.Struct("<II")
_HASH = struct.Struct("<I")
KEY_ENTRY_BYTES = _ENTRY.size
assert KEY_ENTRY_BYTES == 8

BLOCK_ENTRIES = 16_384
"""A block is full from here on; the last message in it may bring it above. To sort this many takes 3 ms: see
`sort_entries`."""

SPAN_BYTES_MAX = 1 << 32
"""Log under one block: what an entry's offset can say."""

_FULL_BYTES = BLOCK_ENTRIES * KEY_ENTRY_BYTES
_SORTED_AT_ONCE = 4096
_REACH = 256
"""Entries to either side of where a hash is expected: one read of 4 KiB. Among n hashes the place is off by
sqrt(n) / 2 at most, typically; this is four times that for a full block."""

_pack = _ENTRY.pack
_pack_two = struct.Struct("<IIII").pack
_KEYS = f"{names.KEYS}{NAME_END}"
_KEYS_CHARS = len(_KEYS)


def key_hashes(topic: str, unique_id: str | None, keys: str | None) -> tuple[int, ...]:
    """What to `apply` for a message: a hash for each of its keys. `keys` is the property, split at every blank."""
    if not keys:
        return (crc32(f"{topic}#{unique_id}".encode()),) if unique_id else ()
    if unique_id and " " not in keys:
        return crc32(f"{topic}#{unique_id}".encode()), crc32(f"{topic}#{keys}".encode())
    every = dict.fromkeys((*keys.split(" "), unique_id))
    return tuple([crc32(f"{topic}#{key}".encode()) for key in every if key])


def property_hashes(seed: int, unique_id: str | None, properties: str) -> tuple[int, ...]:
    """The same for a message of which the encoded properties are known. Every send does this.

    `seed` is the hash of the empty key in its topic, where the hash of each key there begins. `unique_id`: the one in
    the properties, if the caller knows it.
    """
    if unique_id is None:
        unique_id = find_property(properties, names.UNIQ_KEY)
    hashes: tuple[int, ...] = (crc32(unique_id.encode(), seed),) if unique_id else ()
    at = properties.rfind(_KEYS)
    if at < 0:
        return hashes
    keys: str | None = properties[at + _KEYS_CHARS :].partition(PAIR_END)[0]
    if not keys or (at and properties[at - 1] != PAIR_END):  # there twice, or the end of another name
        keys = find_property(properties, names.KEYS)
    if not keys:
        return hashes
    if unique_id and " " not in keys:
        return hashes[0], crc32(keys.encode(), seed)
    return tuple([crc32(key.encode(), seed) for key in dict.fromkeys((*keys.split(" "), unique_id)) if key])


def key_hash(topic: str, key: str) -> int:
    return crc32(f"{topic}#{key}".encode())


class OpenBlock:
    """A block in memory: entries of one stretch of the log, in log order.

    `start` is the offset of the first, from which all are counted; the times are those of the first and the last.
    """

    __slots__ = ("data", "first_ms", "last_ms", "limit", "start")

    def __init__(self, start: LogOffset, first_ms: EpochMs) -> None:
        self.start = start
        self.limit = start + SPAN_BYTES_MAX
        self.first_ms = self.last_ms = first_ms
        self.data = bytearray()

    async def offsets(self, wanted: int) -> list[LogOffset]:
        """Where the hash is, in log order: 16,384 entries are searched in a tenth of a millisecond."""
        needle, data, start = _HASH.pack(wanted), self.data, self.start
        found: list[LogOffset] = []
        at = data.find(needle)
        while at >= 0:
            if at & 7 == 4:
                (relative,) = _HASH.unpack_from(data, at - 4)
                found.append(LogOffset(start + relative))
            at = data.find(needle, at + 1)
        return found


class KeyBlock(NamedTuple):
    """A block in a run file: `entries` of them, sorted, at byte `position` of `file`."""

    start: LogOffset
    entries: int
    first_ms: EpochMs
    last_ms: EpochMs
    file: File
    position: int

    async def offsets(self, wanted: int) -> list[LogOffset]:
        """Where the hash is, in log order. Raises OSError.

        One read around where it should be, as hashes are spread evenly; wider ones, four at most, where keys that are
        there often have shifted it.
        """
        middle = self.entries * wanted >> 32
        reach = _REACH
        first, end = max(0, middle - reach), min(self.entries, middle + reach)
        while True:
            found = entry_numbers(await self._read(first, end))
            before, after = found[0] >> 32 >= wanted and first > 0, found[-1] >> 32 <= wanted and end < self.entries
            if not before and not after:
                break
            reach *= 4
            first = max(0, first - reach) if before else first
            end = min(self.entries, end + reach) if after else end
        low, high = bisect_left(found, wanted << 32), bisect_left(found, wanted + 1 << 32)
        return [LogOffset(self.start + (each & 0xFFFFFFFF)) for each in found[low:high]]

    async def _read(self, first: int, end: int) -> bytes:
        position, size = self.position + first * KEY_ENTRY_BYTES, (end - first) * KEY_ENTRY_BYTES
        data = self.file.read(position, size)
        if data is None:
            data = await read_later(self.file, position, size)
        if len(data) != size:
            raise OSError(f"{self.file.name} is cut short")
        return data


async def read_later(file: File, position: int, size: int) -> bytes:
    """What the device gives when it is waited for. Raises OSError."""
    waiting: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()
    file.read_later(position, size, lambda found: None if waiting.done() else waiting.set_result(found))
    outcome = await waiting
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


class Keyed(Protocol):
    """A committed message, as far as the index looks at it."""

    @property
    def log_offset(self) -> LogOffset: ...

    @property
    def key_hashes(self) -> tuple[int, ...]: ...

    @property
    def stored_at_ms(self) -> EpochMs: ...


class KeyIndex:
    """The blocks of all runs and those in memory. Below `applied_offset` every message's keys are in it."""

    def __init__(self) -> None:
        self.applied_offset = LogOffset(0)
        self.applied_at_ms = EpochMs(0)
        self._in_files: list[KeyBlock] = []
        self._in_memory: list[OpenBlock] = []
        self._open: OpenBlock | None = None  # the newest in memory; None if the next entry begins one

    def apply(self, hashes: tuple[int, ...], log_offset: LogOffset, stored_at_ms: EpochMs) -> None:
        """Takes the keys of a committed message, unless it has them already. Messages come in log order."""
        if log_offset < self.applied_offset:
            return
        self.applied_offset = log_offset + 1  # type: ignore[assignment]
        self.applied_at_ms = stored_at_ms
        if not hashes:
            return
        block = self._open
        if block is None or log_offset >= block.limit or len(block.data) >= _FULL_BYTES:
            block = self._begin(log_offset, stored_at_ms)
        block.last_ms = stored_at_ms
        relative = log_offset - block.start
        if len(hashes) == 2:
            block.data += _pack_two(relative, hashes[0], relative, hashes[1])
        else:
            for each in hashes:
                block.data += _pack(relative, each)

    def apply_all(self, messages: Sequence[Keyed]) -> None:
        """The same for the messages of a commit, none of which is in the index: every send comes by here."""
        if not messages:
            return
        assert messages[0].log_offset >= self.applied_offset, "a commit brings keys that the index has"
        block = self._open
        for message in messages:
            log_offset, hashes = message.log_offset, message.key_hashes
            if block is None or log_offset >= block.limit or len(block.data) >= _FULL_BYTES:
                if not hashes:
                    continue
                block = self._begin(log_offset, message.stored_at_ms)
            if len(hashes) == 2:
                relative = log_offset - block.start
                block.data += _pack_two(relative, hashes[0], relative, hashes[1])
            else:
                for each in hashes:
                    block.data += _pack(log_offset - block.start, each)
        last = messages[-1]
        self.applied_offset = LogOffset(last.log_offset + 1)
        self.applied_at_ms = last.stored_at_ms
        if block is not None:
            block.last_ms = last.stored_at_ms

    def _begin(self, log_offset: LogOffset, stored_at_ms: EpochMs) -> OpenBlock:
        block = OpenBlock(log_offset, stored_at_ms)
        self._in_memory.append(block)
        self._open = block
        return block

    # Checkpoints

    def tail(self) -> tuple[OpenBlock, ...]:
        """The blocks that no run holds; they do not grow any more."""
        self._open = None
        return tuple(self._in_memory)

    def place(self, blocks: Sequence[KeyBlock], end: LogOffset) -> None:
        """`blocks`, oldest first, are in files now: everything that is kept below `end`."""
        self._in_files = list(blocks)
        self._in_memory = [block for block in self._in_memory if block.start >= end]
        if not self._in_memory:
            self._open = None
        if end > self.applied_offset:
            self.applied_offset = end
        if blocks and blocks[-1].last_ms > self.applied_at_ms:
            self.applied_at_ms = blocks[-1].last_ms

    # Looking up

    async def find(
        self, wanted: int, first_offset: LogOffset, begin_ms: int, end_ms: int
    ) -> AsyncGenerator[LogOffset, None]:
        """Where a message with that hash may be, newest first, from `first_offset` on and stored about between the
        two times. Other work has its turn after every block; what moves to a file meanwhile is found there.
        Raises OSError.
        """
        before = self.applied_offset
        while (block := self._before(before, end_ms)) is not None and block.last_ms >= begin_ms:
            start = block.start
            for each in reversed(await block.offsets(wanted)):
                if each < first_offset:
                    return
                if each < before:  # else it was given already: two keys of it, or a block that is in this one now
                    before = each
                    yield each
            if start <= first_offset:
                return
            before = start
            await asyncio.sleep(0)

    def _before(self, log_offset: LogOffset, end_ms: int) -> OpenBlock | KeyBlock | None:
        """The newest block that begins below `log_offset` and not after `end_ms`."""
        places: tuple[Sequence[OpenBlock | KeyBlock], ...] = (self._in_memory, self._in_files)
        for blocks in places:
            at = bisect_left(blocks, log_offset, key=_start)
            if at and blocks[at - 1].first_ms > end_ms:
                at = bisect_right(blocks, end_ms, hi=at, key=_first_ms)
            if at:
                return blocks[at - 1]
        return None


def _start(block: OpenBlock | KeyBlock) -> LogOffset:
    return block.start


def _first_ms(block: OpenBlock | KeyBlock) -> int:
    return block.first_ms


# Sorted entries, as they are in run files


class KeyPart(NamedTuple):
    """A sorted block on its way into a run file. All its entries are below log offset `end`."""

    start: LogOffset
    end: LogOffset
    first_ms: EpochMs
    last_ms: EpochMs
    data: Buffer

    @property
    def entries(self) -> int:
        return len(self.data) // KEY_ENTRY_BYTES


async def sort_blocks(blocks: Sequence[OpenBlock], end: LogOffset) -> list[KeyPart]:
    """The blocks of a `tail` that ends at `end`. Other work has its turn every millisecond."""
    parts: list[KeyPart] = []
    for at, block in enumerate(blocks):
        following = blocks[at + 1].start if at + 1 < len(blocks) else end
        data = await sort_entries(block.data)
        parts.append(KeyPart(block.start, following, block.first_ms, block.last_ms, data))
    return parts


async def sort_entries(data: bytes | bytearray) -> bytes:
    """In pieces, each in a turn of its own; the sort that joins them only has to merge."""
    numbers = entry_numbers(data)
    merged: list[int] = []
    for at in range(0, len(numbers), _SORTED_AT_ONCE):
        merged += sorted(numbers[at : at + _SORTED_AT_ONCE])
        await asyncio.sleep(0)
    merged.sort()
    return entry_bytes(merged)


async def join_parts(parts: Sequence[KeyPart]) -> list[KeyPart]:
    """The same entries in fewer blocks, where neighbours fit into one."""
    joined: list[KeyPart] = []
    for part in parts:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.entries + part.entries <= BLOCK_ENTRIES
            and part.end - last.start <= SPAN_BYTES_MAX
        ):
            further = part.start - last.start
            numbers = entry_numbers(last.data).tolist()
            numbers += [each + further for each in entry_numbers(part.data)]
            numbers.sort()
            joined[-1] = KeyPart(last.start, part.end, last.first_ms, part.last_ms, entry_bytes(numbers))
            await asyncio.sleep(0)
        else:
            joined.append(part)
    return joined


def entry_numbers(data: Buffer) -> array[int]:
    """Entries as numbers: hash << 32 | offset."""
    found = array("Q")
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def entry_bytes(numbers: Sequence[int]) -> bytes:
    found = array("Q", numbers)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()
