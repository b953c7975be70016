"""The simulator finds bugs: every one that is planted into the product, within 200 seeds."""

from __future__ import annotations

import pytest

from posthouse.testing.sim import run_seed
from tests.sim.planted import BUGS

SEEDS_MAX = 200


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found(name: str) -> None:
    for seed in range(SEEDS_MAX):
        with BUGS[name]():
            verdict = run_seed(seed)
        if verdict.problems:
            first = verdict.problems[0]
            print(f"{name}: found with seed {seed} by {first.checker}: {first.text}")
            return
    pytest.fail(f"{name} was not found in {SEEDS_MAX} seeds")


def test_nothing_stays_planted() -> None:
    assert not run_seed(0).problems
