from __future__ import annotations

import asyncio

import pytest

from posthouse.host.disk import File
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.consume_queue import ENTRY_BYTES, ConsumeQueue, Entry, Stretch
from tests.store.disks import FaultyDisk

Q = QueueOffset


def entry(number: int) -> Entry:
    return Entry(LogOffset(number * 100), 50 + number, (-1) ** number * number)


def filled(count: int) -> ConsumeQueue:
    queue = ConsumeQueue(3)
    for number in range(count):
        assert queue.apply(Q(number), *entry(number))
    return queue


def on_file(queue: ConsumeQueue, disk: FaultyDisk, name: str, first: int, count: int) -> Stretch:
    """A file with `count` entries, after a few other bytes."""
    data = filled(first + count).tail()[1][first * ENTRY_BYTES :]
    disk.replace(name, b"others" + data, lambda error: None)
    file: File = disk.open(name)
    return Stretch(Q(first), count, file, 6)


def test_entries_are_read_as_they_were_applied() -> None:
    queue = filled(10)
    assert (queue.min_offset, queue.max_offset, queue.next_offset) == (0, 10, 10)
    assert queue.read(Q(0), 100) == [entry(number) for number in range(10)]
    assert queue.read(Q(4), 3) == [entry(4), entry(5), entry(6)]
    assert queue.read(Q(9), 3) == [entry(9)]


@pytest.mark.asyncio
async def test_a_scan_gives_the_same_as_plain_tuples() -> None:
    disk = FaultyDisk()
    queue = filled(12)
    queue.add_stretch(on_file(queue, disk, "run", 0, 7))
    queue.trim(Q(2))
    for offset in (-1, 0, 1, 2, 3, 6, 7, 11, 12, 99):
        for count in (1, 3, 100):
            found = queue.scan(Q(offset), count)
            assert found == [tuple(each) for each in queue.read_wait(Q(offset), count)]
    disk.is_cold = True
    assert queue.scan(Q(3), 2) is None
    assert queue.scan(Q(8), 1) == [tuple(entry(8))]


def test_outside_the_queue_there_is_nothing() -> None:
    queue = filled(3)
    for offset in (-1, 3, 4, 1 << 60):
        assert queue.read(Q(offset), 5) == []
        assert queue.read_wait(Q(offset), 5) == []
    assert ConsumeQueue(0).read(Q(0), 5) == []


def test_an_entry_is_applied_once() -> None:
    queue = filled(3)
    assert not queue.apply(Q(1), LogOffset(9999), 1, 1)
    assert queue.read(Q(0), 10) == [entry(0), entry(1), entry(2)]


def test_a_hole_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="queue offset 5 after 2"):
        filled(3).apply(Q(5), LogOffset(0), 1, 1)


def test_the_next_offset_runs_ahead_of_what_is_visible_and_never_behind() -> None:
    queue = filled(2)
    queue.next_offset = Q(5)
    assert queue.read(Q(2), 1) == []
    queue.apply(Q(2), *entry(2))
    assert (queue.max_offset, queue.next_offset) == (3, 5)
    replayed = filled(3)
    assert replayed.next_offset == 3


@pytest.mark.asyncio
async def test_entries_in_files_and_in_the_tail_are_one_queue() -> None:
    disk, queue = FaultyDisk(), filled(10)
    queue.add_stretch(on_file(queue, disk, "queues/a", 0, 4))
    queue.add_stretch(on_file(queue, disk, "queues/b", 4, 3))
    assert queue.tail()[0] == 7
    assert len(queue.tail()[1]) == 3 * ENTRY_BYTES
    assert (queue.max_offset, queue.next_offset) == (10, 10)
    for begin in range(10):
        found: list[Entry] = []
        while len(found) < 10 - begin:
            got = queue.read(Q(begin + len(found)), 100)
            assert got, "at least one, if there is one"
            assert got == queue.read_wait(Q(begin + len(found)), 100)
            found += got
        assert found == [entry(number) for number in range(begin, 10)]
    assert queue.read(Q(3), 100) == [entry(3)], "a read ends with its file"
    assert queue.read(Q(4), 2) == [entry(4), entry(5)]


@pytest.mark.asyncio
async def test_a_stretch_that_contains_others_takes_their_place() -> None:
    disk, queue = FaultyDisk(), filled(10)
    for name, first, count in (("a", 0, 2), ("b", 2, 3), ("c", 5, 1)):
        queue.add_stretch(on_file(queue, disk, f"queues/{name}", first, count))
    queue.add_stretch(on_file(queue, disk, "queues/d", 2, 6))
    assert queue.read(Q(2), 100) == [entry(number) for number in range(2, 8)]
    assert queue.read(Q(0), 100) == [entry(0), entry(1)]
    assert queue.tail()[0] == 8
    with pytest.raises(AssertionError, match="hole"):
        queue.add_stretch(on_file(queue, disk, "queues/e", 9, 1))


@pytest.mark.asyncio
async def test_a_queue_can_begin_with_its_files() -> None:
    queue = ConsumeQueue(0)
    queue.add_stretch(on_file(queue, FaultyDisk(), "queues/a", 0, 5))
    assert (queue.max_offset, queue.next_offset) == (5, 5)
    assert queue.read(Q(1), 2) == [entry(1), entry(2)]
    assert queue.apply(Q(5), *entry(5))
    assert queue.read(Q(5), 2) == [entry(5)]


@pytest.mark.asyncio
async def test_entries_that_the_device_must_give_are_waited_for() -> None:
    disk, queue = FaultyDisk(), filled(10)
    queue.add_stretch(on_file(queue, disk, "queues/a", 0, 6))
    disk.is_cold = True
    assert queue.read(Q(2), 3) is None
    assert queue.read(Q(7), 3) == [entry(7), entry(8), entry(9)]
    found: asyncio.Future[list[Entry] | OSError] = asyncio.get_running_loop().create_future()
    queue.read_later(Q(2), 3, found.set_result)
    assert await found == [entry(2), entry(3), entry(4)]
    assert queue.read(Q(2), 3) == [entry(2), entry(3), entry(4)]
    disk.read_error = OSError(5, "Input/output error")
    failed: asyncio.Future[list[Entry] | OSError] = asyncio.get_running_loop().create_future()
    queue.read_later(Q(2), 3, failed.set_result)
    assert await failed is disk.read_error
