from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.java_properties import read_java_properties, write_java_properties
from posthouse.codec.remoting.frame import WireError
from tests.codec.strategies import gives_a_value_or, text, text_map

BLANKS = "".join(map(chr, range(33)))


@given(text_map)
def test_what_was_written_is_read_without_blanks_around_the_values(properties: dict[str, str]) -> None:
    expected = {name: value.strip(BLANKS) for name, value in properties.items()}
    assert read_java_properties(write_java_properties(properties)) == expected


@pytest.mark.parametrize(
    ("data", "properties"),
    [
        (b"a=1\nb=2\n", {"a": "1", "b": "2"}),
        (b"a:1\r\nb 2\rc\t=\t3", {"a": "1", "b": "2", "c": "3"}),
        (b"# comment\n ! another\n\na=1", {"a": "1"}),
        (b"a=1,\\\n   2,\\\n  3", {"a": "1,2,3"}),
        (b"a=\\\n# no comment\nb=2", {"a": "# no comment", "b": "2"}),
        (b"a=x\\\\\nb=2", {"a": "x\\", "b": "2"}),
        (b"a\\=b=c=d", {"a=b": "c=d"}),
        (b"a=\\u4e2d\\t\\n\\q", {"a": "中\t\nq"}),
        (b"a=\\ud83d\\ude00", {"a": "😀"}),
        ("a=中".encode(), {"a": "中"}),
        (b"a=1\na=2", {"a": "2"}),
        (b"a", {"a": ""}),
        (b"=x", {"": "x"}),
        (b"a=1\\", {"a": "1"}),
        (b"a= 1 \n", {"a": "1"}),
        (b"", {}),
        (b"namesrvAddr=10.0.0.1:9876;10.0.0.2:9876", {"namesrvAddr": "10.0.0.1:9876;10.0.0.2:9876"}),
    ],
)
def test_text_means_what_it_means_to_java(data: bytes, properties: dict[str, str]) -> None:
    assert read_java_properties(data) == properties


@pytest.mark.parametrize("data", [b"\xff", b"a=\\u12", b"a=\\uzzzz", b"a=\\ud800"])
def test_broken_text_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_java_properties(data)


def test_written_text_is_ascii_with_one_line_for_each() -> None:
    assert write_java_properties({"a b": "c=d e", "中": "x\ny", "#": " z"}) == (
        b"a\\ b=c=d e\n\\u4E2D=x\\ny\n\\#=\\ z\n"
    )


@given(st.binary(max_size=80) | st.text("a\\u0=: #!\n\r\t", max_size=60).map(str.encode) | text.map(str.encode))
def test_any_bytes_are_a_map_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, read_java_properties, data)
