"""A cluster that does as a test says: a NameServer and brokers on loopback, each a table of answers."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from posthouse.codec.remoting.bodies.routes import encode_route
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, encode_command, response
from posthouse.codec.remoting.headers.nameserver import GET_ROUTE
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2, encode_send_reply
from posthouse.host import Host
from posthouse.host.net import Address, Listener
from posthouse.link.peer import RemotingPeer
from posthouse.model.route import BrokerData, QueueData, TopicRoute
from posthouse.model.topic import Perm

Answer = Callable[[Command], "Command | bytes | None"]


class FakeServer:
    """Answers a request by its code; None says nothing, and so does a code that is not in the table."""

    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.seen: list[Command] = []
        self.peers: list[RemotingPeer] = []
        self.address = Address("", 0)
        self._listener: Listener | None = None

    async def listen(self) -> None:
        port = self.address.port
        self._listener = await Host.real().net.serve(lambda: RemotingPeer(self), Address("127.0.0.1", port))
        self.address = self._listener.address

    async def vanish(self) -> None:
        """Stops listening and cuts all connections."""
        if self._listener is not None:
            self._listener.close()
        for peer in self.peers:
            peer.close("the server is gone")
        for peer in self.peers:
            await peer.wait_closed()
        self.peers.clear()

    def count(self, code: int) -> int:
        return sum(command.code == code for command in self.seen)

    def connected(self, peer: RemotingPeer) -> None:
        self.peers.append(peer)

    def disconnected(self, peer: RemotingPeer) -> None:
        pass

    def request(self, peer: RemotingPeer, command: Command) -> None:
        self.seen.append(command)
        answer = self.answers.get(command.code)
        found = answer(command) if answer is not None else None
        if found is not None and not command.is_one_way:
            peer.write(found if isinstance(found, bytes) else encode_command(found))


class FakeBroker(FakeServer):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.stored: list[Command] = []
        for code in (RequestCode.HEART_BEAT, RequestCode.UNREGISTER_CLIENT, RequestCode.UPDATE_CONSUMER_OFFSET):
            self.answers[code] = lambda command: response(0, command.request_id)
        self.answers[RequestCode.SEND_MESSAGE_V2] = self.store
        self.answers[RequestCode.SEND_BATCH_MESSAGE] = self.store

    def store(self, command: Command) -> bytes:
        self.stored.append(command)
        header = SEND_MESSAGE_V2.decode(command.ext)
        return encode_send_reply(
            command.request_id, f"{len(self.stored):032X}", header.queue_id, len(self.stored), "", True
        )

    def refuse(self, code: int, with_code: ResponseCode, remark: str = "no") -> None:
        self.answers[code] = lambda command: response(with_code, command.request_id, remark=remark)


class FakeCluster:
    """`routes` by topic; `add_topic` makes one over all brokers."""

    def __init__(self) -> None:
        self.nameserver = FakeServer()
        self.brokers: list[FakeBroker] = []
        self.routes: dict[str, TopicRoute] = {}
        self.nameserver.answers[RequestCode.GET_ROUTEINFO_BY_TOPIC] = self._route

    @property
    def address(self) -> str:
        return str(self.nameserver.address)

    async def add_broker(self, name: str = "") -> FakeBroker:
        broker = FakeBroker(name or f"broker-{'abcdef'[len(self.brokers)]}")
        await broker.listen()
        self.brokers.append(broker)
        return broker

    def add_topic(self, topic: str, queues: int = 2, perm: int = Perm.READ_WRITE) -> None:
        self.routes[topic] = TopicRoute(
            tuple(QueueData(broker.name, queues, queues, perm) for broker in self.brokers),
            tuple(BrokerData("c", broker.name, {0: str(broker.address)}) for broker in self.brokers),
        )

    def _route(self, command: Command) -> Command:
        route = self.routes.get(GET_ROUTE.decode(command.ext).topic)
        if route is None:
            return response(ResponseCode.TOPIC_NOT_EXIST, command.request_id, remark="no route")
        return response(0, command.request_id, None, encode_route(route, standard_json=True))

    async def vanish(self) -> None:
        for server in (self.nameserver, *self.brokers):
            await server.vanish()


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """A NameServer and no broker yet."""
    found = FakeCluster()
    await found.nameserver.listen()
    yield found
    await found.vanish()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def by_code(seen: list[Command]) -> dict[int, list[Command]]:
    found: dict[int, list[Command]] = defaultdict(list)
    for command in seen:
        found[command.code].append(command)
    return found
