"""Handlers of liveness and membership: 34, 35, 38, 46, and who is connected, 203, 204."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.consumers import (
    encode_consumer_connections,
    encode_consumer_list,
    encode_producer_connections,
)
from posthouse.codec.remoting.bodies.heartbeat import decode_client_check, decode_heartbeat
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import clients as headers
from posthouse.codec.remoting.headers import groups as group_headers
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.model.filter import parse_subscription

if TYPE_CHECKING:
    from posthouse.endpoint.remoting.broker import BrokerDesk
    from posthouse.link.peer import RemotingPeer


def heartbeat(desk: BrokerDesk, header: None, command: Command, peer: RemotingPeer) -> Reply:
    said = decode_heartbeat(command.body)
    desk.broker.clients.heartbeat(desk.channel(peer), str(command.language), command.version, said)
    return Reply()


def unregister(desk: BrokerDesk, header: headers.UnregisterClient, command: Command, peer: RemotingPeer) -> Reply:
    desk.broker.clients.unregister(desk.channel(peer), header.producer_group, header.consumer_group)
    return Reply()


def consumer_list(desk: BrokerDesk, header: headers.GetConsumerList, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_consumer_list(desk.broker.clients.consumer_ids(header.consumer_group)))


def check_client(desk: BrokerDesk, header: None, command: Command, peer: RemotingPeer) -> Reply:
    asked = decode_client_check(command.body).subscription
    parse_subscription(asked.topic, asked.expression, asked.expression_type)
    return Reply()


def consumer_connections(
    desk: BrokerDesk, header: group_headers.GetConsumerConnections, command: Command, peer: RemotingPeer
) -> Reply:
    return Reply(body=encode_consumer_connections(desk.broker.clients.consumer_connections(header.consumer_group)))


def producer_connections(
    desk: BrokerDesk, header: group_headers.GetProducerConnections, command: Command, peer: RemotingPeer
) -> Reply:
    return Reply(body=encode_producer_connections(desk.broker.clients.producer_connections(header.producer_group)))


CLIENT_ROUTES = (
    Route(RequestCode.HEART_BEAT, None, heartbeat, HOT),
    Route(RequestCode.UNREGISTER_CLIENT, headers.UNREGISTER_CLIENT, unregister, HOT),
    Route(RequestCode.GET_CONSUMER_LIST_BY_GROUP, headers.GET_CONSUMER_LIST, consumer_list, HOT),
    Route(RequestCode.CHECK_CLIENT_CONFIG, None, check_client, HOT),
    Route(RequestCode.GET_CONSUMER_CONNECTION_LIST, group_headers.GET_CONSUMER_CONNECTIONS, consumer_connections, HOT),
    Route(RequestCode.GET_PRODUCER_CONNECTION_LIST, group_headers.GET_PRODUCER_CONNECTIONS, producer_connections, HOT),
)
