"""What holds for every header type; the modules under headers/ run it over theirs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.frame import WireError
from tests.codec.strategies import gives_a_value_or, headers, json_values, text, text_map, wire_names

EXAMPLES = 25
"""For each of some fifty types: together these run often enough."""


def check_header(header_type: HeaderType[Any], names: str) -> None:
    """`names`: what is on the wire, as protocol tables say it, `?` after what may be absent."""
    assert wire_names(header_type) == set(names.split())

    @settings(max_examples=EXAMPLES)
    @given(headers(header_type.struct_type))
    def survives_the_wire(header: msgspec.Struct) -> None:
        ext = header_type.encode(header)
        assert all(isinstance(value, str) for value in ext.values())
        assert header_type.decode(ext) == header
        raw = json.dumps({**ext, "bname": ext.get("bname", "b"), "unknown": "x"}).encode()
        if "bname" in ext or "bname?" not in names:
            assert header_type.decode(msgspec.Raw(raw)) == header

    known = st.sampled_from([name.rstrip("?") for name in names.split()])

    @settings(max_examples=EXAMPLES)
    @given(text_map | st.dictionaries(known, text), st.dictionaries(known, json_values) | json_values)
    def takes_anything(ext: dict[str, str], value: object) -> None:
        gives_a_value_or(WireError, lambda _: header_type.decode(ext), b"")
        gives_a_value_or(WireError, lambda data: header_type.decode(msgspec.Raw(data)), json.dumps(value).encode())

    survives_the_wire()
    takes_anything()
