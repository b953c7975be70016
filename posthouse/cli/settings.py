"""The settings of a server: one table of options, each also a POSTHOUSE_* variable and a key of the TOML file.

Precedence: command line, environment, file, default. The file is put under click's own `default_map`, which has
exactly that place. A key that nobody knows is an error, with the key that was probably meant. The help shows the
options under headings, those of the store apart.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from posthouse.cli.addresses import BROKER_PORT, NAMESERVER_PORT, address_list, advertised
from posthouse.cli.amounts import hours_of_day, log_size, segment_size, span_hours
from posthouse.cli.logs import LEVELS

if TYPE_CHECKING:
    from posthouse.host.net import Address

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the options came to. A command fills in those it has; the rest keep their defaults.

    Sizes in bytes, disk levels in percent; `retention_at` are hours of the day, none for any.
    """

    host: str
    loop: str
    log_level: str
    data: str = "posthouse-data"
    nameserver_port: int = NAMESERVER_PORT
    broker_port: int = BROKER_PORT
    advertise: str | None = None
    nameservers: tuple[Address, ...] | None = None
    cluster: str = "DefaultCluster"
    broker_name: str = "broker-a"
    auto_create_topics: bool = True
    durability: str = "disk"
    segment_size: int = 1024**3
    retention_hours: float = 72
    retention_size: int | None = None
    retention_at: tuple[int, ...] = (4,)
    disk_clean_level: int = 75
    disk_force_level: int = 85
    disk_full_level: int = 90


_PERCENT: Final = click.IntRange(10, 99)
_PORT: Final = click.IntRange(0, 65535)

EPILOG: Final = "Each option is also read from the environment: --broker-port is POSTHOUSE_BROKER_PORT, and so on."

# setting: what click is told of it, beside its name and its variable
_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "data": {"metavar": "DIR", "default": "posthouse-data", "help": "Folder for all that is kept."},
    "host": {"metavar": "HOST", "default": "127.0.0.1", "help": "Address to listen on."},
    "nameserver_port": {
        "metavar": "PORT",
        "type": _PORT,
        "default": NAMESERVER_PORT,
        "help": "Port of the NameServer; 0 takes a free one.",
    },
    "broker_port": {
        "metavar": "PORT",
        "type": _PORT,
        "default": BROKER_PORT,
        "help": "Port of the broker; 0 takes a free one.",
    },
    "advertise": {
        "metavar": "HOST[:PORT]",
        "type": advertised,
        "help": "Where clients find the broker, if not where it listens.",
    },
    "nameservers": {
        "metavar": "ADDRESSES",
        "type": address_list,
        "help": 'NameServers elsewhere to register with: "a:9876;b:9876".',
    },
    "cluster": {"metavar": "NAME", "default": "DefaultCluster", "help": "Name of the cluster."},
    "broker_name": {"metavar": "NAME", "default": "broker-a", "help": "Name of the broker in its cluster."},
    "auto_create_topics": {"default": True, "help": "Create a topic when its first message comes."},
    "durability": {
        "type": click.Choice(["disk", "os"]),
        "default": "disk",
        "help": "Where a message is when it is answered.",
    },
    "segment_size": {
        "metavar": "SIZE",
        "type": segment_size,
        "default": "1GiB",
        "help": "Of a file of the log; whole files go.",
    },
    "retention_hours": {
        "metavar": "HOURS",
        "type": span_hours,
        "default": "72",
        "help": "Messages are kept so long, space permitting.",
    },
    "retention_size": {
        "metavar": "SIZE",
        "type": log_size,
        "default": "none",
        "help": "The log is kept under it, whatever its age.",
    },
    "retention_at": {
        "metavar": "HOURS",
        "type": hours_of_day,
        "default": "4",
        "help": "When the old is deleted: 4, or 2,3, or any.",
    },
    "disk_clean_level": {
        "metavar": "%",
        "type": _PERCENT,
        "default": 75,
        "help": "Of disk used; over it that is at any hour.",
    },
    "disk_force_level": {
        "metavar": "%",
        "type": _PERCENT,
        "default": 85,
        "help": "Over it the oldest goes, too old or not.",
    },
    "disk_full_level": {
        "metavar": "%",
        "type": _PERCENT,
        "default": 90,
        "help": "Over it sends are refused as well.",
    },
    "loop": {
        "type": click.Choice(["auto", "uvloop", "asyncio"]),
        "default": "auto",
        "help": "auto takes uvloop if it is installed.",
    },
    "log_level": {
        "metavar": "LEVEL",
        "type": click.Choice(LEVELS, case_sensitive=False),
        "default": "warning",
        "help": f"What is logged to stderr: {', '.join(LEVELS)}.",
    },
}

