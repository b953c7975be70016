"""Each checker on histories made by hand: it takes what may be, and finds what may not."""

from __future__ import annotations

import pytest

from posthouse.testing.sim.checkers import CHECKERS, PROBLEMS_MAX, check
from tests.sim.tales import Tale


@pytest.fixture
def tale() -> Tale:
    return Tale()


def two_sent(tale: Tale) -> None:
    """a at 0 and b at 1, one after the other."""
    for offset, message_id in enumerate("ab"):
        tale.sent(tale.send(message_id), offset)


def test_history_in_which_all_goes_well_has_no_problems(tale: Tale) -> None:
    tale.group()
    two_sent(tale)
    tale.poll(0, "a", "b")
    tale.handle(0, "a")
    tale.handle(1, "b")
    tale.commit(2)
    tale.committed(2)
    tale.order("topic", "governed", 5)
    tale.add("broker-a", "final topic", "note", name="governed", value=5)
    tale.end("a", "b", offsets={"readers": 2, "keepers": 2})
    assert check(tale.history) == []


def test_every_checker_says_what_it_proves() -> None:
    assert all(checker.__doc__ for checker in CHECKERS.values())


def test_many_problems_of_one_kind_are_cut(tale: Tale) -> None:
    for at in range(PROBLEMS_MAX + 5):
        tale.add("broker-a", "bug", "note", error=str(at))
    tale.end()
    assert len(check(tale.history)) == PROBLEMS_MAX


# acknowledged_is_readable


def test_acknowledged_message_that_is_gone_is_found(tale: Tale) -> None:
    two_sent(tale)
    tale.end("a")
    problem = check(tale.history)[0]
    assert problem.checker == "acknowledged_is_readable"
    assert problem.about == {"id": "b", "broker": "broker-a", "topic": "letters", "queue": 0, "offset": 1}
    assert "b was acknowledged at offset 1 of letters/0 on broker-a" in problem.text


def test_acknowledged_message_at_another_offset_is_found(tale: Tale) -> None:
    two_sent(tale)
    tale.end("b", "a")
    assert "acknowledged_is_readable" in tale.found()


def test_whole_queue_that_is_gone_is_found(tale: Tale) -> None:
    two_sent(tale)
    tale.add("broker-a", "final topic", "note", name="letters", value=1)
    assert "acknowledged_is_readable" in tale.found()


def test_messages_that_retention_took_are_not_missed(tale: Tale) -> None:
    two_sent(tale)
    tale.end("b", first=1)
    assert tale.found() == []


def test_messages_are_not_gone_while_the_whole_log_is_there(tale: Tale) -> None:
    two_sent(tale)
    tale.end("b", first=1, log_first=0)
    assert tale.found() == ["queues_are_dense"]


@pytest.mark.parametrize(("durability", "found"), [("os", []), ("disk", ["acknowledged_is_readable"])])
def test_power_cut_may_take_what_only_the_operating_system_had(tale: Tale, durability: str, found: list[str]) -> None:
    tale.add("world", "begin", "note", durability=durability)
    two_sent(tale)
    tale.fault("power cut", lost_pages=1)
    tale.end("a")
    assert [name for name in tale.found() if name == "acknowledged_is_readable"] == found


def test_killed_process_takes_nothing_that_the_operating_system_had(tale: Tale) -> None:
    tale.add("world", "begin", "note", durability="os")
    two_sent(tale)
    tale.fault("kill")
    tale.end("a")
    assert "acknowledged_is_readable" in tale.found()


def test_messages_of_a_deleted_topic_are_not_missed(tale: Tale) -> None:
    two_sent(tale)
    tale.order("topic", "letters", None)
    tale.end()
    assert tale.found() == []


def test_deletion_before_the_send_excuses_nothing(tale: Tale) -> None:
    tale.order("topic", "letters", None)
    two_sent(tale)
    tale.end()
    assert "acknowledged_is_readable" in tale.found()


def test_deletion_of_unknown_outcome_may_happen_at_any_time(tale: Tale) -> None:
    tale.order("topic", "letters", None, outcome="unknown")
    two_sent(tale)
    tale.end()
    assert tale.found() == []


