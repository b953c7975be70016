from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.bodies.client_status import decode_reset_offsets
from posthouse.codec.remoting.bodies.resets import decode_correction, encode_correction, encode_reset_offsets
from posthouse.codec.remoting.frame import WireError
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from tests.codec.strategies import gives_a_value_or, queues, samples

offsets = st.integers(0, 2**63 - 1).map(QueueOffset)
ONE = {MessageQueue("t", "b", 1): QueueOffset(5)}


@given(st.dictionaries(queues, offsets, max_size=4), st.booleans())
def test_offsets_that_were_encoded_are_decoded(found: dict[MessageQueue, QueueOffset], as_list: bool) -> None:
    assert decode_reset_offsets(encode_reset_offsets(found, as_list=as_list)) == found


@given(st.dictionaries(st.integers(0, 2**31 - 1), offsets, max_size=4))
def test_corrections_that_were_encoded_are_decoded(found: dict[int, QueueOffset]) -> None:
    assert decode_correction(encode_correction(found)) == found


def test_both_forms_are_spelled_as_published() -> None:
    assert encode_reset_offsets(ONE) == b'{"offsetTable":{{"brokerName":"b","queueId":1,"topic":"t"}:5}}'
    assert (
        encode_reset_offsets(ONE, as_list=True)
        == b'{"offsetTable":[{"brokerName":"b","offset":5,"queueId":1,"topic":"t"}]}'
    )
    assert encode_correction({0: QueueOffset(7)}) == b'{"correctionOffsets":{"0":7}}'
    assert decode_correction(b'{"correctionOffsets":{0:7}}') == {0: 7}
    with pytest.raises(WireError, match="no queue id"):
        decode_correction(b'{"correctionOffsets":{"x":7}}')


@given(samples([encode_correction({0: QueueOffset(7)})]))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    gives_a_value_or(WireError, decode_correction, data)
