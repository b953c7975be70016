from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies import registration as module
from posthouse.codec.remoting.bodies.registration import body_crc, decode_registration, encode_registration
from posthouse.codec.remoting.frame import WireError
from posthouse.model.registration import Registration
from posthouse.model.route import DataVersion
from posthouse.model.topic import TopicConfig
from tests.codec.strategies import gives_a_value_or, samples, topic_configs, versions, word

CONFIG = TopicConfig("t", 4, 8, 6, attributes={"message.type": "FIFO"})
ONE = Registration({"t": CONFIG}, DataVersion(1, 2, 3), ("s:1",))


def registrations(configs: st.SearchStrategy[TopicConfig]) -> st.SearchStrategy[Registration]:
    tables = st.lists(configs, max_size=4).map(lambda found: {config.name: config for config in found})
    return st.builds(Registration, tables, versions, st.lists(word, max_size=2).map(tuple))


# The compressed form knows neither the order flag nor the system flag, and its names hold no blank.
compact_configs = st.builds(
    TopicConfig,
    st.text("abcXYZ019%|_-", min_size=1, max_size=20),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 15),
    st.just("SINGLE_TAG"),
    attributes=st.dictionaries(word, word, max_size=3),
)


def inflated(*parts: bytes) -> bytes:
    return zlib.compress(b"".join(parts))


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@given(registrations(topic_configs), st.sampled_from([409, 479]))
def test_plain_registration_that_was_encoded_is_decoded(registration: Registration, version: int) -> None:
    data = encode_registration(registration, version=version)
    assert decode_registration(data, compressed=False, crc=body_crc(data)) == registration


@given(registrations(compact_configs))
def test_compressed_registration_that_was_encoded_is_decoded(registration: Registration) -> None:
    data = encode_registration(registration, compressed=True)
    assert decode_registration(data, compressed=True, crc=body_crc(data)) == registration


def test_compressed_registration_of_an_older_broker_has_no_attributes_and_no_mappings() -> None:
    data = encode_registration(ONE, compressed=True, version=409)
    assert zlib.decompress(data) == b"".join(
        (
            sized(b'{"counter":3,"stateVersion":1,"timestamp":2}'),
            (1).to_bytes(4, "big"),
            sized(b"t 4 8 6 SINGLE_TAG"),
            sized(b'["s:1"]'),
        )
    )
    assert decode_registration(data, compressed=True).topics["t"] == TopicConfig("t", 4, 8, 6)


def test_compressed_registration_of_a_newer_broker_ends_with_a_count_of_mappings() -> None:
    data = zlib.decompress(encode_registration(ONE, compressed=True, version=413))
    assert sized(b't 4 8 6 SINGLE_TAG {"message.type":"FIFO"}') in data
    assert data.endswith(sized(b'["s:1"]') + bytes(4))


def test_mappings_of_static_topics_are_not_looked_at() -> None:
    data = zlib.decompress(encode_registration(ONE, compressed=True))[:-4]
    assert decode_registration(inflated(data, (1).to_bytes(4, "big"), sized(b"{}")), compressed=True) == ONE


def test_plain_members_have_the_published_names() -> None:
    body = json.loads(encode_registration(ONE))
    assert body.keys() == {"topicConfigSerializeWrapper", "filterServerList"}
    assert body["topicConfigSerializeWrapper"].keys() == {
        "topicConfigTable",
        "dataVersion",
        "topicQueueMappingInfoMap",
        "topicQueueMappingDetailMap",
        "mappingDataVersion",
    }
    older = json.loads(encode_registration(ONE, version=409))
    assert older["topicConfigSerializeWrapper"].keys() == {"topicConfigTable", "dataVersion"}


def test_no_body_is_an_empty_table() -> None:
    assert decode_registration(b"", compressed=False) == Registration({}, DataVersion(0, 0, 0), ())
    assert decode_registration(b"", compressed=True) == Registration()


def test_body_that_does_not_match_its_crc_is_refused() -> None:
    data = encode_registration(ONE)
    with pytest.raises(WireError, match="CRC"):
        decode_registration(data, compressed=False, crc=body_crc(data) ^ 1)
    assert decode_registration(data, compressed=False, crc=0) == ONE


def test_crc_is_the_published_one_without_its_sign() -> None:
    assert body_crc(b"hi") == 0x58932AAC
    assert body_crc(b"") == 0
    assert all(0 <= body_crc(bytes((each,))) < 2**31 for each in range(256))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"no zlib", id="no zlib stream"),
        pytest.param(encode_registration(ONE, compressed=True)[:-6], id="stream cut short"),
        pytest.param(inflated(b""), id="empty"),
        pytest.param(inflated(b"\0\0"), id="half a length"),
        pytest.param(inflated((100).to_bytes(4, "big"), b"{}"), id="part longer than the rest"),
        pytest.param(inflated((-1).to_bytes(4, "big", signed=True)), id="negative length"),
        pytest.param(inflated(sized(b"{}"), (-1).to_bytes(4, "big", signed=True)), id="negative count"),
        pytest.param(inflated(sized(b"{}"), (2**31 - 1).to_bytes(4, "big")), id="huge count"),
        pytest.param(inflated(sized(b"{}"), b"\0\0\0\1", sized(b"t 4 8"), sized(b"[]")), id="topic with too few words"),
        pytest.param(inflated(sized(b"{}"), b"\0\0\0\1", sized(b"t x 8 6 S"), sized(b"[]")), id="queues not a number"),
        pytest.param(inflated(sized(b"{}"), b"\0\0\0\1", sized(b"t -1 8 6 S"), sized(b"[]")), id="negative queues"),
        pytest.param(inflated(sized(b"{}"), b"\0\0\0\1", sized(b"\xff 4 8 6 S"), sized(b"[]")), id="name not UTF-8"),
        pytest.param(inflated(sized(b"{}"), b"\0\0\0\1", sized(b"t 4 8 6 S {"), sized(b"[]")), id="broken attributes"),
        pytest.param(inflated(sized(b"{}"), bytes(4)), id="filter servers missing"),
    ],
)
def test_broken_compressed_registration_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_registration(data, compressed=True)


def test_registration_that_inflates_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INFLATED_BYTES_MAX", 1000)
    with pytest.raises(WireError, match="1000"):
        decode_registration(inflated(bytes(100_000)), compressed=True)


def test_too_many_topics_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOPICS_MAX", 2)
    many = Registration({name: TopicConfig(name) for name in "abc"})
    for compressed in (False, True):
        with pytest.raises(WireError, match="the limit is 2"):
            decode_registration(encode_registration(many, compressed=compressed), compressed=compressed)


@given(samples([encode_registration(ONE)]))
def test_any_plain_bytes_are_a_registration_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, lambda each: decode_registration(each, compressed=False), data)


@given(
    samples([encode_registration(ONE, compressed=True)]),
    samples([zlib.decompress(encode_registration(ONE, compressed=True))]),
)
def test_any_compressed_bytes_are_a_registration_or_a_wire_error(data: bytes, inside: bytes) -> None:
    gives_a_value_or(WireError, lambda each: decode_registration(each, compressed=True), data)
    gives_a_value_or(WireError, lambda each: decode_registration(each, compressed=True), zlib.compress(inside))


def test_body_that_is_a_zlib_stream_is_one_whatever_the_header_says() -> None:
    assert decode_registration(encode_registration(ONE, compressed=True), compressed=False) == ONE
