from __future__ import annotations

import asyncio
import random
import struct
import zlib

import pytest
import pytest_asyncio

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.consume_queue import ENTRY_BYTES
from posthouse.store.key_index import KeyPart, entry_bytes
from posthouse.store.run import (
    QueueKey,
    QueuePart,
    RunParts,
    encode_run,
    open_run,
    read_run,
    run_end,
    run_files,
    run_name,
)
from tests.store.disks import FaultyDisk

START, END = LogOffset(1000), LogOffset(5000)
NAME = run_name(START, END).removeprefix("queues/")
TAILS = [
    (QueueKey(7, 0), QueueOffset(0), random.Random(1).randbytes(5 * ENTRY_BYTES)),
    (QueueKey(7, 1), QueueOffset(3), b""),
    (QueueKey(1 << 40, 2), QueueOffset(12), random.Random(2).randbytes(ENTRY_BYTES)),
]
QUEUES = [QueuePart(key, first, [data[:20], data[20:]]) for key, first, data in TAILS]
KEYS = [
    KeyPart(LogOffset(1000), LogOffset(3000), EpochMs(5), EpochMs(8), entry_bytes([1 << 32, 3 << 32 | 7])),
    KeyPart(LogOffset(3000), END, EpochMs(8), EpochMs(9), entry_bytes([2 << 32 | 12])),
]
DATA = asyncio.run(encode_run(START, END, QUEUES, KEYS))
_HEAD = struct.Struct(">8sQQIIII")


@pytest_asyncio.fixture
async def disk() -> FaultyDisk:
    found = FaultyDisk()
    found.replace(run_name(START, END), DATA, lambda error: None)
    return found


def changed(disk: FaultyDisk, data: bytes) -> FaultyDisk:
    return FaultyDisk({run_name(START, END): data})


