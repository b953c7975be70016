from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.consumers import (
    decode_consumer_connections,
    decode_consumer_list,
    decode_producer_connections,
    encode_consumer_connections,
    encode_consumer_list,
    encode_producer_connections,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.connection import ClientConnection, ConsumerConnections, Disagreement
from posthouse.model.filter import parse_subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, MessageModel
from tests.codec.strategies import gives_a_value_or, int32, samples, subscriptions, word

connections = st.lists(st.builds(ClientConnection, word, word, word, int32), max_size=3).map(tuple)
groups = st.builds(
    ConsumerConnections,
    connections,
    st.dictionaries(word, subscriptions(), max_size=2),
    st.sampled_from(ConsumeType),
    st.sampled_from(MessageModel),
    st.sampled_from(ConsumeFrom),
    st.lists(
        st.builds(Disagreement, word, st.none() | word, word, int32, st.lists(word, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
)
ONE = ConsumerConnections(
    (ClientConnection("c", "10.0.0.9:4000", "JAVA", 479),),
    {"t": parse_subscription("t", "*")},
    ConsumeType.CONSUME_PASSIVELY,
    MessageModel.CLUSTERING,
    ConsumeFrom.CONSUME_FROM_LAST_OFFSET,
)


@given(st.lists(word, max_size=5))
def test_ids_that_were_encoded_are_decoded(ids: list[str]) -> None:
    assert decode_consumer_list(encode_consumer_list(ids)) == tuple(ids)


@given(groups)
def test_connections_that_were_encoded_are_decoded(found: ConsumerConnections) -> None:
    assert decode_consumer_connections(encode_consumer_connections(found)) == found
    assert decode_producer_connections(encode_producer_connections(found.connections)) == found.connections


def test_members_have_the_published_names() -> None:
    assert encode_consumer_list(["b", "a"]) == b'{"consumerIdList":["b","a"]}'
    found = json.loads(encode_consumer_connections(ONE))
    connection = {"clientAddr": "10.0.0.9:4000", "clientId": "c", "language": "JAVA", "version": 479}
    assert found.pop("subscriptionTable").keys() == {"t"}
    assert found == {
        "connectionSet": [connection],
        "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
        "consumeType": "CONSUME_PASSIVELY",
        "messageModel": "CLUSTERING",
    }
    assert json.loads(encode_producer_connections(ONE.connections)) == {"connectionSet": [connection]}


def test_empty_answers_are_read() -> None:
    assert decode_consumer_list(b"{}") == ()
    assert decode_producer_connections(b'{"connectionSet":[{}]}') == (ClientConnection("", "", "OTHER", 0),)


@given(samples([encode_consumer_list(["a"]), encode_consumer_connections(ONE)]))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    for decode in (decode_consumer_list, decode_consumer_connections, decode_producer_connections):
        gives_a_value_or(WireError, decode, data)
