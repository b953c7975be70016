"""How an operator's tool asks: NameServers, one broker, all masters; and what their answers mean.

Every call is a few requests with an answer each; nothing is kept. All of it raises PosthouseError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from posthouse.client.client import Client
from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker, NoRoute, PosthouseError
from posthouse.client.session import ASK_SECONDS, Session
from posthouse.codec.remoting.bodies.cluster import decode_cluster_info
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.net import Address
from posthouse.model.route import BrokerData, ClusterInfo, TopicRoute

VISIBLE_SECONDS = 10.0
"""How long a NameServer may take to know what was just created or deleted."""

_VISIBLE_POLL_SECONDS = 0.05

T = TypeVar("T")


class Asking(Client):
    """Use it inside `async with`. All calls raise PosthouseError."""

    def __init__(
        self,
        nameservers: str | Iterable[str] = "127.0.0.1:9876",
        *,
        host: Host | None = None,
        timeout_s: float = ASK_SECONDS,
    ) -> None:
        super().__init__(Session(nameservers, host=host, kind="admin client"))
        self._timeout_s = timeout_s

    def now_ms(self) -> EpochMs:
        """By this machine's clock."""
        return self._session.host.clock.now_ms()

    async def cluster_info(self) -> ClusterInfo:
        answer = await self._ask_nameserver(RequestCode.GET_BROKER_CLUSTER_INFO, None, "name the brokers")
        return read_answer("the cluster's brokers", decode_cluster_info, answer)

    async def topic_route(self, topic: str) -> TopicRoute:
        """Raises NoRoute if the NameServer knows no such topic."""
        route = await self._find_route(topic)
        if route is None:
            raise NoRoute(topic, "no broker knows it")
        return route

    async def _ask_nameserver(self, code: int, ext: dict[str, str] | None, doing: str) -> Command:
        self._session.check_open()
        answer = await self._session.nameservers.ask(code, ext, timeout_s=self._timeout_s)
        return checked("the NameServer", answer, doing)

    async def _ask_broker(
        self, address: Address, code: int, ext: dict[str, str] | None, body: bytes, doing: str
    ) -> Command:
        answer = await self._session.ask_broker(address, code, ext, body, doing=doing, timeout_s=self._timeout_s)
        return checked(str(address), answer, doing)

    async def _ask_masters_of(self, topic: str, code: int, ext: dict[str, str], doing: str) -> list[Command]:
        route = await self.topic_route(topic)
        addresses = [Address.parse(broker.master) for broker in route.brokers if broker.master is not None]
        if not addresses:
            raise NoBroker(f"topic {topic} has no broker that can {doing}: are its masters down?")
        return await asyncio.gather(*(self._ask_broker(address, code, ext, b"", doing) for address in addresses))

    async def _masters(self, cluster: str | None) -> list[Address]:
        brokers = brokers_of(await self.cluster_info(), cluster)
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
        checked("the NameServer", answer, f"say where topic {topic} is")
        return read_answer(f"the route of topic {topic}", decode_route, answer)

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


def brokers_of(info: ClusterInfo, cluster: str | None) -> list[BrokerData]:
    """Of one cluster, or all. Raises NoBroker."""
    if cluster is None:
        return list(info.brokers.values())
    names = info.clusters.get(cluster)
    if names is None:
        raise NoBroker(f"there is no cluster {cluster}; known are: {', '.join(sorted(info.clusters)) or 'none'}")
    return [info.brokers[name] for name in names if name in info.brokers]


def checked(who: str, answer: Command, doing: str) -> Command:
    if answer.code != ResponseCode.SUCCESS:
        raise BrokerRefused(who, answer.code, answer.remark, doing)
    return answer


def read_answer(what: str, decode: Callable[[bytes], T], answer: Command) -> T:
    try:
        return decode(answer.body)
    except WireError as error:
        raise BadAnswer(f"{what} cannot be read: {error}") from None
