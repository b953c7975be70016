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


def test_an_offset_that_is_said_again_is_no_change() -> None:
    offsets = with_offsets(("g", "t", 0, 5))
    offsets.take_changes()
    offsets.commit("g", "t", 0, QueueOffset(5))
    assert offsets.take_changes() is None
    offsets.commit("g", "t", 0, QueueOffset(4))
    offsets.commit("g", "t", 0, QueueOffset(4))
    assert offsets.take_changes() == {"g": {"t": {0: 4}}}


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


# Resets


def reset(offsets: GroupOffsets, *, pending: bool = True, **queues: int) -> None:
    """Group g is moved on topic t: q0=5 is queue 0."""
    body = GroupOffsets.set_body(
        "g", "t", {int(key[1:]): QueueOffset(to) for key, to in queues.items()}, pending=pending
    )
    offsets.decide(Kind.OFFSETS_SET, body, AT)
    offsets.apply(Kind.OFFSETS_SET, json.loads(json.dumps(body)), AT)


def committed_resets(offsets: GroupOffsets) -> dict[str, dict[str, dict[int, QueueOffset]]]:
    again = GroupOffsets()
    again.restore(json.loads(json.dumps(offsets.snapshot())), json.loads(json.dumps(offsets.snapshot_resets())))
    return again.resets


def test_a_reset_moves_the_group_at_once_and_waits_for_it() -> None:
    offsets = with_offsets(("g", "t", 0, 50), ("g", "t", 1, 50))
    reset(offsets, q0=5)
    assert [offsets.find("g", "t", queue_id) for queue_id in (0, 1)] == [5, 50]
    assert [offsets.pending_reset("g", "t", queue_id) for queue_id in (0, 1)] == [5, None]
    assert committed_resets(offsets) == {"g": {"t": {0: 5}}}


def test_what_was_said_before_a_reset_is_not_written_after_it() -> None:
    offsets = with_offsets(("g", "t", 0, 50), ("g", "t", 1, 51))
    reset(offsets, q0=5)
    assert offsets.take_changes() == {"g": {"t": {1: 51}}}


def test_a_commit_after_it_ends_a_reset_when_it_is_written() -> None:
    offsets = with_offsets()
    reset(offsets, q0=5, q1=6)
    offsets.commit("g", "t", 0, QueueOffset(5))
    assert offsets.resets == {"g": {"t": {1: 6}}}
    assert committed_resets(offsets) == {"g": {"t": {0: 5, 1: 6}}}, "a crash now tells the consumer again"
    offsets.apply(Kind.OFFSETS, offsets.take_changes(), AT)
    assert committed_resets(offsets) == {"g": {"t": {1: 6}}}


def test_a_log_that_is_read_again_ends_resets_as_they_ended() -> None:
    offsets = GroupOffsets()
    reset(offsets, q0=5, q1=6)
    offsets.replay(Kind.OFFSETS, {"g": {"t": {"0": 7}}}, AT)
    assert offsets.resets == {"g": {"t": {1: 6}}} == committed_resets(offsets)
    assert offsets.find("g", "t", 0) == 7


def test_offsets_may_be_set_without_anybody_being_told() -> None:
    offsets = with_offsets()
    reset(offsets, q0=5)
    reset(offsets, pending=False, q0=9)
    assert offsets.find("g", "t", 0) == 9
    assert offsets.resets == {} == committed_resets(offsets)


def test_an_opening_says_which_resets_are_still_pending() -> None:
    offsets = with_offsets()
    reset(offsets, q0=5)
    offsets.commit("g", "t", 0, QueueOffset(5))
    offsets.apply_opening(offsets.live, offsets.resets)
    assert committed_resets(offsets) == {}
    reset(offsets, q0=3)
    offsets.apply_opening(offsets.live, offsets.resets)
    fresh = GroupOffsets()
    fresh.replay_opening({"g": {"t": {"0": 3}}}, {"g": {"t": {"0": 3}}})
    assert (
        fresh.resets == offsets.resets == committed_resets(offsets) == committed_resets(fresh) == {"g": {"t": {0: 3}}}
    )


def test_a_deleted_topic_or_group_takes_its_resets_with_it() -> None:
    for gone in ({"topic": "t"}, {"group": "g"}):
        offsets = with_offsets()
        reset(offsets, q0=5)
        offsets.drop_live(**gone)
        offsets.drop_committed(**gone)
        assert offsets.pending_reset("g", "t", 0) is None
        assert not any(committed_resets(offsets).values())


def test_a_deleted_topic_leaves_no_pending_reset_behind() -> None:
    offsets = with_offsets(("g", "t", 0, 5))
    offsets.decide(Kind.OFFSETS_SET, GroupOffsets.set_body("g", "t", {0: QueueOffset(2)}, pending=True), AT)
    offsets.drop_live(topic="t")
    assert offsets.resets == {}
    assert offsets.take_changes() is None
