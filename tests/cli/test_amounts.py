"""Sizes, spans and hours of the day, as people write them."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest

from posthouse.cli.amounts import hours_of_day, log_size, segment_size, size, span_hours


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("67108864", 1 << 26),
        ("64MiB", 1 << 26),
        ("64 mib", 1 << 26),
        (" 64M ", 1 << 26),
        ("64MB", 64_000_000),
        ("1.5GiB", 3 << 29),
        ("2k", 2048),
        ("7B", 7),
        ("3TiB", 3 << 40),
        ("0", 0),
    ],
)
def test_size_is_a_number_with_a_unit(text: str, found: int) -> None:
    assert size(text) == found


@pytest.mark.parametrize(
    ("text", "hours"), [("4", (4,)), ("2,3", (2, 3)), ("23; 04;4", (4, 23)), ("0", (0,)), ("any", ()), (" ANY ", ())]
)
def test_hours_of_day_are_sorted_and_any_is_none_of_them(text: str, hours: tuple[int, ...]) -> None:
    assert hours_of_day(text) == hours


@pytest.mark.parametrize(("text", "hours"), [("72", 72), ("0.5", 0.5), ("1e3", 1000)])
def test_span_is_a_number_of_hours(text: str, hours: float) -> None:
    assert span_hours(text) == hours


def test_log_may_have_no_limit() -> None:
    assert log_size("none") is None
    assert log_size("20GiB") == 20 << 30


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (size, "", "write for example 512MiB or 20GiB"),
        (size, "big", "'big' is not a size"),
        (size, "-1", "is not a size"),
        (size, "1 PiB", "is not a size"),
        (size, "1,5GiB", "is not a size"),
        (size, "٣", "is not a size"),
        (segment_size, "1048575", "too small for a segment; 1MiB is the least"),
        (segment_size, "none", "is not a size"),
        (log_size, "0", "none means no limit"),
        (span_hours, "0", "is not a number of hours above 0"),
        (span_hours, "-1", "write for example 72"),
        (span_hours, "nan", "is not a number of hours"),
        (span_hours, "inf", "is not a number of hours"),
        (span_hours, "3 days", "is not a number of hours"),
        (hours_of_day, "24", "are no hours of the day; write for example 4, or 2,3, or any"),
        (hours_of_day, "", "are no hours"),
        (hours_of_day, "2,,3", "are no hours"),
        (hours_of_day, "-1", "are no hours"),
        (hours_of_day, "04:00", "are no hours"),
    ],
)
def test_what_cannot_be_read_is_refused_with_an_example(read: Callable[[str], object], text: str, said: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        read(text)
    assert said in refused.value.message
