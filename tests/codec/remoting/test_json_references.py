from __future__ import annotations

import pytest

from posthouse.codec.remoting import json_references
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_dialect import read_json
from posthouse.codec.remoting.json_references import resolve_references


def test_reference_to_a_complete_container_is_that_container() -> None:
    found = read_json(b'{"a":{"b":[{"x":1}]},"c":{"$ref":"$.a.b[0]"},"d":[{"$ref":"$.a"}]}')
    assert found == {"a": {"b": [{"x": 1}]}, "c": {"x": 1}, "d": [{"b": [{"x": 1}]}]}


def test_reference_through_a_bare_numeric_key() -> None:
    assert read_json(b'{"a":{0:{"x":1}},"b":{"$ref":"$.a[0]"}}')["b"] == {"x": 1}


def test_object_that_only_has_such_a_member_among_others_is_no_reference() -> None:
    assert read_json(b'{"a":{"$ref":"$","b":1}}') == {"a": {"$ref": "$", "b": 1}}


@pytest.mark.parametrize(
    "path",
    ["$", "@", "..", "$.b", "$.z", "$.a[0]", "$.a.x.y", "$.a..x", "", "a", "$[", "$.a]", "$.s", "$[99999999999]"],
)
def test_reference_that_leads_to_nothing_before_it_is_refused(path: str) -> None:
    with pytest.raises(WireError, match="reference"):
        resolve_references({"a": {"x": 1}, "s": "text", "b": {"$ref": path}, "z": {}})


def test_object_whose_only_member_has_that_name_but_no_path_is_no_reference() -> None:
    assert read_json(b'{"a":{"$ref":[5]}}') == {"a": {"$ref": [5]}}


def test_reference_to_a_container_around_it_is_refused() -> None:
    with pytest.raises(WireError, match="reference"):
        read_json(b'{"a":{"b":[{"$ref":"$.a"}]}}')


def test_body_that_explodes_by_sharing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_references, "NODES_MAX", 10_000)
    members = ['"a":[1,2,3]'] + [
        f'"{name}":[' + ",".join([f'{{"$ref":"$.{before}"}}'] * 10) + "]"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    with pytest.raises(WireError, match="more than 10000 values"):
        read_json(f"{{{','.join(members)}}}".encode())


def test_body_that_grows_deep_by_sharing_is_refused() -> None:
    members = ['"a0":[1]'] + [f'"a{at}":[{{"$ref":"$.a{at - 1}"}}]' for at in range(1, 100)]
    with pytest.raises(WireError, match="nested"):
        read_json(f"{{{','.join(members)}}}".encode())


def test_references_in_a_body_that_is_nested_too_deeply_are_refused() -> None:
    with pytest.raises(WireError, match="nested"):
        read_json(b"[" * 100 + b'{"$ref":"$"}' + b"]" * 100)
