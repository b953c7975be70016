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
class Disagreement:
    """One of several things that the members of a group want of one topic. RocketMQ serves who spoke last.

    `expression` None: these members have not subscribed the topic. `client_ids` are a few of the `members` of them.
    """

    topic: str
    expression: str | None
    expression_type: str
    members: int
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConsumerConnections:
    """The members of a consumer group, and what the group as a whole wants; `subscriptions` by topic.

    `disagreements`: where members want different things, which they must not; empty from servers that do not tell.
    """

    connections: tuple[ClientConnection, ...]
    subscriptions: Mapping[str, Subscription]
    consume_type: ConsumeType
    message_model: MessageModel
    consume_from: ConsumeFrom
    disagreements: tuple[Disagreement, ...] = ()
