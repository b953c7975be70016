"""Headers that a NameServer reads and writes: KV configuration, registration, routes, permissions, lists.

Source: RocketMQ 5.3, package protocol.header.namesrv.
"""

from __future__ import annotations

import msgspec
from msgspec import field

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers.numbers import Int32, Int64


class PutKv(msgspec.Struct, kw_only=True, rename="camel"):
    """100. A missing name is an error answer, not a broken header."""

    namespace: str | None = None
    key: str | None = None
    value: str | None = None


class KvKey(msgspec.Struct, kw_only=True, rename="camel"):
    """101, 102."""

    namespace: str
    key: str


class GetKvReply(msgspec.Struct, kw_only=True, rename="camel"):
    """101."""

    value: str | None = None


class GetKvList(msgspec.Struct, kw_only=True, rename="camel"):
    """219."""

    namespace: str


class RegisterBroker(msgspec.Struct, kw_only=True, rename="camel"):
    """103. `enable_acting_master` is there at all only from 5.x brokers. `body_crc` 0: do not check."""

    broker_name: str
    broker_addr: str
    cluster_name: str
    ha_server_addr: str | None = None
    broker_id: Int64
    heartbeat_timeout_ms: Int64 | None = field(name="heartbeatTimeoutMillis", default=None)
    enable_acting_master: bool | None = None
    compressed: bool = False
    body_crc: Int32 = field(name="bodyCrc32", default=0)
    zone_name: str | None = field(name="__ZONE_NAME", default=None)


class RegisterBrokerReply(msgspec.Struct, kw_only=True, rename="camel"):
    """103; for a slave whose master is known."""

    ha_server_addr: str | None = None
    master_addr: str | None = None


class UnregisterBroker(msgspec.Struct, kw_only=True, rename="camel"):
    """104."""

    broker_name: str
    broker_addr: str
    cluster_name: str
    broker_id: Int64


class GetRoute(msgspec.Struct, kw_only=True, rename="camel"):
    """105. With `accept_standard_json_only`, or from version 401 on, ids in the answer are quoted."""

    topic: str
    accept_standard_json_only: bool | None = None
    zone_mode: str | None = field(name="__ZONE_MODE", default=None)
    zone_name: str | None = field(name="__ZONE_NAME", default=None)


class BrokerName(msgspec.Struct, kw_only=True, rename="camel"):
    """205, 327."""

    broker_name: str


class WipeWritePermReply(msgspec.Struct, kw_only=True, rename="camel"):
    """205."""

    topics: Int32 = field(name="wipeTopicCount")


class AddWritePermReply(msgspec.Struct, kw_only=True, rename="camel"):
    """327."""

    topics: Int32 = field(name="addTopicCount")


class DeleteTopicInNameServer(msgspec.Struct, kw_only=True, rename="camel"):
    """216. With a cluster: only the brokers of that one."""

    topic: str
    cluster_name: str | None = None


class RegisterTopic(msgspec.Struct, kw_only=True, rename="camel"):
    """217."""

    topic: str


class ClusterName(msgspec.Struct, kw_only=True, rename="camel"):
    """224."""

    cluster: str


class QueryDataVersion(msgspec.Struct, kw_only=True, rename="camel"):
    """322."""

    broker_name: str
    broker_addr: str
    cluster_name: str
    broker_id: Int64


class QueryDataVersionReply(msgspec.Struct, kw_only=True, rename="camel"):
    """322."""

    changed: bool


class GetBrokerMemberGroup(msgspec.Struct, kw_only=True, rename="camel"):
    """901."""

    cluster_name: str
    broker_name: str


class BrokerHeartbeat(msgspec.Struct, kw_only=True, rename="camel"):
    """904."""

    cluster_name: str
    broker_addr: str
    broker_name: str
    broker_id: Int64 | None = None
    epoch: Int32 | None = None
    max_offset: Int64 | None = None
    confirm_offset: Int64 | None = None
    heartbeat_timeout_ms: Int64 | None = field(name="heartbeatTimeoutMills", default=None)
    election_priority: Int32 | None = None


PUT_KV = HeaderType(PutKv)
KV_KEY = HeaderType(KvKey)
GET_KV_REPLY = HeaderType(GetKvReply)
GET_KV_LIST = HeaderType(GetKvList)
REGISTER_BROKER = HeaderType(RegisterBroker)
REGISTER_BROKER_REPLY = HeaderType(RegisterBrokerReply)
UNREGISTER_BROKER = HeaderType(UnregisterBroker)
GET_ROUTE = HeaderType(GetRoute)
BROKER_NAME = HeaderType(BrokerName)
WIPE_WRITE_PERM_REPLY = HeaderType(WipeWritePermReply)
ADD_WRITE_PERM_REPLY = HeaderType(AddWritePermReply)
DELETE_TOPIC_IN_NAME_SERVER = HeaderType(DeleteTopicInNameServer)
REGISTER_TOPIC = HeaderType(RegisterTopic)
CLUSTER_NAME = HeaderType(ClusterName)
QUERY_DATA_VERSION = HeaderType(QueryDataVersion)
QUERY_DATA_VERSION_REPLY = HeaderType(QueryDataVersionReply)
GET_BROKER_MEMBER_GROUP = HeaderType(GetBrokerMemberGroup)
BROKER_HEARTBEAT = HeaderType(BrokerHeartbeat)
