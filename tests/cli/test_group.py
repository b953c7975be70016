"""`posthouse group` against a running server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from posthouse import PushConsumer
from tests.cli.server import RunningServer


def documents(server: RunningServer, *words: str) -> list[dict[str, Any]]:
    done = server.run("group", *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def moves(server: RunningServer, *words: str) -> list[tuple[int, int, int]]:
    return [(each["queue"], each["from_offset"], each["to_offset"]) for each in documents(server, *words)]


@pytest.fixture
def group(server: RunningServer, topic: str) -> str:
    """A group that is at offset 2 of queue 0 of a topic with three messages there; it has the topic's name."""
    assert server.run("group", "set", topic).returncode == 0
    assert server.run("send", topic, "x", "--count", "3", "--queue", "0").returncode == 0
    assert moves(server, "reset", topic, "--topic", topic, "--to", "2", "--queue", "0") == [(0, 0, 2)]
    return topic


async def consuming(server: RunningServer, group: str, topic: str, *words: str) -> list[Any]:
    """The outcomes of commands while the group has a member."""

    async def handle(message: object) -> None:
        pass

    async with PushConsumer(group, server.nameserver, subscribe=topic, handler=handle):
        for _ in range(100):
            if await asyncio.to_thread(documents, server, "connections", group):
                break
            await asyncio.sleep(0.05)
        return [await asyncio.to_thread(server.run, *each.split()) for each in words]


def test_list_has_members_and_how_far_behind(server: RunningServer, group: str) -> None:
    (row,) = [each for each in documents(server, "list") if each["group"] == group]
    assert 0 <= row.pop("lag_seconds") < 600
    assert row == {"group": group, "members": 0, "topics": 1, "lag": 1, "agrees": True}
    assert {"group": group} in documents(server, "list", "--names")
    assert group in server.run("group", "list", "--names").stdout.splitlines()
    head, *rows = server.run("group", "list").stdout.splitlines()
    assert head.split() == ["group", "members", "topics", "behind", "behind", "for"]
    assert any(row.split()[:4] == [group, "0", "1", "1"] for row in rows)


def test_show_has_the_set_up_and_each_queue(server: RunningServer, group: str) -> None:
    config, zero, one = documents(server, "show", group)
    assert (config["type"], config["broker"], config["retry_max_times"]) == ("config", "broker-a", 16)
    assert 0 <= zero.pop("lag_seconds") < 600
    assert zero.pop("last_consumed_stored_at_ms") > 1_600_000_000_000
    assert zero == {
        "type": "queue",
        "group": group,
        "topic": group,
        "broker": "broker-a",
        "queue": 0,
        "next_offset": 3,
        "consumed_offset": 2,
        "lag": 1,
    }
    assert (one["queue"], one["lag"], one["lag_seconds"]) == (1, 0, 0.0)
    said = server.run("group", "show", group).stdout
    assert "16 retries at most, 1 retry queue" in said
    assert "no member is connected" in said
    assert "behind by 1 message in all" in said


def test_group_is_made_changed_and_deleted(server: RunningServer) -> None:
    name = "made-by-hand"
    assert server.run("group", "set", name).stdout == f"{name} is created\n"
    done = server.run("group", "set", name, "--retry-max-times", "3", "--no-consume")
    assert (done.returncode, done.stdout) == (0, f"{name} is changed\n")
    (config,) = documents(server, "show", name)
    assert (config["retry_max_times"], config["consume_enable"]) == (3, False)
    assert server.run("group", "set", name, "--consume").returncode == 0
    (config,) = documents(server, "show", name)
    assert (config["retry_max_times"], config["consume_enable"]) == (3, True)
    assert server.run("group", "delete", name, "--yes").stdout == f"{name} is deleted\n"
    done = server.run("group", "show", name)
    assert done.returncode == 4
    assert f"there is no group '{name}'" in done.stderr


def test_topic_may_be_forbidden_to_a_group(server: RunningServer, group: str) -> None:
    assert server.run("group", "set", group, "--forbid", group).returncode == 0
    assert server.run("group", "set", group, "--allow", group).returncode == 0
    done = server.run("group", "set", group, "--forbid", "no-such-topic")
    assert done.returncode == 4
    assert "no-such-topic" in done.stderr


