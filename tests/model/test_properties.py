from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.model.properties import (
    NAME_END,
    PAIR_END,
    decode_properties,
    encode_properties,
    find_property,
    remove_property,
)

TEXT = st.text(st.characters(blacklist_characters=NAME_END + PAIR_END, codec="utf-8"), min_size=1, max_size=8)
# Texts as foreign clients may send them: few letters, so that names and separators meet in every way.
WIRE = st.text("abA" + NAME_END + PAIR_END, max_size=24)
NAME = st.text("abA", min_size=1, max_size=2)


@given(st.dictionaries(TEXT, TEXT))
def test_what_is_encoded_is_decoded(properties: dict[str, str]) -> None:
    encoded = encode_properties(properties)
    assert decode_properties(encoded) == properties
    assert encoded == "" or encoded.endswith(PAIR_END)
    for name, value in properties.items():
        assert find_property(encoded, name) == value


@pytest.mark.parametrize(("name", "value"), [("", "v"), ("a\x01", "v"), ("a\x02", "v"), ("a", "v\x01"), ("a", "\x02")])
def test_a_separator_or_an_empty_name_cannot_be_encoded(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="property"):
        encode_properties({name: value})


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", {}),
        ("a\x011\x02b\x012\x02", {"a": "1", "b": "2"}),
        ("a\x011\x02b\x012", {"a": "1", "b": "2"}),  # older writers leave the last separator out
        ("a\x011\x02a\x012\x02", {"a": "2"}),
        ("a\x01\x02b\x012\x02", {"b": "2"}),
        ("a\x02\x02\x01x\x02b\x012\x02", {"b": "2"}),
        ("a\x011\x01x\x02", {"a": "1\x01x"}),
    ],
)
def test_odd_texts_are_decoded_as_java_does(text: str, want: dict[str, str]) -> None:
    assert decode_properties(text) == want


@given(WIRE, NAME)
@example("a\x011\x02a\x012\x02", "a")
@example("a\x011\x02a\x01\x02", "a")
@example("a\x01\x02", "a")
@example("ba\x011\x02", "a")
def test_finding_agrees_with_decoding(text: str, name: str) -> None:
    assert find_property(text, name) == decode_properties(text).get(name)


@given(WIRE, NAME)
@example("a\x01\x02a\x011\x02b\x012", "a")
@example("a\x011\x02a\x011\x02", "a")
@example("b\x01a\x011\x02a\x01", "a")
def test_removing_takes_that_property_and_nothing_else(text: str, name: str) -> None:
    left = remove_property(text, name)
    want = decode_properties(text)
    want.pop(name, None)
    assert decode_properties(left) == want
    assert find_property(left, name) is None
    assert decode_properties(left + f"z{NAME_END}1") == want | {"z": "1"} or left == text
