"""Run files: everything that was derived from one stretch of the log; written once, whole.

    8 bytes     "PHRUN002"
    u64, u64    the stretch of the log: from, to
    u32         size of the directory
    u32         CRC-32 of the directory
    u32         CRC-32 of the consume-queue entries
    u32         CRC-32 of the key entries
    directory   JSON: {"queues": [[topic id, queue id, first queue offset, count], ...],
                       "keys": [[start log offset, count, first stored_at_ms, last stored_at_ms], ...]}
    entries     of the queues in the directory's order, 20 bytes each (see consume_queue)
    keys        in the directory's order, 8 bytes each (see key_index)

A start reads the directory only. A run is believed if its name, its size and the directory's checksum hold;
otherwise its stretch of the log is replayed instead. The checksums of the entries are looked at when a run is merged.
"""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from posthouse.host.clock import EpochMs
from posthouse.host.disk import Buffer, Disk, File
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.consume_queue import ENTRY_BYTES, Stretch
from posthouse.store.key_index import KEY_ENTRY_BYTES, KeyBlock, KeyPart, read_later

FOLDER = "queues"
_NAME = re.compile(r"([0-9]{20})-([0-9]{20})\.run(\.new)?")
_MAGIC = b"PHRUN002"
_HEAD = struct.Struct(">8sQQIIII")
_SUMMED_AT_ONCE = 1024 * 1024


class QueueKey(NamedTuple):
    topic_id: int
    queue_id: int


class _Directory(msgspec.Struct, forbid_unknown_fields=True):
    queues: list[tuple[int, int, int, int]]
    keys: list[tuple[int, int, int, int]]

    def is_sound(self) -> bool:
        """Counts and places that can be; else it is no directory of ours, whatever its checksum says."""
        return all(min(row) >= 0 and row[3] > 0 for row in self.queues) and all(
            min(row) >= 0 and row[1] > 0 for row in self.keys
        )


class Run(NamedTuple):
    """An open run file and what it holds of each queue and of the key index, oldest keys first.

    `entry_bytes` of queue entries and then `key_bytes` of keys are at its end.
    """

    start: LogOffset
    end: LogOffset
    file: File
    entry_bytes: int
    key_bytes: int
    entry_checksum: int
    key_checksum: int
    stretches: dict[QueueKey, Stretch]
    keys: tuple[KeyBlock, ...]

    @property
    def short_name(self) -> str:
        return self.file.name.removeprefix(f"{FOLDER}/")

    @property
    def bytes_held(self) -> int:
        """What merging it with others costs."""
        return self.entry_bytes + self.key_bytes


class QueuePart(NamedTuple):
    """Entries of one queue on their way into a run, in pieces that follow one another."""

    key: QueueKey
    first: QueueOffset
    pieces: Sequence[Buffer]

    @property
    def entries(self) -> int:
        return sum(map(len, self.pieces)) // ENTRY_BYTES


class RunParts(NamedTuple):
    """What a run holds, read back."""

    entries: dict[QueueKey, Buffer]
    keys: list[KeyPart]


def run_name(start: LogOffset, end: LogOffset) -> str:
    return f"{FOLDER}/{start:020d}-{end:020d}.run"


def run_end(short_name: str) -> LogOffset | None:
    """Where the stretch of a run of that name ends; None if this is no name of a run."""
    found = _NAME.fullmatch(short_name)
    return None if found is None else LogOffset(int(found[2]))


def run_files(disk: Disk) -> list[str]:
    """The names of the runs in the folder, and of what interrupted writes of runs left."""
    return [name for name in disk.list(FOLDER) if _NAME.fullmatch(name)]


