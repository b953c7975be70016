"""The group of commands: what it lists, what it imports, what it says about a command that is not there."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from posthouse.cli.root import COMMANDS, root


def imported_by(*args: str) -> set[str]:
    """The modules of a process that has run the command line with these arguments."""
    script = (
        "import json, sys\n"
        f"sys.argv = ['posthouse', *{args!r}]\n"
        "from posthouse.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_no_command() -> None:
    found = imported_by("--help")
    assert not {"asyncio", "msgspec", "uvloop"} & found
    assert not {f"posthouse.cli.{module}" for module, _, _ in COMMANDS.values()} & found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_short_has_an_example_and_starts_no_loop(name: str) -> None:
    result = CliRunner().invoke(root, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"posthouse {name}" in result.output
    assert len(result.output.splitlines()) <= 45


def test_help_of_a_command_needs_no_client_and_no_server() -> None:
    for name in ("serve", "send"):
        assert not {"asyncio", "msgspec", "uvloop"} & imported_by(name, "--help")


@pytest.mark.parametrize("name", COMMANDS)
def test_first_line_of_the_help_is_the_one_in_the_table(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert command.help is not None
    assert command.help.startswith(COMMANDS[name][2].rstrip("."))


def test_unknown_command_is_a_usage_error_that_names_the_nearest() -> None:
    result = CliRunner().invoke(root, ["topics"])
    assert result.exit_code == 2
    assert "there is no command 'topics'. Did you mean 'topic'?" in result.stderr


def test_every_command_is_in_the_list() -> None:
    output = CliRunner().invoke(root, ["--help"]).output
    assert all(f"\n  {name} " in output for name in COMMANDS)
