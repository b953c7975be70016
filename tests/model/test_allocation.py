"""Who reads which queues: shares are disjoint and whole, and the same as RocketMQ's."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.model.allocation import STRATEGIES, Strategy, averagely, by_circle, consistent_hash, java_order
from posthouse.model.message import MessageQueue


def queues(count: int) -> list[MessageQueue]:
    return [MessageQueue("T", "broker-a", number) for number in range(count)]


def ids(found: list[MessageQueue]) -> list[int]:
    return [queue.queue_id for queue in found]


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@given(count=st.integers(0, 40), members=st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=12))
def test_every_queue_has_exactly_one_reader(strategy: Strategy, count: int, members: set[str]) -> None:
    ordered = sorted(members, key=java_order)
    shares = [strategy(member, ordered, queues(count)) for member in ordered]
    assert sorted(queue for share in shares for queue in share) == queues(count)
    assert strategy("\0 a stranger", ordered, queues(count)) == []


def test_shares_by_average_are_contiguous_and_the_first_get_more() -> None:
    assert [ids(averagely(member, "abc", queues(8))) for member in "abc"] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [ids(averagely(member, "abc", queues(2))) for member in "abc"] == [[0], [1], []]


def test_shares_by_circle_take_turns() -> None:
    assert [ids(by_circle(member, "abc", queues(8))) for member in "abc"] == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_with_a_ring_a_member_that_goes_moves_only_its_own_queues() -> None:
    members = [f"client-{number}" for number in range(5)]
    before = {member: set(consistent_hash(member, members, queues(64))) for member in members}
    after = {member: set(consistent_hash(member, members[1:], queues(64))) for member in members[1:]}
    assert all(before[member] <= after[member] for member in members[1:])
    assert all(left.isdisjoint(right) for left, right in pairwise(after.values()))


def test_ids_are_ordered_as_java_orders_them() -> None:
    late, surrogate = "\uffee", "\U0001f600"  # UTF-16 puts the second first
    assert sorted([late, surrogate, "b", "a"], key=java_order) == ["a", "b", surrogate, late]
