from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.cluster import (
    decode_broker_member_group,
    decode_cluster_info,
    encode_broker_member_group,
    encode_cluster_info,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.route import BrokerData, BrokerMemberGroup, ClusterInfo
from tests.codec.strategies import brokers, gives_a_value_or, samples, word

INFO = ClusterInfo({"b": BrokerData("c", "b", {0: "a:1"})}, {"c": ("b",)})
GROUP = BrokerMemberGroup("c", "b", {0: "a:1", 2: "a:2"})

infos = st.builds(
    ClusterInfo,
    st.dictionaries(word, brokers, max_size=3),
    st.dictionaries(word, st.lists(word, max_size=3).map(tuple), max_size=3),
)
groups = st.builds(BrokerMemberGroup, word, word, st.dictionaries(st.integers(0, 2**63 - 1), word, max_size=3))


@given(infos, st.booleans())
def test_cluster_that_was_encoded_is_decoded(info: ClusterInfo, standard_json: bool) -> None:
    assert decode_cluster_info(encode_cluster_info(info, standard_json=standard_json)) == info


@given(groups, st.booleans())
def test_member_group_that_was_encoded_is_decoded(group: BrokerMemberGroup, standard_json: bool) -> None:
    assert decode_broker_member_group(encode_broker_member_group(group, standard_json=standard_json)) == group


def test_members_have_the_published_names() -> None:
    assert json.loads(encode_cluster_info(INFO)) == {
        "brokerAddrTable": {
            "b": {"brokerAddrs": {"0": "a:1"}, "brokerName": "b", "cluster": "c", "enableActingMaster": False}
        },
        "clusterAddrTable": {"c": ["b"]},
    }
    assert json.loads(encode_broker_member_group(GROUP)) == {
        "brokerMemberGroup": {"brokerAddrs": {"0": "a:1", "2": "a:2"}, "brokerName": "b", "cluster": "c"}
    }


def test_unknown_name_may_be_answered_without_a_group() -> None:
    assert decode_broker_member_group(b"{}") is None
    assert decode_broker_member_group(b'{"brokerMemberGroup":null}') is None
    assert decode_broker_member_group(b'{"brokerMemberGroup":{"brokerName":"b"}}') == BrokerMemberGroup("", "b", {})


@given(samples([encode_cluster_info(INFO), encode_cluster_info(INFO, standard_json=False)]))
def test_any_bytes_are_a_cluster_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_cluster_info, data)


@given(samples([encode_broker_member_group(GROUP, standard_json=False)]))
def test_any_bytes_are_a_member_group_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_broker_member_group, data)
