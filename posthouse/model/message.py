"""Messages as values: what a program sends, what the broker is asked to store, what a consumer gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.offsets import LogOffset, QueueOffset


class SysFlag:
    """Bits of a record's sysFlag. Source: RocketMQ 5.3 MessageSysFlag."""

    COMPRESSED = 0x1
    MULTI_TAGS = 0x2
    TRANSACTION_MASK = 0xC
    PREPARED = 0x4
    COMMIT = 0x8
    ROLLBACK = 0xC
    BORN_HOST_V6 = 0x10
    STORE_HOST_V6 = 0x20
    NEED_UNWRAP = 0x40
    INNER_BATCH = 0x80
    COMPRESSION_TYPE_MASK = 0x700


class Endpoint(NamedTuple):
    """An address as records hold it: `ip` is 4 or 16 raw bytes."""

    ip: bytes
    port: int


class MessageQueue(NamedTuple):
    """One queue of a topic on one broker; sorts as clients sort before they share queues."""

    topic: str
    broker_name: str
    queue_id: int


@dataclass(slots=True)
class Message:
    """What a program sends. `body` is opaque. `tag` and `keys` are ordinary properties with a meaning.

    `sharding_key`: messages of one key go to one queue, so they keep their order.
    """

    topic: str
    body: bytes
    tag: str = ""
    keys: str | tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    flag: int = 0
    sharding_key: str = ""

    def all_properties(self) -> dict[str, str]:
        """The properties with tag, keys and sharding key under their RocketMQ names."""
        found = dict(self.properties)
        if self.tag:
            found[names.TAGS] = self.tag
        keys = self.keys if isinstance(self.keys, str) else " ".join(self.keys)
        if keys:
            found[names.KEYS] = keys
        if self.sharding_key:
            found[names.SHARDING_KEY] = self.sharding_key
        return found


class NewMessage(NamedTuple):
    """A message on its way into the store: everything of a record that the store does not decide itself.

    `properties` is the encoded text (see model.properties); `body` is stored as it came, compressed or not.
    """

    topic: str
    queue_id: int
    body: bytes | memoryview
    properties: str
    flag: int
    sys_flag: int
    born_at_ms: EpochMs
    born_host: Endpoint
    reconsume_times: int = 0


@dataclass(slots=True)
class StoredMessage:
    """A message as a consumer or a tool sees it: the whole record. `body` is as stored (maybe compressed)."""

    topic: str
    queue_id: int
    queue_offset: QueueOffset
    log_offset: LogOffset
    body: bytes
    properties: dict[str, str]
    flag: int
    sys_flag: int
    born_at_ms: EpochMs
    born_host: Endpoint
    stored_at_ms: EpochMs
    store_host: Endpoint
    reconsume_times: int
    prepared_transaction_offset: LogOffset
    store_size_bytes: int
    body_crc: int
    broker_name: str = ""

    @property
    def tag(self) -> str:
        return self.properties.get(names.TAGS, "")

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.properties.get(names.KEYS, "").split())

    @property
    def message_id(self) -> str:
        """The producer's id if it gave one (it always does), else the id of the record's place."""
        from posthouse.model.ids import offset_message_id

        return self.properties.get(names.UNIQ_KEY) or offset_message_id(self.store_host, self.log_offset)