async def encode_run(
    start: LogOffset,
    end: LogOffset,
    queues: Iterable[QueuePart],
    keys: Iterable[KeyPart],
) -> bytes:
    """The file's bytes for the entries of each queue that has any, and for the keys. Other work has its turns."""
    directory = _Directory([], [])
    entries: list[Buffer] = []
    for queue in queues:
        if queue.entries:
            directory.queues.append((*queue.key, queue.first, queue.entries))
            entries += queue.pieces
    key_data: list[Buffer] = []
    for part in keys:
        directory.keys.append((part.start, part.entries, part.first_ms, part.last_ms))
        key_data.append(part.data)
    index = msgspec.json.encode(directory)
    sums = await checksum(entries), await checksum(key_data)
    head = _HEAD.pack(_MAGIC, start, end, len(index), zlib.crc32(index), *sums)
    return b"".join((head, index, *entries, *key_data))


async def checksum(parts: Sequence[Buffer]) -> int:
    """CRC-32 of the parts one after another. Other work has its turn after every MiB."""
    found = since = 0
    for part in parts:
        for at in range(0, len(part), _SUMMED_AT_ONCE):
            piece = memoryview(part)[at : at + _SUMMED_AT_ONCE]
            found = zlib.crc32(piece, found)
            since += len(piece)
            if since >= _SUMMED_AT_ONCE:
                since = 0
                await asyncio.sleep(0)
    return found


def open_run(disk: Disk, name: str) -> Run | None:
    """The run, or None if it is not to be believed or not there. Reads the directory only. Raises OSError."""
    try:
        file = disk.open(f"{FOLDER}/{name}")
    except FileNotFoundError:
        return None
    try:
        run = _read_directory(file)
    except OSError:
        file.close()
        raise
    if run is None or run_name(run.start, run.end) != file.name:
        file.close()
        return None
    return run


def _read_directory(file: File) -> Run | None:
    head = file.read_wait(0, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, start, end, index_bytes, index_crc, entries_crc, keys_crc = _HEAD.unpack(head)
    if magic != _MAGIC:
        return None
    index = file.read_wait(_HEAD.size, index_bytes)
    if zlib.crc32(index) != index_crc:
        return None
    try:
        directory = msgspec.json.decode(index, type=_Directory)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not directory.is_sound():
        return None
    begin = position = _HEAD.size + index_bytes
    stretches: dict[QueueKey, Stretch] = {}
    for topic_id, queue_id, first, count in directory.queues:
        stretches[QueueKey(topic_id, queue_id)] = Stretch(QueueOffset(first), count, file, position)
        position += count * ENTRY_BYTES
    keys_at = position
    keys: list[KeyBlock] = []
    for first_offset, count, first_ms, last_ms in directory.keys:
        keys.append(KeyBlock(LogOffset(first_offset), count, EpochMs(first_ms), EpochMs(last_ms), file, position))
        position += count * KEY_ENTRY_BYTES
    if file.size_bytes() != position or len(stretches) != len(directory.queues):
        return None
    return Run(
        LogOffset(start),
        LogOffset(end),
        file,
        keys_at - begin,
        position - keys_at,
        entries_crc,
        keys_crc,
        stretches,
        tuple(keys),
    )


async def read_run(run: Run) -> RunParts | None:
    """The entries of each queue and the keys, or None if they are not as they were written. Raises OSError."""
    at = run.file.size_bytes() - run.bytes_held
    data = memoryview(await read_later(run.file, at, run.bytes_held))
    entries, keys = data[: run.entry_bytes], data[run.entry_bytes :]
    if (
        len(data) != run.bytes_held
        or await checksum([entries]) != run.entry_checksum
        or await checksum([keys]) != run.key_checksum
    ):
        return None
    found = RunParts({}, [])
    at = 0
    for key, stretch in run.stretches.items():
        found.entries[key] = entries[at : at + stretch.entries * ENTRY_BYTES]
        at += stretch.entries * ENTRY_BYTES
    at = 0
    for number, block in enumerate(run.keys):
        end = run.keys[number + 1].start if number + 1 < len(run.keys) else run.end
        size = block.entries * KEY_ENTRY_BYTES
        found.keys.append(KeyPart(block.start, end, block.first_ms, block.last_ms, keys[at : at + size]))
        at += size
    return found
