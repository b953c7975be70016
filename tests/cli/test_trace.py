"""`posthouse trace` against a running server: with the traces of clients, and without."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from posthouse import Message, Producer
from posthouse.client.receipt import SendReceipt
from tests.cli.dead import bury
from tests.cli.server import RunningServer


@pytest.fixture
def group(topic: str) -> str:
    return f"g-{topic}"[:100]


def told(server: RunningServer, said: str, *words: str) -> list[dict[str, Any]]:
    done = server.run("trace", said, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def send(server: RunningServer, message: Message) -> SendReceipt:
    async def sent() -> SendReceipt:
        async with Producer(server.nameserver) as producer:
            return await producer.send(message)

    return asyncio.run(sent())


def test_a_traced_message_has_its_whole_story(server: RunningServer, topic: str, group: str) -> None:
    (receipt,) = bury(server, topic, group, [Message(topic, b"x", tag="paid", keys="k")], trace=True)
    (story,) = told(server, receipt.message_id)
    assert (story["message_id"], story["topic"], story["traced"]) == (receipt.message_id, topic, True)
    (sent,) = story["sent"]
    assert (sent["group"], sent["success"], sent["offset_message_id"]) == ("shop", True, receipt.offset_message_id)
    (stored,) = story["stored"]
    assert (stored["body"], stored["queue"], stored["offset"]) == ("x", receipt.queue.queue_id, receipt.queue_offset)
    (delivery,) = story["delivered"]
    assert (delivery["group"], delivery["attempt"], delivery["success"]) == (group, 1, False)
    (letter,) = story["dead_letters"]
    assert (letter["group"], letter["reason"], letter["attempts"]) == (group, "refused", 1)
    assert [(each["group"], each["fate"]) for each in story["groups"]] == [(group, "dead")]
    assert sent["at_ms"] <= stored["stored_at_ms"] + 1000
    assert delivery["at_ms"] <= letter["died_at_ms"] + 1000


def test_a_message_is_found_by_id_place_and_key(server: RunningServer, topic: str, group: str) -> None:
    (receipt,) = bury(server, topic, group, [Message(topic, b"x", keys=f"key-{topic}")], trace=True)
    for said in (receipt.message_id, receipt.offset_message_id, f"key-{topic}"):
        for words in ((), ("--topic", topic), ("--since", "-1h")):
            (story,) = told(server, said, *words)
            assert (story["message_id"], len(story["stored"]), len(story["sent"])) == (receipt.message_id, 1, 1)


def test_a_message_that_nobody_traced_is_found_all_the_same(server: RunningServer, topic: str, group: str) -> None:
    (receipt,) = bury(server, topic, group, [Message(topic, b"x", keys=f"key-{topic}")])
    for said in (receipt.message_id, receipt.offset_message_id, f"key-{topic}"):
        (story,) = told(server, said)
        assert (story["traced"], story["topic"], story["sent"], story["delivered"]) == (False, topic, [], [])
        assert [each["body"] for each in story["stored"]] == ["x"]
        assert [(each["group"], each["fate"], each["attempts"]) for each in story["groups"]] == [(group, "dead", 1)]
    shown = server.run("trace", receipt.message_id).stdout
    assert "no client has traced it" in shown


def test_groups_that_are_past_it_and_groups_that_are_not(server: RunningServer, topic: str, group: str) -> None:
    first, second = bury(server, topic, group, [Message(topic, b"1", sharding_key="s")] * 2)
    later = send(server, Message(topic, b"2", sharding_key="s"))
    (story,) = told(server, later.message_id)
    assert [(each["group"], each["fate"], each["messages_before_it"]) for each in story["groups"]] == [
        (group, "ahead", 0)
    ]
    assert later.queue_offset == second.queue_offset + 1 == first.queue_offset + 2


def test_a_message_that_waits_for_its_time_is_shown(server: RunningServer, topic: str) -> None:
    receipt = send(server, Message(topic, b"later", properties={"TIMER_DELAY_SEC": "600"}))
    (story,) = told(server, receipt.message_id, "--topic", topic)
    assert story["stored"] == []
    (waiting,) = story["waiting"]
    assert waiting["topic"] == topic
    assert 500_000 < waiting["due_at_ms"] - waiting["stored_at_ms"] <= 601_000


def test_the_story_is_told_to_a_person(server: RunningServer, topic: str, group: str) -> None:
    (receipt,) = bury(server, topic, group, [Message(topic, b"x")], trace=True)
    assert server.run("dlq", "redrive", group).returncode == 0
    lines = server.run("trace", receipt.message_id).stdout.splitlines()
    assert lines[0] == f"message {receipt.message_id}, topic {topic}"
    assert [line.split()[2] for line in lines[2:7]] == ["sent", "stored", "delivered", "dead", "stored"]
    assert "redriven from" in lines[6]
    assert lines[8].split() == ["group", "where", "it", "is", "more"]
    assert lines[9].split()[0] == group


def test_what_nobody_knows_is_not_found(server: RunningServer, topic: str) -> None:
    for words in (("nobody",), ("nobody", "--topic", topic), ("", "--topic", topic), ("7F" * 16,)):
        done = server.run("trace", *words)
        assert (done.returncode, done.stdout) == (4, ""), words
        assert "nobody traced one" in done.stderr


def test_a_topic_that_is_not_there_is_told(server: RunningServer) -> None:
    done = server.run("trace", "nobody", "--topic", "nowhere")
    assert (done.returncode, done.stdout) == (4, "")
    assert "there is no topic 'nowhere'" in done.stderr
