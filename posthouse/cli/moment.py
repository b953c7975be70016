"""Where to begin reading a topic, as people say it: `start`, `end`, `-10`, `-1h`, `1234`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import click

_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGO: Final = re.compile(r"-(\d{1,9})([smhd])")
_LAST: Final = re.compile(r"-(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Start:
    """The oldest message that is kept."""


@dataclass(frozen=True, slots=True)
class End:
    """What comes from now on."""


@dataclass(frozen=True, slots=True)
class Last:
    """The newest `count` messages, over all queues."""

    count: int


@dataclass(frozen=True, slots=True)
class Ago:
    """What was stored in the last `ms` milliseconds."""

    ms: int


@dataclass(frozen=True, slots=True)
class AtOffset:
    """This queue offset, in every queue that is read."""

    offset: int


Moment = Start | End | Last | Ago | AtOffset


def moment(text: str) -> Moment:
    """An option type. Raises click.BadParameter with all the forms."""
    word = text.strip()
    if word == "start":
        return Start()
    if word == "end":
        return End()
    if found := _AGO.fullmatch(word):
        return Ago(int(found[1]) * _UNIT_MS[found[2]])
    if found := _LAST.fullmatch(word):
        return Last(int(found[1]))
    if word.isascii() and word.isdecimal() and len(word) < 19:
        return AtOffset(int(word))
    raise click.BadParameter(
        f"{text!r} is no place to begin; say start, end, -10 (the last ten), -1h (s, m, h, d) or a queue offset"
    )


@dataclass(frozen=True, slots=True)
class AtTime:
    """This time of the wall clock."""

    epoch_ms: int


Instant = Start | Ago | AtTime


def instant(text: str) -> Instant:
    """An option type: a time, and nothing else. Raises click.BadParameter with all the forms."""
    word = text.strip()
    if word == "start":
        return Start()
    if found := _AGO.fullmatch(word):
        return Ago(int(found[1]) * _UNIT_MS[found[2]])
    if word.isascii() and word.isdecimal() and 9 < len(word) < 16:
        return AtTime(int(word))
    try:
        return AtTime(int(datetime.fromisoformat(word).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is no time; say start, -1h (s, m, h, d ago), 2026-11-22, '2026-11-22 19:00' or milliseconds"
        ) from None


def epoch_ms(found: Instant, now_ms: int) -> int:
    """Milliseconds since 1970; 0 for the oldest."""
    match found:
        case Start():
            return 0
        case Ago(ms):
            return max(0, now_ms - ms)
        case AtTime(at_ms):
            return max(0, at_ms)
