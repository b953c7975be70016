from __future__ import annotations

import random

import pytest
import pytest_asyncio

from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.consume_queue import ENTRY_BYTES
from posthouse.store.run import QueueKey, encode_run, open_run, run_entries, run_files, run_name
from tests.store.disks import FaultyDisk

START, END = LogOffset(1000), LogOffset(5000)
NAME = run_name(START, END).removeprefix("queues/")
TAILS = [
    (QueueKey(7, 0), QueueOffset(0), random.Random(1).randbytes(5 * ENTRY_BYTES)),
    (QueueKey(7, 1), QueueOffset(3), b""),
    (QueueKey(1 << 40, 2), QueueOffset(12), random.Random(2).randbytes(ENTRY_BYTES)),
]
DATA = encode_run(START, END, TAILS)


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
async def test_the_entries_are_taken_apart_again(disk: FaultyDisk) -> None:
    run = open_run(disk, NAME)
    assert run is not None
    data = DATA[-run.entry_bytes :]
    assert run_entries(run, data) == {key: part for key, _, part in TAILS if part}
    assert run_entries(run, data[:-1]) is None
    for at in range(0, len(data), 13):
        flipped = bytearray(data)
        flipped[at] ^= 16
        assert run_entries(run, bytes(flipped)) is None


def test_a_run_that_is_cut_or_longer_is_not_believed() -> None:
    for size in range(len(DATA)):
        assert open_run(changed(FaultyDisk(), DATA[:size]), NAME) is None
    assert open_run(changed(FaultyDisk(), DATA + b"\0"), NAME) is None


def test_every_flipped_bit_before_the_entries_is_seen_or_harmless() -> None:
    """Harmless is only a flip in the checksum of the entries: that shows when they are merged."""
    whole = open_run(changed(FaultyDisk(), DATA), NAME)
    assert whole is not None
    unseen = set()
    for at in range(len(DATA) - whole.entry_bytes):
        for bit in range(8):
            data = bytearray(DATA)
            data[at] ^= 1 << bit
            found = open_run(changed(FaultyDisk(), bytes(data)), NAME)
            if found is not None:
                unseen.add(at)
                assert run_entries(found, DATA[-whole.entry_bytes :]) is None
    assert unseen == {32, 33, 34, 35}


@pytest.mark.asyncio
async def test_a_run_under_another_name_or_of_another_kind_is_not_believed(disk: FaultyDisk) -> None:
    disk.replace(f"queues/{'9' * 20}-{'9' * 20}.run", DATA, lambda error: None)
    assert open_run(disk, f"{'9' * 20}-{'9' * 20}.run") is None
    assert open_run(changed(disk, b"PHRUN002" + DATA[8:]), NAME) is None
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
    disk = changed(FaultyDisk(), encode_run(START, END, TAILS[1:2]))
    run = open_run(disk, NAME)
    assert run is not None
    assert (run.stretches, run.entry_bytes) == ({}, 0)
