"""Where to move a group, as people say it."""

from __future__ import annotations

from datetime import datetime

import click
import pytest

from posthouse.cli.reset_place import ResetPlace, reset_place

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("start", 0),
        ("end", None),
        ("-1h", NOW_MS - 3_600_000),
        ("-2d", NOW_MS - 2 * 86_400_000),
        ("-99999999d", 0),
        ("@1767225600000", 1_767_225_600_000),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01", int(datetime(2026, 1, 1).timestamp() * 1000)),
    ],
)
def test_place_is_a_time_or_the_end(text: str, at_ms: int | None) -> None:
    place = reset_place(text)
    assert place.offset is None
    assert place.at_ms(NOW_MS) == at_ms


def test_place_may_be_an_offset() -> None:
    assert reset_place("1234") == ResetPlace(offset=1234)


@pytest.mark.parametrize("text", ["", "yesterday", "-10", "-1y", "@x", "2026-13-01", "1.5"])
def test_what_is_no_place_is_told_with_all_the_forms(text: str) -> None:
    with pytest.raises(click.BadParameter, match="2026-01-31T12:00"):
        reset_place(text)
