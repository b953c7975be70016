"""Handlers of consumer groups: 200, 201, 207, 208, 225, 303, 352, 353."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.groups import (
    Readable,
    decode_group_config,
    decode_group_config_list,
    encode_group_config,
    encode_group_table,
    encode_readable,
)
from posthouse.codec.remoting.bodies.stats import encode_group_stats
from posthouse.codec.remoting.bodies.time_spans import encode_time_spans
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import groups as headers
from posthouse.codec.remoting.headers import topics as topic_headers
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.model.message import MessageQueue
from posthouse.model.stats import GroupStats, QueueProgress
from posthouse.model.topic import Perm

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer


async def set_group(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    await broker.groups.set(decode_group_config(command.body))
    return Reply()


async def set_groups(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    for config in decode_group_config_list(command.body):
        await broker.groups.set(config)
    return Reply()


def all_groups(broker: Broker, header: headers.GetAllGroupConfig, command: Command, peer: RemotingPeer) -> Reply:
    forbidden: dict[str, dict[str, int]] = {}
    for rule in broker.groups.rules():
        if not rule.readable:
            forbidden.setdefault(rule.group, {})[rule.topic] = int(Perm.READ)
    return Reply(body=encode_group_table(broker.groups.all(), broker.topics.version, forbidden))


def one_group(broker: Broker, header: headers.GetGroupConfig, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_group_config(broker.groups.known(header.group)))


async def delete_group(broker: Broker, header: headers.DeleteGroup, command: Command, peer: RemotingPeer) -> Reply:
    await broker.groups.delete(header.group, header.with_offsets)
    broker.locks.drop_group(header.group)
    broker.offsets.forget_pulled(group=header.group)
    broker.stats.forget(group=header.group)
    return Reply()


async def forbid(broker: Broker, header: headers.GroupForbidden, command: Command, peer: RemotingPeer) -> Reply:
    """353: takes a topic away from a group, or gives it back; or only tells how it is."""
    if header.readable is not None:
        broker.groups.known(header.group)
        broker.topics.require(header.topic)
        await broker.groups.set_readable(header.group, header.topic, header.readable)
    readable = broker.groups.rule(header.group, header.topic).readable
    return Reply(body=encode_readable(Readable(header.group, header.topic, readable)))


async def time_spans(broker: Broker, header: topic_headers.TopicOfGroup, command: Command, peer: RemotingPeer) -> Reply:
    """303: one entry for each queue that can be written, as RocketMQ counts them."""
    topic = broker.topics.require(header.topic)
    spans = {
        MessageQueue(header.topic, broker.config.name, queue_id): await broker.offsets.times(
            header.group, header.topic, queue_id
        )
        for queue_id in range(topic.config.write_queues)
    }
    return Reply(body=encode_time_spans(spans))


async def group_stats(broker: Broker, header: headers.GetConsumeStats, command: Command, peer: RemotingPeer) -> Reply:
    """208: unknown topics are left out; a missing offset counts as 0."""
    group = header.consumer_group
    named = [header.topic] if header.topic else [t for t in (header.topic_list or "").split(";") if t]
    topics = named or broker.offsets.topics_of(group)
    queues: dict[MessageQueue, QueueProgress] = {}
    for name in topics:
        topic = broker.topics.find(name)
        for queue_id in range(topic.config.read_queues if topic else 0):
            queue = MessageQueue(name, broker.config.name, queue_id)
            queues[queue] = await broker.offsets.progress(group, name, queue_id)
    return Reply(body=encode_group_stats(GroupStats(queues, broker.stats.consumed_per_second(group, topics))))


GROUP_ROUTES = (
    Route(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, None, set_group),
    Route(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, None, set_groups),
    Route(RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, headers.GET_ALL_GROUP_CONFIG, all_groups, HOT),
    Route(RequestCode.DELETE_SUBSCRIPTIONGROUP, headers.DELETE_GROUP, delete_group),
    Route(RequestCode.GET_CONSUME_STATS, headers.GET_CONSUME_STATS, group_stats),
    Route(RequestCode.QUERY_CONSUME_TIME_SPAN, topic_headers.TOPIC_OF_GROUP, time_spans),
    Route(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, headers.GET_GROUP_CONFIG, one_group, HOT),
    Route(RequestCode.UPDATE_AND_GET_GROUP_FORBIDDEN, headers.GROUP_FORBIDDEN, forbid),
)