def test_message_of_unknown_outcome_may_be_there_or_not(tale: Tale) -> None:
    tale.not_sent(tale.send("x"), "unknown")
    tale.send("y")  # nobody lived to see its end
    tale.end("y")
    assert tale.found() == []


# queues_are_dense


def test_hole_in_a_queue_is_found(tale: Tale) -> None:
    two_sent(tale)
    tale.end(max=3, messages=[[0, "a", 0, 0, 0], [1, "b", 100, 0, 0]])
    assert tale.found() == ["queues_are_dense"]


def test_records_out_of_order_in_the_log_are_found(tale: Tale) -> None:
    two_sent(tale)
    tale.end(max=2, messages=[[0, "a", 500, 0, 0], [1, "b", 100, 0, 0]])
    assert tale.found() == ["queues_are_dense"]


def test_record_that_is_none_is_found(tale: Tale) -> None:
    tale.end("no record: magic 0x0")
    assert tale.found() == ["queues_are_dense"]


def test_pull_that_leaves_a_message_out_is_found(tale: Tale) -> None:
    two_sent(tale)
    tale.poll(0, "a", next=2, end=2)
    tale.end("a", "b")
    assert tale.found() == ["queues_are_dense"]


# order_is_kept


def test_message_before_one_that_was_acknowledged_earlier_is_found(tale: Tale) -> None:
    tale.sent(tale.send("a"), 1)
    tale.sent(tale.send("b"), 0)
    tale.end("b", "a")
    assert tale.found() == ["order_is_kept"]


def test_messages_that_were_sent_at_once_have_no_order(tale: Tale) -> None:
    one, other = tale.send("a"), tale.send("b")
    tale.sent(one, 1)
    tale.sent(other, 0)
    tale.end("b", "a")
    assert tale.found() == []


# what_was_seen_stays


def test_message_that_was_seen_and_is_gone_is_found(tale: Tale) -> None:
    tale.send("a")
    tale.poll(0, "a")
    tale.end()
    assert tale.found() == ["what_was_seen_stays"]


def test_offset_that_was_seen_with_two_messages_is_found(tale: Tale) -> None:
    tale.send("a")
    tale.send("b")
    tale.handle(0, "a")
    tale.end("b")
    assert tale.found() == ["what_was_seen_stays"]


def test_message_that_nobody_sent_is_found(tale: Tale) -> None:
    tale.end("ghost")
    assert tale.found() == ["what_was_seen_stays"]


def test_message_that_was_surely_not_stored_is_found(tale: Tale) -> None:
    tale.not_sent(tale.send("a"))
    tale.end("a")
    assert tale.found() == ["what_was_seen_stays"]


def test_what_a_flipped_bit_shows_is_nobodys_word(tale: Tale) -> None:
    tale.sent(tale.send("a"), 0)
    tale.fault("bit flip")
    tale.poll(0, "damaged: b'x'")
    tale.fault("bit flip", ends=True)
    tale.end("a")
    assert tale.found() == []


# acknowledged_is_visible


def test_pull_that_does_not_see_what_was_acknowledged_is_found(tale: Tale) -> None:
    two_sent(tale)
    tale.poll(0, "a", end=1)
    tale.end("a", "b")
    assert tale.found() == ["acknowledged_is_visible"]


def test_pull_that_began_before_the_acknowledgement_need_not_see_it(tale: Tale) -> None:
    since = len(tale.history.events)
    two_sent(tale)
    tale.poll(0, "a", end=1, since=since)
    tale.end("a", "b")
    assert tale.found() == []


# batches_are_whole


def test_batch_of_which_a_part_is_stored_is_found(tale: Tale) -> None:
    tale.send("a", "b", "c")
    tale.end("a", "b")
    assert tale.found() == ["batches_are_whole"]


def test_batch_with_another_message_inside_is_found(tale: Tale) -> None:
    tale.send("a", "b")
    tale.send("x")
    tale.end("a", "x", "b")
    assert tale.found() == ["batches_are_whole"]


def test_batch_that_was_visible_in_part_is_found(tale: Tale) -> None:
    tale.send("a", "b")
    tale.poll(0, "a", end=1)
    tale.end("a", "b")
    assert tale.found() == ["batches_are_whole"]