@pytest.mark.asyncio
async def test_a_run_gives_the_place_of_each_queues_entries(disk: FaultyDisk) -> None:
    run = open_run(disk, NAME)
    assert run is not None
    assert (run.start, run.end, run.short_name) == (START, END, NAME)
    assert list(run.stretches) == [QueueKey(7, 0), QueueKey(1 << 40, 2)]
    for key, first, data in TAILS:
        if data:
            stretch = run.stretches[key]
            assert (stretch.first, stretch.entries) == (first, len(data) // ENTRY_BYTES)
            assert stretch.file.read_wait(stretch.position, len(data)) == data


@pytest.mark.asyncio
async def test_a_run_gives_the_place_of_each_block_of_keys(disk: FaultyDisk) -> None:
    run = open_run(disk, NAME)
    assert run is not None
    assert [(each.start, each.entries, each.first_ms, each.last_ms) for each in run.keys] == [
        (1000, 2, 5, 8),
        (3000, 1, 8, 9),
    ]
    for block, part in zip(run.keys, KEYS, strict=True):
        assert block.file.read_wait(block.position, len(part.data)) == part.data


@pytest.mark.asyncio
async def test_what_a_run_holds_is_taken_apart_again(disk: FaultyDisk) -> None:
    run = open_run(disk, NAME)
    assert run is not None
    assert await read_run(run) == RunParts({key: part for key, _, part in TAILS if part}, KEYS)


@pytest.mark.asyncio
async def test_a_flipped_bit_in_entries_or_keys_is_seen_when_they_are_read_back() -> None:
    whole = open_run(changed(FaultyDisk(), DATA), NAME)
    assert whole is not None
    for at in range(len(DATA) - whole.bytes_held, len(DATA)):
        flipped = bytearray(DATA)
        flipped[at] ^= 16
        run = open_run(changed(FaultyDisk(), bytes(flipped)), NAME)
        assert run is not None
        assert await read_run(run) is None


@pytest.mark.asyncio
async def test_a_run_cut_short_behind_our_back_is_not_taken_apart(disk: FaultyDisk) -> None:
    run = open_run(disk, NAME)
    assert run is not None
    entries = run._replace(entry_bytes=run.entry_bytes + 20)
    assert await read_run(entries) is None


def test_a_run_that_is_cut_or_longer_is_not_believed() -> None:
    for size in range(len(DATA)):
        assert open_run(changed(FaultyDisk(), DATA[:size]), NAME) is None
    assert open_run(changed(FaultyDisk(), DATA + b"\0"), NAME) is None


@pytest.mark.asyncio
async def test_every_flipped_bit_before_the_entries_is_seen_or_harmless() -> None:
    """Harmless is only a flip in the checksums of entries and keys: that shows when they are merged."""
    whole = open_run(changed(FaultyDisk(), DATA), NAME)
    assert whole is not None
    unseen = set()
    for at in range(len(DATA) - whole.bytes_held):
        for bit in range(8):
            data = bytearray(DATA)
            data[at] ^= 1 << bit
            found = open_run(changed(FaultyDisk(), bytes(data)), NAME)
            if found is not None:
                unseen.add(at)
                assert await read_run(found) is None
    assert unseen == set(range(32, 40))


@pytest.mark.parametrize(
    "directory",
    [
        b"",
        b"[",
        b"[]",
        b'{"queues":[]}',
        b'{"queues":[],"keys":{}}',
        b'{"queues":[[1,2,3]],"keys":[]}',
        b'{"queues":[[1,2,3,"4"]],"keys":[]}',
        b'{"queues":[[1,2,3,0]],"keys":[]}',
        b'{"queues":[[1,2,3,-1]],"keys":[]}',
        b'{"queues":[[1,-2,3,1]],"keys":[]}',
        b'{"queues":[],"keys":[[5,0,1,1]]}',
        b'{"queues":[],"keys":[[-5,1,1,1]]}',
        b'{"queues":[[1,2,3,1],[1,2,4,1]],"keys":[]}',
        b'{"queues":[],"keys":[],"more":1}',
        b'{"queues":[[1,2,3,99999999999999999999999]],"keys":[]}',
        b"[" * 100_000,
        b'{"queues":[],"keys":[]}\xff',
    ],
)
def test_a_directory_that_cannot_be_is_no_run(directory: bytes) -> None:
    """Though its checksum is right, and the size of the file as well."""
    head = _HEAD.pack(b"PHRUN002", START, END, len(directory), zlib.crc32(directory), 0, 0)
    for size in (0, 8, 20, 40):
        assert open_run(changed(FaultyDisk(), head + directory + bytes(size)), NAME) is None
    good = b'{"queues":[],"keys":[]}'
    head = _HEAD.pack(b"PHRUN002", START, END, len(good), zlib.crc32(good), 0, 0)
    assert open_run(changed(FaultyDisk(), head + good), NAME) is not None


@pytest.mark.asyncio
async def test_a_run_under_another_name_or_of_another_kind_is_not_believed(disk: FaultyDisk) -> None:
    disk.replace(f"queues/{'9' * 20}-{'9' * 20}.run", DATA, lambda error: None)
    assert open_run(disk, f"{'9' * 20}-{'9' * 20}.run") is None
    assert open_run(changed(disk, b"PHRUN001" + DATA[8:]), NAME) is None
    assert open_run(changed(disk, bytes(len(DATA))), NAME) is None


def test_a_run_that_is_not_there_is_none() -> None:
    assert open_run(FaultyDisk(), NAME) is None


@pytest.mark.asyncio
async def test_only_files_named_as_runs_are_runs(disk: FaultyDisk) -> None:
    for name in ("notes.txt", "1-2.run", NAME + ".new", NAME + ".bak"):
        disk.replace(f"queues/{name}", b"", lambda error: None)
    assert run_files(disk) == [NAME, NAME + ".new"]


@pytest.mark.asyncio
async def test_a_run_without_entries_is_a_run() -> None:
    disk = changed(FaultyDisk(), await encode_run(START, END, QUEUES[1:2], []))
    run = open_run(disk, NAME)
    assert run is not None
    assert (run.stretches, run.keys, run.bytes_held) == ({}, (), 0)
    assert await read_run(run) == RunParts({}, [])


def test_a_name_says_where_the_run_ends() -> None:
    assert run_end(NAME) == END
    assert run_end("notes.txt") is None


@pytest.mark.asyncio
async def test_other_work_has_its_turn_while_a_large_run_is_put_together() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await encode_run(START, END, [QueuePart(QueueKey(1, 0), QueueOffset(0), [bytes(5 << 20)])], [])
    counting.cancel()
    assert turns >= 5
