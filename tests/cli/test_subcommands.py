"""The lists of commands inside commands."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from posthouse.cli.root import root
from posthouse.cli.subcommands import first_sentence


@pytest.mark.parametrize("name", ["dlq", "group", "message", "topic"])
def test_help_lists_each_command_with_its_whole_first_sentence(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert isinstance(command, click.Group)
    shown = " ".join(CliRunner().invoke(root, [name, "--help"]).stdout.split())
    for each in command.commands.values():
        assert f" {each.name} {first_sentence(each)}" in shown


def test_first_sentence_ends_where_it_ends() -> None:
    assert first_sentence(click.Command("x", help="Do this: that\nas well. Asks first.\n\nMore.")) == (
        "Do this: that as well."
    )
    assert first_sentence(click.Command("x", help="Only one.")) == "Only one."
