"""Where to begin reading, as people say it."""

from __future__ import annotations

from datetime import datetime

import click
import pytest

from posthouse.cli.moment import Ago, AtOffset, End, Last, Moment, Start, epoch_ms, instant, moment


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


@pytest.mark.parametrize(
    ("text", "wanted_ms"),
    [
        ("start", 0),
        ("-1h", 1_700_000_000_000 - 3_600_000),
        ("-2d", 1_700_000_000_000 - 2 * 86_400_000),
        ("1699999999999", 1_699_999_999_999),
        ("2023-11-14", int(datetime(2023, 11, 14).timestamp() * 1000)),
        ("2023-11-14 19:05", int(datetime(2023, 11, 14, 19, 5).timestamp() * 1000)),
        ("2023-11-14T19:05:06+00:00", 1_699_988_706_000),
        ("-99999d", 0),
    ],
)
def test_a_time_is_a_number_of_milliseconds(text: str, wanted_ms: int) -> None:
    assert epoch_ms(instant(text), 1_700_000_000_000) == wanted_ms


@pytest.mark.parametrize("text", ["", "end", "-5", "17", "noon", "1h", "2023-13-01"])
def test_what_is_no_time_is_told_with_the_forms(text: str) -> None:
    with pytest.raises(click.BadParameter, match="-1h"):
        instant(text)
