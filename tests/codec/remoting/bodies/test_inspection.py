from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.inspection import (
    decode_consumer_status,
    decode_offset_table,
    decode_producer_table,
    decode_queue_sight,
    decode_subscription_of,
    encode_consumer_status,
    encode_lone_master_status,
    encode_offset_table,
    encode_producer_table,
    encode_queue_sight,
    encode_subscription_of,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model.connection import ClientConnection
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.stats import QueueEntry, QueueSight
from tests.codec.strategies import count, gives_a_value_or, int32, int64, queues, samples, subscriptions, word

offsets = int64.map(QueueOffset)
names = st.text("abcXYZ_-%|0189", min_size=1, max_size=12)
entries = st.builds(QueueEntry, int64.map(LogOffset), count, int64, st.booleans(), st.just("") | word)
sights = st.builds(QueueSight, st.lists(entries, max_size=4).map(tuple), offsets, offsets, st.none() | subscriptions())
producers = st.dictionaries(
    word, st.lists(st.tuples(st.builds(ClientConnection, word, word, word, int32), int64.map(EpochMs)), max_size=3)
)
offset_tables = st.dictionaries(
    names,
    st.dictionaries(names, st.dictionaries(count, offsets, max_size=3), min_size=1, max_size=2),
    max_size=2,
)
QUEUE = MessageQueue("t", "b", 0)


@given(sights)
def test_sight_of_a_queue_that_was_encoded_is_decoded(sight: QueueSight) -> None:
    assert decode_queue_sight(encode_queue_sight(sight)) == sight


@given(producers)
def test_producers_that_were_encoded_are_decoded(found: dict[str, list[tuple[ClientConnection, EpochMs]]]) -> None:
    assert decode_producer_table(encode_producer_table(found)) == found


@given(word, word, st.none() | subscriptions())
def test_subscription_that_was_encoded_is_decoded(group: str, topic: str, found: Subscription | None) -> None:
    assert decode_subscription_of(encode_subscription_of(group, topic, found)) == found


@given(offset_tables)
def test_offsets_that_were_encoded_are_decoded(found: dict[str, dict[str, dict[int, QueueOffset]]]) -> None:
    assert decode_offset_table(encode_offset_table(found)) == found


@given(st.dictionaries(word, st.dictionaries(queues, offsets, max_size=3), max_size=3))
def test_status_of_consumers_that_was_encoded_is_decoded(found: dict[str, dict[MessageQueue, QueueOffset]]) -> None:
    assert decode_consumer_status(encode_consumer_status(found)) == found


def test_bodies_have_rocketmqs_names() -> None:
    entry = QueueEntry(LogOffset(7), 100, 5, False, "why")
    sight = QueueSight((entry,), QueueOffset(1), QueueOffset(9), parse_subscription("t", "*"))
    told = json.loads(encode_queue_sight(sight))
    assert told.keys() == {"maxQueueIndex", "minQueueIndex", "queueData", "subscriptionData"}
    assert told["queueData"] == [{"eval": False, "msg": "why", "physicOffset": 7, "physicSize": 100, "tagsCode": 5}]
    client = ClientConnection("c", "10.0.0.1:1", "JAVA", 479)
    assert json.loads(encode_producer_table({"p": [(client, EpochMs(5))]})) == {
        "data": {
            "p": [
                {
                    "clientId": "c",
                    "language": "JAVA",
                    "lastUpdateTimestamp": 5,
                    "remoteIP": "10.0.0.1:1",
                    "version": 479,
                }
            ]
        }
    }
    assert encode_offset_table({"g": {"t": {0: QueueOffset(3)}}}) == b'{"offsetTable":{"t@g":{"0":3}}}'
    assert encode_subscription_of("g", "t", None) == b'{"group":"g","topic":"t"}'
    assert encode_consumer_status({"c": {QUEUE: QueueOffset(3)}}) == (
        b'{"consumerTable":{"c":{{"brokerName":"b","queueId":0,"topic":"t"}:3}}}'
    )
    assert json.loads(encode_lone_master_status(LogOffset(8))) == {
        "haClientRuntimeInfo": {},
        "haConnectionInfo": [],
        "inSyncSlaveNums": 0,
        "master": True,
        "masterCommitLogMaxOffset": 8,
    }


@pytest.mark.parametrize("data", [b'{"offsetTable":{"t":{}}}', b'{"offsetTable":{"t@g":1}}', b"[]"])
def test_wrong_table_of_offsets_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_offset_table(data)


WHOLE = [
    encode_queue_sight(QueueSight((QueueEntry(LogOffset(7), 1, 5),), QueueOffset(1), QueueOffset(9))),
    encode_producer_table({"p": [(ClientConnection("c", "a", "JAVA", 1), EpochMs(5))]}),
    encode_subscription_of("g", "t", parse_subscription("t", "a")),
    encode_offset_table({"g": {"t": {0: QueueOffset(3)}}}),
    encode_consumer_status({"c": {QUEUE: QueueOffset(3)}}),
]


@given(samples(WHOLE))
def test_any_bytes_are_a_body_or_a_wire_error(data: bytes) -> None:
    for decode in (
        decode_queue_sight,
        decode_producer_table,
        decode_subscription_of,
        decode_offset_table,
        decode_consumer_status,
    ):
        gives_a_value_or(WireError, decode, data)
