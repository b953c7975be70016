"""Handlers of the broker itself: its settings (25, 26), its figures (28), and cleaning (306, 329)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.data_version import encode_data_version
from posthouse.codec.remoting.bodies.java_properties import read_java_properties, write_java_properties
from posthouse.codec.remoting.bodies.topics import encode_kv_table
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.admin import GET_BROKER_CONFIG_REPLY, GetBrokerConfigReply
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


def change_config(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """25: until the next start."""
    broker.store.check_writable()  # some settings are topics
    broker.settings.change(read_java_properties(command.body))
    return Reply()


def broker_config(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """26, under RocketMQ's names."""
    version = encode_data_version(broker.settings.version).decode()
    ext = GET_BROKER_CONFIG_REPLY.encode(GetBrokerConfigReply(version=version))
    return Reply(ext=ext, body=write_java_properties(broker.settings.table(broker.registrar.listen.port)))


def runtime_info(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_kv_table(broker.runtime.table()))


def delete_expired(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """329: at once, and not in the hours for it. Nothing goes that is not too old."""
    broker.retention.clean_now()
    return Reply()


def nothing_to_clean(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """306: what a queue does not need any more goes with the log."""
    return Reply()


ADMIN_ROUTES = (
    Route(RequestCode.UPDATE_BROKER_CONFIG, None, change_config, HOT, doc="change settings until the next start"),
    Route(RequestCode.GET_BROKER_CONFIG, None, broker_config, HOT, doc="all settings, as properties text"),
    Route(RequestCode.GET_BROKER_RUNTIME_INFO, None, runtime_info, HOT, doc="figures of the running broker"),
    Route(
        RequestCode.CLEAN_EXPIRED_CONSUMEQUEUE, None, nothing_to_clean, HOT,
        doc="queues lose what the log loses by themselves: nothing is left to do",
    ),
    Route(
        RequestCode.DELETE_EXPIRED_COMMITLOG, None, delete_expired, HOT,
        doc="delete what is too old now, whatever the hour",
    ),
)  # fmt: skip
