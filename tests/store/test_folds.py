"""Folds: what a log says, said again from its records; also behind a gap that a repair has left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from posthouse.model.group import GroupRule
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.folds import Folds
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.group_rules import GroupRules
from posthouse.store.log.scan import Scan, first_position, records_of
from posthouse.store.log.segments import open_segments
from posthouse.store.state_record import Kind
from tests.store.disks import FaultyDisk
from tests.store.stores import Opened, every_entry, open_store

Record = tuple[bytes, int, int, LogOffset]


async def log_of(disk: FaultyDisk, queue_offsets: int = 5) -> Opened:
    opened = open_store(disk)
    opened.group("g")
    for number in range(queue_offsets):
        opened.put("a", b"%d" % number)
        await opened.settled()
    opened.change(Kind.OFFSETS_SET, GroupOffsets.set_body("g", "a", {0: QueueOffset(1)}, pending=True))
    opened.store.offsets.commit("g", "a", 0, QueueOffset(2))
    opened.write_offsets()
    opened.change(Kind.OFFSETS_SET, GroupOffsets.set_body("g", "a", {1: QueueOffset(0)}, pending=True))
    opened.change(Kind.GROUP_RULE, GroupRules.set_body(GroupRule("g", "a", readable=False)))
    await opened.settled()
    return opened


def records(disk: FaultyDisk) -> list[Record]:
    return list(_records(disk))


def _records(disk: FaultyDisk) -> Iterator[Record]:
    for segment in open_segments(disk):
        position = first_position(segment)
        for frame in Scan(segment, position):  # type: ignore[arg-type]
            for at, size, offset in records_of(frame):
                yield frame.data, at, size, offset


def said(folds: Folds) -> object:
    return {
        "topics": {name: (t.id, [every_entry(q) for q in t.queues.values()]) for name, t in folds.topics.live.items()},
        "groups": folds.groups.live,
        "offsets": folds.offsets.live,
        "resets": (folds.offsets.resets, folds.offsets.snapshot_resets()),
        "rules": (folds.rules.live, folds.rules.snapshot()),
        "committed": (folds.topics.snapshot(), folds.groups.snapshot(), folds.offsets.snapshot()),
    }


@pytest.mark.asyncio
async def test_a_record_that_is_replayed_again_changes_nothing() -> None:
    disk = FaultyDisk()
    opened = await log_of(disk)
    once, twice = Folds(), Folds()
    for record in records(disk):
        once.replay(*record)
        twice.replay(*record)
        twice.replay(*record)
    for record in records(disk):
        twice.replay(*record)
    assert said(once) == said(twice) == said(opened.store.folds)
    assert once.applied_offset == twice.applied_offset == opened.store.log.committed_offset
    await opened.store.close()


@pytest.mark.asyncio
async def test_offsets_that_a_gap_has_taken_stay_taken_and_are_passed_over() -> None:
    disk = FaultyDisk()
    opened = await log_of(disk)
    folds = Folds()
    messages = 0
    for data, at, size, offset in records(disk):
        is_message = data[at + 4 : at + 8] == bytes.fromhex("daa320a7")
        messages += is_message
        if is_message and messages in (2, 3):
            folds.on_gap(offset, LogOffset(offset + size))
        else:
            folds.replay(data, at, size, offset)
    queue = folds.topics.live["a"].queue(0)
    assert [entry.size > 0 for entry in every_entry(queue)] == [True, False, False, True, True]
    assert (queue.min_offset, queue.max_offset) == (0, 5)
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_topic_that_a_gap_has_taken_is_made_anew_with_its_messages() -> None:
    disk = FaultyDisk()
    opened = await log_of(disk)
    opened.put("a", queue_id=3)
    await opened.settled()
    folds = Folds()
    for number, (data, at, size, offset) in enumerate(records(disk)):
        if number in (0, 1):  # the group, and the topic
            folds.on_gap(offset, LogOffset(offset + size))
        else:
            folds.replay(data, at, size, offset)
    topic = folds.topics.live["a"]
    assert topic.config.queues == 4
    assert [entry.size > 0 for entry in every_entry(topic.queue(0))] == [True] * 5
    assert folds.topics.by_id(topic.id) is topic
    await opened.store.close()


@pytest.mark.asyncio
async def test_an_offset_that_goes_back_behind_a_gap_is_of_a_topic_made_anew() -> None:
    disk = FaultyDisk()
    opened = await log_of(disk, 3)
    opened.delete("a")
    opened.put("a", b"again")
    await opened.settled()
    folds, states = Folds(), 0
    for data, at, size, offset in records(disk):
        states += data[at + 4 : at + 8] == b"PHST"
        if data[at + 4 : at + 8] == b"PHST" and states > 2:
            folds.on_gap(offset, LogOffset(offset + size))
        else:
            folds.replay(data, at, size, offset)
    topic = folds.topics.live["a"]
    assert len(every_entry(topic.queue(0))) == 1
    assert [each.id for each in folds.topics.all()] == [topic.id]
    await opened.store.close()


@pytest.mark.asyncio
async def test_without_a_gap_a_hole_is_a_mistake_of_ours() -> None:
    disk = FaultyDisk()
    opened = await log_of(disk)
    folds, messages = Folds(), 0
    for data, at, size, offset in records(disk):
        messages += data[at + 4 : at + 8] != b"PHST"
        if messages < 2:
            folds.replay(data, at, size, offset)
        elif messages == 3:
            with pytest.raises(AssertionError, match="queue offset 2 after 0"):
                folds.replay(data, at, size, offset)
    await opened.store.close()
