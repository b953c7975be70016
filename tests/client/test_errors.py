from __future__ import annotations

import pytest

from posthouse.client import errors
from posthouse.client.errors import BatchFailed, BrokerRefused, PosthouseError, SendFailed, from_link
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.link.errors import CannotConnect, ConnectionLost, RequestTimeout, TooManyInFlight


def test_every_error_of_the_client_is_one_kind() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    assert len(kinds) > 12
    assert all(issubclass(kind, PosthouseError) for kind in kinds)


def test_a_refusal_says_who_what_why_and_what_to_do() -> None:
    refused = BrokerRefused("broker-a", 16, "the topic is read-only", "take a message")
    assert str(refused) == (
        "broker-a refused to take a message with 16 NO_PERMISSION: the topic is read-only; "
        "check the permission of topic and group, and the credentials"
    )
    assert (refused.code, refused.remark) == (16, "the topic is read-only")


@pytest.mark.parametrize("code", [*ResponseCode, 4711])
def test_every_code_is_explained(code: int) -> None:
    meaning, remedy = errors.explain(code)
    assert meaning
    assert remedy


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestTimeout("a:1", 1, 1.0), errors.Timeout),
        (ConnectionLost("a:1", "reset"), errors.Unreachable),
        (CannotConnect("a:1", "refused"), errors.Unreachable),
        (TooManyInFlight("a:1", 1), errors.Unreachable),
    ],
)
def test_errors_of_the_link_become_errors_of_the_client(error: Exception, kind: type[PosthouseError]) -> None:
    found = from_link(error, "asking")  # type: ignore[arg-type]
    assert type(found) is kind
    assert str(found) == f"asking: {error}"


def test_timeouts_and_lost_connections_are_also_what_python_calls_so() -> None:
    assert issubclass(errors.Timeout, TimeoutError)
    assert issubclass(errors.SendTimeout, TimeoutError)
    assert issubclass(errors.Unreachable, ConnectionError)
    assert issubclass(errors.MessageIllegal, ValueError)


def test_a_failed_batch_counts_and_shows_the_first_error() -> None:
    first = SendFailed("broken", code=13)
    failed = BatchFailed([first, SendFailed("also", maybe_stored=True)])
    assert str(failed) == "2 of 2 messages failed, the first with: broken"
    assert failed.code == 13
    assert failed.maybe_stored
    assert failed.outcomes[0] is first


def test_a_remedy_is_said_once() -> None:
    refused = BrokerRefused("broker-a", 17, "topic 'x' does not exist; create it with `posthouse topic create`")
    assert str(refused).count("posthouse topic create") == 1
    assert "create it with `posthouse topic create x`" in str(errors.NoRoute("x"))
    assert "topic create" not in str(errors.NoRoute("%DLQ%billing"))
