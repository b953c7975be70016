"""Telling the NameServers what this broker has: each on its own, every 30 s, at once when a topic changes or when the
connection is lost.

A NameServer that cannot be reached is tried again; nothing else waits for it. What address a NameServer is told
depends on what the broker knows: the advertised one; else the one it listens on; else, when it listens on all
addresses, "all of mine" to a NameServer in the same process (which then tells each client the address that it
dialled), and to any other the address from which this broker reaches it.
Source: RocketMQ 5.3 BrokerOuterAPI.registerBrokerAll.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from posthouse.broker.config import BrokerConfig
from posthouse.broker.topics import Topics
from posthouse.codec.remoting.bodies.registration import body_crc, encode_registration
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.nameserver import (
    REGISTER_BROKER,
    UNREGISTER_BROKER,
    RegisterBroker,
    UnregisterBroker,
)
from posthouse.host.net import Address, Net
from posthouse.link.errors import LinkError
from posthouse.link.peer import RemotingPeer
from posthouse.link.pool import Pool
from posthouse.model.limits import BROKER_EXPIRY_MS
from posthouse.model.registration import Registration
from posthouse.model.route import DataVersion
from posthouse.model.topic import Perm, TopicConfig

log = logging.getLogger(__name__)

_PLAIN_TOPICS_MAX = 10_000
"""Above it a registration is compressed: plain, the longest names would no longer fit into a frame."""
_REQUEST_TIMEOUT_S = 6.0
_UNREGISTER_TIMEOUT_S = 1.0
_ASK_TIMEOUT_S = 1.0
"""For what clients wait for in their turn, 3 s at most."""
_RETRY_S = 1.0
"""After a failure, at first; twice as long each time, up to the period."""
_SMALL_TABLE_TOPICS = 1_000
"""Up to here a table is encoded in no time, and a change is told at once."""
_REST_FACTOR = 9
"""Times what encoding the table took (20 us for each topic): so it takes at most a tenth of the loop."""
_LOST_PAUSE_S = 0.1
"""Between the loss of a connection and the next registration: a NameServer that takes and cuts must not be hammered."""


class NameServerLink:
    """One NameServer: a task that registers, sleeps, and registers again."""

    def __init__(self, owner: Registrar, address: Address) -> None:
        self._owner = owner
        self.address = address
        self.changed = asyncio.Event()
        self.registered = asyncio.Event()
        self.peer: RemotingPeer | None = None
        """The connection on which this broker is registered, while it lives."""
        self._failures = 0

    async def run(self) -> None:
        while True:
            self.changed.clear()
            wait_s = await self._once()
            try:
                async with asyncio.timeout(wait_s):
                    await self.changed.wait()
            except TimeoutError:
                pass  # the period is over
            await asyncio.sleep(self._owner.rest_s)

    async def _once(self) -> float:
        """Registers; how long to wait before the next time."""
        try:
            await self._owner.register_with(self)
        except (LinkError, RegistrationRefused) as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("cannot register with the NameServer at %s: %s; trying on", self.address, error)
            return min(_RETRY_S * float(1 << min(self._failures - 1, 10)), self._owner.period_s)
        if self._failures:
            log.info("registered with the NameServer at %s again", self.address)
        self._failures = 0
        self.registered.set()
        return self._owner.period_s


class RegistrationRefused(Exception):
    """A NameServer said no, or something that is not an answer."""


class _Table(NamedTuple):
    """All topics of one version, as they are sent."""

    version: DataVersion
    new_topics: tuple[str, ...]
    """In it, and waited for: see Topics.unannounced."""
    body: bytes
    crc: int
    is_compressed: bool


class Registrar:
    """Registers a broker with all its NameServers until it is closed."""

    def __init__(
        self, net: Net, config: BrokerConfig, topics: Topics, *, on_bug: Callable[[BaseException], None]
    ) -> None:
        self._config = config
        self._topics = topics
        self.own_nameserver: Address | None = None
        """A NameServer in the same process: set before `start`."""
        self._pool = Pool(net, _FromNameServers(self))
        self._on_bug = on_bug
        self._links: list[NameServerLink] = []
        self._table: _Table | None = None
        self.rest_s = 0.0
        """Between two registrations, so that a burst of changes to a large table does not take all of the loop."""
        self._tasks: list[asyncio.Task[None]] = []
        self.listen = config.listen
        self.period_s = config.register_period_s

    def start(self, listen: Address) -> None:
        """`listen` is where the broker's endpoint really is."""
        self.listen = listen
        own = (self.own_nameserver,) if self.own_nameserver is not None else ()
        servers = dict.fromkeys((*own, *self._config.nameservers))
        self._links = [NameServerLink(self, address) for address in servers]
        self._tasks = [asyncio.create_task(link.run(), name=f"register with {link.address}") for link in self._links]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)
        self._topics.on_change = self.topics_changed
        self._topics.is_announced = bool(self._links)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_bug(error)

    def topics_changed(self) -> None:
        for link in self._links:
            link.changed.set()

    def connection_lost(self, peer: RemotingPeer) -> None:
        """A NameServer forgets a broker with its connection, so it is told anew at once and not in half a minute."""
        for link in self._links:
            if link.peer is peer:
                link.peer = None
                asyncio.get_running_loop().call_later(_LOST_PAUSE_S, link.changed.set)

    async def wait_for_own(self, timeout_s: float) -> bool:
        """Whether the NameServer in the same process knows this broker, after at most `timeout_s`."""
        return await self._wait([link for link in self._links if link.address == self.own_nameserver], timeout_s)

    async def wait_for_all(self, timeout_s: float) -> bool:
        """Whether every NameServer knows this broker, after at most `timeout_s`."""
        return await self._wait(self._links, timeout_s)

    async def _wait(self, links: list[NameServerLink], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                for link in links:
                    await link.registered.wait()
        except TimeoutError:
            return False
        return True

    @property
    def has_nameservers(self) -> bool:
        return bool(self._links)

    async def ask_nameserver(self, code: int, ext: dict[str, str]) -> Command:
        """The answer of the first NameServer that gives one. Raises LinkError when none does."""
        failure: LinkError | None = None
        for link in self._links:
            try:
                peer = await self._pool.peer(link.address)
                return await peer.ask(code, ext, timeout_s=_ASK_TIMEOUT_S)
            except LinkError as error:
                failure = error
        assert failure is not None, "asked without a NameServer"
        raise failure

    async def register_with(self, link: NameServerLink) -> None:
        """One registration. Raises LinkError, RegistrationRefused."""
        address = link.address
        peer = await self._pool.peer(address)
        table = self._encoded()
        header = RegisterBroker(
            broker_name=self._config.name,
            broker_addr=self._address_for(address, peer),
            cluster_name=self._config.cluster,
            ha_server_addr="",
            broker_id=self._config.broker_id,
            heartbeat_timeout_ms=BROKER_EXPIRY_MS,
            enable_acting_master=False,
            compressed=table.is_compressed,
            body_crc=table.crc,
        )
        ext = REGISTER_BROKER.encode(header)
        answer = await peer.ask(RequestCode.REGISTER_BROKER, ext, table.body, _REQUEST_TIMEOUT_S)
        if answer.code != ResponseCode.SUCCESS:
            raise RegistrationRefused(f"code {answer.code}: {answer.remark}")
        link.peer = None if peer.closed else peer
        if self.own_nameserver is None or address == self.own_nameserver:
            self._topics.announced(table.new_topics)

    def use(self, config: BrokerConfig) -> None:
        """From the next registration on; the topics' version must change as well."""
        self._config = config
        self.period_s = config.register_period_s

    def _permitted(self, topic: TopicConfig) -> TopicConfig:
        permission = self._config.permission
        return topic if permission == Perm.READ_WRITE else replace(topic, perm=topic.perm & permission)

    def _encoded(self) -> _Table:
        """The table of topics; made once for each of its versions."""
        version = self._topics.version
        if self._table is None or self._table.version != version:
            now_s = asyncio.get_running_loop().time
            began_s = now_s()
            configs = {config.name: self._permitted(config) for config in self._topics.configs()}
            is_compressed = len(configs) > _PLAIN_TOPICS_MAX
            body = encode_registration(Registration(configs, version), compressed=is_compressed)
            new_topics = tuple(name for name in self._topics.unannounced if name in configs)
            self._table = _Table(version, new_topics, body, body_crc(body), is_compressed)
            self.rest_s = _REST_FACTOR * (now_s() - began_s) if len(configs) > _SMALL_TABLE_TOPICS else 0.0
        return self._table

    def _address_for(self, nameserver: Address, peer: RemotingPeer) -> str:
        advertise = self._config.advertise
        if advertise is not None:
            return str(Address(advertise.host, advertise.port or self.listen.port))
        if not is_unspecified(self.listen.host) or nameserver == self.own_nameserver:
            return str(self.listen)
        return str(Address(peer.local.host, self.listen.port))

    async def close(self) -> None:
        """Says good-bye to the NameServers that listen."""
        self._topics.is_announced = False
        self._topics.announced(list(self._topics.unannounced))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._unregister(link.address) for link in self._links))
        await self._pool.close()

    async def _unregister(self, address: Address) -> None:
        peer = self._pool.peer_if_open(address)
        if peer is None:
            return
        header = UnregisterBroker(
            broker_name=self._config.name,
            broker_addr=self._address_for(address, peer),
            cluster_name=self._config.cluster,
            broker_id=self._config.broker_id,
        )
        try:
            await peer.ask(
                RequestCode.UNREGISTER_BROKER, UNREGISTER_BROKER.encode(header), timeout_s=_UNREGISTER_TIMEOUT_S
            )
        except LinkError as error:
            log.debug("unregistering at %s: %s", address, error)


def is_unspecified(host: str) -> bool:
    """Whether a host to listen on means "all addresses"."""
    try:
        return ipaddress.ip_address(host or "0.0.0.0").is_unspecified  # noqa: S104
    except ValueError:
        return False


class _FromNameServers:
    """NameServers have nothing to ask a broker of ours; RocketMQ's may tell it things one-way."""

    def __init__(self, owner: Registrar) -> None:
        self._owner = owner

    def connected(self, peer: RemotingPeer) -> None:
        pass

    def disconnected(self, peer: RemotingPeer) -> None:
        self._owner.connection_lost(peer)

    def request(self, peer: RemotingPeer, command: Command) -> None:
        if not command.is_one_way:
            remark = f"request code {command.code} is not served on this connection"
            peer.answer(response(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, command.request_id, remark=remark))
