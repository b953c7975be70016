"""Who is connected: producers and consumers of each group, and what each consumer group wants.

A channel is a client's live connection; it may carry many groups. A heartbeat is the whole truth about a client: its
last word replaces what the group said before, as in RocketMQ. Members that come, go, or change their topics make the
group rebalance: every member is told at once. Members that want different things are named in the log.
Source: RocketMQ 5.3 ConsumerManager, ProducerManager.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from posthouse.broker.groups import Groups
from posthouse.broker.topics import Topics
from posthouse.broker.wishes import Wishes, wishes_of
from posthouse.model.connection import ClientConnection, ConsumerConnections
from posthouse.model.filter import Subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.heartbeat import HeartbeatData
from posthouse.model.limits import CLIENT_EXPIRY_MS, GROUPS_MAX, RESERVED_TOPIC_CHARS_MAX
from posthouse.model.names import retry_topic
from posthouse.model.question import ClientAnswer, Question
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig

log = logging.getLogger(__name__)

_PRODUCER_GROUP_CHARS_MAX = RESERVED_TOPIC_CHARS_MAX
"""Clients let longer names pass for producers than for consumers, whose names are part of a topic's."""


class Channel(Protocol):
    """A client's connection, as this service needs it. Compared by identity."""

    @property
    def client_address(self) -> str:
        """`ip:port` of the client."""

    def group_changed(self, group: str) -> None:
        """Tells the client that the members of a group changed; nobody answers."""

    async def ask(
        self, question: Question, fields: Mapping[str, str], body: bytes = b"", *, timeout_s: float
    ) -> ClientAnswer:
        """What the client says, also when that is no. Raises Refused: CLIENT_SILENT, FAILED when it is gone."""

    def tell(self, question: Question, fields: Mapping[str, str], body: bytes = b"") -> None:
        """The same for what nobody answers; dropped when the client is gone."""

    def close(self, why: str) -> None: ...


@dataclass(slots=True)
class _Member:
    client: ClientConnection
    seen_at_s: float  # when a heartbeat last named the group


@dataclass(slots=True)
class ConsumerGroup:
    """A group that has members, or had them lately."""

    name: str
    consume_type: ConsumeType = ConsumeType.CONSUME_PASSIVELY
    message_model: MessageModel = MessageModel.CLUSTERING
    consume_from: ConsumeFrom = ConsumeFrom.CONSUME_FROM_LAST_OFFSET
    members: dict[Channel, _Member] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)


