"""Consumes as a member of a group: pulls the queues that are its share, and gives each message to a handler.

    async with PushConsumer("group", subscribe={"topic": "TagA || TagB"}, handler=handle): ...

Three ways to consume, one frame: this module joins the group, finds out which queues are its own, commits, answers
operators, and leaves. `concurrently.py` handles many messages at once; `orderly.py` one of each queue, in order, under
the broker's lock; for broadcast each consumer has all queues and keeps its offsets in a file (`broadcast.py`).

A message counts as done when the handler returned, or when it was safely put back after the handler failed; only then
may the group's offset move past it. So a message may be delivered more than once and is never lost; only a broadcast
consumer drops what its handler could not do.
Source: RocketMQ 5.3 DefaultMQPushConsumerImpl.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping

from posthouse.client.broadcast import BroadcastOffsets
from posthouse.client.client import Client
from posthouse.client.concurrently import Concurrently, ConcurrentQueue
from posthouse.client.duty import begin_duty
from posthouse.client.errors import BrokerRefused, NoRoute, PosthouseError
from posthouse.client.figures import Figures
from posthouse.client.handling import BatchHandler, Handler, Handling
from posthouse.client.inbox import INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, Held, InboxLimits
from posthouse.client.introspection import Introspection
from posthouse.client.locks import QueueLocks
from posthouse.client.offsets import GroupOffsets, Offsets, QueueBounds
from posthouse.client.orderly import OrderedQueue, Orderly
from posthouse.client.outbox import check_group_name
from posthouse.client.pulling import Puller
from posthouse.client.reading import Reading
from posthouse.client.rebalance import Strategy, averagely, wire_name
from posthouse.client.received import ReceivedMessage
from posthouse.client.requests import Replies
from posthouse.client.retries import DEAD, Retries
from posthouse.client.session import Session
from posthouse.client.shares import ByBroker, ByMembers, Shares, Source, everything
from posthouse.client.subscribing import subscriptions_of
from posthouse.client.trace import tracer_of
from posthouse.codec.remoting.bodies.client_status import decode_reset_offsets
from posthouse.codec.remoting.bodies.heartbeat import encode_client_check
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.link.peer import RemotingPeer
from posthouse.model.client_status import QueueStatus, RunningInfo
from posthouse.model.filter import TAG, Subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.heartbeat import ClientCheck
from posthouse.model.limits import PULL_MESSAGES_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.names import retry_topic
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)

COMMIT_SECONDS = 5.0
"""RocketMQ: persistConsumerOffsetInterval."""

ORDERED_COMMIT_SECONDS = 1.0
"""For an ordered consumer, whose pulls carry no offsets."""

ATTEMPTS_MAX = 16
"""Of a message that is handled concurrently. RocketMQ: maxReconsumeTimes."""

HALF_HOUR_MS = 30 * 60 * 1000
"""How far back CONSUME_FROM_TIMESTAMP begins if no time is given. RocketMQ: consumeTimestamp."""


class PushConsumer(Client):
    """One member of a group. Use it inside `async with`.

    subscribe: a topic, or a map of topics to expressions: `*`, `TagA || TagB`, `Sql("a > 3")`.

    handler: of one message; or `batch_handler`, of up to `batch_max` messages of one queue.
    ordered: one message of a queue at a time, in order; `concurrency` bounds the queues that are handled at once.
    broadcast: every consumer gets every message; failures are logged and dropped, offsets are in `offsets_folder`.
    attempts_max: after so many retries a message is a dead letter (None: 16); for an ordered consumer after so many
    attempts in all (None: no limit, so that one message may hold up its queue; tried again every `ordered_pause_s`).
    from_where: for queues on which the group has no offset yet; docs/consumers.md has the fine print.
    trace: notes in the trace topic (or one of that name) what the handler does; see docs/tracing.md.
    queue_*: what is pulled ahead of the handlers, for a queue; held_*: for all together. None: no limit.
    """

    def __init__(
        self,
        group: str,
        nameservers: str | Iterable[str] = "127.0.0.1:9876",
        *,
        subscribe: str | Mapping[str, str],
        handler: Handler | None = None,
        batch_handler: BatchHandler | None = None,
        batch_max: int = 32,
        ordered: bool = False,
        broadcast: bool = False,
        concurrency: int = 20,
        from_where: ConsumeFrom = ConsumeFrom.CONSUME_FROM_LAST_OFFSET,
        from_time_ms: EpochMs | None = None,
        attempts_max: int | None = None,
        ordered_pause_s: float = 1.0,
        handler_timeout_s: float | None = 900.0,
        close_timeout_s: float = 10.0,
        strategy: Strategy = averagely,
        assigned_by_broker: bool = False,
        pull_messages: int = PULL_MESSAGES_MAX,
        queue_messages_max: int = INBOX_MESSAGES_MAX,
        queue_bytes_max: int = INBOX_BYTES_MAX,
        held_messages_max: int | None = None,
        held_bytes_max: int | None = None,
        offsets_folder: str | None = None,
        trace: bool | str = False,
        host: Host | None = None,
    ) -> None:
        """Raises ValueError for what cannot be."""
        super().__init__(Session(nameservers, host=host, kind="push consumer"))
        check_group_name(group)
        _check_options(concurrency, ordered, broadcast, assigned_by_broker, pull_messages, offsets_folder)
        if not isinstance(from_where, ConsumeFrom):
            raise ValueError(f"from_where={from_where!r}; give for example ConsumeFrom.CONSUME_FROM_FIRST_OFFSET")
        self.group = group
        self.ordered = ordered
        self.broadcast = broadcast
        session = self._session
        session.memberships = self._memberships
        now_ms = session.host.clock.now_ms()
        self._subscriptions = subscriptions_of(group, subscribe, now_ms, retries=not broadcast)
        self._concurrency = concurrency
        self._close_timeout_s = close_timeout_s
        self._started_at_ms = now_ms
        self._figures = Figures()
        bounds = QueueBounds(session)
        self._file = BroadcastOffsets(host, group, offsets_folder, bounds) if broadcast else None
        self._offsets: Offsets = self._file or GroupOffsets(session, group)
        self._puller = Puller(session, group)
        self._reading = Reading(
            group,
            self._puller,
            self._offsets,
            self._figures,
            session.host.clock,
            from_where,
            from_time_ms if from_time_ms is not None else EpochMs(now_ms - HALF_HOUR_MS),
            pull_messages,
            InboxLimits(queue_messages_max, queue_bytes_max),
            Held(held_messages_max, held_bytes_max),
        )
        self._reading.resumed.set()
        self.tracer = tracer_of(trace, session, group)
        self._handling = Handling(
            handler, batch_handler, batch_max, handler_timeout_s, self._figures, Replies(session, group), self.tracer
        )
        self._set_up(attempts_max, ordered_pause_s, self._source(strategy, assigned_by_broker))

    def _set_up(self, attempts_max: int | None, ordered_pause_s: float, source: Source) -> None:
        """What handles the messages, shares the queues and answers operators."""
        session, group = self._session, self.group
        self._retries = Retries(session, group, ATTEMPTS_MAX if attempts_max is None else attempts_max)
        self._locks = QueueLocks(session, group, self._lock_lost)
        self._way: Concurrently | Orderly
        if self.ordered:
            self._way = Orderly(
                self._reading,
                self._handling,
                self._locks,
                self._bury,
                concurrency=self._concurrency,
                attempts_max=attempts_max,
                pause_s=ordered_pause_s,
            )
        else:
            put_back = self._drop_failed if self.broadcast else self._retries.put_back
            self._way = Concurrently(
                self._reading, self._handling, put_back, self._concurrency, commit_in_pulls=not self.broadcast
            )
        self._shares = Shares(session, tuple(self._subscriptions), source, self._take_share)
        self._introspection = Introspection(
            session,
            group,
            self._handling,
            ordered=self.ordered,
            about=self._about,
            queues=self._statuses,
            tasks=lambda: self._way.tasks,
        )
        self._own: dict[MessageQueue, ConcurrentQueue | OrderedQueue] = {}
        self._leaving: dict[MessageQueue, asyncio.Task[None]] = {}
        self._known_at_start: frozenset[MessageQueue] = frozenset()
        self._duties: list[asyncio.Task[None]] = []
        self._closing = False

    @property
    def assigned(self) -> tuple[MessageQueue, ...]:
        """The queues that are this member's share now, the retry topic's included."""
        return tuple(sorted(self._own))

    @property
    def offsets_file(self) -> str:
        """Where a broadcast consumer that is open keeps its offsets; empty for others."""
        return self._file.place if self._file is not None else ""

    @property
    def paused(self) -> bool:
        return not self._reading.resumed.is_set()

    def pause(self) -> None:
        """No further message is handled. What runs goes on, and so do membership and pulling, up to the limits."""
        self._reading.resumed.clear()

    def resume(self) -> None:
        self._reading.resumed.set()

    async def start(self) -> None:
        """Joins the group. Topics that do not exist yet are waited for while it runs.

        Raises NoNameServer, BrokerRefused for an SQL expression that a broker does not serve, OffsetsUnreadable.
        """
        await super().start()
        if self.tracer is not None:
            self.tracer.start()
        session = self._session
        session.on_request[RequestCode.NOTIFY_CONSUMER_IDS_CHANGED] = self._members_changed
        session.on_request[RequestCode.RESET_CONSUMER_CLIENT_OFFSET] = self._reset
        session.on_route = lambda topic: self._shares.soon()
        try:
            await self._join()
        except BaseException:
            await self._end()
            raise
        self._way.begin()
        self._duties = [
            begin_duty(self._shares.run(), f"group {self.group}: sharing queues"),
            begin_duty(self._commit(), f"group {self.group}: committing"),
        ]

    async def close(self) -> None:
        """Stops pulling, waits for running handlers up to `close_timeout_s`, commits, leaves. Twice is fine.

        Messages that were pulled and not begun go to other members, or come at the next start.
        """
        if not self._session.is_open or self._closing:
            return
        self._closing = True
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*self._duties, return_exceptions=True)
        for own in self._own.values():
            own.stop()
        await self._introspection.close()
        await self._way.close(self._close_timeout_s)
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        await asyncio.gather(*(own.commit() for own in self._own.values()))
        for own in self._own.values():
            if own.inbox is not None:
                own.inbox.drop()
        self._own.clear()
        await self._end()

    async def _end(self) -> None:
        if self.tracer is not None:
            await self.tracer.close()
        await self._locks.close()
        if self._file is not None:
            await self._file.close()
        await super().close()

    # Membership and shares

    async def _join(self) -> None:
        session, retries = self._session, retry_topic(self.group)
        if self._file is not None:
            self._file.open()
        await self._find_topics(topic for topic in self._subscriptions if topic != retries)
        for subscription in self._subscriptions.values():
            if subscription.expression_type != TAG:
                await self._check_served(subscription)
        await session.beat_all()  # before anybody asks for the members; it also makes the retry topic
        if not self.broadcast:
            await self._find_topics((retries,))
        known = (session.queues_if_known(topic) for topic in self._subscriptions)
        self._known_at_start = frozenset(
            queue for queues in known if queues is not None for queue in queues.read_queues
        )

    def _memberships(self) -> tuple[Membership, ...]:
        return (
            Membership(
                self.group,
                ConsumeType.CONSUME_PASSIVELY,
                MessageModel.BROADCASTING if self.broadcast else MessageModel.CLUSTERING,
                self._reading.from_where,
                tuple(self._subscriptions.values()),
            ),
        )

    def _source(self, strategy: Strategy, assigned_by_broker: bool) -> Source:
        if self.broadcast:
            return everything
        if assigned_by_broker:
            return ByBroker(self._session, self.group, wire_name(strategy))
        return ByMembers(self._session, self.group, strategy)

    async def _find_topics(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self._session.await_topic(topic)
            try:
                await self._session.queues(topic)
            except NoRoute:
                log.info("topic %s does not exist yet; group %s waits for it", topic, self.group)

    async def _check_served(self, subscription: Subscription) -> None:
        """Asks one broker of the topic whether it understands the expression."""
        queues = self._session.queues_if_known(subscription.topic)
        if queues is None or not queues.brokers:
            return
        name = min(queues.brokers)
        doing = f"serve the expression {subscription.expression!r} for {subscription.topic}"
        body = encode_client_check(ClientCheck(self.client_id, self.group, "", subscription))
        answer = await self._session.ask_broker(
            self._session.address_of(name), RequestCode.CHECK_CLIENT_CONFIG, None, body, doing=doing
        )
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(name, answer.code, answer.remark, doing)

    def _members_changed(self, peer: RemotingPeer, command: Command) -> None:
        if command.ext_map().get("consumerGroup") == self.group:
            self._shares.soon()

    def _take_share(self, topic: str, queues: list[MessageQueue]) -> None:
        wanted = set(queues)
        for queue in [queue for queue in self._own if queue.topic == topic and queue not in wanted]:
            self._leave(queue, self._own.pop(queue).leave())
        for queue in queues:
            own = self._own.get(queue)
            if own is not None and own.ended and queue not in self._leaving:
                self._leave(queue, self._own.pop(queue).leave())
            if queue not in self._own and queue not in self._leaving:
                self._enter(queue, None)

    def _enter(self, queue: MessageQueue, at: QueueOffset | None) -> None:
        if self._closing:
            return
        log.debug("group %s: reading %s", self.group, queue)
        is_new = queue not in self._known_at_start
        self._own[queue] = self._way.take(queue, self._subscriptions[queue.topic], at, is_new)

    def _leave(self, queue: MessageQueue, leaving: Coroutine[None, None, None]) -> None:
        """Until it has been left, it is not entered again."""
        log.debug("group %s: leaving %s", self.group, queue)

        async def leave() -> None:
            try:
                await leaving
            finally:
                self._offsets.forget(queue)
                self._puller.forget(queue)
                self._leaving.pop(queue, None)
                self._shares.soon()  # it may be ours again

        self._leaving[queue] = begin_duty(leave(), f"group {self.group}: leaving {queue}")

    def _lock_lost(self, queue: MessageQueue) -> None:
        own = self._own.get(queue)
        if isinstance(own, OrderedQueue):
            own.look()

    def _reset(self, peer: RemotingPeer, command: Command) -> None:
        """An operator of an old broker moves the group: drop what is held and go on at the given offsets."""
        if command.ext_map().get("group") != self.group:
            return
        for queue, offset in decode_reset_offsets(command.body).items():
            if queue in self._own:
                log.info("group %s: an operator moves %s to offset %d", self.group, queue, offset)
                self._leave(queue, self._move(self._own.pop(queue), queue, offset))

    async def _move(self, own: ConcurrentQueue | OrderedQueue, queue: MessageQueue, offset: QueueOffset) -> None:
        await own.leave()
        try:
            await self._offsets.commit(queue, offset)
        except PosthouseError as error:
            log.warning("%s: %s", queue, error)
        self._enter(queue, offset)

    # Progress

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(ORDERED_COMMIT_SECONDS if self.ordered else COMMIT_SECONDS)
            if self.ordered:
                await asyncio.gather(*(own.commit() for own in self._own.values()))
            else:
                offsets = ((queue, own.commit_offset) for queue, own in self._own.items())
                self._offsets.commit_soon({queue: offset for queue, offset in offsets if offset is not None})

    async def _drop_failed(self, message: ReceivedMessage, delay_level: int) -> None:
        log.warning("%s is dropped, as a broadcast consumer has no retries", message.message_id)

    async def _bury(self, message: ReceivedMessage) -> None:
        log.warning("%s is a dead letter after attempt %d; its queue goes on", message.message_id, message.attempt)
        await self._retries.put_back(message, DEAD)

    # What operators see

    def _statuses(self) -> dict[MessageQueue, QueueStatus]:
        return {queue: own.status() for queue, own in sorted(self._own.items())}

    def _about(self) -> RunningInfo:
        nameservers = ";".join(str(address) for address in self._session.nameservers.addresses)
        return RunningInfo(
            {
                "PROP_CLIENT_VERSION": "V5_3_3",
                "PROP_CONSUMEORDERLY": "true" if self.ordered else "false",
                "PROP_CONSUMER_START_TIMESTAMP": str(self._started_at_ms),
                "PROP_CONSUME_TYPE": ConsumeType.CONSUME_PASSIVELY.name,
                "PROP_NAMESERVER_ADDR": nameservers,
                "PROP_THREADPOOL_CORE_SIZE": str(self._concurrency),
                "messageModel": (MessageModel.BROADCASTING if self.broadcast else MessageModel.CLUSTERING).name,
                "paused": "true" if self.paused else "false",
            },
            tuple(self._subscriptions.values()),
            rates=self._figures.rates(asyncio.get_running_loop().time()),
        )


def _check_options(
    concurrency: int,
    ordered: bool,
    broadcast: bool,
    assigned_by_broker: bool,
    pull_messages: int,
    offsets_folder: str | None,
) -> None:
    """Raises ValueError."""
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; at least one handler must run")
    if not 1 <= pull_messages <= PULL_MESSAGES_MAX:
        raise ValueError(f"pull_messages is {pull_messages}; a pull asks for 1 to {PULL_MESSAGES_MAX} messages")
    if broadcast and ordered:
        raise ValueError("a consumer is ordered or broadcast, not both: locks are of groups that share the queues")
    if broadcast and assigned_by_broker:
        raise ValueError("nobody assigns queues to a broadcast consumer: it has them all")
    if offsets_folder is not None and not broadcast:
        raise ValueError("offsets_folder is for broadcast consumers; other groups' offsets are with the brokers")
