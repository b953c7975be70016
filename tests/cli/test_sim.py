"""`posthouse sim`: what it prints, keeps and exits with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from posthouse.cli import sim as command
from posthouse.cli.root import root
from posthouse.cli.sim import Outcome


def run(*args: str) -> Result:
    return CliRunner().invoke(root, ["sim", *args])


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd seeds fail."""

    def run_one(seed: int, minutes: float) -> Outcome:
        problems = [f"order_is_kept: problem {at} of {seed}" for at in range(12)] if seed % 2 else []
        return Outcome(seed, 60.0 * minutes, 100, "d1ce", problems, "once upon a time" if problems else "")

    monkeypatch.setattr(command, "run_one", run_one)


def test_one_seed_says_that_all_is_well_and_names_its_trace() -> None:
    result = run("--seed", "3", "--minutes", "0.2")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("seed 3: all is well after ")
    again = run("--seed", "3", "--minutes", "0.2")
    assert again.stdout == result.stdout
    assert logging.root.manager.disable == logging.NOTSET


def test_many_seeds_are_counted_whatever_the_number_of_processes() -> None:
    result = run("--seeds", "12", "--minutes", "0.1", "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("12 seeds, 0 failed; ")
    assert result.stdout.endswith(" virtual hours per real minute\n")
    assert result.stderr == ""


@pytest.mark.usefixtures("fails")
def test_failing_seed_is_told_with_its_story_and_how_to_run_it_again() -> None:
    result = run("--seed", "7", "--minutes", "2")
    assert result.exit_code == 1
    assert "seed 7 FAILED; again with: posthouse sim --seed 7 --minutes 2\n" in result.stdout
    assert "order_is_kept: problem 0 of 7\n" in result.stdout
    assert "and 2 more" in result.stdout
    assert "once upon a time" in result.stdout


@pytest.mark.usefixtures("fails")
def test_failing_seeds_are_kept_after_those_that_were_there(tmp_path: Path) -> None:
    file = tmp_path / "seeds.txt"
    file.write_text("1 1  # an old one\n")
    result = run("--seed", "4", "--seeds", "4", "--minutes", "0.5", "--keep", str(file))
    assert result.exit_code == 1
    assert "4 seeds, 2 failed" in result.stdout
    assert file.read_text().splitlines() == [
        "1 1  # an old one",
        "5 0.5  # order_is_kept: problem 0 of 5",
        "7 0.5  # order_is_kept: problem 0 of 7",
    ]


def test_less_than_a_few_seconds_is_a_usage_error() -> None:
    assert run("--minutes", "0").exit_code == 2
