from __future__ import annotations

import pytest

from posthouse.client.faults import BrokerFaults, spared_for_ms


@pytest.mark.parametrize(
    ("latency_ms", "spared_ms"),
    [
        (0, 0),
        (49, 0),
        (50, 0),
        (100, 0),
        (549, 0),
        (550, 2000),
        (1800, 5000),
        (3000, 6000),
        (4999, 6000),
        (5000, 10_000),
        (10_000, 10_000),
        (15_000, 30_000),
        (1e9, 30_000),
    ],
)
def test_a_slow_answer_spares_its_broker_for_a_while(latency_ms: float, spared_ms: int) -> None:
    assert spared_for_ms(latency_ms) == spared_ms


def test_a_failed_broker_is_spared_for_ten_seconds_and_then_good() -> None:
    faults = BrokerFaults()
    assert not faults.any()
    faults.failed("a", 100.0)
    assert faults.any()
    assert not faults.good("a", 109.9)
    assert faults.good("a", 110.0)
    assert faults.good("b", 100.0)


def test_a_quick_answer_makes_a_broker_good_again() -> None:
    faults = BrokerFaults()
    faults.failed("a", 100.0)
    faults.answered("a", 3, 101.0)
    assert faults.good("a", 101.0)
    assert not faults.any()
