"""The checkers of consumption on histories made by hand: they take what may be, and find what may not."""

from __future__ import annotations

import pytest

from tests.sim.tales import BROKER, Tale

RETRY, DEAD, SCHEDULE = "%RETRY%in-order", "%DLQ%in-order", "SCHEDULE_TOPIC_XXXX"


@pytest.fixture
def tale() -> Tale:
    """A group of which at most one retry is allowed, and a message that was sent."""
    tale = Tale()
    tale.group("in-order", attempts=1)
    tale.sent(tale.send("a"), 0)
    return tale


@pytest.fixture
def ordered() -> Tale:
    tale = Tale()
    tale.group("in-order", ordered=True)
    for offset, message_id in enumerate("abc"):
        tale.sent(tale.send(message_id), offset)
    return tale


# groups_miss_nothing


def ends(tale: Tale) -> None:
    tale.end("a", offsets={"in-order": 1})


def test_message_that_failed_and_then_was_handled_from_the_retry_topic_is_not_missed(tale: Tale) -> None:
    tale.work("fail", 0, "a")
    tale.add("in-order-1", "handle", "ok", group="in-order", topic=RETRY, broker=BROKER, queue=0, offset=0, id="a")
    tale.copies(RETRY, ("a", 1))
    ends(tale)
    assert tale.found() == []


def test_message_that_failed_and_is_nowhere_is_found(tale: Tale) -> None:
    tale.work("fail", 0, "a")
    ends(tale)
    assert tale.found() == ["groups_miss_nothing"]


def test_message_in_the_retry_topic_waits(tale: Tale) -> None:
    tale.work("fail", 0, "a")
    tale.copies(RETRY, ("a", 1))
    ends(tale)
    assert tale.found() == []


def test_message_in_the_retry_topic_that_the_group_has_passed_is_found(tale: Tale) -> None:
    tale.work("fail", 0, "a")
    tale.copies(RETRY, ("a", 1))
    tale.add(BROKER, "final offset", "note", group="in-order", topic=RETRY, queue=0, offset=1)
    ends(tale)
    assert tale.found() == ["groups_miss_nothing"]


@pytest.mark.parametrize(("pending", "found"), [([5000], []), ([], ["groups_miss_nothing"])])
def test_delayed_copy_counts_only_while_it_is_pending(tale: Tale, pending: list[int], found: list[str]) -> None:
    tale.work("fail", 0, "a")
    tale.copies(SCHEDULE, ("a", 1))
    tale.add(BROKER, "final timers", "note", log_offsets=pending)
    ends(tale)
    assert tale.found() == found


def test_message_in_flight_waits(tale: Tale) -> None:
    tale.add(BROKER, "final in flight", "note", group="in-order", topic="letters", queue=0, offsets=[0])
    ends(tale)
    assert tale.found() == []


# retries_are_counted


def test_dead_letter_after_all_tries_failed_is_right(tale: Tale) -> None:
    tale.work("fail", 0, "a", times=0)
    tale.work("fail", 0, "a", times=1)
    tale.copies(DEAD, ("a", 2))
    ends(tale)
    assert tale.found() == []


def test_dead_letter_before_its_last_try_is_found(tale: Tale) -> None:
    tale.work("fail", 0, "a", times=0)
    tale.copies(DEAD, ("a", 1))
    ends(tale)
    assert tale.found() == ["retries_are_counted"]


@pytest.mark.parametrize("times", [0, 2])
def test_retry_with_a_wrong_count_is_found(tale: Tale, times: int) -> None:
    tale.work("fail", 0, "a", times=0)
    tale.copies(RETRY, ("a", times))
    ends(tale)
    assert tale.found() == ["retries_are_counted"]


# later_is_kept


def send_later(tale: Tale) -> None:
    of = tale.add("producer-1", "send later", "invoke", ids=["z"], topic="letters", tag="", tries=1)
    tale.add("producer-1", "send later", "ok", of=of, ids=["z"])


