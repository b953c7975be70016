"""A NameServer over remoting: one thin handler for each request code, and their rows.

A handler turns a header and a body into a call and the result into a reply; decisions are in posthouse.nameserver.
Bodies with broker ids go out in the dialect of the asker: see bodies.routes.
Source: RocketMQ 5.3 DefaultRequestProcessor and ClientRequestProcessor of the NameServer.
"""

from __future__ import annotations

from collections.abc import Iterable

from posthouse.codec.remoting.bodies.cluster import encode_broker_member_group, encode_cluster_info
from posthouse.codec.remoting.bodies.data_version import decode_data_version, encode_data_version
from posthouse.codec.remoting.bodies.java_properties import read_java_properties, write_java_properties
from posthouse.codec.remoting.bodies.registration import decode_registration
from posthouse.codec.remoting.bodies.routes import decode_route, encode_route, wants_standard_json
from posthouse.codec.remoting.bodies.topics import encode_kv_table, encode_topic_list
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import nameserver as headers
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.link.peer import RemotingPeer
from posthouse.model.refusal import Reason, Refused
from posthouse.model.route import DataVersion
from posthouse.nameserver.addresses import Origin
from posthouse.nameserver.nameserver import NameServer
from posthouse.nameserver.routes import BrokerIdentity, BrokerTraits

DONE = Reply()

_ZLIB = b"\x78"


def peer_lost(service: NameServer, peer: RemotingPeer) -> None:
    """For the dispatcher's `on_disconnected`: a broker lives no longer than its connection."""
    service.routes.connection_lost(peer)


# Registration


def register_broker(service: NameServer, header: headers.RegisterBroker, command: Command, peer: RemotingPeer) -> Reply:
    # Brokers of 5.0 to 5.3 that compress say that they do not. No JSON begins as a zlib stream does.
    compressed = header.compressed or command.body.startswith(_ZLIB)
    registration = decode_registration(command.body, compressed=compressed, crc=header.body_crc)
    who = BrokerIdentity(header.cluster_name, header.broker_name, header.broker_addr, header.broker_id)
    traits = BrokerTraits(
        header.ha_server_addr or "", header.heartbeat_timeout_ms, header.enable_acting_master, header.zone_name
    )
    registered = service.routes.register(who, registration, traits, peer, _origin(peer))
    reply = headers.RegisterBrokerReply(ha_server_addr=registered.ha_address, master_addr=registered.master_address)
    order_table = service.order_table()
    body = encode_kv_table(order_table) if order_table is not None else b""
    return Reply(ext=headers.REGISTER_BROKER_REPLY.encode(reply), body=body)


def unregister_broker(
    service: NameServer, header: headers.UnregisterBroker, command: Command, peer: RemotingPeer
) -> Reply:
    service.routes.unregister(_identity(header))
    return DONE


def query_data_version(
    service: NameServer, header: headers.QueryDataVersion, command: Command, peer: RemotingPeer
) -> Reply:
    asked = decode_data_version(command.body) if command.body else DataVersion()
    changed, known = service.routes.query_data_version(_identity(header), asked)
    ext = headers.QUERY_DATA_VERSION_REPLY.encode(headers.QueryDataVersionReply(changed=changed))
    return Reply(ext=ext, body=encode_data_version(known) if known is not None else b"")


def broker_heartbeat(
    service: NameServer, header: headers.BrokerHeartbeat, command: Command, peer: RemotingPeer
) -> Reply:
    who = BrokerIdentity(header.cluster_name, header.broker_name, header.broker_addr, header.broker_id or 0)
    service.routes.heartbeat(who)
    return DONE


# Routes


def get_route(service: NameServer, header: headers.GetRoute, command: Command, peer: RemotingPeer) -> Reply:
    zone_wanted = (header.zone_mode or "").lower() == "true" and (header.zone_name or "").strip()
    route = service.route(header.topic, peer.local.host, zone_wanted or None)
    standard = wants_standard_json(command.version, header.accept_standard_json_only)
    return Reply(body=encode_route(route, standard_json=standard))


