from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.groups import (
    Readable,
    decode_group_config,
    decode_group_config_list,
    decode_group_list,
    decode_group_table,
    decode_readable,
    encode_group_config,
    encode_group_config_list,
    encode_group_list,
    encode_group_table,
    encode_readable,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.group import FixedSubscription, GroupConfig, RetryPolicy, RetryPolicyType
from posthouse.model.route import DataVersion
from tests.codec.strategies import count, gives_a_value_or, int32, int64, samples, versions, word

flag = st.booleans()
policies = st.builds(
    RetryPolicy,
    st.sampled_from(RetryPolicyType),
    st.lists(int64, max_size=3).map(tuple),
    int64,
    int64,
    int64,
)
fixed = st.builds(FixedSubscription, word, word, word, int64)
configs = st.builds(
    GroupConfig, word, flag, flag, flag, flag, count, int32, int64, int64, flag, int32, count,
    st.dictionaries(word, word, max_size=2), policies, st.none() | st.lists(fixed, max_size=2).map(tuple),
)  # fmt: skip
forbidden_tables = st.dictionaries(word, st.dictionaries(word, st.integers(0, 15), max_size=2), max_size=2)


@given(st.lists(configs, max_size=3), versions, forbidden_tables)
def test_what_was_encoded_is_decoded(
    found: list[GroupConfig], version: DataVersion, forbidden: dict[str, dict[str, int]]
) -> None:
    assert [decode_group_config(encode_group_config(config)) for config in found] == found
    assert decode_group_config_list(encode_group_config_list(found)) == tuple(found)
    table = decode_group_table(encode_group_table(found, version, forbidden))
    assert table == ({config.name: config for config in found}, forbidden, version)


@given(st.lists(word, max_size=5))
def test_names_that_were_encoded_are_decoded(names: list[str]) -> None:
    assert decode_group_list(encode_group_list(names)) == tuple(names)


def test_members_have_the_published_names_and_defaults() -> None:
    assert json.loads(encode_group_config(GroupConfig("g"))) == {
        "attributes": {},
        "brokerId": 0,
        "consumeBroadcastEnable": True,
        "consumeEnable": True,
        "consumeFromMinEnable": True,
        "consumeMessageOrderly": False,
        "consumeTimeoutMinute": 15,
        "groupName": "g",
        "groupRetryPolicy": {"type": "CUSTOMIZED"},
        "groupSysFlag": 0,
        "notifyConsumerIdsChangedEnable": True,
        "retryMaxTimes": 16,
        "retryQueueNums": 1,
        "whichBrokerWhenConsumeSlowly": 1,
    }
    assert json.loads(encode_group_table([], DataVersion())).keys() == {
        "dataVersion",
        "forbiddenTable",
        "subscriptionGroupTable",
    }
    assert encode_group_list(["g"]) == b'{"groupList":["g"]}'


def test_absent_members_have_the_published_defaults() -> None:
    assert decode_group_config(b'{"groupName":"g"}') == GroupConfig("g")
    assert decode_group_table(b'{"subscriptionGroupTable":{"g":{}}}').groups == {"g": GroupConfig("g")}


def test_retry_policy_and_subscriptions_are_spelled_as_published() -> None:
    config = GroupConfig(
        "g",
        retry_policy=RetryPolicy(RetryPolicyType.EXPONENTIAL, (), 1000, 60_000, 3),
        fixed_subscriptions=(FixedSubscription("t", "a", "TAG", 7),),
    )
    found = json.loads(encode_group_config(config))
    assert found["groupRetryPolicy"] == {
        "type": "EXPONENTIAL",
        "exponentialRetryPolicy": {"initial": 1000, "max": 60_000, "multiplier": 3},
    }
    assert found["subscriptionDataSet"] == [{"expression": "a", "expressionType": "TAG", "topic": "t", "version": 7}]
    listed = GroupConfig("g", retry_policy=RetryPolicy(next_ms=(1000, 5000)))
    assert json.loads(encode_group_config(listed))["groupRetryPolicy"] == {
        "type": "CUSTOMIZED",
        "customizedRetryPolicy": {"next": [1000, 5000]},
    }
    data = b'{"groupName":"g","groupRetryPolicy":{"type":"CUSTOMIZED"},"subscriptionDataSet":[]}'
    assert decode_group_config(data) == GroupConfig("g", fixed_subscriptions=())


@given(st.builds(Readable, word, word, flag))
def test_permission_that_was_encoded_is_decoded(found: Readable) -> None:
    assert decode_readable(encode_readable(found)) == found
    assert json.loads(encode_readable(found)).keys() == {"group", "topic", "readable"}


@given(
    samples([encode_group_table([GroupConfig("g")], DataVersion(1, 2, 3), {"g": {"t": 4}}), encode_group_list(["g"])])
)
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    for decode in (
        decode_group_config,
        decode_group_config_list,
        decode_group_table,
        decode_group_list,
        decode_readable,
    ):
        gives_a_value_or(WireError, decode, data)
