"""The `posthouse` group: a table of commands, each imported when it is used.

`posthouse --help` prints from the table, so it imports no command either.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Final

import click

from posthouse import __version__

# command: (module under posthouse.cli, name of the command there, one line of help)
COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "serve": ("serve", "serve", "Run a NameServer and a broker in one process."),
    "nameserver": ("serve", "nameserver", "Run a NameServer alone."),
    "broker": ("serve", "broker", "Run a broker that registers with NameServers elsewhere."),
    "send": ("send", "send", "Send messages to a topic."),
    "tail": ("tail", "tail", "Show messages of a topic as they come; moves no offsets."),
    "message": ("message", "message", "Find single messages by key, id, time or offset."),
    "trace": ("trace", "trace", "Tell the story of a message: who sent it, where it lies, who received it."),
    "dlq": ("dlq", "dlq", "Dead letters: list them, look at them, send them again."),
    "topic": ("topic", "topic", "List, create, delete and look at topics."),
    "group": ("group", "group", "Look at consumer groups, set them up, and move them."),
    "check": ("check", "check", "Check the store of a stopped broker, byte by byte; changes nothing."),
    "repair": ("repair", "repair", "Repair a damaged store; what cannot be saved is moved, never deleted."),
    "dump": ("dump", "dump", "Show the records in a data folder, or in one file of it, also while a broker runs."),
    "cluster": ("cluster", "cluster", "Show the brokers: addresses, versions, rates, message counts."),
    "sim": ("sim", "sim", "Run simulated clusters with faults, and check what they did."),
}


class LazyGroup(click.Group):
    """A group over COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"posthouse.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"there is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="posthouse %(version)s")
def root() -> None:
    """A durable message queue that speaks Apache RocketMQ's protocols.

    \b
    Example:
      posthouse serve
      posthouse send hello 'first mail'
      posthouse tail hello
    """