def test_dry_run_moves_nothing_and_a_reset_does_what_it_said(server: RunningServer, group: str) -> None:
    words = ("reset", group, "--topic", group, "--to")
    for place, wanted in (("end", [(0, 2, 3), (1, 0, 0)]), ("start", [(0, 2, 0), (1, 0, 0)]), ("-1h", None)):
        said = moves(server, *words, place, "--dry-run")
        assert wanted is None or said == wanted
    assert "nothing was moved" in server.run("group", *words, "end", "--dry-run").stdout
    assert moves(server, *words, "end") == [(0, 2, 3), (1, 0, 0)]
    assert moves(server, *words, "start") == [(0, 3, 0), (1, 0, 0)]
    assert moves(server, *words, "end", "--only-back") == [(0, 0, 0), (1, 0, 0)]
    assert moves(server, *words, "1", "--queue", "broker-a:0") == [(0, 0, 1)]
    head, row = server.run("group", *words, "2", "--queue", "0").stdout.splitlines()
    assert head.split() == ["broker", "queue", "from", "to", "again", "skipped"]
    assert row.split() == ["broker-a", "0", "1", "2", "0", "1"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--to", "1"), 2, "name it with --queue"),
        (("--to", "yesterday"), 2, "is no place to move to"),
        (("--to", "9", "--queue", "7"), 4, "has no queue 7"),
        (("--to", "9", "--queue", "x"), 1, "is no queue"),
        (("--to", "9", "--queue", "0"), 1, "offset 9; queue 0 of"),
        (("--to", "end", "--through-clients"), 1, "start a consumer of that group first"),
    ],
)
def test_reset_that_cannot_be_says_why(
    server: RunningServer, group: str, words: tuple[str, ...], code: int, said: str
) -> None:
    done = server.run("group", "reset", group, "--topic", group, *words)
    assert done.returncode == code
    assert said in done.stderr


def test_reset_of_a_group_that_is_not_there_says_so(server: RunningServer, topic: str) -> None:
    done = server.run("group", "reset", "nobody", "--topic", topic, "--to", "end")
    assert done.returncode == 4
    assert "there is no group 'nobody'" in done.stderr


def test_clone_goes_on_where_the_other_is(server: RunningServer, group: str) -> None:
    target = f"{group}-2"
    assert server.run("group", "clone", group, target).stdout == f"{target} has the offsets of {group} on 1 topic\n"
    assert documents(server, "show", target)[1]["consumed_offset"] == 2
    assert server.run("group", "clone", "nobody", target).returncode == 4


def test_mode_is_shown_and_set(server: RunningServer, group: str) -> None:
    assert "by pull; nothing else is set" in server.run("group", "mode", group).stdout
    assert documents(server, "mode", group, group, "pop", "--share", "2") == [
        {"group": group, "topic": group, "mode": "pop", "share_queues": 2}
    ]
    assert server.run("group", "mode", group).stdout.splitlines()[1].split() == [group, "pop", "2"]
    assert server.run("group", "mode", group, "no-such-topic", "pop").returncode == 4
    assert server.run("group", "mode", group, group, "push").returncode == 2


def test_group_with_members_is_not_deleted_or_written_over_by_mistake(server: RunningServer, group: str) -> None:
    shown, deleted, cloned, listed, forced = asyncio.run(
        consuming(
            server,
            group,
            group,
            f"group connections {group}",
            f"group delete {group} --yes",
            f"group clone {group} {group}",
            f"group show {group}",
            f"group delete {group} --yes --force",
        )
    )
    assert shown.stdout.splitlines()[1].split()[0] == "broker-a"
    for done in (deleted, cloned):
        assert done.returncode == 1
        assert "has 1 member connected" in done.stderr
    assert "1 member, clustering" in listed.stdout
    assert forced.returncode == 0
    assert "there is no group" in server.run("group", "connections", group).stderr


def test_members_that_want_different_things_are_pointed_out(server: RunningServer, topic: str) -> None:
    async def both() -> tuple[str, list[dict[str, Any]], bool]:
        async def handle(message: object) -> None:
            pass

        async with (
            PushConsumer(topic, server.nameserver, subscribe={topic: "a"}, handler=handle),
            PushConsumer(topic, server.nameserver, subscribe={topic: "b"}, handler=handle),
        ):
            found: list[dict[str, Any]] = []
            for _ in range(100):
                rows = await asyncio.to_thread(server.run, "group", "show", topic, "--json")
                found = [json.loads(line) for line in rows.stdout.splitlines() if '"disagreement"' in line]
                if found:
                    break
                await asyncio.sleep(0.05)
            text = (await asyncio.to_thread(server.run, "group", "show", topic)).stdout
            (row,) = [each for each in await asyncio.to_thread(documents, server, "list") if each["group"] == topic]
            return text, found, row["agrees"]

    text, found, agrees = asyncio.run(both())
    assert sorted((each["topic"], each["expression"], each["members"]) for each in found) == [
        (topic, "a", 1),
        (topic, "b", 1),
    ]
    assert f"WARNING: {topic} is subscribed with 'a' by" in text
    assert not agrees


def test_a_slip_in_the_name_of_group_or_topic_is_told(server: RunningServer, group: str) -> None:
    for words, said in (
        (("connections", "nobody"), "there is no group 'nobody'"),
        (("show", group, "--topic", "nowhere"), "there is no topic 'nowhere'"),
        (("clone", group, f"{group}-3", "--topic", "nowhere"), "no offsets on topic 'nowhere'"),
    ):
        done = server.run("group", *words)
        assert (done.returncode, done.stdout) == (4, ""), words
        assert said in done.stderr
    assert {"group": f"{group}-3"} not in documents(server, "list", "--names")
