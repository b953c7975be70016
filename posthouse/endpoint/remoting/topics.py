"""Handlers of topics: 17, 18, 21, 202, 215, 300, 305, 316, 351."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from posthouse.broker.stats import What
from posthouse.codec.remoting.bodies.groups import encode_group_list
from posthouse.codec.remoting.bodies.stats import encode_topic_stats
from posthouse.codec.remoting.bodies.topics import (
    decode_topic_config_list,
    encode_topic_config,
    encode_topic_list,
    encode_topic_table,
)
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import topics as headers
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.stats import QueueBounds, TopicStats
from posthouse.model.topic import TopicConfig

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


async def set_topic(broker: Broker, header: headers.CreateTopic, command: Command, peer: RemotingPeer) -> Reply:
    before = broker.topics.find(header.topic)
    config = TopicConfig(
        header.topic,
        header.read_queues,
        header.write_queues,
        header.perm,
        header.filter_type,
        header.sys_flag or 0,
        bool(header.order),
        changed_attributes(before.config.attributes if before else {}, header.attributes),
    )
    await broker.topics.set(config)
    return Reply()


def changed_attributes(before: dict[str, str], change: str | None) -> dict[str, str]:
    """Attributes after a change written as `+name=value,-name`. Raises Refused."""
    after = dict(before)
    for part in filter(None, (part.strip() for part in (change or "").split(","))):
        name, equals, value = part[1:].partition("=")
        if part[0] == "+" and name and equals and value:
            after[name] = value
        elif part[0] == "-" and name and not equals:
            after.pop(name, None)
        else:
            raise Refused(Reason.INVALID_PARAMETER, f"attribute change {part!r} is neither +name=value nor -name")
    return after


async def set_topics(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    for config in decode_topic_config_list(command.body):
        before = broker.topics.find(config.name)
        change = ",".join(_change(name, value) for name, value in config.attributes.items())
        attributes = changed_attributes(before.config.attributes if before else {}, change)
        await broker.topics.set(replace(config, attributes=attributes))
    return Reply()


def _change(name: str, value: str) -> str:
    """One attribute of a list of topics, as 17 would say it: the name has the sign, or none to be set."""
    if name.startswith("-"):
        return name
    return f"+{name.removeprefix('+')}={value}"


async def delete_topic(broker: Broker, header: headers.TopicName, command: Command, peer: RemotingPeer) -> Reply:
    await broker.topics.delete(header.topic)
    return Reply()


def all_topics(broker: Broker, header: headers.GetAllTopicConfig, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_topic_table(broker.topics.configs(), broker.topics.version))


def one_topic(broker: Broker, header: headers.TopicName, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_topic_config(broker.topics.require(header.topic).config))


async def topic_stats(broker: Broker, header: headers.TopicName, command: Command, peer: RemotingPeer) -> Reply:
    topic = broker.topics.require(header.topic)
    queues: dict[MessageQueue, QueueBounds] = {}
    for queue_id in range(topic.config.queues):
        low, high = broker.offsets.bounds(header.topic, queue_id)
        stored_at_ms = EpochMs(0)
        if high > low:
            stored_at_ms = await broker.offsets.stored_at_ms(header.topic, queue_id, QueueOffset(high - 1))
        queue = MessageQueue(header.topic, broker.config.name, queue_id)
        queues[queue] = QueueBounds(low, high, stored_at_ms)
    put_per_second = broker.stats.per_second(What.TOPIC_PUT, (header.topic,))
    return Reply(body=encode_topic_stats(TopicStats(queues, put_per_second)))


def consumed_by(broker: Broker, header: headers.TopicName, command: Command, peer: RemotingPeer) -> Reply:
    groups = set(broker.clients.groups_on(header.topic)) | set(broker.offsets.groups_on(header.topic))
    return Reply(body=encode_group_list(sorted(groups)))


def system_topics(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_topic_list(sorted(broker.topics.names_of_system())))


def nothing_to_clean(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """316: queues of deleted topics go with their topic here."""
    return Reply()


TOPIC_ROUTES = (
    Route(RequestCode.UPDATE_AND_CREATE_TOPIC, headers.CREATE_TOPIC, set_topic),
    Route(RequestCode.UPDATE_AND_CREATE_TOPIC_LIST, None, set_topics),
    Route(RequestCode.GET_ALL_TOPIC_CONFIG, headers.GET_ALL_TOPIC_CONFIG, all_topics, HOT),
    Route(RequestCode.GET_TOPIC_STATS_INFO, headers.TOPIC_NAME, topic_stats),
    Route(RequestCode.DELETE_TOPIC_IN_BROKER, headers.TOPIC_NAME, delete_topic),
    Route(RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, headers.TOPIC_NAME, consumed_by, HOT),
    Route(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER, None, system_topics, HOT),
    Route(RequestCode.CLEAN_UNUSED_TOPIC, None, nothing_to_clean, HOT),
    Route(RequestCode.GET_TOPIC_CONFIG, headers.TOPIC_NAME, one_topic, HOT),
)
