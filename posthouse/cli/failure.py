"""Exit codes, and the one exception that ends a command: a cause and a next step for a person, never a traceback."""

from __future__ import annotations

from enum import IntEnum

import click


class ExitCode(IntEnum):
    """What a script can rely on. Wrong usage is 2, as click has it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 4
    UNREACHABLE = 5


class Failure(click.ClickException):
    """Ends the command with its message on stderr."""

    exit_code = ExitCode.FAILED


class NotFound(Failure):
    """A topic, broker or offset that is not there."""

    exit_code = ExitCode.NOT_FOUND


class Unreachable(Failure):
    """A NameServer or broker that does not answer."""

    exit_code = ExitCode.UNREACHABLE
