from __future__ import annotations

import json

from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.store.group_offsets import GroupOffsets
from posthouse.store.state_record import Kind

AT = LogOffset(0)


def committed(offsets: GroupOffsets) -> dict[str, dict[str, dict[int, QueueOffset]]]:
    """What a snapshot would bring back."""
    again = GroupOffsets()
    again.restore(json.loads(json.dumps(offsets.snapshot())))
    return again.live


def with_offsets(*triples: tuple[str, str, int, int]) -> GroupOffsets:
    offsets = GroupOffsets()
    for group, topic, queue_id, offset in triples:
        offsets.commit(group, topic, queue_id, QueueOffset(offset))
    return offsets


def test_an_offset_is_found_at_once_also_a_smaller_one() -> None:
    offsets = with_offsets(("g", "t", 0, 5), ("g", "t", 1, 7), ("h", "t", 0, 9))
    assert [offsets.find("g", "t", queue_id) for queue_id in (0, 1, 2)] == [5, 7, None]
    offsets.commit("g", "t", 0, QueueOffset(3))
    assert offsets.find("g", "t", 0) == 3
    assert offsets.find("g", "other", 0) is None
    assert offsets.find("nobody", "t", 0) is None


def test_changes_are_given_once_and_only_what_changed() -> None:
    offsets = with_offsets(("g", "t", 0, 5), ("g", "t", 0, 6), ("h", "t", 1, 2))
    assert offsets.take_changes() == {"g": {"t": {0: 6}}, "h": {"t": {1: 2}}}
    assert offsets.take_changes() is None
    offsets.commit("g", "t", 1, QueueOffset(1))
    assert offsets.take_changes() == {"g": {"t": {1: 1}}}
    assert offsets.find("g", "t", 0) == 6


def test_only_what_is_committed_is_kept() -> None:
    offsets = with_offsets(("g", "t", 0, 5))
    changes = offsets.take_changes()
    assert committed(offsets) == {}
    offsets.apply(Kind.OFFSETS, changes, AT)
    assert committed(offsets) == {"g": {"t": {0: 5}}}
    offsets.commit("g", "t", 0, QueueOffset(6))
    assert committed(offsets) == {"g": {"t": {0: 5}}}


def test_a_record_from_the_log_is_merged_into_both_views() -> None:
    offsets = GroupOffsets()
    for body in ('{"g": {"t": {"0": 5, "1": 6}}}', '{"g": {"t": {"0": 7}, "u": {"3": 1}}}'):
        offsets.replay(Kind.OFFSETS, json.loads(body), AT)
    assert offsets.live == {"g": {"t": {0: 7, 1: 6}, "u": {3: 1}}} == committed(offsets)
    assert offsets.take_changes() is None


def test_the_views_do_not_share_what_is_in_them() -> None:
    offsets = with_offsets(("g", "t", 0, 5))
    offsets.apply(Kind.OFFSETS, offsets.take_changes(), AT)
    offsets.commit("g", "t", 0, QueueOffset(9))
    assert committed(offsets) == {"g": {"t": {0: 5}}}


def test_a_deleted_topic_takes_its_offsets_with_it_in_two_steps() -> None:
    offsets = with_offsets(("g", "t", 0, 5), ("g", "u", 0, 6), ("h", "t", 0, 7))
    offsets.apply(Kind.OFFSETS, offsets.take_changes(), AT)
    offsets.commit("g", "t", 0, QueueOffset(8))
    offsets.drop_live(topic="t")
    assert offsets.find("g", "t", 0) is None
    assert offsets.find("g", "u", 0) == 6
    changes = offsets.take_changes()
    assert changes is None or not any(changes.values()), "the change of a topic that is gone would be written"
    assert committed(offsets)["g"]["t"] == {0: 5}
    offsets.drop_committed(topic="t")
    assert committed(offsets)["g"] == {"u": {0: 6}}


def test_a_deleted_group_takes_its_offsets_with_it() -> None:
    offsets = with_offsets(("g", "t", 0, 5), ("h", "t", 0, 7))
    offsets.apply(Kind.OFFSETS, offsets.take_changes(), AT)
    offsets.drop_live(group="g")
    offsets.drop_committed(group="g")
    assert offsets.live == {"h": {"t": {0: 7}}} == committed(offsets)
    offsets.drop_live(group="never")
