"""Topics by name and by configuration: TopicList, KVTable, one TopicConfig (351), all of them (21), several (18).

Source: RocketMQ 5.3 TopicList, KVTable, TopicConfig, TopicConfigSerializeWrapper, CreateTopicListRequestBody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from posthouse.codec.remoting.bodies.data_version import DataVersionShape, data_version_members
from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.headers.numbers import Int32
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.route import DataVersion
from posthouse.model.topic import TopicConfig


class TopicList(NamedTuple):
    """`broker_address` only in the answer to 304: some broker's, that tools ask for more."""

    topics: tuple[str, ...]
    broker_address: str | None = None


class TopicTable(NamedTuple):
    """All topics of a broker by name, and the version of that table."""

    topics: dict[str, TopicConfig]
    version: DataVersion


class TopicConfigShape(msgspec.Struct, rename="camel"):
    topic_name: str | None = None
    read_queue_nums: Int32 = 16
    write_queue_nums: Int32 = 16
    perm: Int32 = 6
    topic_filter_type: str | None = None
    topic_sys_flag: Int32 = 0
    order: bool = False
    attributes: dict[str, str | None] | None = None

    def value(self, name: str = "") -> TopicConfig:
        """`name` is the key of the table; the member wins if it is there."""
        return TopicConfig(
            self.topic_name or name,
            self.read_queue_nums,
            self.write_queue_nums,
            self.perm,
            self.topic_filter_type or "SINGLE_TAG",
            self.topic_sys_flag,
            self.order,
            {key: value for key, value in (self.attributes or {}).items() if value is not None},
        )


class TopicTableShape(msgspec.Struct, rename="camel"):
    topic_config_table: dict[str, TopicConfigShape] | None = None
    data_version: DataVersionShape | None = None

    def value(self) -> TopicTable:
        topics = [shape.value(name) for name, shape in (self.topic_config_table or {}).items()]
        version = self.data_version.value() if self.data_version is not None else DataVersion()
        return TopicTable({config.name: config for config in topics}, version)


class _TopicListShape(msgspec.Struct, rename="camel"):
    topic_list: list[str] | None = None
    broker_addr: str | None = None


class _ConfigListShape(msgspec.Struct, rename="camel"):
    topic_config_list: list[TopicConfigShape] | None = None


class _TableShape(msgspec.Struct):
    table: dict[str, str | int | float | bool | None] | None = None


_TOPIC_LIST = BodyType(_TopicListShape, "a topic list")
_CONFIG = BodyType(TopicConfigShape, "a topic configuration")
_CONFIG_LIST = BodyType(_ConfigListShape, "a list of topic configurations")
_TOPIC_TABLE = BodyType(TopicTableShape, "a topic table")
_KV_TABLE = BodyType(_TableShape, "a table")


def encode_topic_list(topics: Iterable[str], broker_address: str | None = None) -> bytes:
    return write_json({"brokerAddr": broker_address, "topicList": list(topics)})


def decode_topic_list(data: bytes) -> TopicList:
    """Raises WireError."""
    found = _TOPIC_LIST.decode(data)
    return TopicList(tuple(found.topic_list or ()), found.broker_addr)


def encode_kv_table(table: Mapping[str, str]) -> bytes:
    """Of 219 and of registrations (namespace ORDER_TOPIC_CONFIG); also the runtime figures of 28."""
    return write_json({"table": table})


def decode_kv_table(data: bytes) -> dict[str, str]:
    """Raises WireError. Values that are not text are made text."""
    found = _KV_TABLE.decode(data).table or {}
    return {key: _as_text(value) for key, value in found.items() if value is not None}


def _as_text(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def topic_config_members(config: TopicConfig) -> dict[str, Any]:
    return {
        "attributes": config.attributes,
        "order": config.order,
        "perm": config.perm,
        "readQueueNums": config.read_queues,
        "topicFilterType": config.filter_type,
        "topicName": config.name,
        "topicSysFlag": config.sys_flag,
        "writeQueueNums": config.write_queues,
    }


def topic_table_members(topics: Iterable[TopicConfig], version: DataVersion) -> dict[str, Any]:
    return {
        "dataVersion": data_version_members(version),
        "topicConfigTable": {config.name: topic_config_members(config) for config in topics},
    }


def encode_topic_config(config: TopicConfig) -> bytes:
    """The bare configuration, as 351 wants it."""
    return write_json(topic_config_members(config))


def decode_topic_config(data: bytes) -> TopicConfig:
    """Raises WireError."""
    return _CONFIG.decode(data).value()


def encode_topic_config_list(configs: Iterable[TopicConfig]) -> bytes:
    return write_json({"topicConfigList": [topic_config_members(config) for config in configs]})


def decode_topic_config_list(data: bytes) -> tuple[TopicConfig, ...]:
    """Raises WireError."""
    return tuple(shape.value() for shape in _CONFIG_LIST.decode(data).topic_config_list or ())


def encode_topic_table(topics: Iterable[TopicConfig], version: DataVersion) -> bytes:
    """The answer to 21."""
    return write_json(topic_table_members(topics, version))


def decode_topic_table(data: bytes) -> TopicTable:
    """Raises WireError."""
    return _TOPIC_TABLE.decode(data).value()
