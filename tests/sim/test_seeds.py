"""Seeds of the simulator, and every seed that has ever failed.

One seed again, with its story: `posthouse sim --seed N`. A seed that fails goes into seeds.txt when its cause is
mended, and stays there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from posthouse.testing.sim import run_seed
from posthouse.testing.sim.history import History
from posthouse.testing.sim.story import tell

SEEDS: Final = 300
SEEDS_PER_TEST: Final = 25


def kept() -> list[tuple[int, float]]:
    """(seed, minutes) of each line of seeds.txt; what follows a # is for people."""
    text = (Path(__file__).parent / "seeds.txt").read_text(encoding="utf-8")
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [(int(words[0]), float(words[1])) for words in lines if words]


def run(seed: int, minutes: float) -> None:
    verdict = run_seed(seed, minutes)
    if verdict.problems:
        history = History()
        history.events = list(verdict.events)
        pytest.fail(f"seed {seed}, {minutes:g} minutes\n{tell(history, verdict.problems[0])}", pytrace=False)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_seeds_keep_every_promise(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        run(seed, 1.0)


@pytest.mark.parametrize(("seed", "minutes"), kept())
def test_seed_that_once_failed_keeps_every_promise(seed: int, minutes: float) -> None:
    run(seed, minutes)