def test_batch_of_which_retention_took_a_part_is_fine(tale: Tale) -> None:
    tale.sent(tale.send("a", "b", "c"), 0)
    tale.end("b", "c", first=1)
    assert tale.found() == []


def test_batch_that_was_tried_twice_may_be_there_twice(tale: Tale) -> None:
    tale.send("a", "b", tries=2)
    tale.end("a", "b", "a", "b")
    assert tale.found() == []


# sent_once_is_stored_once


def test_message_that_was_sent_once_and_is_there_twice_is_found(tale: Tale) -> None:
    tale.sent(tale.send("a"), 0)
    tale.end("a", "a")
    assert tale.found() == ["sent_once_is_stored_once"]


# groups_miss_nothing


def test_message_that_a_group_passed_and_did_not_handle_is_found(tale: Tale) -> None:
    tale.group()
    two_sent(tale)
    tale.handle(1, "b")
    tale.end("a", "b", offsets={"readers": 2})
    assert tale.found() == ["groups_miss_nothing"]


def test_group_misses_nothing_that_it_did_not_want(tale: Tale) -> None:
    tale.group(expression="A || B")
    tale.sent(tale.send("a", tag="C"), 0)
    tale.sent(tale.send("b", tag="B"), 1)
    tale.handle(1, "b")
    tale.end("a", "b", offsets={"readers": 2})
    assert tale.found() == []


def test_offset_behind_the_end_of_the_queue_is_found(tale: Tale) -> None:
    tale.group()
    tale.end(offsets={"readers": 3})
    assert tale.found() == ["groups_miss_nothing"]


# committed_offsets_do_not_go_back


def test_offset_that_went_back_is_found(tale: Tale) -> None:
    tale.commit(5)
    tale.committed(3)
    tale.end()
    assert tale.found() == ["committed_offsets_do_not_go_back"]


def test_offset_that_is_gone_at_the_end_is_found(tale: Tale) -> None:
    tale.commit(5)
    tale.committed(5)
    tale.end(offsets={"keepers": 0})
    assert tale.found() == ["committed_offsets_do_not_go_back"]


def test_offset_that_nobody_committed_is_found(tale: Tale) -> None:
    tale.commit(5)
    tale.committed(7)
    tale.end()
    assert tale.found() == ["committed_offsets_do_not_go_back"]


def test_crash_may_take_the_last_offsets(tale: Tale) -> None:
    tale.commit(3)
    tale.commit(5)
    tale.fault("kill")
    tale.committed(3)
    tale.end()
    assert tale.found() == []


@pytest.mark.parametrize("full", [True, False])
def test_orderly_stop_writes_the_offsets_if_there_is_room(tale: Tale, full: bool) -> None:
    tale.commit(5)
    if full:
        tale.fault("disk full")
    tale.add("broker-a", "exit", "note", error="")
    tale.committed(None)
    tale.end()
    assert tale.found() == ([] if full else ["committed_offsets_do_not_go_back"])


def test_crash_may_take_an_offset_while_its_answer_is_on_the_way(tale: Tale) -> None:
    place = {"group": "keepers", "topic": "letters", "broker": "broker-a", "queue": 0, "offset": 5}
    of = tale.add("keeper-1", "commit", "invoke", **place)
    tale.fault("kill")
    tale.add("keeper-1", "commit", "ok", of=of, **place)
    tale.committed(None)
    tale.end()
    assert tale.found() == []


def test_crash_takes_no_offset_that_was_committed_long_before(tale: Tale) -> None:
    tale.commit(5)
    for _ in range(200):
        tale.add("nobody", "waits", "note")
    tale.fault("kill")
    tale.committed(3)
    tale.end()
    assert tale.found() == ["committed_offsets_do_not_go_back"]


def test_commit_without_an_answer_may_arrive_late(tale: Tale) -> None:
    tale.commit(3, "unknown")
    tale.commit(5)
    tale.committed(3)
    tale.end()
    assert tale.found() == []


# state_changes_are_kept


def final_topic(tale: Tale, value: int | None) -> None:
    if value is not None:
        tale.add("broker-a", "final topic", "note", name="governed", value=value)
    tale.end()