def get_cluster_info(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    info = service.routes.cluster_info(peer.local.host)
    return Reply(body=encode_cluster_info(info, standard_json=wants_standard_json(command.version, None)))


def get_member_group(
    service: NameServer, header: headers.GetBrokerMemberGroup, command: Command, peer: RemotingPeer
) -> Reply:
    group = service.routes.member_group(header.cluster_name, header.broker_name, peer.local.host)
    return Reply(body=encode_broker_member_group(group, standard_json=wants_standard_json(command.version, None)))


# Topics


def register_topic(service: NameServer, header: headers.RegisterTopic, command: Command, peer: RemotingPeer) -> Reply:
    if command.body:
        service.routes.register_topic(header.topic, decode_route(command.body).queues)
    return DONE


def delete_topic(
    service: NameServer, header: headers.DeleteTopicInNameServer, command: Command, peer: RemotingPeer
) -> Reply:
    service.routes.delete_topic(header.topic, header.cluster_name or None)
    return DONE


def list_topics(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    if not service.config.enable_all_topic_list:
        raise Refused(Reason.FAILED, "disabled by enableAllTopicList")
    return Reply(body=encode_topic_list(service.routes.topics()))


def list_topics_of_cluster(
    service: NameServer, header: headers.ClusterName, command: Command, peer: RemotingPeer
) -> Reply:
    return _some_topics(service, service.routes.topics_of_cluster(header.cluster))


def list_system_topics(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_topic_list(*service.routes.system_topics(peer.local.host)))


def list_unit_topics(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return _some_topics(service, service.routes.unit_topics())


def list_unit_subscribed_topics(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return _some_topics(service, service.routes.unit_subscribed_topics())


def list_unit_subscribed_plain_topics(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return _some_topics(service, service.routes.unit_subscribed_plain_topics())


def wipe_write_permission(
    service: NameServer, header: headers.BrokerName, command: Command, peer: RemotingPeer
) -> Reply:
    count = service.routes.wipe_write_permission(header.broker_name)
    return Reply(ext=headers.WIPE_WRITE_PERM_REPLY.encode(headers.WipeWritePermReply(topics=count)))


def add_write_permission(
    service: NameServer, header: headers.BrokerName, command: Command, peer: RemotingPeer
) -> Reply:
    count = service.routes.add_write_permission(header.broker_name)
    return Reply(ext=headers.ADD_WRITE_PERM_REPLY.encode(headers.AddWritePermReply(topics=count)))


# Configuration


async def put_kv(service: NameServer, header: headers.PutKv, command: Command, peer: RemotingPeer) -> Reply:
    if header.namespace is None or header.key is None or header.value is None:
        raise Refused(Reason.FAILED, "PUT_KV_CONFIG needs a namespace, a key and a value")
    await service.kv.put(header.namespace, header.key, header.value)
    return DONE


def get_kv(service: NameServer, header: headers.KvKey, command: Command, peer: RemotingPeer) -> Reply:
    value = service.kv.get(header.namespace, header.key)
    return Reply(ext=headers.GET_KV_REPLY.encode(headers.GetKvReply(value=value)))


async def delete_kv(service: NameServer, header: headers.KvKey, command: Command, peer: RemotingPeer) -> Reply:
    await service.kv.delete(header.namespace, header.key)
    return DONE


def list_kv(service: NameServer, header: headers.GetKvList, command: Command, peer: RemotingPeer) -> Reply:
    table = service.kv.namespace(header.namespace)
    if table is None:
        raise Refused(Reason.NOT_FOUND, f"there is no key in namespace {header.namespace!r}")
    return Reply(body=encode_kv_table(table))


def update_config(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    service.change_config(read_java_properties(command.body))
    return DONE


def get_config(service: NameServer, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=write_java_properties(service.config.properties()))


def _identity(header: headers.UnregisterBroker | headers.QueryDataVersion) -> BrokerIdentity:
    return BrokerIdentity(header.cluster_name, header.broker_name, header.broker_addr, header.broker_id)


def _origin(peer: RemotingPeer) -> Origin:
    return Origin(peer.remote.host, peer.local.host)


def _some_topics(service: NameServer, topics: Iterable[str]) -> Reply:
    if not service.config.enable_topic_list:
        raise Refused(Reason.FAILED, "disabled by enableTopicList")
    return Reply(body=encode_topic_list(topics))


_C = RequestCode

NAMESERVER_ROUTES: tuple[Route, ...] = (
    Route(_C.PUT_KV_CONFIG, headers.PUT_KV, put_kv, doc="set an entry of the KV configuration"),
    Route(_C.GET_KV_CONFIG, headers.KV_KEY, get_kv, doc="an entry of the KV configuration"),
    Route(_C.DELETE_KV_CONFIG, headers.KV_KEY, delete_kv, doc="remove an entry of the KV configuration"),
    Route(_C.REGISTER_BROKER, headers.REGISTER_BROKER, register_broker, doc="a broker tells its address and topics"),
    Route(_C.UNREGISTER_BROKER, headers.UNREGISTER_BROKER, unregister_broker, doc="a broker says that it stops"),
    Route(_C.GET_ROUTEINFO_BY_TOPIC, headers.GET_ROUTE, get_route, HOT, doc="the brokers and queues of a topic"),
    Route(_C.GET_BROKER_CLUSTER_INFO, None, get_cluster_info, doc="all brokers by name and cluster"),
    Route(_C.WIPE_WRITE_PERM_OF_BROKER, headers.BROKER_NAME, wipe_write_permission, doc="make a broker read-only"),
    Route(_C.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, None, list_topics, doc="names of all topics"),
    Route(
        _C.DELETE_TOPIC_IN_NAMESRV, headers.DELETE_TOPIC_IN_NAME_SERVER, delete_topic, doc="forget the route of a topic"
    ),
    Route(_C.REGISTER_TOPIC_IN_NAMESRV, headers.REGISTER_TOPIC, register_topic, doc="set the route of a topic"),
    Route(_C.GET_KVLIST_BY_NAMESPACE, headers.GET_KV_LIST, list_kv, doc="all entries of a KV namespace"),
    Route(_C.GET_TOPICS_BY_CLUSTER, headers.CLUSTER_NAME, list_topics_of_cluster, doc="names of a cluster's topics"),
    Route(_C.GET_SYSTEM_TOPIC_LIST_FROM_NS, None, list_system_topics, doc="names of clusters and brokers, as topics"),
    Route(_C.GET_UNIT_TOPIC_LIST, None, list_unit_topics, doc="names of unit topics"),
    Route(
        _C.GET_HAS_UNIT_SUB_TOPIC_LIST, None, list_unit_subscribed_topics, doc="names of topics with unit subscriptions"
    ),
    Route(
        _C.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, None, list_unit_subscribed_plain_topics,
        doc="names of topics with unit subscriptions that are no unit topics",
    ),
    Route(_C.UPDATE_NAMESRV_CONFIG, None, update_config, doc="change settings until the next start"),
    Route(_C.GET_NAMESRV_CONFIG, None, get_config, doc="all settings, as properties text"),
    Route(_C.QUERY_DATA_VERSION, headers.QUERY_DATA_VERSION, query_data_version, doc="whether a broker must register"),
    Route(_C.ADD_WRITE_PERM_OF_BROKER, headers.BROKER_NAME, add_write_permission, doc="make a broker writable again"),
    Route(
        _C.GET_BROKER_MEMBER_GROUP, headers.GET_BROKER_MEMBER_GROUP, get_member_group, doc="the brokers of one name"
    ),
    Route(_C.BROKER_HEARTBEAT, headers.BROKER_HEARTBEAT, broker_heartbeat, doc="a sign of life of a broker"),
)  # fmt: skip
