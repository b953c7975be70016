"""A small store with every kind of file, ways to damage it, and what is to be known of it before and after."""

from __future__ import annotations

from posthouse.codec.record import RecordError, decode_record
from posthouse.host import Host
from posthouse.host.disk import Disk
from posthouse.host.real import RealNet, RealRandomness
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Refused
from posthouse.store.message_store import StoreBroken
from posthouse.store.repair import Plan, carry_out, plan_repair
from posthouse.store.survey import Kept, Survey
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.stores import Opened, open_store

SEGMENT_BYTES = 3000
Contents = dict[tuple[str, int, int], bytes]
"""(topic, queue, queue offset) -> the record."""


def a_host(disk: Disk) -> Host:
    return Host(ManualClock(), disk, RealNet(), RealRandomness())


async def a_store(*, closed: bool = True, messages: int = 60) -> FaultyDisk:
    """Three topics over several segments, two snapshots and their runs.

    Not `closed`: killed in the end, with frames behind the newest snapshot that a start replays.
    """
    disk, clock = FaultyDisk(), ManualClock()
    for life in range(2):
        opened = open_later(disk, clock)
        opened.group("billing")
        for number in range(messages):
            body = b"%d of life %d, " % (number, life) * (number % 5 + 1)
            opened.put(("orders", "mails", "bills")[number % 3], body, number % 2, "paid" if number % 4 else "")
            clock.at_ms += 7
            if number % 3 == 0:
                await opened.settled()
        opened.store.offsets.commit("billing", "orders", 0, QueueOffset(5 + life))
        opened.write_offsets()
        await opened.settled()
        await opened.store.close()
    if closed:
        return disk
    opened = open_later(disk, clock)
    for number in range(6):
        opened.put("orders", b"tail %d" % number)
        await opened.settled()
    return disk.kill()


def open_later(disk: FaultyDisk, clock: ManualClock | None = None) -> Opened:
    return open_store(
        disk, clock or ManualClock(1_800_000_000_000), segment_bytes=SEGMENT_BYTES, checkpoint_bytes=1 << 30
    )


def contents_of(opened: Opened) -> Contents:
    """Every message that is served, each checked as far as a consumer can. Raises RecordError, Refused."""
    found: Contents = {}
    for topic in opened.store.topics.live.values():
        for queue in topic.queues.values():
            at = queue.min_offset
            while at < queue.max_offset:
                got = opened.store.get(queue, at, 1, 1 << 20)
                assert got is not None
                for buffer in got.buffers:
                    message = decode_record(buffer, 0, check_crc=True)
                    found[message.topic, message.queue_id, message.queue_offset] = bytes(buffer)
                at = got.next_offset
    return found


async def served(disk: FaultyDisk) -> Contents | str:
    """What a start on a copy of the disk serves, or why it does not."""
    try:
        opened = open_later(FaultyDisk(disk.files()))
    except StoreBroken as error:
        return str(error)
    try:
        return contents_of(opened)
    except (RecordError, Refused) as error:
        return str(error)
    finally:
        await opened.store.close()


async def repaired(disk: FaultyDisk) -> tuple[Plan, Contents]:
    """Repairs the disk; the plan, and what a start serves then."""
    plan = plan_repair(a_host(disk))
    await carry_out(disk, plan)
    found = await served(disk)
    assert isinstance(found, dict), found
    return plan, found


def frames_of(disk: FaultyDisk) -> list[Kept]:
    """All frames of a log that is whole."""
    return [piece for piece in Survey(disk) if isinstance(piece, Kept)]


def place_of(kept: Kept) -> tuple[str, int]:
    """The file of a frame, and where in the file it begins."""
    return kept.segment.file.name, kept.frame.header.offset - kept.segment.base


def names(disk: FaultyDisk, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in disk.list(folder)]
