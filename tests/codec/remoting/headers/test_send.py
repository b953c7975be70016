from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.codec.remoting.command import HeaderType, decode_command, encode_command, response
from posthouse.codec.remoting.frame import FrameReader
from posthouse.codec.remoting.headers import send
from tests.codec.header_checks import check_header
from tests.codec.strategies import int32, int64, text

WIRE: list[tuple[HeaderType[Any], str]] = [
    (
        send.SEND_MESSAGE,
        "producerGroup topic defaultTopic defaultTopicQueueNums queueId sysFlag bornTimestamp flag properties? "
        "reconsumeTimes? unitMode? maxReconsumeTimes? batch? bname?",
    ),
    (send.SEND_MESSAGE_V2, "a b c d e f g h i? j? k? l? m? n?"),
    (
        send.SEND_MESSAGE_REPLY,
        "msgId queueId queueOffset transactionId? batchUniqId? recallHandle? MSG_REGION? TRACE_ON? durability?",
    ),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(send).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}


PLAIN = send.SendMessage(
    producer_group="g", topic="t", default_topic="TBW102", default_topic_queues=4, queue_id=1, sys_flag=2,
    born_at_ms=3, flag=5, properties="p", reconsume_times=6, unit_mode=True, reconsume_times_max=7, batch=False,
    broker_name="b",
)  # fmt: skip


def test_letters_stand_for_the_fields_in_the_published_order() -> None:
    assert send.SEND_MESSAGE_V2.encode(PLAIN) == {
        "a": "g", "b": "t", "c": "TBW102", "d": "4", "e": "1", "f": "2", "g": "3", "h": "5", "i": "p", "j": "6",
        "k": "true", "l": "7", "m": "false", "n": "b",
    }  # fmt: skip


def test_letters_decode_to_what_the_rest_of_the_code_knows() -> None:
    found = send.SEND_MESSAGE_V2.decode(send.SEND_MESSAGE_V2.encode(PLAIN))
    assert isinstance(found, send.SendMessage)
    assert msgspec.structs.asdict(found) == msgspec.structs.asdict(PLAIN)


def test_numbers_as_one_client_family_writes_them_are_read() -> None:
    raw = (
        b'{"a":"g","b":"t","c":"TBW102","d":4,"e":1,"f":2,"g":"3","h":5,"i":"p","j":"6","k":"true","l":"7",'
        b'"m":"false","n":"b","AccessKey":"","OnsChannel":"ALIYUN","SecurityToken":"","Signature":""}'
    )
    assert msgspec.structs.asdict(send.SEND_MESSAGE_V2.decode(msgspec.Raw(raw))) == msgspec.structs.asdict(PLAIN)


def test_table_of_letters_must_name_every_field() -> None:
    with pytest.raises(AssertionError):
        send.respell(send.SendMessage, {"topic": "b"})


@given(int32, int32, int64, text, st.booleans(), st.sampled_from([0, 10, 11, 12]), st.integers(1, 3))
def test_hand_formatted_answer_is_what_the_generic_encoder_gives(
    request_id: int, queue_id: int, queue_offset: int, transaction_id: str, synced: bool, code: int, ids: int
) -> None:
    msg_id = ",".join(["0A00000100002A9F00000000000003E8"] * ids)
    reply = send.SendMessageReply(
        msg_id=msg_id,
        queue_id=queue_id,
        queue_offset=queue_offset,
        transaction_id=transaction_id,
        region="DefaultRegion",
        trace_on=True,
        durability="disk" if synced else "os",
    )
    frame = send.encode_send_reply(request_id, msg_id, queue_id, queue_offset, transaction_id, synced, code)
    generic = encode_command(response(code, request_id, send.SEND_MESSAGE_REPLY.encode(reply)))
    (found,), (expected,) = FrameReader().receive_data(frame), FrameReader().receive_data(generic)
    assert json.loads(found.header) == json.loads(expected.header)
    assert found.body == b""
    assert send.SEND_MESSAGE_REPLY.decode(decode_command(found).ext) == reply
