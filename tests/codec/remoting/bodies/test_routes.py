from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.routes import decode_route, encode_route, wants_standard_json
from posthouse.codec.remoting.frame import WireError
from posthouse.model.route import BrokerData, QueueData, TopicRoute
from tests.codec.strategies import brokers, count, gives_a_value_or, samples, word

ROUTE = TopicRoute((QueueData("b", 4, 8, 6),), (BrokerData("c", "b", {1: "10.0.0.2:10911", 0: "10.0.0.1:10911"}),))
STANDARD = encode_route(ROUTE, standard_json=True)
DIALECT = encode_route(ROUTE, standard_json=False)

routes = st.builds(
    TopicRoute,
    st.lists(st.builds(QueueData, word, count, count, st.integers(0, 15), count), max_size=3).map(tuple),
    st.lists(brokers, max_size=3).map(tuple),
    st.none() | word,
    st.dictionaries(word, st.lists(word, max_size=2).map(tuple), max_size=2),
)


@given(routes, st.booleans())
def test_what_was_encoded_is_decoded_in_both_dialects(route: TopicRoute, standard_json: bool) -> None:
    assert decode_route(encode_route(route, standard_json=standard_json)) == route


def test_standard_json_is_what_any_parser_reads() -> None:
    assert json.loads(STANDARD) == {
        "brokerDatas": [
            {
                "brokerAddrs": {"0": "10.0.0.1:10911", "1": "10.0.0.2:10911"},
                "brokerName": "b",
                "cluster": "c",
                "enableActingMaster": False,
            }
        ],
        "filterServerTable": {},
        "queueDatas": [{"brokerName": "b", "perm": 6, "readQueueNums": 4, "topicSysFlag": 0, "writeQueueNums": 8}],
    }


def test_dialect_differs_only_in_the_bare_ids() -> None:
    assert b'"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"}' in DIALECT
    assert DIALECT.replace(b'{0:"', b'{"0":"').replace(b',1:"', b',"1":"') == STANDARD


def test_route_has_no_blanks() -> None:
    """There are clients that cut the addresses out of the text at commas and colons."""
    assert b" " not in STANDARD + DIALECT


@pytest.mark.parametrize(
    ("version", "flag", "standard"),
    [
        (479, None, True),
        (401, None, True),
        (400, None, False),
        (317, None, False),
        (317, True, True),
        (317, False, False),
    ],
)
def test_dialect_follows_the_asker(version: int, flag: bool | None, standard: bool) -> None:
    assert wants_standard_json(version, flag) is standard


def test_broker_id_that_is_no_number_is_refused() -> None:
    with pytest.raises(WireError):
        decode_route(STANDARD.replace(b'"1":', b'"one":'))


@given(samples([STANDARD, DIALECT]))
def test_any_bytes_are_a_route_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_route, data)
