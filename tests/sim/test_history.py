"""What happened, and the hash of it."""

from __future__ import annotations

import pytest

from posthouse.testing.sim.history import History


def history(*times: float, **details: object) -> History:
    found = History()
    for at_s in times:
        found.add(at_s, "producer-1", "send", "invoke", **details)
    return found


def test_event_is_found_at_its_index() -> None:
    found = history(1.0, 2.0)
    at = found.add(3.0, "broker-a", "kill", "note", target="broker-a")
    assert found.events[at] == (3.0, "broker-a", "kill", "note", {"target": "broker-a"})
    assert at == 2


def test_histories_that_are_alike_have_one_digest() -> None:
    assert history(1.0, 2.0, ids=["a"]).digest() == history(1.0, 2.0, ids=["a"]).digest()


@pytest.mark.parametrize(
    "other", [history(1.0, ids=["a"]), history(1.0, 2.5, ids=["a"]), history(1.0, 2.0, ids=["b"]), history(2.0, 1.0)]
)
def test_any_difference_shows_in_the_digest(other: History) -> None:
    assert other.digest() != history(1.0, 2.0, ids=["a"]).digest()


def test_order_of_details_shows_in_the_digest() -> None:
    one, other = History(), History()
    one.add(1.0, "x", "y", "ok", first=1, second=2)
    other.add(1.0, "x", "y", "ok", second=2, first=1)
    assert one.digest() != other.digest()
