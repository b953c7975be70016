"""Writes the generated parts of docs/compat.md: the requests, from the routes; mqadmin, from the table of its tests.

python -m tests.compat.document
"""

from __future__ import annotations

import pathlib
import re
from itertools import groupby
from typing import NamedTuple

from posthouse.codec.remoting.codes import RequestCode
from posthouse.endpoint.remoting.broker import BROKER_ROUTES, DESK_ROUTES
from posthouse.endpoint.remoting.nameserver import NAMESERVER_ROUTES
from posthouse.endpoint.remoting.refusals import BROKER_REFUSALS, NAMESERVER_REFUSALS
from tests.compat.mqadmin_commands import ROWS, Works

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "compat.md"
_EXAMPLES = {
    "broker": "127.0.0.1:10911", "client": "10.0.0.1@1", "cluster": "DefaultCluster", "folder": "/tmp", "group": "G",
    "name": "broker-a", "nameserver": "127.0.0.1:9876", "place": "7F0000010000…", "topic": "T", "traced": "0A00…",
    "unique": "0A00…",
}  # fmt: skip


_C = RequestCode

_MEANINGS = {
    _C.SEND_MESSAGE: "send a message (Go, old Java)",
    _C.PULL_MESSAGE: "pull messages of a queue",
    _C.QUERY_MESSAGE: "find messages by key or unique key",
    _C.QUERY_CONSUMER_OFFSET: "how far a group is in a queue",
    _C.UPDATE_CONSUMER_OFFSET: "commit how far a group is",
    _C.UPDATE_AND_CREATE_TOPIC: "create or change a topic",
    _C.UPDATE_AND_CREATE_TOPIC_LIST: "create or change several topics",
    _C.GET_ALL_TOPIC_CONFIG: "all topics, in one page",
    _C.SEARCH_OFFSET_BY_TIMESTAMP: "the offset of a time in a queue",
    _C.GET_MAX_OFFSET: "where a queue ends",
    _C.GET_MIN_OFFSET: "where a queue begins",
    _C.GET_EARLIEST_MSG_STORETIME: "when the oldest message of a queue was stored",
    _C.VIEW_MESSAGE_BY_ID: "one message by its place in the log",
    _C.HEART_BEAT: "a client says which groups it has and what they want",
    _C.UNREGISTER_CLIENT: "a client leaves a group",
    _C.CONSUMER_SEND_MSG_BACK: "a message that was not consumed comes again later, or is given up",
    _C.GET_CONSUMER_LIST_BY_GROUP: "ids of the members of a group",
    _C.LOCK_BATCH_MQ: "lock queues for ordered consumption",
    _C.UNLOCK_BATCH_MQ: "give such locks back",
    _C.CHECK_CLIENT_CONFIG: "whether a filter can be parsed",
    _C.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: "create or change a group",
    _C.GET_ALL_SUBSCRIPTIONGROUP_CONFIG: "all groups, in one page",
    _C.GET_TOPIC_STATS_INFO: "where the queues of a topic begin and end",
    _C.GET_CONSUMER_CONNECTION_LIST: "members of a consumer group",
    _C.GET_PRODUCER_CONNECTION_LIST: "members of a producer group",
    _C.DELETE_SUBSCRIPTIONGROUP: "delete a group",
    _C.GET_CONSUME_STATS: "how far a group is in its topics",
    _C.DELETE_TOPIC_IN_BROKER: "delete a topic with its messages",
    _C.INVOKE_BROKER_TO_RESET_OFFSET: "move a group to a time or an offset",
    _C.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST: "create or change several groups",
    _C.QUERY_TOPIC_CONSUME_BY_WHO: "groups that consume a topic",
    _C.QUERY_CONSUME_TIME_SPAN: "times of the messages between which a group is",
    _C.GET_SYSTEM_TOPIC_LIST_FROM_BROKER: "topics of the system",
    _C.QUERY_CORRECTION_OFFSET: "offsets of a group that other groups have passed",
    _C.SEND_MESSAGE_V2: "send a message",
    _C.CLONE_GROUP_OFFSET: "give a group the offsets of another",
    _C.CLEAN_UNUSED_TOPIC: "queues of deleted topics go with their topic: nothing is left to do",
    _C.SEND_BATCH_MESSAGE: "send several messages",
    _C.SEND_REPLY_MESSAGE: "answer a request (old clients)",
    _C.SEND_REPLY_MESSAGE_V2: "answer a request",
    _C.GET_TOPIC_CONFIG: "one topic",
    _C.GET_SUBSCRIPTIONGROUP_CONFIG: "one group",
    _C.UPDATE_AND_GET_GROUP_FORBIDDEN: "forbid a topic to a group, or allow it",
    _C.LITE_PULL_MESSAGE: "pull messages of a queue",
    _C.QUERY_ASSIGNMENT: "which queues a member is to have",
    _C.SET_MESSAGE_REQUEST_MODE: "whether a group pulls or pops",
    _C.GET_ALL_MESSAGE_REQUEST_MODE: "all of these modes",
    _C.POP_MESSAGE: "pop messages",
    _C.ACK_MESSAGE: "a popped message is done",
    _C.PEEK_MESSAGE: "look at messages without taking them",
    _C.CHANGE_MESSAGE_INVISIBLETIME: "have a popped message longer, or give it back",
    _C.NOTIFICATION: "wait until there is something to pop",
    _C.POLLING_INFO: "how many pops wait",
    _C.BATCH_ACK_MESSAGE: "popped messages are done",
    _C.END_TRANSACTION: "commit or roll back a half message",
    _C.RECALL_MESSAGE: "take back a delayed message",
}
"""Of the routes that do not say it themselves."""


