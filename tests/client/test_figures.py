from __future__ import annotations

import pytest

from posthouse.client.figures import STEP_SECONDS, STEPS, Figures, Window
from posthouse.model.client_status import ConsumeRates


def test_a_window_forgets_what_is_older_than_its_steps() -> None:
    window = Window()
    window.add(5.0, 2, 1.5)
    window.add(15.0, 3, 0.5)
    assert window.total(15.0) == (5, 2.0)
    assert window.total(59.9) == (5, 2.0)
    assert window.total(60.0) == (3, 0.5)
    assert window.total(70.0) == (0, 0.0)
    window.add(1e6, 1)
    assert window.total(1e6) == (1, 0.0)
    assert window.total(1e9) == (0, 0.0)


def test_rates_are_means_over_the_last_minute() -> None:
    figures = Figures()
    figures.pulled("t", 30, 0.010, 100.0)
    figures.pulled("t", 30, 0.030, 101.0)
    figures.handled("t", 1, 0.004, True, 101.0)
    figures.handled("t", 2, 0.001, True, 101.0)
    figures.handled("t", 3, 0.002, False, 102.0)
    figures.handled("other", 1, 1.0, True, 102.0)
    found = figures.rates(103.0)
    assert found["other"] == ConsumeRates(consume_ms=1000.0, consumed_per_second=1 / 60)
    rates = found["t"]
    assert rates.pull_ms == pytest.approx(20.0)
    assert rates.pulled_per_second == 1.0
    assert rates.consume_ms == pytest.approx((4 + 2 * 1 + 3 * 2) / 6)
    assert (rates.consumed_per_second, rates.failed_per_second, rates.failed_in_hour) == (3 / 60, 3 / 60, 3)


def test_failures_are_remembered_for_an_hour() -> None:
    figures = Figures()
    figures.handled("t", 1, 0.001, False, 100.0)
    later = figures.rates(100.0 + STEPS * STEP_SECONDS)["t"]
    assert (later.failed_per_second, later.failed_in_hour) == (0.0, 1)
    assert figures.rates(100.0 + 4000)["t"].failed_in_hour == 0
