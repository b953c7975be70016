"""Handlers of looks inside a broker: 43, 315, 317, 321, 328, 343, 345, 907."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse.codec.remoting.bodies import inspection as bodies
from posthouse.codec.remoting.bodies.stats import encode_broker_consume_stats, encode_windows
from posthouse.codec.remoting.bodies.topics import encode_topic_list
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers import inspection as headers
from posthouse.codec.remoting.headers import topics as topic_headers
from posthouse.codec.remoting.headers.admin import VIEW_BROKER_STATS, ViewBrokerStats
from posthouse.endpoint.remoting.dispatcher import HOT, Lane, Reply, Route
from posthouse.model.limits import INSPECTIONS_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.stats import BrokerConsumeStats

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer

INSPECTIONS = Lane("inspection", INSPECTIONS_MAX)


async def broker_consume_stats(
    broker: Broker, header: headers.GetBrokerConsumeStats, command: Command, peer: RemotingPeer
) -> Reply:
    found = await broker.inspection.consumption(ordered_only=header.ordered_only)
    return Reply(body=encode_broker_consume_stats(BrokerConsumeStats(found.groups, str(peer.local))))


async def queue_entries(
    broker: Broker, header: headers.QueryConsumeQueue, command: Command, peer: RemotingPeer
) -> Reply:
    sight = await broker.inspection.queue_entries(
        header.topic, header.queue_id, QueueOffset(header.index), header.count, header.consumer_group
    )
    return Reply(body=bodies.encode_queue_sight(sight))


def producers(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=bodies.encode_producer_table(broker.inspection.producers()))


def topics_of_group(broker: Broker, header: topic_headers.TopicsOfGroup, command: Command, peer: RemotingPeer) -> Reply:
    """343: where the group has offsets, and what its members want now."""
    topics = {*broker.offsets.topics_of(header.group), *broker.clients.topics_of(header.group)}
    return Reply(body=encode_topic_list(sorted(topics)))


def subscription_of_group(
    broker: Broker, header: topic_headers.TopicOfGroup, command: Command, peer: RemotingPeer
) -> Reply:
    found = broker.clients.consumer_group(header.group)
    subscription = None if found is None else found.subscriptions.get(header.topic)
    return Reply(body=bodies.encode_subscription_of(header.group, header.topic, subscription))


def all_offsets(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=bodies.encode_offset_table(broker.inspection.offsets()))


def view_stats(broker: Broker, header: ViewBrokerStats, command: Command, peer: RemotingPeer) -> Reply:
    return Reply(body=encode_windows(broker.inspection.windows(header.stats_name, header.stats_key)))


def replication_status(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """907: there are no slaves."""
    return Reply(body=bodies.encode_lone_master_status(broker.store.log.committed_offset))


INSPECTION_ROUTES = (
    Route(RequestCode.GET_ALL_CONSUMER_OFFSET, None, all_offsets, INSPECTIONS, doc="offsets of all groups"),
    Route(RequestCode.VIEW_BROKER_STATS_DATA, VIEW_BROKER_STATS, view_stats, HOT, doc="what came in and out lately"),
    Route(
        RequestCode.GET_BROKER_CONSUME_STATS, headers.GET_BROKER_CONSUME_STATS, broker_consume_stats, INSPECTIONS,
        doc="how far every group is",
    ),
    Route(
        RequestCode.QUERY_CONSUME_QUEUE, headers.QUERY_CONSUME_QUEUE, queue_entries, INSPECTIONS,
        doc="entries of a queue, tried against a group's filter",
    ),
    Route(RequestCode.GET_ALL_PRODUCER_INFO, None, producers, HOT, doc="all producers that are connected"),
    Route(
        RequestCode.QUERY_TOPICS_BY_CONSUMER, topic_headers.TOPICS_OF_GROUP, topics_of_group, HOT,
        doc="topics of a group",
    ),
    Route(
        RequestCode.QUERY_SUBSCRIPTION_BY_CONSUMER, topic_headers.TOPIC_OF_GROUP, subscription_of_group, HOT,
        doc="what a group wants of a topic",
    ),
    Route(RequestCode.GET_BROKER_HA_STATUS, None, replication_status, HOT, doc="replication: a master without slaves"),
)  # fmt: skip