SETTINGS: Final = tuple(_OPTIONS)

STORE_SETTINGS: Final = (
    "durability", "segment_size", "retention_hours", "retention_size", "retention_at", "disk_clean_level",
    "disk_force_level", "disk_full_level",
)  # fmt: skip
"""Settings of a broker's store."""

_HELP_COLUMN: Final = 26
"""Widest option that has its help on the same line."""

_DEFAULT: Final = re.compile(r"\[default: ([^;\]]+)[^\]]*\]")
"""How click shows a default, and with it the range of a number."""


class ServerCommand(click.Command):
    """Its help has the options of the store under a heading of their own, and defaults short, in brackets."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        general, of_store = "Options  [default]", "Options of the store  [default]"
        sections: dict[str, list[tuple[str, str]]] = {general: [], of_store: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                words, text = record
                heading = of_store if param.name in STORE_SETTINGS else general
                sections[heading].append((words, _DEFAULT.sub(r"[\1]", text)))
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=_HELP_COLUMN)


def server_options(*names: str, **defaults: str) -> Callable[[Decorated], Decorated]:
    """The options of these settings, and `--config`; `defaults` are other defaults than the table's."""

    def decorate(command: Decorated) -> Decorated:
        for name in reversed(names):
            flag = "--" + name.replace("_", "-")
            details = dict(_OPTIONS[name])
            if name in defaults:
                details["default"] = defaults[name]
            details["show_default"] = "default" in details
            if name == "auto_create_topics":
                flag = f"{flag}/--no-{name.replace('_', '-')}"
            command = click.option(flag, envvar=variable(name), **details)(command)
        return _config_option(command)

    return decorate


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"POSTHOUSE_{name.upper()}"


def _config_option(command: Decorated) -> Decorated:
    return click.option(
        "--config",
        type=click.File("rb"),
        metavar="FILE",
        envvar=variable("config"),
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="TOML file with these settings in snake_case.",
    )(command)


def _read_config(ctx: click.Context, param: click.Parameter, file: IO[bytes] | None) -> None:
    """Puts the file's values where click looks for defaults. Raises click.BadParameter, naming file and key."""
    if file is None:
        return
    try:
        values = flatten(tomllib.load(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file.name} is not TOML: {error}", ctx, param) from error
    except ValueError as error:
        raise click.BadParameter(f"{file.name}: {error}", ctx, param) from error
    for option in ctx.command.params:
        if option.name in values:
            try:
                option.type_cast_value(ctx, values[option.name])
            except click.BadParameter as error:
                raise click.BadParameter(f"{file.name}: {option.name}: {error.message}", ctx, param) from error
    ctx.default_map = values


def flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name; a table [broker] with `port` is `broker_port`. Raises ValueError for what is no setting."""
    values: dict[str, Any] = {}
    for key, value in document.items():
        entries = {f"{key}_{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
        for name, each in entries.items():
            if name not in SETTINGS:
                close = get_close_matches(name, SETTINGS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(SETTINGS)}"
                raise ValueError(f"unknown setting {name!r}; {hint}")
            if name in values:
                raise ValueError(f"setting {name!r} is given twice")
            values[name] = _as_text(name, each)
    return values


def _as_text(name: str, value: object) -> object:
    """A value as click takes it: numbers and truth values as they are, a list of addresses as one text."""
    default = _OPTIONS[name].get("default", "")
    if name == "nameservers" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ";".join(value)
    if name == "retention_at" and isinstance(value, list) and all(type(each) is int for each in value):
        return ",".join(map(str, value)) or "any"
    if type(value) in _NUMBERS.get(name, ()):
        return str(value)
    if type(value) is not type(default):
        raise ValueError(f"setting {name!r} must be {_KINDS[type(default)]}, not {value!r}")
    return value


_NUMBERS: Final[Mapping[str, tuple[type, ...]]] = {
    "segment_size": (int,),
    "retention_size": (int,),
    "retention_hours": (int, float),
    "retention_at": (int,),
}
"""Settings that are text on the command line, and in the file may be numbers as well."""

_KINDS: Final = {str: "text in quotes", int: "a whole number", bool: "true or false"}
