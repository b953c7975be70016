from __future__ import annotations

from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, Message, StoredMessage
from posthouse.model.offsets import LogOffset, QueueOffset

HERE = Endpoint(bytes((127, 0, 0, 1)), 10911)


def stored(properties: dict[str, str]) -> StoredMessage:
    return StoredMessage(
        "t", 1, QueueOffset(2), LogOffset(26), b"", properties, 0, 0, EpochMs(1), HERE, EpochMs(2), HERE, 0,
        LogOffset(0), 100, 0,
    )  # fmt: skip


def test_tag_keys_and_sharding_key_are_ordinary_properties() -> None:
    message = Message("t", b"", tag="TagA", keys=("k1", "k2"), sharding_key="s", properties={"own": "1"})
    assert message.all_properties() == {"own": "1", "TAGS": "TagA", "KEYS": "k1 k2", "__SHARDINGKEY": "s"}
    assert message.properties == {"own": "1"}
    assert Message("t", b"", keys="k1").all_properties() == {"KEYS": "k1"}
    assert Message("t", b"").all_properties() == {}


def test_a_stored_message_names_its_tag_and_keys() -> None:
    message = stored({"TAGS": "TagA", "KEYS": " k1  k2 "})
    assert (message.tag, message.keys) == ("TagA", ("k1", "k2"))
    assert (stored({}).tag, stored({}).keys) == ("", ())


def test_the_producers_id_counts_and_else_the_place_of_the_record() -> None:
    assert stored({"UNIQ_KEY": "ABC"}).message_id == "ABC"
    assert stored({}).message_id == "7F00000100002A9F000000000000001A"
