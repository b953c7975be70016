"""Reads of messages: nobody is given another's message, and what is gone is said to be gone."""

from __future__ import annotations

import pytest

from posthouse.codec.record import decode_record
from posthouse.host.clock import EpochMs
from posthouse.model.filter import tag_hash
from posthouse.model.limits import PULL_SCAN_MAX
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.sql92 import compile_sql92
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.reading import SMALL_RECORD_BYTES, Found
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import turns
from tests.store.stores import Opened, open_store

ZERO = QueueOffset(0)


async def three(disk: FaultyDisk) -> Opened:
    opened = open_store(disk)
    for body in (b"one", b"two", b"six"):
        opened.put("t", body)
    await opened.settled()
    return opened


def queue_of(entries: list[tuple[int, int]]) -> ConsumeQueue:
    """A queue that says (log offset, size) of its messages, true or not."""
    queue = ConsumeQueue(0)
    for number, (log_offset, size) in enumerate(entries):
        queue.apply(QueueOffset(number), LogOffset(log_offset), size, 0)
    return queue


@pytest.mark.asyncio
async def test_another_record_than_the_queue_says_is_never_given() -> None:
    opened = await three(FaultyDisk())
    entries = opened.store.topics.live["t"].queue(0).read_wait(ZERO, 3)
    first, second = entries[0], entries[1]
    for wrong in ((first.log_offset + 8, first.size), (first.log_offset, first.size - 1)):
        for queue in (queue_of([wrong]), queue_of([wrong, (second.log_offset, second.size)])):
            with pytest.raises(Refused, match="posthouse check") as refused:
                opened.store.get(queue, ZERO, 32, 1 << 20)
            assert refused.value.reason is Reason.FAILED
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("place", [(1 << 40, 100), (0, 1 << 30), (0, -5)])
async def test_a_place_outside_the_log_is_refused(place: tuple[int, int]) -> None:
    opened = await three(FaultyDisk())
    queue = queue_of([place])
    with pytest.raises(Refused, match="damaged"):
        opened.store.get(queue, ZERO, 32, 1 << 20)
    with pytest.raises(Refused, match="damaged"):
        await opened.store.warm(queue, ZERO, 32, 1 << 20)
    await opened.store.close()


@pytest.mark.asyncio
async def test_messages_that_were_lost_are_passed_over() -> None:
    opened = await three(FaultyDisk())
    entry = opened.store.topics.live["t"].queue(0).read_wait(ZERO, 1)[0]
    queue = queue_of([(0, 0), (0, 0), (entry.log_offset, entry.size), (0, 0)])
    found = opened.store.get(queue, ZERO, 32, 1 << 20)
    assert found is not None
    assert (found.messages, found.next_offset) == (1, 4)
    assert await opened.store.stored_at_ms(queue, ZERO) == await opened.store.stored_at_ms(queue, QueueOffset(2))
    assert await opened.store.stored_at_ms(queue, QueueOffset(3)) is None
    assert await opened.store.search(queue, EpochMs(0)) == 0
    await opened.store.close()


@pytest.mark.asyncio
async def test_what_was_deleted_while_it_was_read_is_said_to_be_gone() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=800)
    for number in range(20):
        opened.put("t", b"%d" % number)
        await opened.settled()
    queue = opened.store.topics.live["t"].queue(0)
    old = queue.read_wait(ZERO, 1)[0]
    await opened.store.trim(opened.store.log.segments[-1].base)
    await turns(20)
    with pytest.raises(Refused, match="too old"):
        await opened.store.read_record(old.log_offset, old.size)
    assert queue.read(ZERO, 1) == []
    await opened.store.close()


# Filters

IS_A = compile_sql92("TAGS = 'A'")
LARGE = b"x" * (4 * SMALL_RECORD_BYTES)


def get_a(opened: Opened, begin: int, count: int = 32, bytes_max: int = 1 << 20) -> Found | None:
    queue = opened.store.topics.live["t"].queue(0)
    return opened.store.get(queue, QueueOffset(begin), count, bytes_max, None, IS_A)


