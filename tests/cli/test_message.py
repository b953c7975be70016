"""`posthouse message find` against a running server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from posthouse import Message, Producer
from posthouse.client.receipt import SendReceipt
from tests.cli.server import RunningServer


def send(server: RunningServer, topic: str, body: str, *words: str) -> dict[str, Any]:
    """The receipt."""
    done = server.run("send", topic, body, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def place_of(server: RunningServer, topic: str, body: str) -> tuple[str, str]:
    """Sends a message; its id and that of its place."""

    async def sent() -> SendReceipt:
        async with Producer(server.nameserver) as producer:
            return await producer.send(Message(topic, body.encode(), keys="k"))

    receipt = asyncio.run(sent())
    return receipt.message_id, receipt.offset_message_id


def find(server: RunningServer, topic: str, *words: str) -> list[dict[str, Any]]:
    done = server.run("message", "find", topic, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_messages_are_found_by_key_newest_first(server: RunningServer, topic: str) -> None:
    for number in range(4):
        send(server, topic, f"{number}", "--key", f"odd-{number % 2}", "--tag", "paid")
    found = find(server, topic, "--key", "odd-1")
    assert [(each["body"], each["keys"], each["tag"]) for each in found] == [
        ("3", ["odd-1"], "paid"),
        ("1", ["odd-1"], "paid"),
    ]
    assert found[0]["broker"] == "broker-a"
    assert [each["body"] for each in find(server, topic, "--key", "odd-1", "-n", "1")] == ["3"]
    assert [each["body"] for each in find(server, topic, "--key", "odd-0", "--since", "-1h")] == ["2", "0"]


def test_the_table_has_a_row_for_each(server: RunningServer, topic: str) -> None:
    sent = send(server, topic, "the body", "--key", "k", "--queue", "1")
    head, row = server.run("message", "find", topic, "--key", "k").stdout.splitlines()
    assert head.split() == ["stored", "broker", "queue", "offset", "id", "tag", "keys", "body"]
    assert row.split()[2:] == ["broker-a", "1", "0", sent["message_id"], "-", "k", "the", "body"]


def test_a_message_is_found_by_its_id_and_by_that_of_its_place(server: RunningServer, topic: str) -> None:
    send(server, topic, "before")
    message_id, place = place_of(server, topic, "wanted")
    for each in (message_id, place, place.lower()):
        (found,) = find(server, topic, "--id", each)
        assert (found["body"], found["broker"], found["message_id"]) == ("wanted", "broker-a", message_id)


def test_what_is_not_there_is_not_found(server: RunningServer, topic: str) -> None:
    _, place = place_of(server, topic, "x")
    elsewhere = f"0A0000010000{place[12:]}"  # another machine: nobody dials an address because an id says so
    for words in (
        ("--key", "none"),
        ("--key", "k", "--since", "-0s"),
        ("--id", "nobody"),
        ("--id", place[:-4] + "FFFF"),
        ("--id", elsewhere),
        ("--id", ""),
    ):
        if "--since" in words:
            time.sleep(0.01)
        done = server.run("message", "find", topic, *words)
        assert (done.returncode, done.stdout) == (4, ""), words
        assert f"topic {topic} has no message with" in done.stderr
    other = server.run("message", "find", "no-such-topic", "--key", "k")
    assert other.returncode == 4
    assert "there is no topic 'no-such-topic'" in other.stderr


def test_a_place_in_another_topic_is_not_found(server: RunningServer, topic: str) -> None:
    _, place = place_of(server, topic, "x")
    assert server.run("topic", "create", f"{topic}-2").returncode == 0
    assert server.run("message", "find", f"{topic}-2", "--id", place).returncode == 4


@pytest.mark.parametrize(
    "words", [(), ("--key", "k", "--id", "i"), ("--key", "k", "--since", "end"), ("--key", "k", "-n", "65")]
)
def test_wrong_usage_is_told(server: RunningServer, words: tuple[str, ...]) -> None:
    done = server.run("message", "find", "t", *words)
    assert done.returncode == 2
    assert "Error" in done.stderr


def test_messages_are_found_by_the_time_at_which_they_were_stored(server: RunningServer, topic: str) -> None:
    send(server, topic, "old", "--queue", "0")
    time.sleep(0.05)
    between_ms = int(time.time() * 1000)
    time.sleep(0.05)
    send(server, topic, "new", "--queue", "1")
    send(server, topic, "newest", "--queue", "0")
    assert [each["body"] for each in find(server, topic, "--since", "-1h")] == ["newest", "new", "old"]
    assert [each["body"] for each in find(server, topic, "--since", str(between_ms))] == ["newest", "new"]
    assert [each["body"] for each in find(server, topic, "--until", str(between_ms))] == ["old"]
    assert [each["body"] for each in find(server, topic, "--since", "-1h", "--until", str(between_ms))] == ["old"]
    assert [each["body"] for each in find(server, topic, "--since", "-1h", "-n", "1")] == ["newest"]
    assert [each["body"] for each in find(server, topic, "--since", "-1h", "--queue", "1")] == ["new"]
    assert server.run("message", "find", topic, "--until", "-1h").returncode == 4


def test_messages_are_found_by_offset(server: RunningServer, topic: str) -> None:
    for body, queue in (("a0", "0"), ("b0", "1"), ("a1", "0")):
        send(server, topic, body, "--queue", queue)
    assert [each["body"] for each in find(server, topic, "--offset", "1")] == ["a1"]
    assert [each["body"] for each in find(server, topic, "--offset", "0")] == ["b0", "a0"]
    assert [each["body"] for each in find(server, topic, "--offset", "0", "--queue", "0")] == ["a0"]
    for words in (("--offset", "2"), ("--offset", "1", "--queue", "1"), ("--offset", "0", "--queue", "2")):
        assert server.run("message", "find", topic, *words).returncode == 4


@pytest.mark.parametrize(
    "words",
    [
        ("--queue", "1"),
        ("--offset", "1", "--since", "-1h"),
        ("--key", "k", "--offset", "1"),
        ("--id", "i", "--queue", "1"),
        ("--since", "noon"),
    ],
)
def test_questions_that_make_no_sense_are_told(server: RunningServer, words: tuple[str, ...]) -> None:
    done = server.run("message", "find", "t", *words)
    assert done.returncode == 2
    assert "Error" in done.stderr


def test_what_is_not_found_is_named(server: RunningServer, topic: str) -> None:
    for words, said in (
        (("--key", "7"), "no message with key '7' that is still kept"),
        (("--offset", "9", "--queue", "1"), "no message at offset 9 of queue 1 that is still kept"),
        (("--since", "-1h"), "no message of that time that is still kept"),
    ):
        done = server.run("message", "find", topic, *words)
        assert (done.returncode, done.stdout) == (4, ""), words
        assert said in done.stderr
