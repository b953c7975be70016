"""Amounts as people write them on a command line: sizes, spans in hours, hours of the day.

Each is an option type: it takes text and raises click.BadParameter with an example to copy.
"""

from __future__ import annotations

import re
from typing import Final

import click

MIB: Final = 1024 * 1024
HOURS_MAX: Final = 1_000_000
"""Over a hundred years."""

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_BYTES: Final = {"": 1, "b": 1} | {
    unit + ending: base**power
    for power, unit in enumerate("kmgt", 1)
    for ending, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def size(text: str) -> int:
    """Bytes: a number with a unit, as in 64MiB (2 to the 26th), 64M (the same), 64MB (64 million) or 67108864."""
    match = _SIZE.fullmatch(text.strip())
    unit = _BYTES.get(match[2].lower()) if match is not None else None
    if match is None or unit is None:
        raise click.BadParameter(f"{text!r} is not a size; write for example 512MiB or 20GiB")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def segment_size(text: str) -> int:
    """The size of a segment, 1 MiB or more."""
    found = size(text)
    if found < MIB:
        raise click.BadParameter(f"{text!r} is too small for a segment; 1MiB is the least, 1GiB is usual")
    return found


def log_size(text: str) -> int | None:
    """The most that the log may have; "none" for no limit."""
    if text.strip().lower() == "none":
        return None
    found = size(text)
    if found < MIB:
        raise click.BadParameter(f"{text!r} is too small for a log; 1MiB is the least, and none means no limit")
    return found


def span_hours(text: str) -> float:
    """A span of time in hours, as 72 or 0.5."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= HOURS_MAX:
        raise click.BadParameter(f"{text!r} is not a number of hours above 0, up to {HOURS_MAX}; write for example 72")
    return found


def hours_of_day(text: str) -> tuple[int, ...]:
    """Hours from 0 to 23, parted by commas (or ";", as RocketMQ has it); "any" is the empty tuple."""
    if text.strip().lower() == "any":
        return ()
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) < 24 for part in parts):
        raise click.BadParameter(f"{text!r} are no hours of the day; write for example 4, or 2,3, or any")
    return tuple(sorted({int(part) for part in parts}))