def watch_reads(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the reads of the log from now on."""
    sizes: list[int] = []
    read = opened.store.log.read

    def note(offset: LogOffset, size: int) -> bytes | None:
        sizes.append(size)
        return read(offset, size)

    monkeypatch.setattr(opened.store.log, "read", note)
    return sizes


def bodies_of(found: Found) -> list[bytes]:
    bodies: list[bytes] = []
    for buffer in found.buffers:
        at = 0
        while at < len(buffer):
            record = decode_record(buffer, at)
            bodies.append(record.body)
            at += record.store_size_bytes
    return bodies


@pytest.mark.asyncio
async def test_properties_decide_and_it_is_said_how_far_was_looked() -> None:
    opened = open_store(FaultyDisk())
    for number in range(1000):
        opened.put("t", b"%d" % number, tag="A" if number % 100 == 99 else "B")
    await opened.settled()

    def get(begin: int, count: int = 32, bytes_max: int = 1 << 20) -> tuple[list[bytes], list[int], int]:
        found = get_a(opened, begin, count, bytes_max)
        assert found is not None
        return bodies_of(found), list(found.offsets), found.next_offset

    hundreds = list(range(99, PULL_SCAN_MAX, 100))
    assert get(0) == ([b"%d" % number for number in hundreds], hundreds, PULL_SCAN_MAX)
    assert get(0, count=3) == ([b"99", b"199", b"299"], [99, 199, 299], 300)
    assert get(0, bytes_max=1)[:2] == ([b"99"], [99])
    assert get(900) == ([b"999"], [999], 1000)
    assert get(100, count=1) == ([b"199"], [199], 200)
    nothing = opened.store.get(opened.store.topics.live["t"].queue(0), ZERO, 32, 1000, None, lambda text: False)
    assert nothing == Found([], 0, 0, QueueOffset(PULL_SCAN_MAX))
    await opened.store.close()


@pytest.mark.asyncio
async def test_both_tests_must_pass_and_properties_are_looked_at_only_where_the_hash_does() -> None:
    opened = open_store(FaultyDisk())
    for tag in ("A", "B", "C", "A"):
        opened.put("t", tag.encode(), tag=tag)
    await opened.settled()
    looked: list[bytes] = []

    def wants(properties: bytes) -> bool:
        looked.append(properties)
        return b"\x01A" in properties

    hashes = {tag_hash("A"), tag_hash("B")}
    queue = opened.store.topics.live["t"].queue(0)
    found = opened.store.get(queue, ZERO, 32, 1 << 20, hashes.__contains__, wants)
    assert found is not None
    assert (bodies_of(found), found.next_offset) == ([b"A", b"A"], 4)
    assert len(looked) == 3
    await opened.store.close()


@pytest.mark.asyncio
async def test_of_large_messages_that_do_not_pass_the_bodies_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(FaultyDisk())
    for number in range(20):
        opened.put("t", LARGE, tag="A" if number == 10 else "B")
    await opened.settled()
    sizes = watch_reads(opened, monkeypatch)
    found = get_a(opened, 0)
    assert found is not None
    assert (bodies_of(found), list(found.offsets), found.next_offset) == ([LARGE], [10], 20)
    assert [size for size in sizes if size > 200] == [found.size]
    await opened.store.close()


@pytest.mark.asyncio
async def test_small_messages_that_lie_together_take_few_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(FaultyDisk())
    for _ in range(500):
        opened.put("t", b"x" * 200, tag="B")
    await opened.settled()
    sizes = watch_reads(opened, monkeypatch)
    found = get_a(opened, 0)
    assert found is not None
    assert found.next_offset == 500
    assert len(sizes) < 10
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("body_bytes", [300, len(LARGE)])
@pytest.mark.parametrize("apart", [0, 700, 5000])
@pytest.mark.parametrize("segment_bytes", [1 << 30, 200_000])
async def test_cold_data_is_warmed_and_each_read_gets_on(body_bytes: int, apart: int, segment_bytes: int) -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=segment_bytes)
    for number in range(60):
        opened.put("t", b"x" * body_bytes, tag="A" if number % 20 == 19 else "B")
        if apart:
            opened.put("other", b"y" * apart)
        await opened.settled()
        if number == 40:
            await opened.store.checkpoint()
    disk.is_cold = True
    queue = opened.store.topics.live["t"].queue(0)
    at, seen, warmed = ZERO, [], 0
    while at < queue.max_offset:
        got = get_a(opened, at)
        if got is None:
            await opened.store.warm(queue, at, 32, 1 << 20, None, IS_A)
            warmed += 1
            got = get_a(opened, at)
            assert got is not None, "still cold after it was warmed"
        assert got.next_offset > at
        seen += list(got.offsets)
        at = got.next_offset
    assert seen == [19, 39, 59]
    assert warmed
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_look_at_properties_stops_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(FaultyDisk())
    puts = []
    for number in range(10):
        puts.append(opened.put("t", LARGE, tag="A" if number % 5 == 1 else "B"))
    await opened.settled()
    read, cold_from = opened.store.log.read, puts[4].log_offset

    def partly_cold(offset: LogOffset, size: int) -> bytes | None:
        return None if offset >= cold_from else read(offset, size)

    monkeypatch.setattr(opened.store.log, "read", partly_cold)
    found = get_a(opened, 0)
    assert found is not None
    assert (list(found.offsets), found.next_offset) == ([1], 4)
    found = get_a(opened, 2)
    assert found is not None
    assert (found.size, found.next_offset) == (0, 4)
    assert get_a(opened, 4) is None
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"small", LARGE])
async def test_a_look_at_properties_is_refused_over_another_record_and_a_damaged_one(body: bytes) -> None:
    opened = open_store(FaultyDisk())
    put = opened.put("t", body, tag="A")
    opened.put("t", body, tag="A")
    await opened.settled()
    for wrong in ((put.log_offset + 8, put.size), (put.log_offset, put.size - 1), (1 << 40, put.size)):
        with pytest.raises(Refused) as refused:
            opened.store.get(queue_of([wrong]), ZERO, 32, 1 << 20, None, IS_A)
        assert refused.value.reason is Reason.FAILED
    read = opened.store.log.read

    def flipped(offset: LogOffset, size: int) -> bytes | None:
        """The length of the body is wrong."""
        data = bytearray(read(offset, size) or b"")
        if offset == put.log_offset:
            data[84] ^= 0x40
        return bytes(data)

    opened.store.log.read = flipped  # type: ignore[method-assign]
    with pytest.raises(Refused, match="posthouse check"):
        get_a(opened, 0)
    opened.store.log.read = read  # type: ignore[method-assign]
    await opened.store.close()


@pytest.mark.asyncio
async def test_the_offset_of_each_message_is_given() -> None:
    opened = open_store(FaultyDisk())
    for tag in ("A", "B", "A", "A"):
        opened.put("t", b"x", tag=tag)
    await opened.settled()
    queue = opened.store.topics.live["t"].queue(0)

    def offsets(queue: ConsumeQueue, begin: int = 0, wants: frozenset[int] | None = None) -> list[int]:
        got = opened.store.get(queue, QueueOffset(begin), 32, 1 << 20, None if wants is None else wants.__contains__)
        assert got is not None
        assert len(got.offsets) == got.messages
        return list(got.offsets)

    assert offsets(queue) == [0, 1, 2, 3]
    assert offsets(queue, 2) == [2, 3]
    assert offsets(queue, 1, frozenset({tag_hash("A")})) == [2, 3]
    first = queue.read_wait(ZERO, 1)[0]
    assert offsets(queue_of([(0, 0), (first.log_offset, first.size), (0, 0)])) == [1]
    await opened.store.close()
