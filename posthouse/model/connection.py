"""Who is connected, as tools are told. Source: RocketMQ 5.3 Connection, ConsumerConnection, ProducerConnection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.model.filter import Subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, MessageModel


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """`address` is `ip:port` as the broker saw it; `version` is the ordinal that the client gave."""

    client_id: str
    address: str
    language: str
    version: int


@dataclass(frozen=True, slots=True)
class ConsumerConnections:
    """The members of a consumer group, and what the group as a whole wants; `subscriptions` by topic."""

    connections: tuple[ClientConnection, ...]
    subscriptions: Mapping[str, Subscription]
    consume_type: ConsumeType
    message_model: MessageModel
    consume_from: ConsumeFrom
