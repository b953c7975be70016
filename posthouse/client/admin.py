"""Questions and orders to NameServers and brokers that are not messages: what the command line and tools use.

Every call is a few requests with an answer each; nothing is kept. Orders go to all that must know of them.
Source: RocketMQ 5.3 DefaultMQAdminExtImpl.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from types import TracebackType
from typing import Self, TypeVar

from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker, NoRoute, PosthouseError, from_link
from posthouse.client.outbox import check_topic_name
from posthouse.client.received import ReceivedMessage, open_record
from posthouse.client.session import ASK_SECONDS, Session
from posthouse.codec.record import RecordError, decode_records
from posthouse.codec.remoting.bodies.cluster import decode_cluster_info
from posthouse.codec.remoting.bodies.consumers import decode_consumer_connections
from posthouse.codec.remoting.bodies.groups import encode_group_config
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.codec.remoting.bodies.stats import decode_group_stats, decode_runtime_info, decode_topic_stats
from posthouse.codec.remoting.bodies.topics import decode_topic_config, decode_topic_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.topics import CREATE_TOPIC, CreateTopic
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.errors import LinkError
from posthouse.model.connection import ConsumerConnections
from posthouse.model.group import GroupConfig
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.message import MessageQueue
from posthouse.model.names import AUTO_CREATE_TOPIC
from posthouse.model.properties import KEYS, UNIQ_KEY
from posthouse.model.route import BrokerData, ClusterInfo, TopicRoute
from posthouse.model.stats import GroupStats, TopicStats
from posthouse.model.topic import Perm, TopicConfig

VISIBLE_SECONDS = 10.0
"""How long a NameServer may take to know what was just created or deleted."""

_VISIBLE_POLL_SECONDS = 0.05

TIME_MAX_MS = 2**63 - 1
"""As long as time goes on, on the wire."""

T = TypeVar("T")


class Admin:
    """Use it inside `async with`. All calls raise PosthouseError."""

    def __init__(
        self,
        nameservers: str | Iterable[str] = "127.0.0.1:9876",
        *,
        host: Host | None = None,
        timeout_s: float = ASK_SECONDS,
    ) -> None:
        self._session = Session(nameservers, host=host, kind="admin client")
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        self._session.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    # Clusters and brokers

    async def cluster_info(self) -> ClusterInfo:
        answer = await self._ask_nameserver(RequestCode.GET_BROKER_CLUSTER_INFO, None, "name the brokers")
        return _read("the cluster's brokers", decode_cluster_info, answer)

    async def broker_runtime_info(self, broker: str | Address) -> dict[str, str]:
        """The broker's own figures by name. `broker` is a broker's name (its master is asked) or an address."""
        address = await self._broker_address(broker)
        answer = await self._ask_broker(address, RequestCode.GET_BROKER_RUNTIME_INFO, None, b"", "tell its figures")
        return _read(f"the figures of {address}", decode_runtime_info, answer)

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
        for broker in _brokers(info, cluster):
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
            _checked(str(nameserver), answer, doing)
        if cluster is None:
            await self._until_visible(topic, there=False)

    async def topic_list(self) -> tuple[str, ...]:
        """All topics that the NameServer knows, sorted."""
        answer = await self._ask_nameserver(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, None, "name the topics")
        return tuple(sorted(_read("the list of topics", decode_topic_list, answer).topics))

    async def topic_route(self, topic: str) -> TopicRoute:
        """Raises NoRoute if the NameServer knows no such topic."""
        route = await self._find_route(topic)
        if route is None:
            raise NoRoute(topic, "no broker knows it")
        return route

    async def topic_config(self, topic: str, broker: str | Address) -> TopicConfig:
        """As one broker has it."""
        address = await self._broker_address(broker)
        ext = {"topic": topic, "lo": "true"}
        answer = await self._ask_broker(address, RequestCode.GET_TOPIC_CONFIG, ext, b"", f"show topic {topic}")
        return _read(f"the configuration of {topic}", decode_topic_config, answer)

    async def topic_stats(self, topic: str) -> TopicStats:
        """Bounds of all queues of the topic, over all its brokers."""
        found = [
            _read(f"the figures of topic {topic}", decode_topic_stats, answer)
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
        return _messages(_checked(str(address), answer, doing), broker.broker_name, f"the messages of {ext['topic']}")

    # Groups

    async def create_group(self, config: GroupConfig, *, cluster: str | None = None) -> None:
        """Creates the group, or changes it, on all masters (of one cluster)."""
        for address in await self._masters(cluster):
            await self._ask_broker(
                address,
                RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
                None,
                encode_group_config(config),
                f"create group {config.name}",
            )

    async def group_stats(self, group: str, topic: str) -> GroupStats:
        """How far the group is on each queue of the topic."""
        found = [
            _read(f"the figures of group {group}", decode_group_stats, answer)
            for answer in await self._ask_masters_of(
                topic,
                RequestCode.GET_CONSUME_STATS,
                {"consumerGroup": group, "topic": topic},
                f"tell the figures of group {group}",
            )
        ]
        queues = {queue: progress for stats in found for queue, progress in stats.queues.items()}
        return GroupStats(dict(sorted(queues.items())), sum(stats.consume_per_second for stats in found))

    async def group_connections(self, group: str, broker: str | Address) -> ConsumerConnections:
        """The group's members as one broker knows them."""
        address = await self._broker_address(broker)
        ext = {"consumerGroup": group}
        doing = f"name the members of group {group}"
        answer = await self._ask_broker(address, RequestCode.GET_CONSUMER_CONNECTION_LIST, ext, b"", doing)
        return _read(f"the members of group {group}", decode_consumer_connections, answer)

    # How it asks

    async def _ask_nameserver(self, code: int, ext: dict[str, str] | None, doing: str) -> Command:
        self._session.check_open()
        answer = await self._session.nameservers.ask(code, ext, timeout_s=self._timeout_s)
        return _checked("the NameServer", answer, doing)

    async def _ask_broker(
        self, address: Address, code: int, ext: dict[str, str] | None, body: bytes, doing: str
    ) -> Command:
        answer = await self._session.ask_broker(address, code, ext, body, doing=doing, timeout_s=self._timeout_s)
        return _checked(str(address), answer, doing)

    async def _ask_masters_of(self, topic: str, code: int, ext: dict[str, str], doing: str) -> list[Command]:
        route = await self.topic_route(topic)
        addresses = [Address.parse(broker.master) for broker in route.brokers if broker.master is not None]
        if not addresses:
            raise NoBroker(f"topic {topic} has no broker that can {doing}: are its masters down?")
        return await asyncio.gather(*(self._ask_broker(address, code, ext, b"", doing) for address in addresses))

    async def _masters(self, cluster: str | None) -> list[Address]:
        brokers = _brokers(await self.cluster_info(), cluster)
        found = [Address.parse(broker.master) for broker in brokers if broker.master is not None]
        if not found:
            raise NoBroker("the NameServer knows no broker that takes orders: is one running and registered?")
        return found

    async def _broker_address(self, broker: str | Address) -> Address:
        if isinstance(broker, Address):
            return broker
        info = await self.cluster_info()
        data = info.brokers.get(broker)
        if data is None or data.master is None:
            known = ", ".join(sorted(info.brokers)) or "none"
            raise NoBroker(f"no broker {broker} with a master is registered; known are: {known}")
        return Address.parse(data.master)

    async def _find_route(self, topic: str) -> TopicRoute | None:
        self._session.check_open()
        answer = await self._session.nameservers.ask(
            RequestCode.GET_ROUTEINFO_BY_TOPIC,
            {"topic": topic, "acceptStandardJsonOnly": "true"},
            timeout_s=self._timeout_s,
        )
        if answer.code == ResponseCode.TOPIC_NOT_EXIST:
            return None
        _checked("the NameServer", answer, f"say where topic {topic} is")
        return _read(f"the route of topic {topic}", decode_route, answer)

    async def _until_visible(self, topic: str, *, there: bool) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + VISIBLE_SECONDS
        while (await self._find_route(topic) is not None) is not there:
            if loop.time() >= deadline:
                state = "does not know" if there else "still knows"
                raise PosthouseError(
                    f"the brokers did it, but after {VISIBLE_SECONDS:g} s the NameServer {state} topic {topic}: "
                    "are the brokers registered with this NameServer?"
                )
            await asyncio.sleep(_VISIBLE_POLL_SECONDS)


def _brokers(info: ClusterInfo, cluster: str | None) -> list[BrokerData]:
    """Of one cluster, or all. Raises NoBroker."""
    if cluster is None:
        return list(info.brokers.values())
    names = info.clusters.get(cluster)
    if names is None:
        raise NoBroker(f"there is no cluster {cluster}; known are: {', '.join(sorted(info.clusters)) or 'none'}")
    return [info.brokers[name] for name in names if name in info.brokers]


def _checked(who: str, answer: Command, doing: str) -> Command:
    if answer.code != ResponseCode.SUCCESS:
        raise BrokerRefused(who, answer.code, answer.remark, doing)
    return answer


def _messages(answer: Command, broker_name: str, what: str) -> list[ReceivedMessage]:
    try:
        return [
            received
            for stored in decode_records(answer.body)
            for received in open_record(stored, MessageQueue(stored.topic, broker_name, stored.queue_id))
        ]
    except RecordError as error:
        raise BadAnswer(f"{what} cannot be read: {error}") from None


def _read(what: str, decode: Callable[[bytes], T], answer: Command) -> T:
    try:
        return decode(answer.body)
    except WireError as error:
        raise BadAnswer(f"{what} cannot be read: {error}") from None
