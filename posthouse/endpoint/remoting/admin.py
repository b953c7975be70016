"""Handlers of the broker itself: its configuration (26) and its figures (28)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.data_version import encode_data_version
from posthouse.codec.remoting.bodies.java_properties import write_java_properties
from posthouse.codec.remoting.bodies.topics import encode_kv_table
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.admin import GET_BROKER_CONFIG_REPLY, GetBrokerConfigReply
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.model.limits import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


def broker_config(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """26, under RocketMQ's names."""
    config = broker.config
    table = {
        "autoCreateSubscriptionGroup": _text(config.auto_create_groups),
        "autoCreateTopicEnable": _text(config.auto_create_topics),
        "brokerClusterName": config.cluster,
        "brokerId": str(config.broker_id),
        "brokerName": config.name,
        "brokerPermission": "6",
        "brokerRole": "ASYNC_MASTER",
        "defaultTopicQueueNums": str(config.default_topic_queues),
        "flushDiskType": "SYNC_FLUSH",
        "listenPort": str(broker.registrar.listen.port),
        "longPollingEnable": _text(config.long_polling),
        "maxMessageSize": str(MESSAGE_BYTES_MAX),
        "namesrvAddr": ";".join(map(str, config.nameservers)),
    }
    version = encode_data_version(broker.topics.version).decode()
    ext = GET_BROKER_CONFIG_REPLY.encode(GetBrokerConfigReply(version=version))
    return Reply(ext=ext, body=write_java_properties(table))


def _text(value: bool) -> str:
    return "true" if value else "false"


def runtime_info(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_kv_table(broker.runtime.table()))


ADMIN_ROUTES = (
    Route(RequestCode.GET_BROKER_CONFIG, None, broker_config, HOT),
    Route(RequestCode.GET_BROKER_RUNTIME_INFO, None, runtime_info, HOT),
)
