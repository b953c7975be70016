"""One broker: the parts list. It opens no port; an endpoint does, and says where with `listening`.

`failed` is done, with an error, when the log has failed or a mistake of ours has shown: the process should end, and
recovery is the next start.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging

from posthouse.broker.arrivals import Arrivals
from posthouse.broker.clients import Clients
from posthouse.broker.config import BrokerConfig
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.pull import PullService
from posthouse.broker.query import QueryService
from posthouse.broker.registration import Registrar
from posthouse.broker.runtime import SAMPLE_PERIOD_S, Runtime
from posthouse.broker.send import SendService
from posthouse.broker.topics import Topics
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.model.message import Endpoint
from posthouse.store.message_store import LogMaker, MessageStore
from posthouse.store.retention import Retention
from posthouse.store.topic_table import Topic

log = logging.getLogger(__name__)


class Broker:
    """`open` before anything else, `listening` when clients can come, `close` at the end."""

    def __init__(
        self,
        host: Host,
        config: BrokerConfig | None = None,
        *,
        make_log: LogMaker | None = None,
    ) -> None:
        self.config = config = config or BrokerConfig()
        loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = loop.create_future()
        self.arrivals = Arrivals()
        self.store = MessageStore(
            host, config.store, make_log=make_log, on_arrivals=self.arrivals.arrived, on_broken=self._broken
        )
        self.retention = Retention(self.store, host, config.store)
        self.topics = Topics(self.store, config, host.clock)
        self.groups = Groups(self.store, config)
        self.clients = Clients(self.topics, self.groups, loop.time)
        self.offsets = Offsets(self.store, self.topics, self.groups)
        self.send = SendService(self.store, self.topics, self.groups, config, host.random, self.retention)
        self.pull = PullService(
            self.store,
            self.topics,
            self.groups,
            self.clients,
            self.offsets,
            self.arrivals,
            long_polling=config.long_polling,
            on_bug=self.bug,
        )
        self.query = QueryService(self.store, self.topics)
        self.topics.on_deleted = self._topic_deleted
        self.runtime = Runtime(host, self.store, self.send, self.pull, loop.time, self.retention)
        self.registrar = Registrar(host.net, config, self.topics, on_bug=self.bug)
        self._duties: list[asyncio.Task[None]] = []
        self._advertised: Endpoint | None = None
        self._advertised_port: int | None = None
        if config.advertise is not None:
            self._advertise(config.advertise)

    def open(self) -> None:
        """Recovers the store and makes it ready. Waits for the disk. Raises StoreBroken."""
        self.store.open()
        self.store.start()
        self.topics.prepare()

    def listening(self, address: Address) -> None:
        """Clients can come at `address` now: registers with the NameServers."""
        advertise = self.config.advertise
        if advertise is not None and not advertise.port:
            self._advertise(Address(advertise.host, address.port))
        self.registrar.start(address)
        self._duties = [
            asyncio.create_task(self._keep_house(), name="broker housekeeping"),
            asyncio.create_task(self.retention.run(), name="broker retention"),
        ]
        for duty in self._duties:
            duty.add_done_callback(self._duty_ended)

    def _duty_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.bug(error)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_PERIOD_S)
            self.runtime.sample()
            self.clients.expire()

    def _advertise(self, address: Address) -> None:
        self._advertised_port = address.port
        try:
            self._advertised = Endpoint(ipaddress.ip_address(address.host).packed, address.port)
        except ValueError:
            pass  # a name: records hold raw addresses, so they get the one that the client dialled

    def store_host(self, dialled: Endpoint) -> Endpoint:
        """Where a client that dialled `dialled` finds its records again: goes into records and message ids."""
        if self._advertised is not None:
            return self._advertised
        if self._advertised_port is not None:
            return Endpoint(dialled.ip, self._advertised_port)
        return dialled

    def _topic_deleted(self, topic: Topic) -> None:
        for queue in topic.queues.values():
            self.arrivals.wake_queue(queue)

    def bug(self, error: BaseException) -> None:
        """Hears of mistakes of ours where nobody waits for the outcome: in callbacks and tasks of the broker's own."""
        log.error("a mistake in the broker", exc_info=error)
        self._broken(error)

    def _broken(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # looked at: whoever waits gets it, and nobody need wait

    async def stop_serving(self) -> None:
        """Leaves the NameServers, takes no more messages and answers all who wait. Connections are still open."""
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*self._duties, return_exceptions=True)
        self._duties.clear()
        await self.registrar.close()
        await self.pull.close()
        await self.store.drain()

    async def close(self) -> None:
        """After `stop_serving`: writes what is due and closes the store."""
        await self.store.close()
