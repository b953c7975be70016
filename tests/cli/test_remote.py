"""What a person is told when a server cannot be asked, and with which exit code."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import click
import pytest

from posthouse.cli.failure import Failure, NotFound, Unreachable
from posthouse.cli.remote import Remote, failures
from posthouse.client import errors
from posthouse.codec.remoting.codes import ResponseCode
from tests.cli.server import posthouse

REMOTE = Remote(["127.0.0.1:9876"], 0.1)

COMMANDS = [("send", "t", "x"), ("tail", "t"), ("topic", "list"), ("topic", "create", "t"), ("cluster",)]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_nameserver_is_unreachable_with_cause_and_next_step(words: tuple[str, ...], closed_port: int) -> None:
    done = posthouse(*words, "--nameservers", f"127.0.0.1:{closed_port}")
    assert (done.returncode, done.stdout) == (5, "")
    assert re.fullmatch(
        rf"Error: cannot reach a NameServer \(127\.0\.0\.1:{closed_port}: (?i:[^;)]*connect[^;]*)\)\. "
        r"Start one with `posthouse serve`, or name another with --nameservers\.\n",
        done.stderr,
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_silent_nameserver_is_unreachable_within_the_timeout(words: tuple[str, ...], silent_port: int) -> None:
    done = posthouse(*words, "--nameservers", f"127.0.0.1:{silent_port}", "--timeout", "0.5", timeout_s=10)
    assert (done.returncode, done.stdout) == (5, "")
    assert len(done.stderr.splitlines()) == 1


def test_nameservers_may_come_from_the_environment(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_NAMESERVERS", f"127.0.0.1:{closed_port}")
    assert f"127.0.0.1:{closed_port}" in posthouse("topic", "list").stderr


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (errors.NoNameServer([("a:1", "gone")]), Unreachable),
        (errors.NoRoute("t"), NotFound),
        (errors.Timeout("slow"), Unreachable),
        (errors.Unreachable("gone"), Unreachable),
        (errors.NoBroker("gone"), Unreachable),
        (errors.SendTimeout("slow"), Unreachable),
        (errors.SendFailed("no", code=ResponseCode.TOPIC_NOT_EXIST), NotFound),
        (errors.SendFailed("no", code=ResponseCode.SYSTEM_BUSY), Failure),
        (errors.BrokerRefused("b", ResponseCode.QUERY_NOT_FOUND, "no"), NotFound),
        (errors.BrokerRefused("b", ResponseCode.NO_PERMISSION, "no"), Failure),
        (errors.MessageTooLarge(5_000_000), Failure),
        (TimeoutError(), Unreachable),
    ],
    ids=repr,
)
def test_what_the_client_raises_has_an_exit_code(raised: Exception, kind: type[click.ClickException]) -> None:
    with pytest.raises(Failure) as caught, failures(REMOTE):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.message.endswith((".", "?", "`"))


def test_a_bug_is_not_dressed_up_as_a_failure() -> None:
    with pytest.raises(AssertionError), failures(REMOTE):
        raise AssertionError


def test_run_ends_at_the_timeout() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Unreachable, match=r"not done within 0\.1 s; allow more with --timeout\."):
        REMOTE.run(for_ever)
