"""Openings: each segment begins with the state, so a log rebuilds its folds without what was before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.model.group import FixedSubscription, GroupConfig, GroupRule, RequestMode
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.folds import Folds
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.group_rules import GroupRules
from posthouse.store.log.engine import GROUP_BYTES_MAX
from posthouse.store.log.scan import Scan, first_position, records_of
from posthouse.store.log.segments import open_segments
from posthouse.store.opening import (
    GROUPS_BYTES_PER_PART,
    GROUPS_PER_PART,
    TOPICS_PER_PART,
    decode_part,
    next_offsets,
    opening_bodies,
)
from posthouse.store.queue_locks import QueueLocks
from posthouse.store.run import QueueKey
from posthouse.store.state_record import Kind, decode_state_record, encode_state_body
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import turns
from tests.store.stores import Opened, open_store


async def filled(disk: FaultyDisk, messages: int = 60) -> Opened:
    """A store with several segments, topics made and deleted on the way, and offsets committed."""
    opened = open_store(disk, segment_bytes=4000, batch_bytes=1000)
    opened.group("g")
    for number in range(messages):
        opened.put("a", b"%d" % number, queue_id=number % 3)
        if number == 20:
            opened.put("gone", b"x")
        if number == 25:
            opened.delete("gone")
        if number == 30:
            opened.put("gone", b"anew")
        if number in (12, 40):  # the first reset is followed, the second is not; one rule is lifted
            opened.change(Kind.OFFSETS_SET, GroupOffsets.set_body("g", "a", {0: QueueOffset(number)}, pending=True))
            opened.change(Kind.LOCKS, QueueLocks.body("g", f"c{number}", [MessageQueue("a", "b", number // 12)]))
            opened.change(Kind.GROUP_RULE, GroupRules.set_body(GroupRule("g", "a", readable=number == 12)))
            opened.change(Kind.GROUP_RULE, GroupRules.set_body(GroupRule("g", "b", RequestMode.POP, number)))
        if number == 15:
            opened.store.offsets.commit("g", "a", 0, QueueOffset(13))
        if number % 10 == 0:
            opened.store.offsets.commit("g", "a", 1, QueueOffset(number // 3))
            opened.write_offsets()
        await opened.settled()
    return opened


def rebuilt(disk: FaultyDisk, skip: int) -> Folds:
    """The folds as the log alone says them, without its first `skip` segments."""
    folds, position = Folds(), None
    for segment in open_segments(disk)[skip:]:
        if position is None:
            found = first_position(segment)
            assert not hasattr(found, "why"), found
            position = found
        scan = Scan(segment, position)
        for frame in scan:
            for at, size, offset in records_of(frame):
                folds.replay(frame.data, at, size, offset)
        assert scan.flaw is None
        position = scan.position
    return folds


@pytest.mark.asyncio
async def test_every_segment_but_the_first_opens_with_the_state() -> None:
    disk = FaultyDisk()
    opened = await filled(disk)
    await opened.store.close()
    found = open_segments(disk)
    assert len(found) >= 3
    for at, segment in enumerate(found):
        position = first_position(segment)
        frame = next(iter(Scan(segment, position)))  # type: ignore[arg-type]
        begin, _, _ = next(iter(records_of(frame)))
        state = decode_state_record(frame.data, begin)
        assert (state is not None and state.kind is Kind.OPENING) == (at > 0)


@pytest.mark.asyncio
async def test_the_log_without_its_oldest_segments_gives_the_same_state() -> None:
    disk = FaultyDisk()
    opened = await filled(disk)
    await opened.store.close()
    whole = rebuilt(disk, 0)
    for skip in range(1, len(open_segments(disk))):
        later = rebuilt(disk, skip)
        assert {name: (t.id, t.config) for name, t in later.topics.live.items()} == {
            name: (t.id, t.config) for name, t in whole.topics.live.items()
        }
        assert later.groups.live == whole.groups.live
        assert later.offsets.live == whole.offsets.live
        assert later.offsets.snapshot() == whole.offsets.snapshot()
        assert later.offsets.resets == whole.offsets.resets == {"g": {"a": {0: 40}}}
        assert later.offsets.snapshot_resets() == whole.offsets.snapshot_resets()
        assert later.rules.live == whole.rules.live
        assert len(whole.rules.live) == 2
        assert later.locks.live == whole.locks.live == {"g": {("a", 1): "c12", ("a", 3): "c40"}}
        assert later.locks.snapshot() == whole.locks.snapshot()
        for name, topic in whole.topics.live.items():
            for number, queue in topic.queues.items():
                assert later.topics.live[name].queue(number).max_offset == queue.max_offset


@pytest.mark.asyncio
async def test_an_opening_is_written_in_parts_of_bounded_size() -> None:
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=1 << 20)
    for number in range(TOPICS_PER_PART + 1):
        opened.topic(f"topic-{number}")
    for number in range(GROUPS_PER_PART + 1):
        opened.group(f"group-{number}")
    opened.put("topic-7", b"x", queue_id=3)
    await opened.settled()
    bodies = opened.store.folds.opening()
    parts = [decode_part(body) for body in bodies]
    assert [(part.part, part.of) for part in parts] == [(number, 4) for number in range(4)]
    assert sum(len(part.topics) for part in parts) == TOPICS_PER_PART + 1
    assert sum(len(part.groups) for part in parts) == GROUPS_PER_PART + 1
    topic = opened.store.topics.live["topic-7"]
    assert next_offsets(parts) == {QueueKey(topic.id, 3): 1}
    assert all(len(str(body)) < GROUP_BYTES_MAX for body in bodies)
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_trimmed_log_starts_without_a_snapshot(tmp_path: Path) -> None:
    disk = FaultyDisk()
    opened = await filled(disk)
    infos = opened.store.log.segments
    await opened.store.trim(infos[2].base)
    await turns(20)
    folds = opened.folds()
    kept = {number: opened.read("a", number, begin=queue_min(opened, number)) for number in range(3)}
    assert queue_min(opened, 0) > 0
    await opened.store.close()
    files = {name: data for name, data in disk.files().items() if not name.startswith(("snapshots", "queues"))}
    again = open_store(FaultyDisk(files), segment_bytes=4000, batch_bytes=1000)
    assert again.store.log.first_offset == infos[2].base
    assert again.folds() == folds
    assert {number: again.read("a", number, begin=queue_min(again, number)) for number in range(3)} == kept
    await again.store.close()


def queue_min(opened: Opened, queue_id: int) -> int:
    return opened.store.topics.live["a"].queue(queue_id).min_offset


@pytest.mark.asyncio
async def test_a_trimmed_log_starts_from_its_snapshot_with_the_same_queues() -> None:
    disk = FaultyDisk()
    opened = await filled(disk)
    await opened.store.checkpoint()
    await opened.store.trim(opened.store.log.segments[-1].base)
    await turns(20)
    folds = opened.folds()
    await opened.store.close()
    again = open_store(disk, segment_bytes=4000, batch_bytes=1000)
    assert again.folds() == folds
    put = again.put("a", b"next", queue_id=0)
    await again.settled()
    assert put.queue_offset == 20
    await again.store.close()


@pytest.mark.asyncio
async def test_trimming_keeps_the_newest_segment_and_never_goes_back() -> None:
    disk = FaultyDisk()
    opened = await filled(disk)
    last = opened.store.log.segments[-1].base
    await opened.store.trim(LogOffset(1 << 60))
    assert opened.store.log.first_offset == last
    before = opened.folds()
    await opened.store.trim(LogOffset(0))
    assert opened.folds() == before
    await opened.store.close()


def test_groups_that_say_much_are_in_parts_of_their_own() -> None:
    much = tuple(FixedSubscription(f"t{at}", "TAG", "x" * 4000) for at in range(700))
    groups = [GroupConfig(f"g{at}", fixed_subscriptions=much) for at in range(5)]
    bodies = opening_bodies((), (*groups, GroupConfig("h")), {}, {}, (), ())
    found = [group for body in bodies for group in decode_part(body).groups]
    assert found == [*groups, GroupConfig("h")]
    assert len(bodies) == 3
    assert all(len(encode_state_body(body)) < GROUPS_BYTES_PER_PART + 1000 for body in bodies)
