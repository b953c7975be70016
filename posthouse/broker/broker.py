"""One broker: the parts list. It opens no port; an endpoint does, and says where with `listening`.

`failed` is done, with an error, when the log has failed or a mistake of ours has shown: the process should end, and
recovery is the next start.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from contextlib import suppress

from posthouse.broker.arrivals import Arrivals
from posthouse.broker.assignment import Assignments
from posthouse.broker.clients import Clients
from posthouse.broker.cluster_queues import ClusterQueues
from posthouse.broker.config import BrokerConfig
from posthouse.broker.groups import Groups
from posthouse.broker.inspection import Inspection
from posthouse.broker.introspection import Introspection
from posthouse.broker.locks import Locks
from posthouse.broker.offsets import Offsets
from posthouse.broker.pop import PopService
from posthouse.broker.pull import PullService
from posthouse.broker.query import QueryService
from posthouse.broker.registration import Registrar
from posthouse.broker.replies import Replies
from posthouse.broker.resets import Resets
from posthouse.broker.retries import Retries
from posthouse.broker.runtime import Runtime
from posthouse.broker.send import SendService
from posthouse.broker.settings import Settings
from posthouse.broker.stats import SAMPLE_PERIOD_S, Stats
from posthouse.broker.timers import Timers
from posthouse.broker.topics import Topics
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.model.message import Endpoint, MessageQueue
from posthouse.model.refusal import Refused
from posthouse.store.message_store import LogError, LogMaker, MessageStore, Put
from posthouse.store.queue_locks import QueueLocks
from posthouse.store.retention import Retention
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic

log = logging.getLogger(__name__)

_LOCKS_AT_ONCE = 10_000
"""In one record: leases that end together may be more than one can hold."""


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
        self.stats = Stats(loop.time, host.clock)
        self.arrivals = Arrivals()
        self.store = MessageStore(
            host, config.store, make_log=make_log, on_arrivals=self._arrived, on_broken=self._broken
        )
        self.retention = Retention(self.store, host, config.store)
        self.topics = Topics(self.store, config, host.clock)
        self.groups = Groups(self.store, config)
        self.clients = Clients(self.topics, self.groups, loop.time)
        self.locks = Locks(loop.time, self._note_locks)
        self.offsets = Offsets(self.store, self.topics, self.groups, host.clock)
        self.resets = Resets(self.store, self.topics, self.groups, self.clients, self.offsets, self.arrivals.wake_queue)
        self._make_delivery(host, config)
        self.introspection = Introspection(self.clients, self.query)
        self.inspection = Inspection(
            config, host.clock, self.store, self.topics, self.groups, self.clients, self.offsets, self.stats
        )
        self.resets.on_reset = self.pop.reset
        self.topics.on_deleted = self._topic_deleted
        self.runtime = Runtime(host, self.store, self.stats, self.arrivals, self.timers, loop.time, self.retention)
        self.registrar = Registrar(host.net, config, self.topics, on_bug=self.bug)
        cluster_queues = ClusterQueues(config.name, self.topics, self.registrar, loop.time)
        self.assignment = Assignments(self.topics, self.groups, self.clients, cluster_queues)
        self.settings = Settings(config, host.clock, (self._use,))
        self._duties: list[asyncio.Task[None]] = []
        self._advertised: Endpoint | None = None
        self._advertised_port: int | None = None
        if config.advertise is not None:
            self._advertise(config.advertise)

    def _make_delivery(self, host: Host, config: BrokerConfig) -> None:
        """The services on a message's way: in, waiting, out, and back."""
        self.send = SendService(
            self.store,
            self.topics,
            self.groups,
            config,
            host.random,
            self.retention,
            host.clock,
            is_ordered=self.locks.holds,
            on_dead_letter=self.stats.dead_lettered,
        )
        self.timers = Timers(self.store, self.topics, self.send, host.clock, self.bug)
        self.pull = PullService(
            self.store,
            self.topics,
            self.groups,
            self.clients,
            self.offsets,
            self.arrivals,
            self.stats,
            long_polling=config.long_polling,
            on_bug=self.bug,
        )
        self.pop = PopService(
            self.store,
            self.topics,
            self.groups,
            self.offsets,
            self.send,
            self.timers,
            host.clock,
            self.stats,
            long_polling=config.long_polling,
            on_bug=self.bug,
        )
        self.replies = Replies(self.send, self.clients, host.clock)
        self.query = QueryService(self.store, self.topics)
        self.retries = Retries(
            self.topics,
            self.groups,
            self.send,
            self.query,
            host.clock,
            host.random,
            on_sent_back=self.stats.sent_back,
            on_dead_letter=self.stats.dead_lettered,
        )

    def open(self) -> None:
        """Recovers the store and makes it ready. Waits for the disk. Raises StoreBroken."""
        self.store.open()
        self.store.start()
        self.locks.restore(self.store.folds.locks.live)
        self.topics.prepare()
        self.timers.start()
        self.pop.start()

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
            await self.stats.sample_in_turns()
            self.runtime.sample()
            self.clients.expire()
            self.locks.expire()

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

    def _arrived(self, puts: list[Put]) -> None:
        self.stats.arrived(puts)
        self.arrivals.arrived(puts)
        self.pop.arrived(puts)

    def _use(self, config: BrokerConfig) -> None:
        """Settings that were changed by request. Topics come last: their new version makes the NameServers be told."""
        self.config = config
        self.retention.use(config.store)
        for service in (self.groups, self.send, self.pull, self.pop, self.registrar, self.topics):
            service.use(config)

    def _topic_deleted(self, topic: Topic) -> None:
        self.stats.forget(topic=topic.config.name)
        self.offsets.forget_pulled(topic=topic.config.name)
        for queue in topic.queues.values():
            self.arrivals.wake_queue(queue)
        self.pop.topic_deleted(topic.config.name)

    def _note_locks(self, group: str, client_id: str, queues: list[MessageQueue]) -> None:
        """Queues of an ordered group changed hands. A store that takes no records now forgets with the next start."""
        with suppress(Refused):
            self.store.check_recordable()
            for at in range(0, len(queues), _LOCKS_AT_ONCE):
                body = QueueLocks.body(group, client_id, queues[at : at + _LOCKS_AT_ONCE])
                self.store.record(Kind.LOCKS, body, _ignore, sync=False)

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
        await self.pop.close()
        await self.timers.close()
        await self.store.drain()

    async def close(self) -> None:
        """After `stop_serving`: writes what is due and closes the store."""
        await self.store.close()


def _ignore(error: LogError | None) -> None:
    """For records that nobody waits for."""
