from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.client.rebalance import Strategy, averagely, by_circle, java_order
from posthouse.model.message import MessageQueue

STRATEGIES = [averagely, by_circle]


def queues(count: int) -> list[MessageQueue]:
    return [MessageQueue("t", "b", n) for n in range(count)]


def shares(strategy: Strategy, count: int, members: list[str]) -> list[list[int]]:
    return [[queue.queue_id for queue in strategy(member, members, queues(count))] for member in members]


def test_averagely_gives_contiguous_shares_as_java_does() -> None:
    assert shares(averagely, 8, ["a", "b", "c"]) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert shares(averagely, 2, ["a", "b", "c"]) == [[0], [1], []]
    assert shares(averagely, 4, ["a"]) == [[0, 1, 2, 3]]


def test_by_circle_deals_them_out() -> None:
    assert shares(by_circle, 8, ["a", "b", "c"]) == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(st.integers(0, 40), st.integers(1, 20))
def test_every_queue_has_one_owner_and_shares_are_even(strategy: Strategy, count: int, members: int) -> None:
    found = shares(strategy, count, [f"m{n:02}" for n in range(members)])
    assert sorted(queue for share in found for queue in share) == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_is_not_a_member_gets_nothing(strategy: Strategy) -> None:
    assert strategy("x", ["a", "b"], queues(4)) == []


def test_ids_are_sorted_as_java_sorts_text() -> None:
    assert sorted(["\U0001f600", "\uffee", "a", "B"], key=java_order) == ["B", "a", "\U0001f600", "\uffee"]
