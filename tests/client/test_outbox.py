from __future__ import annotations

import zlib
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.client.errors import MessageIllegal, MessageTooLarge
from posthouse.client.outbox import (
    Parcel,
    aim,
    check_group_name,
    check_topic_name,
    fits_batch,
    pack,
    pack_batch,
    send_ext,
    split_batch,
)
from posthouse.codec.remoting.batch import decode_batch
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2
from posthouse.host.clock import EpochMs
from posthouse.model.limits import MESSAGE_BYTES_MAX
from posthouse.model.message import Message, SysFlag
from posthouse.model.properties import decode_properties


def parcel(body: bytes, properties: str = "") -> Parcel:
    return Parcel("t", "id", body, properties, 0, 0)


def test_a_message_gets_its_id_and_keeps_one_that_it_has() -> None:
    packed = pack(Message("t", b"x", "A", ("k1", "k2"), {"a": "b"}, 7, "s"), "ID-1")
    assert (packed.message_id, packed.flag, packed.sys_flag, packed.body) == ("ID-1", 7, 0, b"x")
    assert decode_properties(packed.properties) == {
        "a": "b", "TAGS": "A", "KEYS": "k1 k2", "__SHARDINGKEY": "s", "UNIQ_KEY": "ID-1", "WAIT": "true"
    }  # fmt: skip
    again = pack(Message("t", b"x", properties={"UNIQ_KEY": "ID-0", "WAIT": "false"}), "ID-2")
    assert again.message_id == "ID-0"
    assert decode_properties(again.properties) == {"UNIQ_KEY": "ID-0", "WAIT": "false"}


def test_packing_leaves_the_message_as_it_was() -> None:
    message = Message("t", b"x", properties={"a": "b"})
    pack(message, "ID")
    assert message.properties == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "over", "compressed"),
    [(b"a" * 4096, 4096, True), (b"a" * 4095, 4096, False), (b"a" * 5000, None, False), (bytes(range(256)), 10, False)],
)
def test_a_body_is_compressed_only_if_large_and_smaller_for_it(body: bytes, over: int | None, compressed: bool) -> None:
    packed = pack(Message("t", body), "ID", over)
    assert bool(packed.sys_flag & SysFlag.COMPRESSED) is compressed
    assert (zlib.decompress(packed.body) if compressed else packed.body) == body


def test_text_is_no_body() -> None:
    with pytest.raises(MessageIllegal, match="send bytes"):
        pack(Message("t", cast(bytes, "text")), "ID")


def test_what_brokers_refuse_is_refused_here() -> None:
    with pytest.raises(MessageIllegal, match="empty"):
        pack(Message("t", b""), "ID")
    with pytest.raises(MessageTooLarge):
        pack(Message("t", bytes(MESSAGE_BYTES_MAX + 1)), "ID")
    with pytest.raises(MessageIllegal, match="32767"):
        pack(Message("t", b"x", properties={"a": "ü" * 20_000}), "ID")
    with pytest.raises(MessageIllegal, match="separate properties"):
        pack(Message("t", b"x", properties={"a": "\x02"}), "ID")
    with pytest.raises(MessageIllegal, match="empty"):
        check_topic_name("")
    with pytest.raises(ValueError, match="120"):
        check_group_name("g" * 121)


def test_the_header_reads_back_as_what_was_meant() -> None:
    packed = pack(Message("topic", b"x" * 5000, flag=-3), "ID", 4096)
    ext = send_ext("group", packed, EpochMs(1_700_000_000_000), reconsume_times=2, reconsume_times_max=16)
    aim(ext, "broker-a", 5)
    assert all(isinstance(value, str) for value in ext.values())
    header = SEND_MESSAGE_V2.decode(ext)
    assert (header.producer_group, header.topic, header.default_topic) == ("group", "topic", "TBW102")
    assert (header.default_topic_queues, header.queue_id, header.broker_name) == (4, 5, "broker-a")
    assert (header.sys_flag, header.flag, header.born_at_ms) == (1, -3, 1_700_000_000_000)
    assert (header.reconsume_times, header.reconsume_times_max) == (2, 16)
    assert (header.batch, header.unit_mode, header.properties) == (False, False, packed.properties)
    aim(ext, "broker-b", 1)
    assert SEND_MESSAGE_V2.decode(ext).queue_id == 1


@pytest.mark.parametrize("name", ["DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS", "TRAN_MSG"])
def test_delayed_and_transactional_messages_travel_alone(name: str) -> None:
    assert fits_batch(Message("t", b"x", properties={"a": "1"}))
    assert not fits_batch(Message("t", b"x", properties={name: "1"}))
    assert not fits_batch(Message("%RETRY%g", b"x"))


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(60, 200))
def test_a_batch_is_split_in_order_and_no_piece_is_too_large(sizes: list[int], limit: int) -> None:
    parcels = [parcel(bytes(size), "k\x01v\x02" * (size % 3)) for size in sizes]
    chunks = split_batch(parcels, limit)
    assert [each for chunk in chunks for each in chunk] == parcels
    for chunk in chunks:
        assert chunk
        assert len(pack_batch(chunk).body) <= limit or len(chunk) == 1
    for before, after in pairwise(chunks):
        assert len(pack_batch([*before, after[0]]).body) > limit


def test_a_batch_holds_its_messages() -> None:
    packed = [pack(Message("t", b"%d" % n, f"T{n}", flag=n), f"ID{n}") for n in range(3)]
    batch = pack_batch(packed)
    assert batch.topic == "t"
    assert "UNIQ_KEY" not in batch.properties
    assert [(each.body, each.properties, each.flag) for each in decode_batch(batch.body)] == [
        (each.body, each.properties, each.flag) for each in packed
    ]
    with pytest.raises(MessageTooLarge, match="the batch"):
        pack_batch([parcel(bytes(3 * 1024 * 1024)), parcel(bytes(3 * 1024 * 1024))])
