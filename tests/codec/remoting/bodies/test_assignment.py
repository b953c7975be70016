from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.assignment import (
    AssignedQueue,
    AssignmentQuestion,
    decode_assignment,
    decode_assignment_question,
    decode_request_mode,
    decode_request_modes,
    encode_assignment,
    encode_assignment_question,
    encode_request_mode,
    encode_request_modes,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.group import GroupRule, MessageModel, RequestMode
from posthouse.model.message import MessageQueue
from tests.codec.strategies import gives_a_value_or, int32, queues, samples, word

modes = st.sampled_from(RequestMode)
rules = st.builds(GroupRule, word, word, modes, int32)
ASKED = AssignmentQuestion("t", "g", "c")
RULE = GroupRule("g", "t", RequestMode.POP, 2)
QUEUE = MessageQueue("t", "b", -1)


@given(st.builds(AssignmentQuestion, word, word, word, word, st.sampled_from(MessageModel)))
def test_question_that_was_encoded_is_decoded(asked: AssignmentQuestion) -> None:
    assert decode_assignment_question(encode_assignment_question(asked)) == asked


@given(st.lists(queues, max_size=4), modes)
def test_assignment_that_was_encoded_is_decoded(found: list[MessageQueue], mode: RequestMode) -> None:
    wanted = tuple(AssignedQueue(queue, mode) for queue in found)
    assert decode_assignment(encode_assignment(found, mode)) == wanted


@given(st.lists(rules, max_size=4, unique_by=lambda rule: (rule.topic, rule.group)))
def test_modes_that_were_encoded_are_decoded(found: list[GroupRule]) -> None:
    assert [decode_request_mode(encode_request_mode(rule)) for rule in found] == found
    assert set(decode_request_modes(encode_request_modes(found))) == set(found)


def test_no_change_and_nothing_are_told_apart() -> None:
    assert encode_assignment(None, RequestMode.PULL) == b"{}"
    assert encode_assignment([], RequestMode.PULL) == b'{"messageQueueAssignments":[]}'
    assert decode_assignment(b"{}") is None
    assert decode_assignment(b'{"messageQueueAssignments":[]}') == ()


def test_members_have_the_published_names() -> None:
    assert json.loads(encode_assignment_question(ASKED)) == {
        "clientId": "c",
        "consumerGroup": "g",
        "messageModel": "CLUSTERING",
        "strategyName": "AVG",
        "topic": "t",
    }
    assert json.loads(encode_assignment([QUEUE], RequestMode.POP))["messageQueueAssignments"] == [
        {"messageQueue": {"brokerName": "b", "queueId": -1, "topic": "t"}, "mode": "POP"}
    ]
    mode = {"consumerGroup": "g", "mode": "POP", "popShareQueueNum": 2, "topic": "t"}
    assert json.loads(encode_request_mode(RULE)) == mode
    assert json.loads(encode_request_modes([RULE])) == {"messageRequestModeMap": {"t": {"g": mode}}}


@given(
    samples(
        [
            encode_assignment_question(ASKED),
            encode_assignment([QUEUE], RequestMode.POP),
            encode_request_mode(RULE),
            encode_request_modes([RULE]),
        ]
    )
)
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    for decode in (decode_assignment_question, decode_assignment, decode_request_mode, decode_request_modes):
        gives_a_value_or(WireError, decode, data)
