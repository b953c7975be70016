"""Where to begin reading a topic, as people say it: `start`, `end`, `-10`, `-1h`, `1234`."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
