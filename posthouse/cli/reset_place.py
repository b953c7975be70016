"""Where to move a group, as people say it: `start`, `end`, `-1h`, `2026-01-31T12:00`, `@1767225600000`, `1234`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import click

from posthouse.cli.moment import Ago, AtOffset, End, Start, moment

_EPOCH_MS: Final = re.compile(r"@(\d{1,15})")


@dataclass(frozen=True, slots=True)
class ResetPlace:
    """One of three: an `offset`; a time, in ms or as so many ms `ago`; else the end."""

    offset: int | None = None
    epoch_ms: int | None = None
    ago_ms: int | None = None

    def at_ms(self, now_ms: int) -> int | None:
        """The time to go to; None: behind the last message (or an offset)."""
        return self.epoch_ms if self.ago_ms is None else max(0, now_ms - self.ago_ms)


def reset_place(text: str) -> ResetPlace:
    """An option type. Raises click.BadParameter with all the forms. A time without a zone is local."""
    word = text.strip()
    if found := _EPOCH_MS.fullmatch(word):
        return ResetPlace(epoch_ms=int(found[1]))
    if re.match(r"\d{4}-", word):
        try:
            return ResetPlace(epoch_ms=int(datetime.fromisoformat(word).timestamp() * 1000))
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is no time: {error}; write for example 2026-01-31T12:00") from None
    try:
        place = moment(word)
    except click.BadParameter:
        place = None
    match place:
        case Start():
            return ResetPlace(epoch_ms=0)
        case End():
            return ResetPlace()
        case Ago(ms=ago_ms):
            return ResetPlace(ago_ms=ago_ms)
        case AtOffset(offset=offset):
            return ResetPlace(offset=offset)
    raise click.BadParameter(
        f"{text!r} is no place to move to; say start, end, -1h (s, m, h, d), a time as 2026-01-31T12:00 or @ms, or "
        "with --queue an offset"
    )
