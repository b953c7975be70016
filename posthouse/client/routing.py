"""Where a topic is: its queues and the addresses of their brokers, made from what a NameServer says.

A route is a value; a newer one replaces it whole. Queues come sorted by broker name and number, because every client
must see the same list in the same order: groups share it and sharding keys point into it.
Source: RocketMQ 5.3 MQClientInstance.topicRouteData2TopicPublishInfo, topicRouteData2TopicSubscribeInfo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from posthouse.host.net import Address
from posthouse.model.filter import tag_hash
from posthouse.model.message import MessageQueue
from posthouse.model.route import MASTER_ID, TopicRoute
from posthouse.model.topic import Perm

BORROWED_QUEUES_MAX = 4
"""Queues per broker of a topic that does not exist yet. RocketMQ: defaultTopicQueueNums of a producer."""


@dataclass(frozen=True, slots=True)
class TopicQueues:
    """`borrowed`: the topic does not exist; these are the queues that the first message will make."""

    topic: str
    write_queues: tuple[MessageQueue, ...]
    read_queues: tuple[MessageQueue, ...]
    brokers: Mapping[str, Mapping[int, Address]]
    borrowed: bool = False

    @property
    def one_broker(self) -> bool:
        """Whether no other broker could take a message."""
        queues = self.write_queues
        return not queues or queues[0].broker_name == queues[-1].broker_name

    def queue_of_key(self, sharding_key: str) -> MessageQueue:
        """The queue for a sharding key, as Java's SelectMessageQueueByHash picks it."""
        return self.write_queues[abs(tag_hash(sharding_key)) % len(self.write_queues)]

    def borrow(self, topic: str) -> TopicQueues:
        """This route, of the template topic, lent to `topic`."""
        return replace(
            self,
            topic=topic,
            write_queues=_rename(self.write_queues, topic),
            read_queues=_rename(self.read_queues, topic),
            borrowed=True,
        )


def topic_queues(topic: str, route: TopicRoute) -> TopicQueues:
    """Brokers whose address cannot be read are left out, as if they were not there."""
    brokers: dict[str, dict[int, Address]] = {}
    for broker in route.brokers:
        addresses = brokers.setdefault(broker.broker_name, {})
        for broker_id, text in broker.addresses.items():
            try:
                addresses[broker_id] = Address.parse(text)
            except ValueError:
                continue
    write: list[MessageQueue] = []
    read: list[MessageQueue] = []
    ordered = _ordered_queues(route.order_conf)
    for queues in route.queues:
        name = queues.broker_name
        if name not in brokers:
            continue
        if queues.perm & Perm.WRITE and MASTER_ID in brokers[name]:
            count = queues.write_queues if ordered is None else ordered.get(name, 0)
            write += (MessageQueue(topic, name, at) for at in range(count))
        if queues.perm & Perm.READ:
            read += (MessageQueue(topic, name, at) for at in range(queues.read_queues))
    return TopicQueues(topic, tuple(sorted(write)), tuple(sorted(read)), brokers)


def _ordered_queues(text: str | None) -> dict[str, int] | None:
    """`brokerA:4;brokerB:8` of an ordered topic; None when there is none, or it cannot be read."""
    if not text:
        return None
    found: dict[str, int] = {}
    for part in text.split(";"):
        name, colon, count = part.rpartition(":")
        if part and not (colon and count.isascii() and count.isdecimal()):
            return None
        if part:
            found[name] = int(count)
    return found


def _rename(queues: tuple[MessageQueue, ...], topic: str) -> tuple[MessageQueue, ...]:
    return tuple(queue._replace(topic=topic) for queue in queues if queue.queue_id < BORROWED_QUEUES_MAX)
