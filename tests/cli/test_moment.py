"""Where to begin reading, as people say it."""

from __future__ import annotations

import click
import pytest

from posthouse.cli.moment import Ago, AtOffset, End, Last, Moment, Start, moment


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("start", Start()),
        (" end ", End()),
        ("-10", Last(10)),
        ("-10s", Ago(10_000)),
        ("-5m", Ago(300_000)),
        ("-1h", Ago(3_600_000)),
        ("-2d", Ago(172_800_000)),
        ("0", AtOffset(0)),
        ("1234", AtOffset(1234)),
    ],
)
def test_form_is_understood(text: str, meant: Moment) -> None:
    assert moment(text) == meant


@pytest.mark.parametrize("text", ["", "begin", "-", "-1w", "1h", "+1", "-1.5h", "1" * 19, "٣"])
def test_other_text_is_refused_with_all_the_forms(text: str) -> None:
    with pytest.raises(click.BadParameter, match="say start, end, -10"):
        moment(text)
