"""Handlers of consumer groups: 200, 201, 207, 208, 225, 352."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies.groups import (
    decode_group_config,
    decode_group_config_list,
    encode_group_config,
    encode_group_table,
)
from posthouse.codec.remoting.bodies.stats import encode_group_stats
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import groups as headers
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.host.clock import EpochMs
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.stats import GroupStats, QueueProgress

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
    return Reply(body=encode_group_table(broker.groups.all(), broker.topics.version))


def one_group(broker: Broker, header: headers.GetGroupConfig, command: Command, peer: RemotingPeer) -> Reply:
    group = broker.groups.find(header.group)
    if group is None:
        raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {header.group!r} does not exist")
    return Reply(body=encode_group_config(group))


async def delete_group(broker: Broker, header: headers.DeleteGroup, command: Command, peer: RemotingPeer) -> Reply:
    await broker.groups.delete(header.group, header.with_offsets)
    return Reply()


async def group_stats(broker: Broker, header: headers.GetConsumeStats, command: Command, peer: RemotingPeer) -> Reply:
    """208: unknown topics are left out; a missing offset counts as 0."""
    group = header.consumer_group
    named = [header.topic] if header.topic else [t for t in (header.topic_list or "").split(";") if t]
    queues: dict[MessageQueue, QueueProgress] = {}
    for name in named or broker.offsets.topics_of(group):
        topic = broker.topics.find(name)
        for queue_id in range(topic.config.read_queues if topic else 0):
            queues[MessageQueue(name, broker.config.name, queue_id)] = await _progress(broker, group, name, queue_id)
    return Reply(body=encode_group_stats(GroupStats(queues)))


async def _progress(broker: Broker, group: str, topic: str, queue_id: int) -> QueueProgress:
    high = broker.offsets.bounds(topic, queue_id)[1]
    consumed = broker.offsets.stored(group, topic, queue_id) or QueueOffset(0)
    at_ms = EpochMs(0)
    if consumed > 0:
        at_ms = await broker.offsets.stored_at_ms(topic, queue_id, QueueOffset(consumed - 1))
    return QueueProgress(high, consumed, consumed, at_ms)


GROUP_ROUTES = (
    Route(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, None, set_group),
    Route(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, None, set_groups),
    Route(RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, headers.GET_ALL_GROUP_CONFIG, all_groups, HOT),
    Route(RequestCode.DELETE_SUBSCRIPTIONGROUP, headers.DELETE_GROUP, delete_group),
    Route(RequestCode.GET_CONSUME_STATS, headers.GET_CONSUME_STATS, group_stats),
    Route(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, headers.GET_GROUP_CONFIG, one_group, HOT),
)
