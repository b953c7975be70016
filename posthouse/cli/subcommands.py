"""A command that has commands: its `--help` lists each with its whole first sentence, where click would cut it off."""

from __future__ import annotations

from inspect import cleandoc

import click


class Subcommands(click.Group):
    """A group whose list of commands can be read to the end of the line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_sentence(command)) for name, command in sorted(self.commands.items())])


def first_sentence(command: click.Command) -> str:
    """Of its help, on one line."""
    paragraph = " ".join(cleandoc(command.help or "").split("\n\n")[0].split())
    first, stop, _ = paragraph.partition(". ")
    return first + "." if stop else first
