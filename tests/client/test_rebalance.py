"""Every member must come to the same shares, in whatever language it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from posthouse.client.rebalance import (
    Strategy,
    averagely,
    by_circle,
    by_config,
    by_machine_room,
    consistent_hash,
    java_order,
    machine_room_nearby,
    wire_name,
)
from posthouse.model.message import MessageQueue


def queues(count: int) -> list[MessageQueue]:
    return [MessageQueue("t", "b", n) for n in range(count)]


def room_of_queue(queue: MessageQueue) -> str:
    return queue.broker_name.split("@")[0]


def room_of_member(client_id: str) -> str:
    return "r1" if client_id.startswith("10.0.0.1") else "r2" if client_id.startswith("10") else "r9"


JAVA_QUEUES = sorted(
    MessageQueue("orders", broker, n) for broker in ("r1@a", "r1@b", "r2@c", "r3@d@e", "plain") for n in range(5)
)
JAVA_MEMBERS = sorted(
    ["10.0.0.1@7#1", "10.0.0.1@7#2", "10.0.0.2@9", "10.0.0.3@1", "\u00e9@x", "\U0001f600@y", "\uffee@z"],
    key=java_order,
)

# What the classes of rocketmq-client 5.3.3 gave for these queues and members, one line for each member.
JAVA: list[tuple[Strategy, list[str]]] = [
    (
        consistent_hash,
        [
            "plain/3 r1@b/3",
            "plain/0 plain/2 r1@b/1 r1@b/2 r2@c/3 r3@d@e/0",
            "r1@a/2 r3@d@e/1 r3@d@e/2",
            "plain/4 r1@a/0 r1@a/4",
            "r1@b/0 r1@b/4 r2@c/0 r2@c/2 r3@d@e/3 r3@d@e/4",
            "plain/1 r2@c/1 r2@c/4",
            "r1@a/1 r1@a/3",
        ],
    ),
    (
        averagely,
        [
            "plain/0 plain/1 plain/2 plain/3",
            "plain/4 r1@a/0 r1@a/1 r1@a/2",
            "r1@a/3 r1@a/4 r1@b/0 r1@b/1",
            "r1@b/2 r1@b/3 r1@b/4 r2@c/0",
            "r2@c/1 r2@c/2 r2@c/3",
            "r2@c/4 r3@d@e/0 r3@d@e/1",
            "r3@d@e/2 r3@d@e/3 r3@d@e/4",
        ],
    ),
    (
        by_circle,
        [
            "plain/0 r1@a/2 r1@b/4 r3@d@e/1",
            "plain/1 r1@a/3 r2@c/0 r3@d@e/2",
            "plain/2 r1@a/4 r2@c/1 r3@d@e/3",
            "plain/3 r1@b/0 r2@c/2 r3@d@e/4",
            "plain/4 r1@b/1 r2@c/3",
            "r1@a/0 r1@b/2 r2@c/4",
            "r1@a/1 r1@b/3 r3@d@e/0",
        ],
    ),
    (
        by_machine_room(["r1", "r2"]),
        [
            "r1@a/0 r1@a/1 r2@c/4",
            "r1@a/2 r1@a/3",
            "r1@a/4 r1@b/0",
            "r1@b/1 r1@b/2",
            "r1@b/3 r1@b/4",
            "r2@c/0 r2@c/1",
            "r2@c/2 r2@c/3",
        ],
    ),
    (
        machine_room_nearby(room_of_queue, room_of_member),
        [
            "r1@a/0 r1@a/1 r1@a/2 r1@a/3 r1@a/4 plain/0 r3@d@e/0",
            "r1@b/0 r1@b/1 r1@b/2 r1@b/3 r1@b/4 plain/1 r3@d@e/1",
            "r2@c/0 r2@c/1 r2@c/2 plain/2 r3@d@e/2",
            "r2@c/3 r2@c/4 plain/3 r3@d@e/3",
            "plain/4 r3@d@e/4",
            "",
            "",
        ],
    ),
    (
        machine_room_nearby(room_of_queue, room_of_member, consistent_hash),
        [
            "r1@a/1 r1@a/2 r1@a/3 r1@a/4 r1@b/3 r1@b/4 plain/3",
            "r1@a/0 r1@b/0 r1@b/1 r1@b/2 plain/0 plain/2 r3@d@e/0",
            "r2@c/3 r3@d@e/1 r3@d@e/2",
            "r2@c/0 r2@c/1 r2@c/2 r2@c/4 plain/4",
            "r3@d@e/3 r3@d@e/4",
            "plain/1",
            "",
        ],
    ),
]


@pytest.mark.parametrize(("strategy", "shares"), JAVA, ids=["hash", "average", "circle", "room", "near", "near-hash"])
def test_shares_are_those_of_the_java_client(strategy: Strategy, shares: list[str]) -> None:
    found = [strategy(member, JAVA_MEMBERS, JAVA_QUEUES) for member in JAVA_MEMBERS]
    assert [" ".join(f"{queue.broker_name}/{queue.queue_id}" for queue in share) for share in found] == shares


@pytest.mark.parametrize(
    "strategy", [by_machine_room(["b"]), machine_room_nearby(lambda queue: "r", lambda member: "r")]
)
def test_who_is_not_a_member_gets_nothing(strategy: Strategy) -> None:
    assert strategy("x", ["a", "b"], queues(4)) == []


def test_a_configured_member_gets_what_it_is_told_as_far_as_it_exists() -> None:
    strategy = by_config([*queues(3)[1:], MessageQueue("t", "gone", 0)])
    assert strategy("anybody", [], queues(8)) == queues(3)[1:]


def test_an_unknown_room_is_an_error() -> None:
    nowhere: Callable[[object], str] = lambda of: ""  # noqa: E731
    with pytest.raises(ValueError, match="no machine room is known for a"):
        machine_room_nearby(lambda queue: "r", nowhere)("a", ["a"], queues(1))
    with pytest.raises(ValueError, match="no machine room is known for MessageQueue"):
        machine_room_nearby(nowhere, lambda member: "r")("a", ["a"], queues(1))


def test_only_strategies_of_the_broker_have_a_name_on_the_wire() -> None:
    assert [wire_name(each) for each in (averagely, by_circle, consistent_hash)] == [
        "AVG",
        "AVG_BY_CIRCLE",
        "CONSISTENT_HASH",
    ]

    def own(client_id: str, members: Sequence[str], all_queues: Sequence[MessageQueue]) -> list[MessageQueue]:
        return []

    with pytest.raises(ValueError, match="must be one that brokers know"):
        wire_name(own)
