"""A whole house in one process: a NameServer, a broker, or both, with their remoting endpoints.

The parts talk to each other over the network as they would from two machines, so nothing is special about living
together but the first registration, which `start` waits for: whoever sees the house up can send at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import dataclass, field

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.endpoint.remoting.broker import BrokerDesk
from posthouse.endpoint.remoting.dispatcher import Dispatcher
from posthouse.endpoint.remoting.nameserver import NAMESERVER_ROUTES, peer_lost
from posthouse.endpoint.remoting.server import RemotingServer
from posthouse.host import Host
from posthouse.host.disk import DiskBusy
from posthouse.host.net import Address
from posthouse.model.limits import CONNECTIONS_MAX
from posthouse.nameserver.kv import KvUnreadable
from posthouse.nameserver.nameserver import NameServer
from posthouse.store.config import StoreConfig
from posthouse.store.message_store import LogMaker, StoreBroken

log = logging.getLogger(__name__)

_REGISTER_TIMEOUT_S = 3.0


class StartError(Exception):
    """The house cannot open; the text is one line for a person."""


@dataclass(frozen=True, slots=True)
class HouseConfig:
    """A port of None leaves that part out; 0 takes a free one. `advertise` is HOST or HOST:PORT of the broker."""

    data: str | None = "posthouse-data"
    host: str = "127.0.0.1"
    nameserver_port: int | None = 9876
    broker_port: int | None = 10911
    advertise: str | None = None
    nameservers: tuple[Address, ...] = ()
    cluster: str = "DefaultCluster"
    broker_name: str = "broker-a"
    auto_create_topics: bool = True
    long_polling: bool = True
    store: StoreConfig = field(default_factory=StoreConfig)
    connections_max: int = CONNECTIONS_MAX
    """Of each port. Connections take descriptors that the log needs as well: leave it some."""


class House:
    """`start`, then serve until `close`. `failed` is done, with an error, if the store dies or a bug shows."""

    def __init__(self, host: Host, config: HouseConfig | None = None, *, make_log: LogMaker | None = None) -> None:
        self._host = host
        self.config = config or HouseConfig()
        self._make_log = make_log
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.nameserver: NameServer | None = None
        self.broker: Broker | None = None
        self.nameserver_address: Address | None = None
        self.broker_address: Address | None = None
        self._nameserver_server: RemotingServer | None = None
        self._broker_server: RemotingServer | None = None
        self._closed = False

    async def start(self) -> None:
        """Opens everything. Raises StartError; then everything is closed again."""
        try:
            if self.config.broker_port is None:
                self._host.disk.lock()
            else:
                self._open_broker()
            if self.config.nameserver_port is not None:
                await self._start_nameserver(self.config.nameserver_port)
            if self.config.broker_port is not None:
                await self._start_broker(self.config.broker_port)
        except (StoreBroken, DiskBusy, KvUnreadable) as error:
            await self.close()
            raise StartError(str(error)) from error
        except OSError as error:
            await self.close()
            raise StartError(f"cannot use the data folder {self._host.disk.place}: {error}") from error
        except BaseException:
            await self.close()
            raise

    def _open_broker(self) -> None:
        config = self.config
        self.broker = Broker(
            self._host,
            BrokerConfig(
                cluster=config.cluster,
                name=config.broker_name,
                advertise=_advertised(config),
                nameservers=config.nameservers,
                auto_create_topics=config.auto_create_topics,
                long_polling=config.long_polling,
                store=config.store,
            ),
            make_log=self._make_log,
        )
        self.broker.failed.add_done_callback(self._broker_failed)
        self.broker.open()

    async def _start_nameserver(self, port: int) -> None:
        self.nameserver = nameserver = NameServer(self._host, on_bug=self._fail)
        await nameserver.start()
        dispatcher = Dispatcher(
            {nameserver: NAMESERVER_ROUTES},
            what="NameServer",
            on_bug=self._fail,
            on_disconnected=lambda peer: peer_lost(nameserver, peer),
        )
        self._nameserver_server = RemotingServer(
            self._host.net, dispatcher, connections_max=self.config.connections_max
        )
        self.nameserver_address = await self._listen(self._nameserver_server, "NameServer", port)

    async def _start_broker(self, port: int) -> None:
        broker = self.broker
        assert broker is not None
        desk = BrokerDesk(broker, self._fail)
        self._broker_server = RemotingServer(
            self._host.net, desk.dispatcher, connections_max=self.config.connections_max
        )
        self.broker_address = await self._listen(self._broker_server, "broker", port)
        if self.nameserver_address is not None:
            broker.registrar.own_nameserver = dialable(self.nameserver_address)
        broker.listening(self.broker_address)
        if self.nameserver_address is not None and not await broker.registrar.wait_for_own(_REGISTER_TIMEOUT_S):
            raise StartError(f"the broker could not register with its own NameServer in {_REGISTER_TIMEOUT_S:.0f} s")

    async def _listen(self, server: RemotingServer, what: str, port: int) -> Address:
        wanted = Address(self.config.host, port)
        try:
            return await server.start(wanted)
        except OSError as error:
            reason = error.strerror or str(error)
            remedy = "choose another port, or stop the program that has it"
            if error.errno != errno.EADDRINUSE:
                remedy = "is it an address of this machine, and a port that may be used?"
            raise StartError(f"the {what} cannot listen on {wanted}: {reason}; {remedy}") from error

    def _broker_failed(self, failed: asyncio.Future[None]) -> None:
        error = failed.exception() if not failed.cancelled() else None
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # looked at, so that nobody need wait for it

    async def close(self) -> None:
        """Stops taking connections, lets the parts say good-bye and write what is due. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._broker_server is not None:
            self._broker_server.stop_listening()
        if self.broker is not None:
            await self.broker.stop_serving()
        for server in (self._broker_server, self._nameserver_server):
            if server is not None:
                await server.close()
        if self.nameserver is not None:
            await self.nameserver.close()
        if self.broker is not None:
            await self.broker.close()
        else:
            self._host.disk.close()


def _advertised(config: HouseConfig) -> Address | None:
    """The advertised address; without a port of its own it has the broker's. Raises StartError."""
    text = config.advertise
    if not text:
        return None
    try:
        if text.count(":") == 1 or (text.startswith("[") and "]:" in text):
            return Address.parse(text)
    except ValueError as error:
        raise StartError(f"--advertise: {error}") from None
    return Address(text.removeprefix("[").removesuffix("]"), config.broker_port or 0)


def dialable(address: Address) -> Address:
    """Where something that listens at `address` can be reached from this machine."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
    return Address(loopback.get(address.host, address.host), address.port)
