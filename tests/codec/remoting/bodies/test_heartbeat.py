from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.heartbeat import (
    decode_client_check,
    decode_heartbeat,
    encode_client_check,
    encode_heartbeat,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.heartbeat import ClientCheck, HeartbeatData
from tests.codec.strategies import gives_a_value_or, int64, memberships, samples, subscriptions, text, word

MEMBER = Membership(
    "g",
    ConsumeType.CONSUME_PASSIVELY,
    MessageModel.CLUSTERING,
    ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
    (parse_subscription("t", "TagA", version=7),),
)
ONE = HeartbeatData("127.0.0.1@1", ("p",), (MEMBER,))
CHECK = ClientCheck("c", "g", "", parse_subscription("t", "*"))

heartbeats = st.builds(
    HeartbeatData,
    word,
    st.lists(word, max_size=3).map(tuple),
    st.lists(memberships, max_size=3).map(tuple),
    int64,
    st.booleans(),
)
JAVA = (
    b'{"clientID":"127.0.0.1@1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",'
    b'"consumeType":"CONSUME_PASSIVELY","groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":['
    b'{"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":7,'
    b'"tagsSet":["TagA"],"topic":"t"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":['
    b'{"groupName":"p"}],"withoutSub":false}'
)
CPP = (
    b'{"clientID":"127.0.0.1@1","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"groupName":"g",'
    b'"messageModel":1,"subscriptionDataSet":[{"codeSet":["2598919"],"subString":"TagA","subVersion":"7",'
    b'"tagsSet":["TagA"],"topic":"t"}]}],"producerDataSet":[{"groupName":"p"}]}\n'
)


@given(heartbeats)
def test_what_was_encoded_is_decoded(heartbeat: HeartbeatData) -> None:
    assert decode_heartbeat(encode_heartbeat(heartbeat)) == heartbeat


def test_members_have_the_published_names() -> None:
    assert encode_heartbeat(ONE) == JAVA


@pytest.mark.parametrize("data", [JAVA, CPP], ids=["Java", "C++ and Go"])
def test_each_client_s_spelling_means_the_same(data: bytes) -> None:
    assert decode_heartbeat(data) == ONE


def test_second_form_without_subscriptions_is_read() -> None:
    found = decode_heartbeat(
        b'{"clientID":"c","heartbeatFingerprint":-5,"withoutSub":true,"consumerDataSet":[{"groupName":"g",'
        b'"consumeType":"CONSUME_POP","messageModel":"BROADCASTING","consumeFromWhere":"CONSUME_FROM_TIMESTAMP"}]}'
    )
    assert (found.fingerprint, found.without_sub) == (-5, True)
    assert found.memberships[0].subscriptions == ()
    assert found.memberships[0].consume_type is ConsumeType.CONSUME_POP


def test_client_without_groups_is_read() -> None:
    assert decode_heartbeat(b'{"clientID":"c"}') == HeartbeatData("c")
    assert decode_heartbeat(b'{"clientID":"c","consumerDataSet":null,"producerDataSet":[]}') == HeartbeatData("c")


@pytest.mark.parametrize("wrong", [b'"CONSUME_LATER"', b"9", b"true", b"[]"])
def test_unknown_enum_is_refused(wrong: bytes) -> None:
    with pytest.raises(WireError):
        decode_heartbeat(JAVA.replace(b'"CONSUME_PASSIVELY"', wrong))


def test_heartbeat_without_a_client_is_refused() -> None:
    with pytest.raises(WireError, match="clientID"):
        decode_heartbeat(b"{}")


@given(samples([JAVA, CPP]))
def test_any_bytes_are_a_heartbeat_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_heartbeat, data)


@given(text, text, text, subscriptions())
def test_check_that_was_encoded_is_decoded(client: str, group: str, namespace: str, wanted: Subscription) -> None:
    check = ClientCheck(client, group, namespace, wanted)
    assert decode_client_check(encode_client_check(check)) == check


def test_check_has_the_published_names() -> None:
    assert json.loads(encode_client_check(CHECK)).keys() == {"clientId", "group", "namespace", "subscriptionData"}


@given(samples([encode_client_check(CHECK)]))
def test_any_bytes_are_a_check_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_client_check, data)
