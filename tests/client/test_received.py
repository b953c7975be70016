from __future__ import annotations

import zlib

import pytest

from posthouse.client.received import open_records, wanted_from
from posthouse.codec.record import RecordError
from posthouse.codec.remoting.batch import BatchEntry, encode_batch
from posthouse.model.filter import parse_subscription
from posthouse.model.message import MessageQueue, SysFlag
from posthouse.model.offsets import QueueOffset
from tests.client.records import record

QUEUE = MessageQueue("t", "broker-a", 0)


def test_a_record_is_opened_whole() -> None:
    (message,) = open_records(record(7, b"body", {"TAGS": "A", "KEYS": "k1 k2", "__SHARDINGKEY": "s", "p": "q"}), QUEUE)
    assert (message.topic, message.body, message.tag, message.keys) == ("t", b"body", "A", ("k1", "k2"))
    assert (message.queue, message.broker_name, message.queue_offset) == (QUEUE, "broker-a", 7)
    assert (message.message_id, message.sharding_key, message.flag) == ("ID7", "s", 3)
    assert (message.attempt, message.damage, message.properties["p"]) == (1, "", "q")


def test_records_come_in_their_order() -> None:
    found = open_records(b"".join(record(n, b"%d" % n) for n in range(5)), QUEUE)
    assert [message.body for message in found] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_compressed_body_is_inflated() -> None:
    body = b"abc" * 1000
    (message,) = open_records(record(0, zlib.compress(body), sys_flag=SysFlag.COMPRESSED), QUEUE)
    assert message.body == body


@pytest.mark.parametrize(("flags", "said"), [(SysFlag.COMPRESSED, "zlib"), (SysFlag.COMPRESSED | 0x700, "unknown")])
def test_a_body_that_cannot_be_inflated_is_damage_and_hides_nobody(flags: int, said: str) -> None:
    found = open_records(record(0, b"not compressed", sys_flag=flags) + record(1), QUEUE)
    assert said in found[0].damage
    assert found[0].body == b"not compressed"
    assert found[1].damage == ""


def test_a_retried_message_has_its_topic_back() -> None:
    retries = MessageQueue("%RETRY%g", "broker-a", 0)
    body = record(3, topic="%RETRY%g", properties={"RETRY_TOPIC": "orders"}, reconsume_times=2)
    (message,) = open_records(body, retries)
    assert (message.topic, message.queue, message.attempt) == ("orders", retries, 3)


def test_several_messages_in_one_record_come_out_one_by_one() -> None:
    entries = [BatchEntry(b"%d" % n, f"TAGS\x01T{n}\x02UNIQ_KEY\x01B{n}\x02", n) for n in range(3)]
    flags = SysFlag.INNER_BATCH | SysFlag.NEED_UNWRAP
    body = record(10, encode_batch(entries), {"INNER_NUM": "3", "INNER_BASE": "10"}, sys_flag=flags)
    found = open_records(body, QUEUE)
    assert [(m.queue_offset, m.body, m.tag, m.message_id, m.flag) for m in found] == [
        (10, b"0", "T0", "B0", 0),
        (11, b"1", "T1", "B1", 1),
        (12, b"2", "T2", "B2", 2),
    ]
    assert [m.queue_offset for m in wanted_from(found, parse_subscription("t", "*"), QueueOffset(11))] == [11, 12]


def test_an_inner_batch_that_cannot_be_read_is_damage() -> None:
    (message,) = open_records(record(0, b"junk", sys_flag=SysFlag.INNER_BATCH | SysFlag.NEED_UNWRAP), QUEUE)
    assert "batch" in message.damage


def test_bytes_that_are_no_records_are_an_error() -> None:
    with pytest.raises(RecordError):
        open_records(record(0)[:-1], QUEUE)


def test_tags_are_compared_as_text() -> None:
    found = open_records(
        b"".join(record(n, properties={"TAGS": tag}) for n, tag in enumerate(("Aa", "BB", "C"))), QUEUE
    )
    kept = wanted_from([*found, *open_records(record(3), QUEUE)], parse_subscription("t", "Aa || C"), QueueOffset(0))
    assert [message.tag for message in kept] == ["Aa", "C"]
    assert wanted_from(found, parse_subscription("t", "*"), QueueOffset(0)) == found
