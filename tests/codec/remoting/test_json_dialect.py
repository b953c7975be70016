from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_dialect import queue_of, read_json, write_json
from posthouse.codec.remoting.json_references import NESTING_MAX
from posthouse.model.message import MessageQueue
from tests.codec.strategies import damaged, gives_a_value_or, int64, json_values, queues, text

QUEUE = MessageQueue("t", "b", 1)
QUEUE_TEXT = b'{"brokerName":"b","queueId":1,"topic":"t"}'


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


@given(json_values)
def test_strict_json_is_read_as_it_is(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


@given(json_values)
def test_what_was_written_is_read(value: Any) -> None:
    assert read_json(write_json(value)) == without_nulls(value)


@given(st.dictionaries(queues, st.integers(0, 9), min_size=1) | st.dictionaries(int64, text, min_size=1))
def test_keys_that_json_does_not_know_are_written_and_read(table: dict[Any, Any]) -> None:
    expected = {key if isinstance(key, MessageQueue) else str(key): value for key, value in table.items()}
    assert read_json(write_json({"t": table}, bare_numbers=True)) == {"t": expected}
    assert read_json(write_json({"t": table})) == {"t": expected}


@given(json_values)
def test_dialect_reader_agrees_with_the_strict_one(value: Any) -> None:
    """The bare key in front makes the document the dialect's."""
    plain = json.dumps(value).encode()
    assert read_json(b"{0:" + plain + b" , }") == {"0": json.loads(plain)}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{0:"10.0.0.1:10911",1:"10.0.0.2:10911"}', {"0": "10.0.0.1:10911", "1": "10.0.0.2:10911"}),
        (b"{-1:2}", {"-1": 2}),
        (b"{" + QUEUE_TEXT + b":5}", {QUEUE: 5}),
        (b'{{"a":1,"b":[2]}:5}', {(("a", 1), ("b", (2,))): 5}),
        (b"{'a':'it\\'s \"so\"'}", {"a": 'it\'s "so"'}),
        (b"[1,2,]", [1, 2]),
        (b'{"a":true,}', {"a": True}),
        (b'{"a":{"x":[1]},0:{"$ref":"$.a"}}', {"a": {"x": [1]}, "0": {"x": [1]}}),
        (b"\t{\r\n0 : null }\n", {"0": None}),
        (b'{0:"\\u4e2d\\n\\ud83d\\ude00"}', {"0": "中\n😀"}),
        (b"[-1.5e3,0,]", [-1500.0, 0]),
        ("{0:'中'}".encode(), {"0": "中"}),
    ],
)
def test_deviations_of_fastjson_are_read(data: bytes, value: Any) -> None:
    assert read_json(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[", b"{0", b"{0:", b"{0:1", b'"open', b"'open", b"[1 2]", b"{0 1}", b"{0:1}x", b"tru", b"nulL",
        b"{a:1}", b"[,]", b"{0:1,,}", b"-", b"1.", b'{0:"\\q"}', b'{0:"\\ud800"}', b"{0:'\\ud800'}", b'{0:"\n"}',
        b"\xff", b'{0:"\xff"}', b"[1e999,]", b"9" * 5000, b"{" + b"9" * 5000 + b":1}", b"NaN", b"[1,]]",
    ],
)  # fmt: skip
def test_what_is_neither_json_nor_its_dialect_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_json(data)


def test_nesting_is_bounded() -> None:
    assert read_json(b"[" * NESTING_MAX + b"1" + b",]" * NESTING_MAX)
    for opening in (b"[", b"{0:", b"{{", b'{"a":'):
        with pytest.raises(WireError, match="nested"):
            read_json(opening * 100_000)


@given(st.binary(max_size=100) | st.text("{}[]:,'\"\\01aeu$ref.tn-", max_size=60).map(str.encode))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, read_json, data)


@given(damaged(json_values.map(lambda value: write_json({QUEUE: value, 0: [value]}, bare_numbers=True))))
def test_damaged_dialect_is_a_value_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, read_json, data)


def test_written_json_is_compact_and_leaves_nulls_out() -> None:
    value = {"a": {QUEUE: 5}, "b": {0: "x", 1: "y"}, "c": None, "d": [], "e": {}, "f": (QUEUE, 0.0), "g": {"h": None}}
    start = b'{"a":{' + QUEUE_TEXT + b":5},"
    end = b',"d":[],"e":{},"f":[' + QUEUE_TEXT + b',0.0],"g":{}}'
    assert write_json(value) == start + b'"b":{"0":"x","1":"y"}' + end
    assert write_json(value, bare_numbers=True) == start + b'"b":{0:"x",1:"y"}' + end


@pytest.mark.parametrize("value", [QUEUE, QUEUE_TEXT.decode(), json.loads(QUEUE_TEXT)])
def test_queue_is_found_in_each_of_its_spellings(value: Any) -> None:
    assert queue_of(value) == QUEUE


@pytest.mark.parametrize("value", ["t", "{", "{}", 5, None, {"topic": "t", "brokerName": "b", "queueId": "1"}])
def test_what_is_not_a_queue_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        queue_of(value)
