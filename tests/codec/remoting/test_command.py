from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.command import (
    LANGUAGES,
    OUR_VERSION,
    Command,
    HeaderType,
    decode_command,
    encode_command,
    request,
    response,
)
from posthouse.codec.remoting.frame import JSON, ROCKETMQ, Frame, FrameReader, WireError
from tests.codec.golden import golden
from tests.codec.strategies import damaged, gives_a_value_or, int32, json_values, text, text_map


def through_the_wire(command: Command, serialize_type: int = JSON) -> Command:
    (frame,) = FrameReader().receive_data(encode_command(command, serialize_type))
    return decode_command(frame)


def read(header: bytes, serialize_type: int = JSON) -> Command:
    return decode_command(Frame(serialize_type, header, b""))


commands = st.builds(
    Command,
    code=st.integers(-1100, 32767),
    request_id=int32,
    flag=st.integers(0, 3),
    ext=st.none() | text_map,
    version=st.integers(0, 65535),
    language=st.sampled_from(LANGUAGES),
    remark=st.none() | text.filter(bool),
    body=st.binary(max_size=50),
)


@given(commands, st.sampled_from([JSON, ROCKETMQ]))
def test_command_survives_both_serialisations(command: Command, serialize_type: int) -> None:
    found = through_the_wire(command, serialize_type)
    assert found.ext_map() == (command.ext or {})
    for name in ("code", "request_id", "flag", "version", "language", "remark", "body"):
        assert getattr(found, name) == getattr(command, name), name


def test_golden_request_reads_alike_in_both_serialisations() -> None:
    for name in ("frame_get_route_json", "frame_get_route_binary"):
        (frame,) = FrameReader().receive_data(golden(name))
        command = decode_command(frame)
        assert (command.code, command.request_id, command.flag, command.version) == (105, 7, 0, 479)
        assert (command.language, command.remark, command.body) == ("JAVA", None, b"")
        assert command.ext_map() == {"topic": "T"}
        assert not command.is_response


def test_binary_request_is_the_published_layout() -> None:
    assert encode_command(request(105, 7, {"topic": "T"}), ROCKETMQ) == golden("frame_get_route_binary")


@given(st.binary(max_size=80), st.sampled_from([JSON, ROCKETMQ, 2, 255]))
def test_any_header_is_a_command_or_a_wire_error(header: bytes, serialize_type: int) -> None:
    gives_a_value_or(WireError, lambda data: read(data, serialize_type).ext_map(), header)


@given(
    damaged(commands.map(lambda command: encode_command(command)[8:]))
    | damaged(st.just(golden("frame_get_route_json")[8:])),
    st.just(JSON),
)
def test_damaged_json_header_is_a_command_or_a_wire_error(header: bytes, serialize_type: int) -> None:
    gives_a_value_or(WireError, lambda data: read(data, serialize_type).ext_map(), header)


@given(damaged(commands.map(lambda command: encode_command(command, ROCKETMQ)[8:])))
def test_damaged_binary_header_is_a_command_or_a_wire_error(header: bytes) -> None:
    gives_a_value_or(WireError, lambda data: read(data, ROCKETMQ).ext_map(), header)


@given(st.dictionaries(st.sampled_from(["code", "opaque", "flag", "extFields", "language", "remark"]), json_values))
def test_members_of_any_kind_are_a_command_or_a_wire_error(members: dict[str, object]) -> None:
    gives_a_value_or(WireError, lambda data: read(data).ext_map(), json.dumps(members).encode())


def test_header_nested_beyond_reason_is_a_wire_error() -> None:
    for nested in (b"[" * 200_000, b'{"code":1,"extFields":' + b'{"a":' * 200_000):
        with pytest.raises(WireError):
            read(nested)


def test_numbers_and_booleans_of_lax_clients_are_read_as_text() -> None:
    found = read(b'{"code":10,"extFields":{"queueId":3,"order":true,"batch":false,"gone":null,"topic":"T"}}')
    assert found.ext_map() == {"queueId": "3", "order": "true", "batch": "false", "topic": "T"}


@pytest.mark.parametrize("ext", [b"", b',"extFields":null', b',"extFields":{}'])
def test_header_without_ext_fields_has_an_empty_map(ext: bytes) -> None:
    found = read(b'{"code":34' + ext + b"}")
    assert found.ext is None
    assert found.ext_map() == {}


def test_unknown_members_and_languages_are_let_pass() -> None:
    found = read(b'{"code":34,"language":"COBOL","serializeTypeCurrentRPC":"JSON","news":[{}]}')
    assert (found.code, found.language) == (34, "COBOL")


def test_code_that_was_cut_to_16_bits_is_made_whole_in_requests_only() -> None:
    pop = request(200050, 1)
    assert through_the_wire(pop, ROCKETMQ).code == 200050
    assert through_the_wire(Command(200151, 1), ROCKETMQ).code == 200151
    assert through_the_wire(response(3442, 1), ROCKETMQ).code == 3442


def test_answer_always_has_a_map_of_ext_fields() -> None:
    frame = encode_command(response(0, 9))
    assert json.loads(frame[8:]) == {
        "code": 0,
        "extFields": {},
        "flag": 1,
        "language": "JAVA",
        "opaque": 9,
        "serializeTypeCurrentRPC": "JSON",
        "version": OUR_VERSION,
    }


def test_written_ext_values_are_text_always() -> None:
    class Numbers(msgspec.Struct, rename="camel"):
        queue_id: int
        is_order: bool
        gone: str | None = None

    ext = HeaderType(Numbers).encode(Numbers(3, True))
    assert ext == {"queueId": "3", "isOrder": "true"}


def test_flags_tell_answers_and_one_way_requests() -> None:
    assert request(15, 1, one_way=True).is_one_way
    assert not request(15, 1).is_one_way
    assert response(0, 1).is_response


def test_missing_or_wrong_header_field_is_named() -> None:
    class Queue(msgspec.Struct, rename="camel"):
        queue_id: int

    kind = HeaderType(Queue)
    for ext in ({}, {"queueId": "x"}, {"queueId": ""}):
        for form in (ext, msgspec.Raw(json.dumps(ext).encode())):
            with pytest.raises(WireError, match="queueId"):
                kind.decode(form)


def test_remark_that_does_not_fit_is_a_wire_error() -> None:
    good = encode_command(Command(1, remark="hello", language="JAVA"), ROCKETMQ)[8:]
    for size in (-1, 2**31 - 1, len(good)):
        with pytest.raises(WireError, match="remark"):
            read(good[:13] + size.to_bytes(4, "big", signed=True) + good[17:], ROCKETMQ)