class Clients:
    def __init__(self, topics: Topics, groups: Groups, monotonic_s: Callable[[], float]) -> None:
        self._topics = topics
        self._groups = groups
        self._now_s = monotonic_s
        self._producers: dict[str, dict[Channel, _Member]] = {}
        self._producer_channels: dict[str, Channel] = {}
        """By client id, the one that was heard last."""
        self._consumers: dict[str, ConsumerGroup] = {}
        self._groups_of: dict[Channel, set[tuple[bool, str]]] = {}  # (is a consumer, group)

    # What clients say

    def heartbeat(self, channel: Channel, language: str, version: int, said: HeartbeatData) -> None:
        """Takes a client's word about all its groups. A group that may not be made is left out."""
        client = ClientConnection(said.client_id, channel.client_address, language, version)
        for group in said.producer_groups:
            if len(group) > _PRODUCER_GROUP_CHARS_MAX or (
                group not in self._producers and len(self._producers) >= GROUPS_MAX
            ):
                log.info("heartbeat of %s: producer group %.60r is left out", said.client_id, group)
                continue
            members = self._producers.setdefault(group, {})
            if (before := members.get(channel)) is not None and before.client.client_id != said.client_id:
                self._forget_producer_channel(before.client.client_id, channel)
            members[channel] = _Member(client, self._now_s())
            self._groups_of.setdefault(channel, set()).add((False, group))
            self._producer_channels[said.client_id] = channel
        for membership in said.memberships:
            try:
                config = self._groups.require(membership.group)
                self._topics.ensure(
                    TopicConfig(retry_topic(config.name), max(1, config.retry_queues), max(1, config.retry_queues))
                )
            except Refused as refused:
                log.info("heartbeat of %s: group %r is left out: %s", said.client_id, membership.group, refused)
                continue
            self._consumer_heartbeat(channel, client, membership, said.without_sub)

    def _consumer_heartbeat(
        self, channel: Channel, client: ClientConnection, said: Membership, without_sub: bool
    ) -> None:
        group = self._consumers.setdefault(said.group, ConsumerGroup(said.group))
        group.consume_type, group.message_model = said.consume_type, said.message_model
        group.consume_from = said.consume_from
        is_new = channel not in group.members
        group.members[channel] = _Member(client, self._now_s())
        self._groups_of.setdefault(channel, set()).add((True, said.group))
        changed = False if without_sub else _replace_subscriptions(group, said.subscriptions)
        if not without_sub:
            group.wishes.said(channel, client.client_id, wishes_of(said.subscriptions))
            _tell_of_disagreement(group)
        if is_new or changed:
            self._tell_members(group)

    def unregister(self, channel: Channel, producer_group: str | None, consumer_group: str | None) -> None:
        """A client leaves a group in good order."""
        if producer_group:
            self._leave(channel, False, producer_group)
        if consumer_group:
            self._leave(channel, True, consumer_group)

    def disconnected(self, channel: Channel) -> None:
        """The connection is gone: so are its memberships, at once."""
        for is_consumer, group in sorted(self._groups_of.get(channel, ())):
            self._leave(channel, is_consumer, group)

    def expire(self) -> None:
        """Forgets what has not been in a heartbeat for CLIENT_EXPIRY_MS, and closes clients that sent none at all."""
        limit_s = self._now_s() - CLIENT_EXPIRY_MS / 1000
        for channel, memberships in list(self._groups_of.items()):
            unnamed = [each for each in sorted(memberships) if self._member(channel, *each).seen_at_s < limit_s]
            is_silent = len(unnamed) == len(memberships)
            for is_consumer, group in unnamed:
                self._leave(channel, is_consumer, group)
            if is_silent:
                log.info("client %s: no heartbeat for %d s; closed", channel.client_address, CLIENT_EXPIRY_MS // 1000)
                channel.close("no heartbeat")

    def _member(self, channel: Channel, is_consumer: bool, name: str) -> _Member:
        return (self._consumers[name].members if is_consumer else self._producers[name])[channel]

    def _leave(self, channel: Channel, is_consumer: bool, name: str) -> None:
        memberships = self._groups_of.get(channel)
        if memberships is None or (is_consumer, name) not in memberships:
            return
        memberships.discard((is_consumer, name))
        if not memberships:
            del self._groups_of[channel]
        if is_consumer:
            group = self._consumers[name]
            group.members.pop(channel, None)
            group.wishes.gone(channel)
            _tell_of_disagreement(group)
            self._tell_members(group)
            if not group.members:
                del self._consumers[name]
        else:
            members = self._producers[name]
            left = members.pop(channel, None)
            if not members:
                del self._producers[name]
            if left is not None and all(is_consumer for is_consumer, _ in self._groups_of.get(channel, ())):
                self._forget_producer_channel(left.client.client_id, channel)

    def _forget_producer_channel(self, client_id: str, channel: Channel) -> None:
        if self._producer_channels.get(client_id) is channel:
            del self._producer_channels[client_id]

    def _tell_members(self, group: ConsumerGroup) -> None:
        config = self._groups.find(group.name)
        if group.message_model is MessageModel.BROADCASTING:
            return
        if config is not None and not config.notify_consumer_ids_changed_enable:
            return
        for channel in list(group.members):
            channel.group_changed(group.name)

    # What others ask

    def consumer_ids(self, group: str) -> list[str]:
        """Client ids of the members, sorted as clients sort them (UTF-16). Raises Refused(FAILED) if there is none."""
        found = self._consumers.get(group)
        if found is None or not found.members:
            raise Refused(Reason.FAILED, f"group {group!r} has no member here; its heartbeat has not come yet")
        ids = {member.client.client_id for member in found.members.values()}
        return sorted(ids, key=lambda text: text.encode("utf-16-be", "surrogatepass"))

    def consumer_group(self, group: str) -> ConsumerGroup | None:
        return self._consumers.get(group)

    def consumer_connections(self, group: str) -> ConsumerConnections:
        """Raises Refused(CONSUMER_NOT_ONLINE)."""
        found = self._consumers.get(group)
        if found is None:
            raise Refused(Reason.CONSUMER_NOT_ONLINE, f"group {group!r} has no consumer connected to this broker")
        clients = tuple(member.client for member in found.members.values())
        return ConsumerConnections(
            clients,
            dict(found.subscriptions),
            found.consume_type,
            found.message_model,
            found.consume_from,
            found.wishes.disagreements(),
        )

    def producer_channel(self, client_id: str) -> Channel | None:
        """The connection of the client with that id, if it is a producer too."""
        return self._producer_channels.get(client_id)

    def producer_connections(self, group: str) -> tuple[ClientConnection, ...]:
        """Raises Refused(FAILED) if there is none."""
        found = self._producers.get(group)
        if not found:
            raise Refused(Reason.FAILED, f"producer group {group!r} is not connected to this broker")
        return tuple(member.client for member in found.values())

    def consumers(self, group: str) -> list[tuple[ClientConnection, Channel]]:
        """The members that are connected, each with the way to it. Raises Refused(CONSUMER_NOT_ONLINE)."""
        found = self._consumers.get(group)
        if found is None or not found.members:
            raise Refused(Reason.CONSUMER_NOT_ONLINE, f"group {group!r} has no consumer connected to this broker")
        return [(member.client, channel) for channel, member in found.members.items()]

    def producers(self) -> dict[str, list[tuple[ClientConnection, float]]]:
        """Every producer group's members, each with the seconds since its last heartbeat."""
        now_s = self._now_s()
        return {
            group: [(member.client, now_s - member.seen_at_s) for member in members.values()]
            for group, members in self._producers.items()
        }

    def topics_of(self, group: str) -> list[str]:
        """Topics that a connected group wants."""
        found = self._consumers.get(group)
        return [] if found is None else sorted(found.subscriptions)

    def groups_on(self, topic: str) -> Iterator[str]:
        """Groups with members that want a topic."""
        return (group.name for group in self._consumers.values() if topic in group.subscriptions)


def _tell_of_disagreement(group: ConsumerGroup) -> None:
    news = group.wishes.news()
    if news:
        log.warning("the members of group %s want different things, and get the wrong messages: %s", group.name, news)
    elif news is not None:
        log.info("the members of group %s all want the same again", group.name)


def _replace_subscriptions(group: ConsumerGroup, said: tuple[Subscription, ...]) -> bool:
    """Newer ones replace older ones, topics that are no longer named go. True if topics came or went."""
    named = {subscription.topic for subscription in said}
    changed = False
    for topic in [topic for topic in group.subscriptions if topic not in named]:
        del group.subscriptions[topic]
        changed = True
    for subscription in said:
        before = group.subscriptions.get(subscription.topic)
        changed = changed or before is None
        if before is None or subscription.version > before.version:
            group.subscriptions[subscription.topic] = subscription
    return changed