class Row(NamedTuple):
    """`brokers` and `nameservers`: whether they serve it. `meaning`: what it does, or why it is not served."""

    code: RequestCode
    brokers: bool
    nameservers: bool
    meaning: str


def requests() -> list[Row]:
    """Every request that RocketMQ 5.3 knows, in the order of the codes."""
    of_brokers = {route.code: route.doc for route in (*BROKER_ROUTES, *DESK_ROUTES)}
    of_nameservers = {route.code: route.doc for route in NAMESERVER_ROUTES}
    refusals = {**NAMESERVER_REFUSALS, **BROKER_REFUSALS}
    rows = []
    for code in sorted(RequestCode):
        told = of_brokers.get(code) or of_nameservers.get(code) or _MEANINGS.get(code, "")
        served = code in of_brokers, code in of_nameservers
        rows.append(Row(code, *served, told if any(served) else refusals.get(code, "")))
    return rows


def request_table() -> str:
    """The rows as Markdown."""
    lines = ["| code | request | served by | what it does; why it is refused |", "|---|---|---|---|"]
    for row in requests():
        names = [name for name, serves in (("broker", row.brokers), ("NameServer", row.nameservers)) if serves]
        served = " and ".join(names) if names else "refused"
        lines.append(f"| {row.code} | {row.code.name} | {served} | {row.meaning} |")
    return "\n".join(lines)


def mqadmin_table() -> str:
    """A row for each command: whether it works, and what it printed, or why not."""
    lines = ["| command | works | a line of what it prints; why it does not |", "|---|---|---|"]
    rows = sorted((row for row in ROWS if row.command != "!member"), key=lambda row: row.command.lower())
    for command, group in groupby(rows, key=lambda row: row.command):
        some = list(group)
        shown = [_filled(row.prints) for row in some if isinstance(row, Works)]
        whys = [row.why for row in some if not isinstance(row, Works)]
        told = "<br>".join([*(f"`{text}`" for text in shown), *whys])
        lines.append(f"| {command} | {'yes' if shown or whys[0].startswith('works') else 'no'} | {told} |")
    return "\n".join(lines)


def _filled(prints: str) -> str:
    for word, example in _EXAMPLES.items():
        prints = prints.replace(f"{{{word}}}", example)
    return prints.replace("|", "\\|")


def written(text: str) -> str:
    """The document with its generated parts made anew."""
    for name, part in (("requests", request_table()), ("mqadmin", mqadmin_table())):
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        made = f"{begin}\n{part}\n{end}".replace("\\", r"\\")
        text, count = re.subn(f"{begin}.*?{end}", made, text, flags=re.DOTALL)
        assert count == 1, f"{DOCUMENT} has no place for {name}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
