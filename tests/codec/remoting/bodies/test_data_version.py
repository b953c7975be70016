from __future__ import annotations

from hypothesis import given

from posthouse.codec.remoting.bodies.data_version import decode_data_version, encode_data_version
from posthouse.codec.remoting.frame import WireError
from posthouse.model.route import DataVersion
from tests.codec.strategies import gives_a_value_or, samples, versions

WHOLE = b'{"counter":3,"stateVersion":1,"timestamp":2}'


@given(versions)
def test_what_was_encoded_is_decoded(version: DataVersion) -> None:
    assert decode_data_version(encode_data_version(version)) == version


def test_members_have_the_published_names() -> None:
    assert encode_data_version(DataVersion(1, 2, 3)) == WHOLE


def test_absent_and_null_members_are_zero() -> None:
    assert decode_data_version(b'{"counter":null}') == DataVersion(0, 0, 0)


@given(samples([WHOLE]))
def test_any_bytes_are_a_version_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_data_version, data)
