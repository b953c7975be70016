"""Questions and orders to NameServers and brokers that are not messages: what the command line and tools use.

Every call is a few requests with an answer each; nothing is kept. Orders go to all that must know of them.
Source: RocketMQ 5.3 DefaultMQAdminExtImpl.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from posthouse.client.asking import brokers_of, checked, read_answer
from posthouse.client.dead_letters import DeadLetterDesk
from posthouse.client.errors import BadAnswer, NoBroker, from_link
from posthouse.client.group_admin import GroupAdmin
from posthouse.client.outbox import check_topic_name
from posthouse.client.received import ReceivedMessage, open_record
from posthouse.client.story import Stories, Story
from posthouse.codec.record import RecordError, decode_records
from posthouse.codec.remoting.bodies.stats import decode_runtime_info, decode_topic_stats
from posthouse.codec.remoting.bodies.topics import decode_topic_config, decode_topic_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.topics import CREATE_TOPIC, CreateTopic
from posthouse.host.net import Address
from posthouse.link.errors import LinkError
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.message import MessageQueue
from posthouse.model.names import AUTO_CREATE_TOPIC, DEAD_LETTER_PREFIX, retry_topic
from posthouse.model.properties import KEYS, UNIQ_KEY
from posthouse.model.route import BrokerData
from posthouse.model.stats import TopicStats
from posthouse.model.topic import Perm, TopicConfig

TIME_MAX_MS = 2**63 - 1
"""As long as time goes on, on the wire."""


class Admin(GroupAdmin):
    """Use it inside `async with`. All calls raise PosthouseError."""

    @property
    def dead_letters(self) -> DeadLetterDesk:
        """Which groups have dead letters, what they are, and sending them again."""
        return DeadLetterDesk(self, self._session)

    async def stories(self, said: str, topic: str | None = None) -> tuple[Story, ...]:
        """What became of the messages that a message id, the id of a place or a key names; see client.story."""
        return await Stories(self).tell(said, topic)

    # Clusters and brokers

    async def broker_runtime_info(self, broker: str | Address) -> dict[str, str]:
        """The broker's own figures by name. `broker` is a broker's name (its master is asked) or an address."""
        address = await self._broker_address(broker)
        answer = await self._ask_broker(address, RequestCode.GET_BROKER_RUNTIME_INFO, None, b"", "tell its figures")
        return read_answer(f"the figures of {address}", decode_runtime_info, answer)

    # Topics

    async def create_topic(
        self,
        topic: str,
        *,
        queues: int = 8,
        perm: int = Perm.READ_WRITE,
        order: bool = False,
        attributes: str = "",
        cluster: str | None = None,
    ) -> None:
        """Creates the topic, or changes it, on all masters (of one cluster); returns when its route can be had.

        `attributes` is the change as text: `+name=value,-name`.
        """
        check_topic_name(topic)
        ext = CREATE_TOPIC.encode(
            CreateTopic(
                topic=topic,
                default_topic=AUTO_CREATE_TOPIC,
                read_queues=queues,
                write_queues=queues,
                perm=perm,
                sys_flag=0,
                order=order,
                attributes=attributes or None,
            )
        )
        masters = await self._masters(cluster)
        for address in masters:
            await self._ask_broker(address, RequestCode.UPDATE_AND_CREATE_TOPIC, ext, b"", f"create topic {topic}")
        await self._until_visible(topic, there=True)

    async def delete_topic(self, topic: str, *, cluster: str | None = None) -> None:
        """Deletes it from all brokers (of one cluster), with its messages, and from all NameServers."""
        check_topic_name(topic)
        info = await self.cluster_info()
        for broker in brokers_of(info, cluster):
            for text in broker.addresses.values():
                ext = {"topic": topic}
                doing = f"delete topic {topic}"
                await self._ask_broker(Address.parse(text), RequestCode.DELETE_TOPIC_IN_BROKER, ext, b"", doing)
        ext = {"topic": topic} if cluster is None else {"topic": topic, "clusterName": cluster}
        for nameserver in self._session.nameservers.addresses:
            doing = f"forget topic {topic}"
            try:
                answer = await self._session.nameservers.ask_one(
                    nameserver, RequestCode.DELETE_TOPIC_IN_NAMESRV, ext, timeout_s=self._timeout_s
                )
            except LinkError as error:
                raise from_link(error, f"a NameServer was asked to {doing}") from None
            checked(str(nameserver), answer, doing)
        if cluster is None:
            await self._until_visible(topic, there=False)

    async def topic_list(self) -> tuple[str, ...]:
        """All topics that the NameServer knows, sorted."""
        answer = await self._ask_nameserver(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, None, "name the topics")
        return tuple(sorted(read_answer("the list of topics", decode_topic_list, answer).topics))

    async def topic_config(self, topic: str, broker: str | Address) -> TopicConfig:
        """As one broker has it."""
        address = await self._broker_address(broker)
        ext = {"topic": topic, "lo": "true"}
        answer = await self._ask_broker(address, RequestCode.GET_TOPIC_CONFIG, ext, b"", f"show topic {topic}")
        return read_answer(f"the configuration of {topic}", decode_topic_config, answer)

    async def topic_stats(self, topic: str) -> TopicStats:
        """Bounds of all queues of the topic, over all its brokers."""
        found = [
            read_answer(f"the figures of topic {topic}", decode_topic_stats, answer)
            for answer in await self._ask_masters_of(
                topic, RequestCode.GET_TOPIC_STATS_INFO, {"topic": topic}, f"tell the figures of topic {topic}"
            )
        ]
        queues = {queue: bounds for stats in found for queue, bounds in stats.queues.items()}
        return TopicStats(dict(sorted(queues.items())), sum(stats.put_per_second for stats in found))

    # Messages

    async def query_by_key(
        self, topic: str, key: str, begin_ms: int = 0, end_ms: int = TIME_MAX_MS, limit: int = 32
    ) -> tuple[ReceivedMessage, ...]:
        """Messages with that key, newest first, over all brokers of the topic; stored between the two times.

        A broker gives 64 at most. Empty if there are none. Posthouse knows the keys of a message when it has
        acknowledged it, Apache a moment later.
        """
        found = await self._query(topic, {"key": key, "maxNum": str(limit)}, begin_ms, end_ms)
        return tuple(each for each in found if key in each.properties.get(KEYS, "").split(" "))[:limit]

    async def query_by_unique_key(
        self, topic: str, unique_key: str, begin_ms: int = 0, end_ms: int = TIME_MAX_MS
    ) -> tuple[ReceivedMessage, ...]:
        """Messages with that `message_id`, newest first: more than one if a producer sent one message again."""
        asked = {"key": unique_key, "maxNum": "32", "_UNIQUE_KEY_QUERY": "true"}
        found = await self._query(topic, asked, begin_ms, end_ms)
        return tuple(each for each in found if each.properties.get(UNIQ_KEY) == unique_key)

    async def message_by_id(self, offset_message_id: str) -> ReceivedMessage:
        """The message at the place that a receipt's `offset_message_id` names, from the broker at the address in it.

        Raises ValueError if this is no such id, BrokerRefused when there is no message.
        """
        host, log_offset = parse_offset_message_id(offset_message_id)
        address = Address(str(ip_address(host.ip)), host.port)
        doing = f"show the message at log offset {log_offset}"
        answer = await self._ask_broker(
            address, RequestCode.VIEW_MESSAGE_BY_ID, {"offset": str(log_offset)}, b"", doing
        )
        found = _messages(answer, "", "the message")
        if not found:
            raise BadAnswer(f"{address} answered without a message")
        return found[0]

    async def _query(self, topic: str, asked: dict[str, str], begin_ms: int, end_ms: int) -> list[ReceivedMessage]:
        route = await self.topic_route(topic)
        ext = {"topic": topic, "beginTimestamp": str(begin_ms), "endTimestamp": str(end_ms)} | asked
        brokers = [broker for broker in route.brokers if broker.addresses]
        if not brokers:
            raise NoBroker(f"topic {topic} has no broker that can look for messages: are they down?")
        answers = await asyncio.gather(*(self._query_one(broker, ext) for broker in brokers))
        found = [message for messages in answers for message in messages]
        found = [each for each in found if each.queue.topic == topic]  # Apache compares hashes only
        return sorted(found, key=lambda each: (each.stored_at_ms, each.log_offset), reverse=True)

    async def _query_one(self, broker: BrokerData, ext: dict[str, str]) -> list[ReceivedMessage]:
        address = Address.parse(broker.master or next(iter(broker.addresses.values())))
        doing = f"look for messages in topic {ext['topic']}"
        answer = await self._session.ask_broker(
            address, RequestCode.QUERY_MESSAGE, ext, doing=doing, timeout_s=self._timeout_s
        )
        if answer.code == ResponseCode.QUERY_NOT_FOUND:
            return []
        return _messages(checked(str(address), answer, doing), broker.broker_name, f"the messages of {ext['topic']}")

    # Groups (more in group_admin)

    async def delete_group(self, group: str, *, keep_offsets: bool = False) -> tuple[str, ...]:
        """Deletes it from all masters, with its offsets, and with its retry and dead letter topics: their names.

        A group with members comes back with their next heartbeat.
        """
        topics = await self.group_topics(group)
        clean = "false" if keep_offsets else "true"
        ext = {"groupName": group, "cleanOffset": clean, "removeOffset": clean}  # the second is how 4.x says it
        await self._ask_all_masters(RequestCode.DELETE_SUBSCRIPTIONGROUP, ext, b"", f"delete group {group}")
        own = (retry_topic(group), DEAD_LETTER_PREFIX + group, *(f"{retry_topic(group)}_{each}" for each in topics))
        known = set(await self.topic_list())
        gone = tuple(each for each in own if each in known)
        for topic in gone:
            await self.delete_topic(topic)
        return gone


def _messages(answer: Command, broker_name: str, what: str) -> list[ReceivedMessage]:
    try:
        return [
            received
            for stored in decode_records(answer.body)
            for received in open_record(stored, MessageQueue(stored.topic, broker_name, stored.queue_id))
        ]
    except RecordError as error:
        raise BadAnswer(f"{what} cannot be read: {error}") from None
