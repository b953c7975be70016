from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.frame import JSON, ROCKETMQ, Frame, FrameReader, WireError, encode_frame
from posthouse.model.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX
from tests.codec.golden import golden

frames = st.builds(Frame, st.sampled_from([JSON, ROCKETMQ, 77]), st.binary(max_size=60), st.binary(max_size=60))


def encoded(frame: Frame) -> bytes:
    return encode_frame(frame.header, frame.body, frame.serialize_type)


@given(st.lists(frames, max_size=5), st.data())
def test_every_split_of_a_stream_gives_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    found: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < end:
            found += reader.receive_data(stream[start:end])
    assert found == sent
    assert not reader.in_frame


def test_byte_by_byte_gives_each_frame_with_its_last_byte() -> None:
    stream = golden("frame_get_route_json") + golden("frame_get_route_binary")
    reader = FrameReader()
    completed_at = [at for at in range(len(stream)) if reader.receive_data(stream[at : at + 1])]
    assert completed_at == [len(golden("frame_get_route_json")) - 1, len(stream) - 1]


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_give_frames_or_a_wire_error(pieces: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for piece in pieces:
            if piece:
                reader.receive_data(piece)
    except WireError:
        pass


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(struct.pack(">II", 3, 0), id="too short for its own header length"),
        pytest.param(struct.pack(">II", 0, 0), id="empty"),
        pytest.param(struct.pack(">II", FRAME_BYTES_MAX - 3, 0), id="one over the limit"),
        pytest.param(struct.pack(">II", 0xFFFFFFFF, 0), id="negative for Java"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="another protocol"),
        pytest.param(struct.pack(">II", 10, 7), id="header longer than its frame"),
        pytest.param(struct.pack(">II", 2**23, HEADER_BYTES_MAX + 1), id="header over its own limit"),
    ],
)
def test_impossible_sizes_are_refused_before_they_are_waited_for(head: bytes) -> None:
    with pytest.raises(WireError):
        FrameReader().receive_data(head)


def test_frame_of_exactly_the_limit_passes() -> None:
    body = bytes(FRAME_BYTES_MAX - 8)
    (frame,) = FrameReader().receive_data(encode_frame(b"", body))
    assert len(frame.body) == len(body)
    with pytest.raises(ValueError, match="a frame of"):
        encode_frame(b"x", body)


def test_limit_can_be_lower() -> None:
    reader = FrameReader(frame_bytes_max=100)
    assert len(reader.receive_data(encode_frame(b"h" * 92))) == 1
    with pytest.raises(WireError, match="the limit is 100"):
        reader.receive_data(encode_frame(b"h" * 93))


def test_frames_before_a_broken_one_are_lost_with_the_stream() -> None:
    with pytest.raises(WireError):
        FrameReader().receive_data(encode_frame(b"fine") + bytes(8))


def test_reader_says_when_a_frame_has_begun() -> None:
    reader = FrameReader()
    data = encode_frame(b"h", b"b")
    states = [reader.in_frame]
    for piece in (data + data[:1], data[1:]):
        reader.receive_data(piece)
        states.append(reader.in_frame)
    assert states == [False, True, False]
