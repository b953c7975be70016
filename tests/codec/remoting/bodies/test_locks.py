from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.locks import (
    LockRequest,
    decode_lock_request,
    decode_locked,
    encode_lock_request,
    encode_locked,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.message import MessageQueue
from tests.codec.strategies import gives_a_value_or, queues, samples, word

ONE = LockRequest("g", "c", (MessageQueue("t", "b", 1),))


@given(st.builds(LockRequest, word, word, st.lists(queues, max_size=3).map(tuple)))
def test_what_was_encoded_is_decoded(asked: LockRequest) -> None:
    assert decode_lock_request(encode_lock_request(asked)) == asked
    assert decode_locked(encode_locked(asked.queues)) == asked.queues


def test_members_have_the_published_names() -> None:
    assert json.loads(encode_lock_request(ONE)) == {
        "clientId": "c",
        "consumerGroup": "g",
        "mqSet": [{"brokerName": "b", "queueId": 1, "topic": "t"}],
        "onlyThisBroker": False,
    }
    assert encode_locked(()) == b'{"lockOKMQSet":[]}'


def test_absent_queues_are_none() -> None:
    assert decode_lock_request(b'{"consumerGroup":"g","clientId":"c"}') == LockRequest("g", "c", ())
    assert decode_locked(b"{}") == ()


@pytest.mark.parametrize("data", [b"[]", b'{"clientId":"c"}', b'{"consumerGroup":"g","clientId":"c","mqSet":{}}'])
def test_what_is_no_lock_request_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_lock_request(data)


@given(samples([encode_lock_request(ONE), encode_locked(ONE.queues)]))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    for decode in (decode_lock_request, decode_locked):
        gives_a_value_or(WireError, decode, data)
