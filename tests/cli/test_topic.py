"""`posthouse topic` against a running server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.server import RunningServer


def documents(server: RunningServer, *words: str) -> list[dict[str, Any]]:
    done = server.run("topic", *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_list_has_what_was_created_and_nothing_of_the_systems_own(server: RunningServer, topic: str) -> None:
    names = server.run("topic", "list").stdout.splitlines()
    assert topic in names
    assert not {"TBW102", "broker-a", "DefaultCluster"} & set(names)
    assert {"topic": topic} in documents(server, "list")


def test_list_may_have_everything(server: RunningServer) -> None:
    assert "TBW102" in server.run("topic", "list", "--all").stdout.splitlines()


def test_topic_may_be_created_twice_and_grows(server: RunningServer) -> None:
    done = server.run("topic", "create", "growing", "--queues", "1")
    assert (done.returncode, done.stdout) == (0, "growing has 1 queue on each broker\n")
    assert server.run("topic", "create", "growing", "--queues", "3").stdout == "growing has 3 queues on each broker\n"
    assert len(documents(server, "status", "growing")) == 3


def test_topic_may_say_how_safe_and_how_long(server: RunningServer, topic: str) -> None:
    plain = {
        "topic": topic,
        "broker": "broker-a",
        "read_queues": 2,
        "write_queues": 2,
        "readable": True,
        "writable": True,
        "durability": None,
        "retention_hours": None,
    }
    assert documents(server, "show", topic) == [plain]
    words = ("topic", "create", topic, "--queues", "2")
    assert server.run(*words, "--durability", "os", "--retention-hours", "1.5").returncode == 0
    assert documents(server, "show", topic) == [plain | {"durability": "os", "retention_hours": 1.5}]
    assert json.loads(server.run("send", topic, "x", "--json").stdout)["durability"] == "os"
    assert server.run(*words).returncode == 0
    assert documents(server, "show", topic) == [plain | {"durability": "os", "retention_hours": 1.5}]
    head, row = server.run("topic", "show", topic).stdout.splitlines()
    assert head.split()[-3:] == ["durability", "retention", "hours"]
    assert row.split()[-2:] == ["os", "1.5"]
    assert server.run(*words, "--durability", "broker", "--retention-hours", "broker").returncode == 0
    assert documents(server, "show", topic) == [plain]
    assert server.run("topic", "show", topic).stdout.splitlines()[1].split()[-2:] == ["broker", "broker"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--durability", "tape"), "'tape' is not one of"),
        (("--retention-hours", "0"), "'0' is not a number of hours above 0"),
    ],
)
def test_what_a_topic_cannot_say_is_a_usage_error(server: RunningServer, words: tuple[str, ...], said: str) -> None:
    done = server.run("topic", "create", "never", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_status_counts_what_is_in_each_queue(server: RunningServer, topic: str) -> None:
    assert server.run("send", topic, "x", "--count", "3", "--queue", "1").returncode == 0
    empty, full = documents(server, "status", topic)
    assert full.pop("last_stored_at_ms") > 1_600_000_000_000
    assert full == {"topic": topic, "broker": "broker-a", "queue": 1, "min_offset": 0, "max_offset": 3, "messages": 3}
    assert (empty["messages"], empty["last_stored_at_ms"]) == (0, None)
    table = server.run("topic", "status", topic).stdout.splitlines()
    assert table[0].split() == ["broker", "queue", "first", "next", "messages", "last", "stored"]
    assert table[1].split() == ["broker-a", "0", "0", "0", "0", "-"]
    assert table[2].split()[:5] == ["broker-a", "1", "0", "3", "3"]


def test_route_names_the_brokers(server: RunningServer, topic: str) -> None:
    assert documents(server, "route", topic) == [
        {
            "topic": topic,
            "cluster": "DefaultCluster",
            "broker": "broker-a",
            "broker_id": 0,
            "address": server.broker,
            "read_queues": 2,
            "write_queues": 2,
            "readable": True,
            "writable": True,
        }
    ]
    assert server.broker in server.run("topic", "route", topic).stdout


def test_deleted_topic_is_gone_with_its_messages(server: RunningServer, topic: str) -> None:
    assert server.run("send", topic, "x").returncode == 0
    assert server.run("topic", "delete", topic).stdout == f"{topic} is deleted\n"
    assert topic not in server.run("topic", "list").stdout.splitlines()
    assert server.run("topic", "create", topic).returncode == 0
    assert all(queue["messages"] == 0 for queue in documents(server, "status", topic))


@pytest.mark.parametrize("verb", ["delete", "show", "status", "route"])
def test_topic_that_is_not_there_is_not_found(server: RunningServer, verb: str) -> None:
    done = server.run("topic", verb, "no-such-topic")
    assert (done.returncode, done.stdout) == (4, "")
    assert "there is no topic 'no-such-topic'" in done.stderr


def test_name_that_cannot_be_is_one_clear_line(server: RunningServer) -> None:
    done = server.run("topic", "create", "bad topic")
    assert done.returncode == 1
    assert "the topic name 'bad topic' has a character outside" in done.stderr
