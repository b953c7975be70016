from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.model.ids import offset_message_id, parse_offset_message_id
from posthouse.model.message import Endpoint
from posthouse.model.offsets import LogOffset


def test_an_id_is_ip_port_and_log_offset_in_upper_case_hex() -> None:
    found = offset_message_id(Endpoint(bytes((127, 0, 0, 1)), 10911), LogOffset(0x1A))
    assert found == "7F00000100002A9F000000000000001A"


@given(
    st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    st.integers(0, 65535),
    st.integers(0, 2**63 - 1),
)
def test_ids_are_parsed_back(ip: bytes, port: int, offset: int) -> None:
    text = offset_message_id(Endpoint(ip, port), LogOffset(offset))
    assert len(text) == (32 if len(ip) == 4 else 56)
    assert parse_offset_message_id(text) == (Endpoint(ip, port), offset)
    assert parse_offset_message_id(text.lower()) == (Endpoint(ip, port), offset)


@pytest.mark.parametrize("text", ["", "7F", "00" * 15, "00" * 17, "00" * 27, "00" * 29, "zz" * 16, "0" * 31])
def test_what_is_no_id_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_offset_message_id(text)