def test_message_for_later_that_came_is_kept() -> None:
    tale = Tale()
    send_later(tale)
    tale.end("z")
    assert tale.found() == []


def test_message_for_later_that_waits_is_kept() -> None:
    tale = Tale()
    send_later(tale)
    tale.copies(SCHEDULE, ("z", 0))
    tale.add(BROKER, "final timers", "note", log_offsets=[5000])
    tale.end()
    assert tale.found() == []


def test_message_for_later_that_is_nowhere_is_found() -> None:
    tale = Tale()
    send_later(tale)
    tale.end()
    assert tale.found() == ["later_is_kept"]


def test_message_that_came_before_its_time_is_found() -> None:
    tale = Tale()
    send_later(tale)
    tale.end("z", messages=[[0, "z", 100, 0, 7]])
    assert tale.found() == ["later_is_kept"]


# ordered_groups_keep_order


def test_queue_that_is_handled_in_order_and_again_from_an_earlier_place_is_in_order(ordered: Tale) -> None:
    for who, offset, message_id in (("1", 0, "a"), ("1", 1, "b"), ("2", 1, "b"), ("2", 2, "c")):
        ordered.work("invoke", offset, message_id, who=f"in-order-{who}")
        ordered.work("ok", offset, message_id, who=f"in-order-{who}")
    ordered.end("a", "b", "c", offsets={"in-order": 3})
    assert ordered.found() == []


def test_message_that_is_handled_before_the_one_in_front_of_it_is_found(ordered: Tale) -> None:
    for offset, message_id in ((0, "a"), (2, "c"), (1, "b")):
        ordered.work("invoke", offset, message_id)
        ordered.work("ok", offset, message_id)
    ordered.end("a", "b", "c", offsets={"in-order": 3})
    assert ordered.found() == ["ordered_groups_keep_order"]


def two_at_work(tale: Tale) -> None:
    tale.work("invoke", 0, "a")
    tale.work("invoke", 0, "a", who="in-order-2")
    tale.work("ok", 0, "a")
    tale.work("ok", 0, "a", who="in-order-2")
    tale.end("a", "b", "c", offsets={"in-order": 1})


def test_two_members_at_work_in_one_queue_are_found(ordered: Tale) -> None:
    two_at_work(ordered)
    assert ordered.found() == ["ordered_groups_keep_order"]


def test_broker_that_lost_its_power_may_have_forgotten_a_lock(ordered: Tale) -> None:
    ordered.fault("power cut", lost_pages=1)
    two_at_work(ordered)
    assert ordered.found() == []


# popped_has_one_holder


def pops(*popped: tuple[str, int, int]) -> Tale:
    """(what, popped at, due) of one message by two members in turn."""
    tale = Tale()
    tale.sent(tale.send("a"), 0)
    for at, (what, popped_ms, due_ms) in enumerate(popped):
        tale.pop("a", popped_ms, due_ms, what=what, who=f"poppers-{at % 2}")
    tale.end("a")
    return tale


def test_popped_message_that_comes_again_when_its_time_is_over_has_one_holder() -> None:
    assert pops(("pop", 0, 1000), ("pop", 1000, 2000)).found() == []


def test_popped_message_that_comes_again_too_early_is_found() -> None:
    assert pops(("pop", 0, 1000), ("pop", 999, 2000)).found() == ["popped_has_one_holder"]


def test_renewed_time_counts() -> None:
    assert pops(("pop", 0, 1000), ("renew", 500, 5000), ("pop", 2000, 3000)).found() == ["popped_has_one_holder"]


def test_message_that_was_given_back_may_come_at_once() -> None:
    assert pops(("pop", 0, 1000), ("renew", 500, 500), ("pop", 600, 3000)).found() == []


def test_power_cut_may_take_who_had_popped_what() -> None:
    tale = Tale()
    tale.sent(tale.send("a"), 0)
    tale.pop("a", 0, 1000)
    tale.fault("power cut", lost_pages=1)
    tale.pop("a", 500, 2000)
    tale.end("a")
    assert tale.found() == []
