"""Exit codes are a promise to scripts."""

from __future__ import annotations

import click
from click.testing import CliRunner

from posthouse.cli.failure import ExitCode, Failure, NotFound, Unreachable


def test_exit_codes_stay_as_they_are() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0, "FAILED": 1, "USAGE": 2, "NOT_FOUND": 4, "UNREACHABLE": 5,
    }  # fmt: skip
    assert click.UsageError.exit_code == ExitCode.USAGE


def test_failure_ends_a_command_with_its_code_and_one_line() -> None:
    for failure, code in ((Failure("why"), 1), (NotFound("why"), 4), (Unreachable("why"), 5)):

        @click.command()
        def fails(failure: Failure = failure) -> None:
            raise failure

        result = CliRunner().invoke(fails)
        assert (result.exit_code, result.stderr) == (code, "Error: why\n")
