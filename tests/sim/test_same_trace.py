"""Same seed, same trace: in this process, and in others whose hashes are salted differently."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from posthouse.testing.sim import run_seed

SEEDS = (1, 7, 33)
_SCRIPT = """
import logging, sys
from posthouse.testing.sim import run_seed
logging.disable(logging.CRITICAL)
for seed in map(int, sys.argv[1:]):
    print(run_seed(seed).trace_digest)
"""


@pytest.fixture(scope="module")
def here() -> list[str]:
    return [run_seed(seed).trace_digest for seed in SEEDS]


def test_seeds_differ(here: list[str]) -> None:
    assert len(set(here)) == len(SEEDS)


def test_same_seed_has_the_same_trace_again(here: list[str]) -> None:
    assert [run_seed(seed).trace_digest for seed in reversed(SEEDS)] == here[::-1]


@pytest.mark.parametrize("salt", ["1", "4242"])
def test_same_seed_has_the_same_trace_in_another_process(here: list[str], salt: str) -> None:
    command = [sys.executable, "-c", _SCRIPT, *map(str, SEEDS)]
    environment = {**os.environ, "PYTHONHASHSEED": salt}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == here, done.stderr
