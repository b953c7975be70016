from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.command import HeaderType, decode_command, encode_command, response
from posthouse.codec.remoting.frame import FrameReader
from posthouse.codec.remoting.headers import pull
from tests.codec.header_checks import check_header
from tests.codec.strategies import int32, int64, text

WIRE: list[tuple[HeaderType[Any], str]] = [
    (
        pull.PULL_MESSAGE,
        "consumerGroup topic queueId queueOffset maxMsgNums sysFlag commitOffset suspendTimeoutMillis subscription? "
        "subVersion expressionType? maxMsgBytes? requestSource? proxyFrowardClientId? bname?",
    ),
    (
        pull.PULL_MESSAGE_REPLY,
        "suggestWhichBrokerId nextBeginOffset minOffset maxOffset offsetDelta? topicSysFlag? groupSysFlag? "
        "forbiddenType?",
    ),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(pull).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}


@given(int32, int32, int64, int64, int64, st.binary(max_size=50), st.none() | text)
def test_hand_formatted_head_is_what_the_generic_encoder_gives(
    request_id: int, code: int, next_offset: int, low: int, high: int, body: bytes, remark: str | None
) -> None:
    head = pull.encode_pull_reply_head(request_id, code, next_offset, low, high, len(body), remark)
    reply = pull.PullMessageReply(
        suggest_which_broker_id=0, next_begin_offset=next_offset, min_offset=low, max_offset=high
    )
    generic = response(code, request_id, pull.PULL_MESSAGE_REPLY.encode(reply), body, remark or None)
    (frame,) = FrameReader().receive_data(head + body)
    (expected,) = FrameReader().receive_data(encode_command(generic))
    assert json.loads(frame.header) == json.loads(expected.header)
    assert frame.body == body
    assert pull.PULL_MESSAGE_REPLY.decode(decode_command(frame).ext) == reply
