"""`posthouse dlq` against a running server: what a person sees, and that the counts add up."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from posthouse import Message
from tests.cli.dead import bury
from tests.cli.server import RunningServer


@pytest.fixture
def group(topic: str) -> str:
    return f"g-{topic}"[:100]


def letters(topic: str, count: int = 3) -> list[Message]:
    return [
        Message(topic, b"%d" % number, tag="paid", keys=f"k{number}", properties={"colour": "red"})
        for number in range(count)
    ]


def lines(server: RunningServer, *words: str, code: int = 0) -> list[dict[str, Any]]:
    done = server.run("dlq", *words, "--json")
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def redrive(server: RunningServer, group: str, *words: str, code: int = 0) -> dict[str, Any]:
    """The counts that are not 0."""
    *receipts, last = lines(server, "redrive", group, *words, code=code)
    report = last["report"]
    names = ("sent", "already", "gone", "failed", "passed_over", "left")
    assert report["found"] == sum(report[name] for name in names)
    shown = [receipt["outcome"] for receipt in receipts]
    for name in ("sent", "already", "failed"):
        assert shown.count(name) == report[name], "each has a receipt of its own"
    return {name: report[name] for name in names if report[name]}


def bodies(server: RunningServer, topic: str) -> list[str]:
    done = server.run("tail", topic, "--from", "start", "--no-follow", "--json")
    return sorted(json.loads(line)["body"] for line in done.stdout.splitlines())


def test_groups_with_dead_letters_are_listed(server: RunningServer, topic: str, group: str) -> None:
    bury(server, topic, group, letters(topic))
    (mine,) = [each for each in lines(server, "list") if each["group"] == group]
    assert (mine["letters"], mine["settled"]) == (3, 0)
    assert mine["last_died_at_ms"] > 0
    shown = server.run("dlq", "list").stdout.splitlines()
    assert shown[0].split() == ["group", "letters", "redriven", "last", "died"]
    assert any(line.split()[:3] == [group, "3", "0"] for line in shown)
    redrive(server, group)
    (mine,) = [each for each in lines(server, "list") if each["group"] == group]
    assert (mine["letters"], mine["settled"]) == (3, 3)


def test_letters_are_shown_with_where_they_came_from_and_why(server: RunningServer, topic: str, group: str) -> None:
    receipts = bury(server, topic, group, letters(topic))
    found = lines(server, "show", group)
    assert [each["origin_message_id"] for each in found] == [each.message_id for each in receipts]
    assert [(each["origin_topic"], each["reason"], each["attempts"]) for each in found] == [(topic, "refused", 1)] * 3
    assert [each["body"] for each in lines(server, "show", group, "-n", "2")] == ["1", "2"]
    assert [each["body"] for each in lines(server, "show", group, "--key", "k1")] == ["1"]
    assert [each["body"] for each in lines(server, "show", group, "--key", receipts[2].message_id)] == ["2"]
    assert lines(server, "show", group, "--topic", "another") == []
    assert lines(server, "show", group, "--until", "-1h") == []
    assert server.run("dlq", "show", group, "--until", "-1h").stdout == "no letter is among the chosen\n"
    head, *rows = server.run("dlq", "show", group).stdout.splitlines()
    assert head.split()[:3] == ["died", "queue:offset", "topic"]
    assert [row.split()[2:6] for row in rows] == [[f"0:{n}", topic, "refused", "1"] for n in range(3)]


def test_letters_are_sent_again_and_only_once(server: RunningServer, topic: str, group: str) -> None:
    receipts = bury(server, topic, group, letters(topic))
    assert redrive(server, group, "--dry-run") == {"sent": 3}
    assert bodies(server, topic) == ["0", "1", "2"], "a dry run sends nothing"
    assert redrive(server, group) == {"sent": 3}
    assert bodies(server, topic) == ["0", "0", "1", "1", "2", "2"]
    assert redrive(server, group) == {}
    assert redrive(server, group, "--again") == {"sent": 3}
    found = server.run("message", "find", topic, "--id", receipts[1].message_id, "--json").stdout.splitlines()
    assert len(found) == 3
    copy = json.loads(found[0])
    assert (copy["body"], copy["tag"], copy["keys"]) == ("1", "paid", ["k1"])
    properties = copy["properties"]
    assert properties["colour"] == "red"
    assert properties["REDRIVEN_FROM"].startswith(f"%DLQ%{group}:broker-a:0:1@")
    assert not any(name.startswith("DLQ_") for name in properties)
    assert (copy["reconsume_times"], properties["REDRIVES"]) == (0, "1")


def test_what_was_sent_out_of_turn_is_not_sent_again(server: RunningServer, topic: str, group: str) -> None:
    bury(server, topic, group, letters(topic))
    assert redrive(server, group, "--key", "k1") == {"sent": 1, "passed_over": 2}
    assert redrive(server, group, "--key", "k0") == {"sent": 1, "passed_over": 2}
    assert redrive(server, group, "--again", "--dry-run", "--max", "1") == {"sent": 1, "left": 2}
    assert redrive(server, group, "--since", "-1h") == {"sent": 1, "already": 1}, "up to k0 all are settled"
    assert bodies(server, topic) == ["0", "0", "1", "1", "2", "2"]


def test_letters_can_go_to_another_topic(server: RunningServer, topic: str, group: str) -> None:
    bury(server, topic, group, letters(topic))
    other = f"{topic}-2"
    missing = server.run("dlq", "redrive", group, "--to", other)
    assert (missing.returncode, missing.stdout) == (4, "")
    assert server.run("topic", "create", other).returncode == 0
    assert redrive(server, group, "--to", other) == {"sent": 3}
    assert bodies(server, other) == ["0", "1", "2"]
    assert bodies(server, topic) == ["0", "1", "2"]


def test_a_letter_whose_topic_is_gone_has_failed_and_stays(server: RunningServer, topic: str, group: str) -> None:
    bury(server, topic, group, letters(topic))
    assert server.run("topic", "delete", topic, "--yes").returncode == 0
    assert redrive(server, group, code=1) == {"failed": 3}
    done = server.run("dlq", "redrive", group)
    assert done.returncode == 1
    assert f"topic {topic} does not exist" in done.stderr
    assert "3 were not sent" in done.stderr
    assert done.stdout.splitlines()[0] == "3 dead letters to look at"
    assert server.run("topic", "create", topic).returncode == 0
    assert redrive(server, group) == {"sent": 3}


def test_the_rate_is_kept(server: RunningServer, topic: str, group: str) -> None:
    bury(server, topic, group, letters(topic, 4))
    began = time.monotonic()
    assert redrive(server, group, "--rate", "10") == {"sent": 4}
    assert time.monotonic() - began >= 0.3, "four letters, three pauses of a tenth"


def test_the_counts_are_told_to_a_person(server: RunningServer, topic: str, group: str) -> None:
    bury(server, topic, group, letters(topic))
    done = server.run("dlq", "redrive", group, "--key", "k0")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["3", "1", "2"]
    assert server.run("dlq", "redrive", group).stdout.splitlines()[:2] == [
        "2 dead letters to look at (redriven before: 1)",
        "       2 sent",
    ]


@pytest.mark.parametrize("command", ["show", "redrive"])
def test_a_group_without_dead_letters_is_told(server: RunningServer, command: str) -> None:
    done = server.run("dlq", command, "no-such-group")
    assert (done.returncode, done.stdout) == (4, "")
    assert "group no-such-group has no dead letters" in done.stderr


@pytest.mark.parametrize("words", [("--rate", "0"), ("--max", "0"), ("--since", "-5"), ("--until", "tomorrow")])
def test_wrong_usage_is_told(server: RunningServer, words: tuple[str, ...]) -> None:
    done = server.run("dlq", "redrive", "g", *words)
    assert done.returncode == 2
    assert "Error" in done.stderr
