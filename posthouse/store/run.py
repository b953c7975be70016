"""Run files: the consume-queue entries of one stretch of the log, all queues together; written once, whole.

    8 bytes     "PHRUN001"
    u64, u64    the stretch of the log: from, to
    u32         size of the directory
    u32         CRC-32 of the directory
    u32         CRC-32 of the entries
    directory   JSON: [[topic id, queue id, first queue offset, count], ...], in the order of the entries
    entries     20 bytes each (see consume_queue)

A start reads the directory only. A run is believed if its name, its size and the directory's checksum hold;
otherwise its stretch of the log is replayed instead. The checksum of the entries is looked at when a run is merged.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from posthouse.host.disk import Disk, File
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.consume_queue import ENTRY_BYTES, Stretch

FOLDER = "queues"
_NAME = re.compile(r"[0-9]{20}-[0-9]{20}\.run(\.new)?")
_MAGIC = b"PHRUN001"
_HEAD = struct.Struct(">8sQQIII")


class QueueKey(NamedTuple):
    topic_id: int
    queue_id: int


class Run(NamedTuple):
    """An open run file and what it holds of each queue. Its entries are at the end, `entry_bytes` of them."""

    start: LogOffset
    end: LogOffset
    file: File
    entry_bytes: int
    checksum: int
    stretches: dict[QueueKey, Stretch]

    @property
    def short_name(self) -> str:
        return self.file.name.removeprefix(f"{FOLDER}/")


def run_name(start: LogOffset, end: LogOffset) -> str:
    return f"{FOLDER}/{start:020d}-{end:020d}.run"


def run_files(disk: Disk) -> list[str]:
    """The names of the runs in the folder, and of what interrupted writes of runs left."""
    return [name for name in disk.list(FOLDER) if _NAME.fullmatch(name)]


def encode_run(start: LogOffset, end: LogOffset, tails: Iterable[tuple[QueueKey, QueueOffset, bytes]]) -> bytes:
    """The file's bytes for the entries of each queue that has any."""
    directory: list[tuple[int, int, int, int]] = []
    entries: list[bytes] = []
    for key, first, data in tails:
        if data:
            directory.append((key.topic_id, key.queue_id, first, len(data) // ENTRY_BYTES))
            entries.append(data)
    names = msgspec.json.encode(directory)
    body = b"".join(entries)
    return _HEAD.pack(_MAGIC, start, end, len(names), zlib.crc32(names), zlib.crc32(body)) + names + body


def open_run(disk: Disk, name: str) -> Run | None:
    """The run, or None if it is not to be believed or not there. Reads the directory only. Raises OSError."""
    try:
        file = disk.open(f"{FOLDER}/{name}")
    except FileNotFoundError:
        return None
    run = _read_directory(file)
    if run is None or run_name(run.start, run.end) != file.name:
        file.close()
        return None
    return run


def _read_directory(file: File) -> Run | None:
    head = file.read_wait(0, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, start, end, names_bytes, names_crc, entries_crc = _HEAD.unpack(head)
    if magic != _MAGIC:
        return None
    names = file.read_wait(_HEAD.size, names_bytes)
    if zlib.crc32(names) != names_crc:
        return None
    directory = msgspec.json.decode(names, type=list[tuple[int, int, int, int]])
    begin = position = _HEAD.size + names_bytes
    stretches: dict[QueueKey, Stretch] = {}
    for topic_id, queue_id, first, count in directory:
        stretches[QueueKey(topic_id, queue_id)] = Stretch(QueueOffset(first), count, file, position)
        position += count * ENTRY_BYTES
    if file.size_bytes() != position:
        return None
    return Run(LogOffset(start), LogOffset(end), file, position - begin, entries_crc, stretches)


def run_entries(run: Run, data: bytes) -> dict[QueueKey, bytes] | None:
    """The entries of each queue out of the run's `entry_bytes`, or None if they are not as they were written."""
    if len(data) != run.entry_bytes or zlib.crc32(data) != run.checksum:
        return None
    found: dict[QueueKey, bytes] = {}
    at = 0
    for key, stretch in run.stretches.items():
        found[key] = data[at : at + stretch.entries * ENTRY_BYTES]
        at += stretch.entries * ENTRY_BYTES
    return found
