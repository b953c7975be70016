"""Who is in a group: the ids (38) and the connections (203, 204).

`disagreements` is Posthouse's own and there only when there are any; readers that do not know it pass it over.
Source: RocketMQ 5.3 GetConsumerListByGroupResponseBody, ConsumerConnection, ProducerConnection, Connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, enum_of
from posthouse.codec.remoting.bodies.subscriptions import SubscriptionShape, subscription_members
from posthouse.codec.remoting.headers.numbers import Int32
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.connection import ClientConnection, ConsumerConnections, Disagreement
from posthouse.model.filter import TAG
from posthouse.model.group import ConsumeFrom, ConsumeType, MessageModel


class _IdsShape(msgspec.Struct, rename="camel"):
    consumer_id_list: list[str] | None = None


class _ConnectionShape(msgspec.Struct, rename="camel"):
    client_id: str | None = None
    client_addr: str | None = None
    language: str | int | None = None
    version: Int32 = 0

    def value(self) -> ClientConnection:
        return ClientConnection(
            self.client_id or "", self.client_addr or "", str(self.language or "OTHER"), self.version
        )


class _DisagreementShape(msgspec.Struct, rename="camel"):
    topic: str
    expression: str | None = None
    expression_type: str = TAG
    members: Int32 = 0
    client_ids: list[str] | None = None

    def value(self) -> Disagreement:
        return Disagreement(
            self.topic, self.expression, self.expression_type, self.members, tuple(self.client_ids or ())
        )


class _ConnectionsShape(msgspec.Struct, rename="camel"):
    connection_set: list[_ConnectionShape] | None = None
    subscription_table: dict[str, SubscriptionShape] | None = None
    consume_type: str | int = ConsumeType.CONSUME_PASSIVELY.name
    message_model: str | int = MessageModel.CLUSTERING.name
    consume_from_where: str | int = ConsumeFrom.CONSUME_FROM_LAST_OFFSET.name
    disagreements: list[_DisagreementShape] | None = None


_IDS = BodyType(_IdsShape, "a consumer list")
_CONNECTIONS = BodyType(_ConnectionsShape, "connections")


def encode_consumer_list(client_ids: Iterable[str]) -> bytes:
    """Clients sort the ids themselves, as UTF-16."""
    return write_json({"consumerIdList": list(client_ids)})


def decode_consumer_list(data: bytes) -> tuple[str, ...]:
    """Raises WireError."""
    return tuple(_IDS.decode(data).consumer_id_list or ())


def _connection_members(connection: ClientConnection) -> dict[str, Any]:
    return {
        "clientAddr": connection.address,
        "clientId": connection.client_id,
        "language": connection.language,
        "version": connection.version,
    }


def _disagreement_members(found: Disagreement) -> dict[str, Any]:
    return {
        "clientIds": list(found.client_ids),
        "expression": found.expression,
        "expressionType": found.expression_type,
        "members": found.members,
        "topic": found.topic,
    }


def encode_consumer_connections(found: ConsumerConnections) -> bytes:
    return write_json(
        {
            "connectionSet": [_connection_members(each) for each in found.connections],
            "consumeFromWhere": found.consume_from.name,
            "consumeType": found.consume_type.name,
            "disagreements": [_disagreement_members(each) for each in found.disagreements] or None,
            "messageModel": found.message_model.name,
            "subscriptionTable": {topic: subscription_members(each) for topic, each in found.subscriptions.items()},
        }
    )


def decode_consumer_connections(data: bytes) -> ConsumerConnections:
    """Raises WireError."""
    found = _CONNECTIONS.decode(data)
    return ConsumerConnections(
        tuple(each.value() for each in found.connection_set or ()),
        {topic: each.value() for topic, each in (found.subscription_table or {}).items()},
        enum_of(ConsumeType, found.consume_type),
        enum_of(MessageModel, found.message_model),
        enum_of(ConsumeFrom, found.consume_from_where),
        tuple(each.value() for each in found.disagreements or ()),
    )


def encode_producer_connections(connections: Iterable[ClientConnection]) -> bytes:
    return write_json({"connectionSet": [_connection_members(each) for each in connections]})


def decode_producer_connections(data: bytes) -> tuple[ClientConnection, ...]:
    """Raises WireError."""
    return tuple(each.value() for each in _CONNECTIONS.decode(data).connection_set or ())
