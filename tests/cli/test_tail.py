"""`posthouse tail` against a running server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from posthouse.cli.root import root
from tests.cli.server import RunningServer


def send(server: RunningServer, topic: str, *words: str) -> None:
    done = server.run("send", topic, *words)
    assert done.returncode == 0, done.stderr


def bodies(server: RunningServer, topic: str, *words: str) -> list[str]:
    """The bodies that a tail to the end shows."""
    done = server.run("tail", topic, "--no-follow", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["body"] for line in done.stdout.splitlines()]


@contextmanager
def tailing(server: RunningServer, topic: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "posthouse", "tail", topic, "--nameservers", server.nameserver, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.fixture
def numbers(server: RunningServer, topic: str) -> str:
    """A topic with 0 to 14 in turn over both queues."""
    done = server.run("send", topic, "--lines", stdin="\n".join(map(str, range(15))))
    assert done.returncode == 0
    return topic


def test_line_has_time_place_tag_keys_and_body(server: RunningServer, topic: str) -> None:
    send(server, topic, "first\nmail", "--tag", "a", "--key", "k", "--queue", "1")
    done = server.run("tail", topic, "--no-follow")
    date, clock, place, tag, keys, *body = done.stdout.rstrip("\n").split()
    assert (len(date), len(clock)) == (10, 12)
    assert (place, tag, keys, " ".join(body)) == ("1:0", "a", "k", "first\\nmail")


def test_begins_with_the_last_ten_in_the_order_in_which_they_were_stored(server: RunningServer, numbers: str) -> None:
    assert bodies(server, numbers) == [str(number) for number in range(5, 15)]


def test_may_begin_elsewhere(server: RunningServer, numbers: str) -> None:
    everything = [str(number) for number in range(15)]
    assert bodies(server, numbers, "--from", "start") == everything
    assert bodies(server, numbers, "--from", "-3") == everything[-3:]
    assert bodies(server, numbers, "--from", "end") == []
    assert bodies(server, numbers, "--from", "-1h") == everything
    assert len(bodies(server, numbers, "--from", "5")) == 15 - 2 * 5
    assert bodies(server, numbers, "--from", "1000") == []
    assert bodies(server, numbers, "--from", "start", "-n", "4") == everything[:4]


def test_may_read_one_queue_only(server: RunningServer, numbers: str) -> None:
    found = [bodies(server, numbers, "--from", "start", "--queue", queue) for queue in ("0", "1")]
    assert sorted(map(len, found)) == [7, 8]
    assert sorted(map(int, found[0] + found[1])) == list(range(15))


def test_may_choose_by_tag(server: RunningServer, topic: str) -> None:
    for tag in ("a", "b", "c", "a"):
        send(server, topic, f"of {tag}", "--tag", tag)
    assert bodies(server, topic, "--tag", "a || b") == ["of a", "of b", "of a"]


def test_moves_nobodys_offsets(server: RunningServer, numbers: str) -> None:
    assert bodies(server, numbers) == bodies(server, numbers)


def test_follows_until_ctrl_c_and_that_is_no_failure(server: RunningServer, topic: str) -> None:
    send(server, topic, "before")
    with tailing(server, topic) as process:
        assert read_line(process).endswith("  before")
        send(server, topic, "after")
        assert read_line(process).endswith("  after")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")


def test_ends_after_so_many_messages(server: RunningServer, topic: str) -> None:
    with tailing(server, topic, "-n", "2") as process:
        time.sleep(0.5)
        send(server, topic, "x", "--count", "5")
        output, errors = process.communicate(timeout=10)
        assert (process.returncode, errors, len(output.splitlines())) == (0, "", 2)


def test_reader_that_goes_away_ends_it_without_a_traceback(server: RunningServer, numbers: str) -> None:
    with tailing(server, numbers) as process:
        read_line(process)
        assert process.stdout is not None
        process.stdout.close()
        send(server, numbers, "x", "--count", "3")
        assert process.wait(10) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("words", [("no-such-topic",), ("no-such-topic", "--queue", "1")])
def test_topic_that_is_not_there_is_not_found(server: RunningServer, words: tuple[str, ...]) -> None:
    done = server.run("tail", *words)
    assert done.returncode == 4
    assert "there is no topic 'no-such-topic'. Create it with `posthouse topic create no-such-topic`" in done.stderr


def test_queue_that_is_not_there_is_not_found(server: RunningServer, topic: str) -> None:
    done = server.run("tail", topic, "--queue", "9")
    assert done.returncode == 4
    assert "has no queue 9 to read; it has 0 of broker-a, 1 of broker-a" in done.stderr


def test_wrong_usage_says_what_to_write() -> None:
    result = CliRunner().invoke(root, ["tail", "t", "--from", "begin"])
    assert result.exit_code == 2
    assert "say start, end, -10 (the last ten)" in result.output
