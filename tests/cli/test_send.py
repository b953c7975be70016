"""`posthouse send` against a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from posthouse.cli.root import root
from tests.cli.server import RunningServer


def kept(server: RunningServer, topic: str) -> list[dict[str, Any]]:
    """What is in the topic, oldest first."""
    done = server.run("tail", topic, "--from", "start", "--no-follow", "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_message_is_kept_with_all_that_was_said_of_it(server: RunningServer, topic: str) -> None:
    options = ("--tag", "paid", "--key", "k1", "--key", "k2", "-H", "a=1", "-H", "b=x=y", "--queue", "1")
    done = server.run("send", topic, "first mail", *options)
    assert (done.returncode, done.stderr) == (0, "")
    message_id, broker, place = done.stdout.split()
    (message,) = kept(server, topic)
    assert (message["message_id"], message["broker"], place) == (message_id, broker, "1:0")
    assert (message["body"], message["tag"], message["keys"]) == ("first mail", "paid", ["k1", "k2"])
    assert {"a": "1", "b": "x=y"}.items() <= message["properties"].items()


def test_json_of_a_receipt_has_stable_keys(server: RunningServer, topic: str) -> None:
    receipt = json.loads(server.run("send", topic, "x", "--json", "--queue", "0").stdout)
    assert len(receipt.pop("message_id")) == 32
    assert receipt == {
        "topic": topic,
        "broker": "broker-a",
        "queue": 0,
        "offset": 0,
        "status": "SEND_OK",
        "durability": "disk",
    }


def test_message_that_was_not_synced_is_said_to_be_so(server: RunningServer, topic: str) -> None:
    done = server.run("send", topic, "x", "-H", "WAIT=false")
    assert done.stdout.endswith(":0  not synced\n")
    assert json.loads(server.run("send", topic, "x", "-H", "WAIT=false", "--json").stdout)["durability"] == "os"


def test_body_may_come_from_stdin_byte_for_byte(server: RunningServer, topic: str) -> None:
    body = b"two\nlines\n\xff\x00"
    assert server.run("send", topic, "-", stdin=body).returncode == 0
    assert server.run("send", topic, stdin="no dash").returncode == 0
    assert [message["body"] or message["body_base64"] for message in kept(server, topic)] == [
        "dHdvCmxpbmVzCv8A",
        "no dash",
    ]


def test_every_line_of_stdin_may_be_a_message(server: RunningServer, topic: str) -> None:
    lines = [f"line {number}" for number in range(2500)]
    done = server.run("send", topic, "-", "--lines", "--queue", "0", stdin="\n".join(["", *lines, ""]))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2500
    assert [message["body"] for message in kept(server, topic)] == lines


def test_last_line_needs_no_line_end(server: RunningServer, topic: str) -> None:
    assert server.run("send", topic, "--lines", stdin="a\nb").returncode == 0
    assert [message["body"] for message in kept(server, topic)] == ["a", "b"]


def test_body_or_lines_may_come_from_a_file(server: RunningServer, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_text("a\nb\n")
    assert server.run("send", topic, "--file", str(path)).returncode == 0
    assert server.run("send", topic, "--file", str(path), "--lines").returncode == 0
    assert [message["body"] for message in kept(server, topic)] == ["a\nb\n", "a", "b"]


def test_count_sends_it_again_and_again(server: RunningServer, topic: str) -> None:
    done = server.run("send", topic, "x", "--count", "1500")
    assert len({line.split()[0] for line in done.stdout.splitlines()}) == 1500
    assert len(kept(server, topic)) == 1500


def test_messages_of_one_sharding_key_go_to_one_queue(server: RunningServer, topic: str) -> None:
    done = server.run("send", topic, "x", "--count", "5", "--sharding-key", "customer-12")
    assert len({line.split()[2].split(":")[0] for line in done.stdout.splitlines()}) == 1


def test_queue_that_is_not_there_is_not_found(server: RunningServer, topic: str) -> None:
    done = server.run("send", topic, "x", "--queue", "7")
    assert done.returncode == 4
    assert done.stderr == f"Error: topic {topic} takes no messages in a queue 7; it has 0 of broker-a, 1 of broker-a.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bad topic", "x"), "the topic name 'bad topic' has a character outside"),
        (("fine", ""), "the body is empty"),
        (("fine", "x" * 100, "-H", "a=b\x01c"), "separate properties"),
    ],
)
def test_message_that_cannot_be_is_one_clear_line(server: RunningServer, words: tuple[str, ...], said: str) -> None:
    done = server.run("send", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing argument 'TOPIC'"),
        (("t", "x", "-H", "novalue"), "'novalue' is not name=value"),
        (("t", "x", "-H", "=value"), "'=value' is not name=value"),
        (("t", "x", "--count", "0"), "0 is not in the range"),
        (("t", "x", "--lines"), "--lines reads stdin or --file"),
        (("t", "x", "--file", __file__), "give a body or --file, not both"),
        (("t", "x", "--queue", "1", "--sharding-key", "k"), "both choose the queue"),
        (("t", "x", "--timeout", "0"), "0.0 is not in the range"),
        (("t", "x", "--nameservers", "a:b"), "is not host:port"),
    ],
)
def test_wrong_usage_says_what_to_write(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(root, ["send", *words])
    assert result.exit_code == 2
    assert said in result.output
