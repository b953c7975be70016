"""What every kind of client is made of: who it is, its connections, where topics are, and its sign of life.

Owns the client id, the pool, the routes of all topics in use and three duties: routes are asked for again every 30 s
(those of unknown topics every 2 s), every broker in use hears a heartbeat every 30 s and at once on a new
connection, and requests of brokers are handed to whoever registered for them. A route that cannot be had anew stays
as it was: NameServers may all be down while messages flow.
Source: RocketMQ 5.3 MQClientInstance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from posthouse.client.duty import begin_duty
from posthouse.client.errors import (
    BadAnswer,
    BrokerRefused,
    ClientClosed,
    NoBroker,
    NoRoute,
    PosthouseError,
    from_link,
)
from posthouse.client.nameservers import NameServers, parse_nameservers
from posthouse.client.routing import TopicQueues, topic_queues
from posthouse.codec.remoting.bodies.heartbeat import encode_heartbeat
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.frame import WireError
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.errors import LinkError
from posthouse.link.peer import RemotingPeer
from posthouse.link.pool import Pool
from posthouse.model.group import Membership
from posthouse.model.heartbeat import HeartbeatData
from posthouse.model.message import MessageQueue
from posthouse.model.route import MASTER_ID

log = logging.getLogger(__name__)

ROUTE_POLL_SECONDS = 30.0
"""RocketMQ: pollNameServerInterval."""

UNKNOWN_POLL_SECONDS = 2.0
"""For topics that are waited for and do not exist yet."""

HEARTBEAT_SECONDS = 30.0
"""RocketMQ: heartbeatBrokerInterval."""

ASK_SECONDS = 3.0
"""A plain question to a broker. RocketMQ: mqClientApiTimeout."""

Handler = Callable[[RemotingPeer, Command], None]


@dataclass(slots=True)
class _Topic:
    """A topic in use. `template` is whose route it borrows while it does not exist."""

    template: str | None = None
    queues: TopicQueues | None = None
    awaited: bool = False  # a consumer waits for it to come into being
    fetch: asyncio.Task[TopicQueues] | None = None


class Session:
    """One client instance, on the loop that runs when `start` is called."""

    def __init__(self, nameservers: str | Iterable[str], *, host: Host | None, kind: str) -> None:
        self.host = host or Host.real()
        self.kind = kind
        random, net = self.host.random, self.host.net
        self.client_id = f"{net.local_ip()}@{net.process_id()}#{random.token_bytes(6).hex()}"
        self.pool = Pool(net, self, connect_timeout_s=ASK_SECONDS)
        self.nameservers = NameServers(parse_nameservers(nameservers), self.pool, random)
        self.on_request: dict[int, Handler] = {}
        self.on_route: Callable[[str], None] = lambda topic: None
        self.producer_groups: tuple[str, ...] = ()
        self.memberships: Callable[[], tuple[Membership, ...]] = lambda: ()
        self._topics: dict[str, _Topic] = {}
        self._brokers: dict[str, Mapping[int, Address]] = {}
        self._beaten: dict[Address, RemotingPeer] = {}  # the connection on which an address last heard from us
        self._tasks: list[asyncio.Task[None]] = []
        self.state = "is not open"

    @property
    def is_open(self) -> bool:
        return self.state == "open"

    def start(self) -> None:
        if self.state != "is not open":
            raise ClientClosed(self.kind, "cannot be opened twice")
        self.state = "open"
        self._tasks = [
            begin_duty(self._poll_routes(), f"{self.kind}: routes"),
            begin_duty(self._beat(), f"{self.kind}: heartbeat"),
        ]

    def check_open(self) -> None:
        """Raises ClientClosed."""
        if self.state != "open":
            raise ClientClosed(self.kind, self.state)

    async def close(self) -> None:
        """Says goodbye to the brokers (a second at most) and ends all connections. Twice is fine."""
        if self.state != "open":
            return
        self.state = "is closed"
        fetches = [topic.fetch for topic in self._topics.values() if topic.fetch is not None]
        for task in (*self._tasks, *fetches):
            task.cancel()
        await asyncio.gather(*self._tasks, *fetches, return_exceptions=True)
        await self._unregister()
        await self.pool.close()

    # Routes

    def queues_if_known(self, topic: str) -> TopicQueues | None:
        entry = self._topics.get(topic)
        return entry.queues if entry is not None else None

    def await_topic(self, topic: str) -> None:
        """Looks for its route until there is one; `on_route` is called when it changes."""
        self._topics.setdefault(topic, _Topic()).awaited = True

    async def queues(self, topic: str, template: str | None = None) -> TopicQueues:
        """The route, asked for if it is not known yet; callers at once share one question.

        Raises NoRoute, NoNameServer, BrokerRefused, BadAnswer.
        """
        self.check_open()
        entry = self._topics.setdefault(topic, _Topic(template))
        if entry.queues is not None:
            return entry.queues
        entry.template = entry.template or template
        fetch = entry.fetch
        if fetch is None:
            fetch = entry.fetch = asyncio.create_task(self._fetch(topic, entry), name=f"{self.kind}: route of {topic}")
            fetch.add_done_callback(lambda task: self._fetched(topic, task))
        await asyncio.wait((fetch,))  # a caller that is cancelled does not cancel it for the others
        if fetch.cancelled():
            raise ClientClosed(self.kind)
        return fetch.result()

    def _fetched(self, topic: str, task: asyncio.Task[TopicQueues]) -> None:
        if not task.cancelled():
            task.exception()  # seen: whoever waits raises it, and maybe nobody waits any more
        entry = self._topics.get(topic)
        if entry is not None:
            entry.fetch = None
            if entry.queues is None and not entry.awaited:
                del self._topics[topic]

    async def _fetch(self, topic: str, entry: _Topic) -> TopicQueues:
        found = await self._ask_route(topic)
        if found is None and entry.template is not None:
            lent = await self._ask_route(entry.template)
            found = lent.borrow(topic) if lent is not None else None
        if found is None:
            raise NoRoute(topic)
        self._learn(entry, found)
        return found

    async def _ask_route(self, topic: str) -> TopicQueues | None:
        """None if the NameServer knows no such topic."""
        answer = await self.nameservers.ask(
            RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic, "acceptStandardJsonOnly": "true"}
        )
        if answer.code == ResponseCode.TOPIC_NOT_EXIST:
            return None
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused("the NameServer", answer.code, answer.remark, f"say where topic {topic} is")
        try:
            return topic_queues(topic, decode_route(answer.body))
        except WireError as error:
            raise BadAnswer(f"the route of topic {topic} cannot be read: {error}") from None

    def _learn(self, entry: _Topic, found: TopicQueues) -> None:
        if found == entry.queues:
            return
        entry.queues = found
        self._brokers.update(found.brokers)
        named = {name for each in self._topics.values() if each.queues for name in each.queues.brokers}
        for name in self._brokers.keys() - named:
            del self._brokers[name]
        self.on_route(found.topic)

    async def refresh(self, topic: str) -> None:
        """Asks for the route anew; what is known stays when that fails."""
        entry = self._topics.get(topic)
        if entry is not None:
            try:
                await self._fetch(topic, entry)
            except PosthouseError as error:
                log.debug("the route of %s: %s", topic, error)

    async def _poll_routes(self) -> None:
        loop = asyncio.get_running_loop()
        all_at = loop.time() + ROUTE_POLL_SECONDS
        while True:
            await asyncio.sleep(UNKNOWN_POLL_SECONDS)
            everything = loop.time() >= all_at
            if everything:
                all_at = loop.time() + ROUTE_POLL_SECONDS
            for topic, entry in list(self._topics.items()):
                if everything or (entry.queues.borrowed if entry.queues is not None else entry.awaited):
                    await self.refresh(topic)

    # Brokers

    def address_of(self, broker_name: str, broker_id: int = MASTER_ID) -> Address:
        """The broker with that id, else the master, else any of the name. Raises NoBroker."""
        addresses = self._brokers.get(broker_name)
        if not addresses:
            raise NoBroker(f"no route names the broker {broker_name} now; it may be down, or its topic deleted")
        found = addresses.get(broker_id) or addresses.get(MASTER_ID)
        return found if found is not None else next(iter(addresses.values()))

    def master_of(self, broker_name: str) -> Address | None:
        addresses = self._brokers.get(broker_name)
        return addresses.get(MASTER_ID) if addresses is not None else None

    async def broker_peer(self, address: Address, *, patience_s: float = 0.0) -> RemotingPeer:
        """An open connection, on which the broker hears of us before anything else. Raises CannotConnect."""
        peer = await self.pool.peer(address, patience_s=patience_s)
        if self._beaten.get(address) is not peer:
            self._beaten[address] = peer
            if self.producer_groups or self.memberships():
                peer.request(RequestCode.HEART_BEAT, None, self._heartbeat(), ASK_SECONDS, _ignore)
        return peer

    async def ask_broker(
        self,
        address: Address,
        code: int,
        ext: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        doing: str,
        timeout_s: float = ASK_SECONDS,
    ) -> Command:
        """The answer, whatever its code. `doing` is what the broker is asked to do, for the error's text.

        Raises Timeout, Unreachable, ClientClosed.
        """
        self.check_open()
        try:
            peer = self.pool.peer_if_open(address) or await self.broker_peer(address)
            return await peer.ask(code, ext, body, timeout_s)
        except LinkError as error:
            raise from_link(error, f"a broker was asked to {doing}") from None

    async def ask_queue(
        self, queue: MessageQueue, code: int, ext: dict[str, str], *, doing: str, timeout_s: float = ASK_SECONDS
    ) -> Command:
        """The successful answer of the broker that has the queue. Raises BrokerRefused and as `ask_broker`."""
        if queue.broker_name not in self._brokers:
            await self.queues(queue.topic)
        answer = await self.ask_broker(self.address_of(queue.broker_name), code, ext, doing=doing, timeout_s=timeout_s)
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(queue.broker_name, answer.code, answer.remark, doing)
        return answer

    # Signs of life

    def _heartbeat(self) -> bytes:
        return encode_heartbeat(HeartbeatData(self.client_id, self.producer_groups, self.memberships()))

    async def beat_all(self) -> None:
        """A heartbeat to every broker in use: masters, and for consumers all. Waits for the answers, some seconds."""
        everyone = bool(self.memberships())
        addresses = dict.fromkeys(
            address
            for members in self._brokers.values()
            for broker_id, address in members.items()
            if everyone or broker_id == MASTER_ID
        )
        for address in self._beaten.keys() - addresses.keys():
            del self._beaten[address]
        if addresses and (everyone or self.producer_groups):
            await asyncio.gather(*(self._beat_one(address) for address in addresses))

    async def _beat_one(self, address: Address) -> None:
        try:
            peer = await self.pool.peer(address)
            self._beaten[address] = peer
            answer = await peer.ask(RequestCode.HEART_BEAT, None, self._heartbeat(), ASK_SECONDS)
            if answer.code != ResponseCode.SUCCESS:
                log.warning("%s: the heartbeat was refused with %d: %s", address, answer.code, answer.remark)
        except LinkError as error:
            log.debug("heartbeat: %s", error)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.beat_all()

    async def _unregister(self) -> None:
        """Best effort: without it the brokers notice when the connections end."""
        goodbyes = []
        for address in self._beaten:
            peer = self.pool.peer_if_open(address)
            if peer is None:
                continue
            base = {"clientID": self.client_id}
            goodbyes += [
                peer.ask(RequestCode.UNREGISTER_CLIENT, base | group, timeout_s=1.0)
                for group in (
                    *({"producerGroup": group} for group in self.producer_groups),
                    *({"consumerGroup": membership.group} for membership in self.memberships()),
                )
            ]
        await asyncio.gather(*goodbyes, return_exceptions=True)

    # What brokers ask of us (the link's dispatcher)

    def connected(self, peer: RemotingPeer) -> None:
        pass

    def disconnected(self, peer: RemotingPeer) -> None:
        pass

    def request(self, peer: RemotingPeer, command: Command) -> None:
        handler = self.on_request.get(command.code)
        if handler is not None:
            try:
                handler(peer, command)
            except WireError as error:
                log.warning("%s: request %d cannot be read: %s", peer.remote, command.code, error)
        elif not command.is_one_way:
            code = ResponseCode.REQUEST_CODE_NOT_SUPPORTED
            peer.answer(response(code, command.request_id, remark=f"this client does not serve request {command.code}"))


def _ignore(result: Command | LinkError) -> None:
    """For requests whose failure shows elsewhere."""
