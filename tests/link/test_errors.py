from __future__ import annotations

import pytest

from posthouse.link.errors import CannotConnect, ConnectionLost, LinkError, RequestTimeout, TooManyInFlight


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (RequestTimeout("10.0.0.1:1", 310, 3.0), ("10.0.0.1:1", "310", "after 3 s", "allow more time")),
        (ConnectionLost("10.0.0.1:1", "reset"), ("10.0.0.1:1", "reset", "try again")),
        (TooManyInFlight("10.0.0.1:1", 65_535), ("65535", "wait for some")),
        (CannotConnect("10.0.0.1:1", "refused", 0.4), ("refused", "next try is in 0.4 s", "is the server running")),
    ],
)
def test_each_error_says_where_what_and_what_to_do(error: LinkError, parts: tuple[str, ...]) -> None:
    assert isinstance(error, LinkError)
    for part in parts:
        assert part in str(error)


def test_a_first_failed_dial_names_no_time() -> None:
    assert "next try" not in str(CannotConnect("a:1", "refused"))
