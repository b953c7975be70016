"""Assignments by the broker: the question and answer of 400, the request mode of 401, all of them (402).

In an answer the member absent means "no change", and an empty list "you own nothing".
Source: RocketMQ 5.3 QueryAssignmentRequestBody, QueryAssignmentResponseBody, MessageQueueAssignment,
SetMessageRequestModeRequestBody, GetAllMessageRequestModeResponseBody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, enum_of
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int32
from posthouse.codec.remoting.json_dialect import queue_of, read_json, write_json
from posthouse.model.group import GroupRule, MessageModel, RequestMode
from posthouse.model.message import MessageQueue


class AssignmentQuestion(NamedTuple):
    topic: str
    group: str
    client_id: str
    strategy: str = "AVG"
    model: MessageModel = MessageModel.CLUSTERING


class AssignedQueue(NamedTuple):
    """Queue id -1: every queue of that broker, by pop."""

    queue: MessageQueue
    mode: RequestMode


class _QuestionShape(msgspec.Struct, rename="camel"):
    topic: str
    consumer_group: str
    client_id: str
    strategy_name: str | None = None
    message_model: str | int = MessageModel.CLUSTERING.name


class _ModeShape(msgspec.Struct, rename="camel"):
    topic: str
    consumer_group: str
    mode: str = RequestMode.PULL.value
    pop_share_queue_num: Int32 = 0

    def value(self) -> GroupRule:
        return GroupRule(self.consumer_group, self.topic, _mode(self.mode), self.pop_share_queue_num)


class _ModesShape(msgspec.Struct, rename="camel"):
    message_request_mode_map: dict[str, dict[str, _ModeShape]] | None = None


_QUESTION = BodyType(_QuestionShape, "a question for an assignment")
_MODE = BodyType(_ModeShape, "a request mode")
_MODES = BodyType(_ModesShape, "the request modes")


def encode_assignment_question(asked: AssignmentQuestion) -> bytes:
    return write_json(
        {
            "clientId": asked.client_id,
            "consumerGroup": asked.group,
            "messageModel": asked.model.name,
            "strategyName": asked.strategy,
            "topic": asked.topic,
        }
    )


def decode_assignment_question(data: bytes) -> AssignmentQuestion:
    """Raises WireError."""
    found = _QUESTION.decode(data)
    model = enum_of(MessageModel, found.message_model)
    return AssignmentQuestion(found.topic, found.consumer_group, found.client_id, found.strategy_name or "", model)


def encode_assignment(queues: Iterable[MessageQueue] | None, mode: RequestMode) -> bytes:
    """None: no change."""
    found = None if queues is None else [{"messageQueue": queue, "mode": mode.value} for queue in queues]
    return write_json({"messageQueueAssignments": found})


def decode_assignment(data: bytes) -> tuple[AssignedQueue, ...] | None:
    """None: no change. Raises WireError."""
    found = read_json(data)
    items = found.get("messageQueueAssignments") if isinstance(found, dict) else None
    if items is None and isinstance(found, dict):
        return None
    if not isinstance(items, list):
        raise WireError("an assignment needs a list of messageQueueAssignments")
    return tuple(_assigned(each) for each in items)


def _assigned(item: Any) -> AssignedQueue:
    if not isinstance(item, dict):
        raise WireError("an assigned queue is not an object")
    mode = item.get("mode")
    return AssignedQueue(queue_of(item.get("messageQueue")), RequestMode.PULL if mode is None else _mode(str(mode)))


def _mode(text: str) -> RequestMode:
    try:
        return RequestMode(text)
    except ValueError:
        raise WireError(f"{text[:60]!r} is no request mode; PULL and POP are") from None


def encode_request_mode(rule: GroupRule) -> bytes:
    return write_json(_mode_members(rule))


def _mode_members(rule: GroupRule) -> dict[str, object]:
    return {
        "consumerGroup": rule.group,
        "mode": (rule.mode or RequestMode.PULL).value,
        "popShareQueueNum": rule.share_queues,
        "topic": rule.topic,
    }


def decode_request_mode(data: bytes) -> GroupRule:
    """Raises WireError."""
    return _MODE.decode(data).value()


def encode_request_modes(rules: Iterable[GroupRule]) -> bytes:
    table: dict[str, dict[str, object]] = {}
    for rule in rules:
        table.setdefault(rule.topic, {})[rule.group] = _mode_members(rule)
    return write_json({"messageRequestModeMap": table})


def decode_request_modes(data: bytes) -> tuple[GroupRule, ...]:
    """Raises WireError."""
    table = _MODES.decode(data).message_request_mode_map or {}
    return tuple(shape.value() for groups in table.values() for shape in groups.values())
