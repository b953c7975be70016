"""Delay levels and ticks."""

from __future__ import annotations

import pytest

from posthouse.model.delays import DELAY_LEVELS_MS, LEVEL_MAX, RETRY_LEVEL, TICK_MS, on_tick


def test_there_are_eighteen_levels_that_rise_from_a_second_to_two_hours() -> None:
    assert LEVEL_MAX == 18
    assert (DELAY_LEVELS_MS[0], DELAY_LEVELS_MS[-1]) == (1000, 7_200_000)
    assert list(DELAY_LEVELS_MS) == sorted(set(DELAY_LEVELS_MS))
    assert DELAY_LEVELS_MS[RETRY_LEVEL - 1] == 10_000


def test_sixteen_retries_take_four_hours_and_three_quarters() -> None:
    assert sum(DELAY_LEVELS_MS[RETRY_LEVEL - 1 :]) == (4 * 60 + 45) * 60_000 + 40_000


@pytest.mark.parametrize(
    "due_ms, tick_ms", [(0, 0), (1, TICK_MS), (100, 100), (101, 200), (1_700_000_000_199, 1_700_000_000_200)]
)
def test_due_times_are_rounded_up_so_nothing_is_early(due_ms: int, tick_ms: int) -> None:
    assert on_tick(due_ms) == tick_ms