def look(tale: Tale, value: int | None, since: int | None = None) -> None:
    since = len(tale.history.events) if since is None else since
    tale.add("governor", "look at topic", "ok", since=since, broker="broker-a", name="governed", value=value)


@pytest.mark.parametrize("value", [4, None])
def test_acknowledged_change_that_is_lost_is_found(tale: Tale, value: int | None) -> None:
    tale.order("topic", "governed", 4)
    tale.order("topic", "governed", 5)
    final_topic(tale, value)
    assert tale.found() == ["state_changes_are_kept"]


def test_change_that_was_lost_for_a_while_is_found(tale: Tale) -> None:
    tale.order("topic", "governed", 4)
    tale.order("topic", "governed", 5)
    look(tale, 4)
    tale.order("topic", "governed", 6)
    final_topic(tale, 6)
    assert tale.found() == ["state_changes_are_kept"]


def test_group_that_is_lost_is_found(tale: Tale) -> None:
    tale.order("group", "governed", 4)
    tale.end()
    assert tale.found() == ["state_changes_are_kept"]


@pytest.mark.parametrize("outcome", ["unknown", "none"])
@pytest.mark.parametrize("value", [4, 5])
def test_change_of_unknown_outcome_may_have_happened(tale: Tale, value: int, outcome: str) -> None:
    tale.order("topic", "governed", 4)
    tale.order("topic", "governed", 5, outcome)
    final_topic(tale, value)
    assert tale.found() == []


def test_change_that_surely_did_not_happen_is_none(tale: Tale) -> None:
    tale.order("topic", "governed", 4)
    tale.order("topic", "governed", 5, "fail", ())
    final_topic(tale, 5)
    assert tale.found() == ["state_changes_are_kept"]


def test_broker_that_was_not_asked_need_not_know(tale: Tale) -> None:
    tale.order("topic", "governed", 4, brokers=("broker-b",))
    tale.end()
    assert tale.found() == []


def test_look_while_a_change_is_under_way_may_see_either(tale: Tale) -> None:
    tale.order("topic", "governed", 4)
    since = len(tale.history.events)
    tale.order("topic", "governed", 5)
    look(tale, 4, since)
    look(tale, 5, since)
    final_topic(tale, 5)
    assert tale.found() == []


# The rest


def test_fold_that_differs_is_found(tale: Tale) -> None:
    tale.add("broker-a", "folds", "note", end=1, different=["queue letters/0: the store has 1 entry"], count=1)
    tale.end()
    assert tale.found() == ["folds_equal_their_rebuild"]


def test_second_owner_of_a_folder_is_found(tale: Tale) -> None:
    tale.add("broker-a", "second start", "fail", error="another process is using it")
    tale.end()
    assert tale.found() == []
    tale.add("broker-a", "second start", "ok")
    assert tale.found() == ["folders_have_one_owner"]


def test_broker_that_does_not_start_is_found(tale: Tale) -> None:
    tale.add("broker-a", "start", "fail", error="damaged")
    tale.end()
    assert tale.found() == ["brokers_start_again"]


@pytest.mark.parametrize("kind", ["bit flip", "sync fails", "write fails", "disk full"])
def test_broker_may_refuse_to_start_while_its_disk_has_a_fault(tale: Tale, kind: str) -> None:
    tale.fault(kind)
    tale.add("broker-a", "start", "fail", error="damaged")
    tale.fault(kind, ends=True)
    tale.end()
    assert tale.found() == []
    tale.add("broker-a", "start", "fail", error="damaged")
    assert tale.found() == ["brokers_start_again"]


def test_mistake_that_shows_is_found(tale: Tale) -> None:
    tale.add("producer-1", "bug", "note", error="AssertionError")
    tale.end()
    assert tale.found() == ["no_mistake_shows"]


def test_world_that_does_not_recover_is_found(tale: Tale) -> None:
    tale.add("last-producer", "no recovery", "note", doing="send to letters", broker="broker-a")
    tale.end()
    assert tale.found() == ["everything_recovers"]


def test_world_that_was_not_read_is_found(tale: Tale) -> None:
    assert tale.found() == ["everything_recovers"]
