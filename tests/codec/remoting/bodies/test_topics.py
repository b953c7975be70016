from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.topics import (
    TopicList,
    decode_kv_table,
    decode_topic_config,
    decode_topic_config_list,
    decode_topic_list,
    decode_topic_table,
    encode_kv_table,
    encode_topic_config,
    encode_topic_config_list,
    encode_topic_list,
    encode_topic_table,
)
from posthouse.codec.remoting.frame import WireError
from posthouse.model.route import DataVersion
from posthouse.model.topic import TopicConfig
from tests.codec.strategies import gives_a_value_or, samples, text_map, topic_configs, versions, word

CONFIG = TopicConfig("t", 4, 8, 6, attributes={"message.type": "FIFO"})


@given(st.lists(word, max_size=5), st.none() | word)
def test_topic_list_that_was_encoded_is_decoded(topics: list[str], address: str | None) -> None:
    assert decode_topic_list(encode_topic_list(topics, address)) == TopicList(tuple(topics), address)


@given(text_map)
def test_table_that_was_encoded_is_decoded(table: dict[str, str]) -> None:
    assert decode_kv_table(encode_kv_table(table)) == table


@given(st.lists(topic_configs, max_size=4), versions)
def test_configurations_that_were_encoded_are_decoded(configs: list[TopicConfig], version: DataVersion) -> None:
    assert decode_topic_config_list(encode_topic_config_list(configs)) == tuple(configs)
    assert [decode_topic_config(encode_topic_config(config)) for config in configs] == configs
    found = decode_topic_table(encode_topic_table(configs, version))
    assert found == ({config.name: config for config in configs}, version)


def test_members_have_the_published_names() -> None:
    assert json.loads(encode_topic_config(CONFIG)) == {
        "attributes": {"message.type": "FIFO"},
        "order": False,
        "perm": 6,
        "readQueueNums": 4,
        "topicFilterType": "SINGLE_TAG",
        "topicName": "t",
        "topicSysFlag": 0,
        "writeQueueNums": 8,
    }
    table = json.loads(encode_topic_table([CONFIG], DataVersion(1, 2, 3)))
    assert table["topicConfigTable"].keys() == {"t"}
    assert table["dataVersion"] == {"counter": 3, "stateVersion": 1, "timestamp": 2}
    assert json.loads(encode_topic_list(["t"], "a:1")) == {"topicList": ["t"], "brokerAddr": "a:1"}
    assert json.loads(encode_kv_table({"k": "v"})) == {"table": {"k": "v"}}


def test_absent_members_have_the_published_defaults() -> None:
    assert decode_topic_config(b'{"topicName":"t"}') == TopicConfig("t", 16, 16, 6)
    assert decode_topic_config(b'{"topicName":"t","attributes":{"a":null}}') == TopicConfig("t", 16, 16, 6)
    assert decode_topic_table(b"{}") == ({}, DataVersion())


def test_key_of_the_table_names_a_topic_that_does_not_name_itself() -> None:
    assert decode_topic_table(b'{"topicConfigTable":{"t":{"perm":4}}}').topics["t"].name == "t"


def test_values_of_a_table_are_made_text() -> None:
    assert decode_kv_table(b'{"table":{"a":1,"b":true,"c":null,"d":"x"}}') == {"a": "1", "b": "true", "d": "x"}


@pytest.mark.parametrize("number", [b"2147483648", b'"x"', b"1.5", b"[]"])
def test_number_of_queues_out_of_range_is_refused(number: bytes) -> None:
    with pytest.raises(WireError, match="readQueueNums"):
        decode_topic_config(b'{"topicName":"t","readQueueNums":' + number + b"}")


@pytest.mark.parametrize(
    "decode", [decode_topic_list, decode_kv_table, decode_topic_config, decode_topic_config_list, decode_topic_table]
)
def test_any_bytes_are_a_value_or_a_wire_error(decode: object) -> None:
    @given(
        samples(
            [
                encode_topic_list(["t"], "a:1"),
                encode_kv_table({"k": "v"}),
                encode_topic_config(CONFIG),
                encode_topic_config_list([CONFIG]),
                encode_topic_table([CONFIG], DataVersion(1, 2, 3)),
            ]
        )
    )
    def check(data: bytes) -> None:
        assert callable(decode)
        gives_a_value_or(WireError, decode, data)

    check()
