"""Reads of messages: nobody is given another's message, and what is gone is said to be gone."""

from __future__ import annotations

import pytest

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
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
