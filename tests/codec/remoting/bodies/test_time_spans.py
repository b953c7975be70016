from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.time_spans import decode_time_spans, encode_time_spans
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.stats import QueueTimes
from tests.codec.strategies import gives_a_value_or, int64, queues, samples

ONE = {MessageQueue("t", "b", 1): QueueTimes(EpochMs(1), EpochMs(2), EpochMs(3), 4)}


@given(st.dictionaries(queues, st.builds(QueueTimes, int64, int64, int64, int64), max_size=3))
def test_what_was_encoded_is_decoded(found: dict[MessageQueue, QueueTimes]) -> None:
    assert decode_time_spans(encode_time_spans(found)) == found


def test_members_have_the_published_names() -> None:
    assert json.loads(encode_time_spans(ONE)) == {
        "consumeTimeSpanSet": [
            {
                "consumeTimeStamp": 3,
                "delayTime": 4,
                "maxTimeStamp": 2,
                "messageQueue": {"brokerName": "b", "queueId": 1, "topic": "t"},
                "minTimeStamp": 1,
            }
        ]
    }
    assert decode_time_spans(b"{}") == {}


@given(samples([encode_time_spans(ONE)]))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_time_spans, data)
