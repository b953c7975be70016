from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.shape import BodyType, enum_of, ids_of, mapping_of
from posthouse.codec.remoting.frame import WireError
from posthouse.model.group import ConsumeType
from tests.codec.strategies import gives_a_value_or, json_values, samples, text


class Inner(msgspec.Struct):
    n: int = 0


class Outer(msgspec.Struct):
    ids: dict[str, str] | None = None
    inner: Inner | None = None
    other: Inner | None = None


OUTER = BodyType(Outer, "an outer")


@pytest.mark.parametrize(
    "data",
    [
        b'{"ids":{"0":"a"},"inner":{"n":1}}',
        b"{'ids':{0:'a'},'inner':{'n':1,},}",
        b'{"ids":{"0":"a"},"inner":{"n":"1"}}',
    ],
)
def test_strict_json_and_the_dialect_give_the_same(data: bytes) -> None:
    assert OUTER.decode(data) == Outer({"0": "a"}, Inner(1))


def test_reference_is_resolved_though_strict_json_would_do() -> None:
    assert OUTER.decode(b'{"inner":{"n":7},"other":{"$ref":"$.inner"}}') == Outer(None, Inner(7), Inner(7))


@pytest.mark.parametrize("data", [b"", b"[]", b'{"inner":{"n":"x"}}', b'{"ids":5}', b'{0:{"inner":5}'])
def test_wrong_body_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        OUTER.decode(data)


def test_wrong_member_is_named() -> None:
    with pytest.raises(WireError, match=r"an outer: .*inner\.n"):
        OUTER.decode(b'{"inner":{"n":[]}}')


@given(samples([b'{"ids":{0:"a"},"inner":{"n":1},"other":{"$ref":"$.inner"}}']))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, OUTER.decode, data)


@pytest.mark.parametrize("value", ["CONSUME_PASSIVELY", 1, "1"])
def test_enum_is_found_by_name_and_by_ordinal(value: str | int) -> None:
    assert enum_of(ConsumeType, value) is ConsumeType.CONSUME_PASSIVELY


@given(st.integers() | text)
def test_what_is_no_member_is_a_wire_error(value: str | int) -> None:
    gives_a_value_or(WireError, lambda _: enum_of(ConsumeType, value), b"")


@pytest.mark.parametrize("value", [3, -1, "3", "--1", "", "__class__", "consume_passively"])
def test_unknown_member_is_refused(value: str | int) -> None:
    with pytest.raises(WireError, match="ConsumeType"):
        enum_of(ConsumeType, value)


def test_ids_are_numbers() -> None:
    assert ids_of({"0": "a", "12": "b"}) == {0: "a", 12: "b"}
    assert ids_of(None) == {}
    with pytest.raises(WireError):
        ids_of({"x": "a"})


@given(json_values)
def test_member_that_is_a_map_is_given_or_refused(value: object) -> None:
    gives_a_value_or(WireError, lambda _: mapping_of(value, "t"), b"")


def test_absent_map_is_empty_and_another_kind_is_refused() -> None:
    assert mapping_of({}, "t") == {}
    assert mapping_of({"t": {0: 1}}, "t") == {0: 1}
    wrongs: tuple[object, ...] = ([], None, {"t": []}, {"t": 5})
    for wrong in wrongs:
        with pytest.raises(WireError):
            mapping_of(wrong, "t")
