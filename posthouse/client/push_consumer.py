"""Consumes as a member of a group: pulls the queues that are its share, and gives each message to a handler.

    async with PushConsumer("group", subscribe={"topic": "TagA || TagB"}, handler=handle): ...

Each own queue has a task that pulls, held back when its inbox is full; `concurrency` workers run the handler. A
message counts as done when the handler returned, or when it was safely put back after the handler failed; only then
may the group's offset move past it. So a message may be delivered more than once and is never lost.
Source: RocketMQ 5.3 DefaultMQPushConsumerImpl, ConsumeMessageConcurrentlyService.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from posthouse.client.duty import begin_duty
from posthouse.client.errors import BrokerRefused, NoRoute, PosthouseError
from posthouse.client.inbox import QueueInbox
from posthouse.client.offsets import GroupOffsets
from posthouse.client.outbox import check_group_name, check_topic_name
from posthouse.client.pulling import Puller
from posthouse.client.rebalance import Strategy, averagely
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import Retries, RetryLater
from posthouse.client.session import Session
from posthouse.client.shares import Shares
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_dialect import queue_of, read_json
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.link.peer import RemotingPeer
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.message import MessageQueue
from posthouse.model.names import retry_topic
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Refused

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[ReceivedMessage], "Awaitable[None] | None"]

PULL_WAIT_MS = 15_000
"""How long a broker holds a pull. RocketMQ: BROKER_SUSPEND_MAX_TIME_MILLIS."""

COMMIT_SECONDS = 5.0
"""RocketMQ: persistConsumerOffsetInterval."""

ERROR_PAUSE_SECONDS = 1.0
"""Before a queue is pulled again after an error. RocketMQ 5.x: pullTimeDelayMillsWhenException."""

FULL_PAUSE_SECONDS = 0.02
"""Before an inbox that was full is looked at again. RocketMQ: 50 ms."""

LOCAL_RETRY_SECONDS = 5.0
"""Before a message that could not be put back is handled here again. RocketMQ: the same."""

HALF_HOUR_MS = 30 * 60 * 1000
"""How far back CONSUME_FROM_TIMESTAMP begins if no time is given. RocketMQ: consumeTimestamp."""


class PushConsumer:
    """One member of a group. Use it inside `async with`."""

    def __init__(
        self,
        group: str,
        nameservers: str | Iterable[str] = "127.0.0.1:9876",
        *,
        subscribe: str | Mapping[str, str],
        handler: Handler,
        concurrency: int = 20,
        from_where: ConsumeFrom = ConsumeFrom.CONSUME_FROM_LAST_OFFSET,
        from_time_ms: EpochMs | None = None,
        attempts_max: int = 16,
        handler_timeout_s: float | None = 900.0,
        close_timeout_s: float = 10.0,
        strategy: Strategy = averagely,
        host: Host | None = None,
    ) -> None:
        """`subscribe` is a topic, or a map of topics to tag expressions (`*` for all, `TagA || TagB`).

        `from_where` holds only for queues on which the group has no offset yet. A handler that raises, or takes
        longer than `handler_timeout_s`, gets its message again up to `attempts_max` times; then it is a dead letter.
        Raises ValueError for names and expressions that cannot be.
        """
        check_group_name(group)
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; at least one handler must run")
        self.group = group
        self._session = Session(nameservers, host=host, kind="push consumer")
        self._session.memberships = self._memberships
        now_ms = self._session.host.clock.now_ms()
        self._subscriptions = _subscriptions(group, subscribe, now_ms)
        self._handler = handler
        self._concurrency = concurrency
        self._from_where = from_where
        self._from_time_ms = from_time_ms if from_time_ms is not None else EpochMs(now_ms - HALF_HOUR_MS)
        self._handler_timeout_s = handler_timeout_s
        self._close_timeout_s = close_timeout_s
        self._offsets = GroupOffsets(self._session, group)
        self._puller = Puller(self._session, group)
        self._retries = Retries(self._session, group, attempts_max)
        self._shares = Shares(self._session, group, tuple(self._subscriptions), strategy, self._take_share)
        self._inboxes: dict[MessageQueue, QueueInbox] = {}
        self._readers: dict[MessageQueue, asyncio.Task[None]] = {}
        self._jobs: asyncio.Queue[tuple[QueueInbox, ReceivedMessage] | None] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._duties: list[asyncio.Task[None]] = []

    @property
    def client_id(self) -> str:
        return self._session.client_id

    @property
    def assigned(self) -> tuple[MessageQueue, ...]:
        """The queues that are this member's share now, the retry topic's included."""
        return tuple(sorted(self._readers))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Joins the group. Topics that do not exist yet are waited for while it runs. Raises NoNameServer."""
        session = self._session
        session.start()
        session.on_request[RequestCode.NOTIFY_CONSUMER_IDS_CHANGED] = self._members_changed
        session.on_request[RequestCode.RESET_CONSUMER_CLIENT_OFFSET] = self._reset
        session.on_route = lambda topic: self._shares.soon()
        try:
            await self._find_topics(topic for topic in self._subscriptions if topic != retry_topic(self.group))
            await session.beat_all()  # before anybody asks for the members; it also makes the retry topic
            await self._find_topics((retry_topic(self.group),))
        except BaseException:
            await session.close()
            raise
        self._workers = [begin_duty(self._work(), f"worker {n}") for n in range(self._concurrency)]
        self._duties = [
            begin_duty(self._shares.run(), f"group {self.group}: sharing queues"),
            begin_duty(self._commit(), f"group {self.group}: committing"),
        ]

    async def close(self) -> None:
        """Stops pulling, waits for running handlers up to `close_timeout_s`, commits, leaves. Twice is fine.

        Messages that were pulled and not begun go to other members, or come at the next start.
        """
        if not self._session.is_open:
            return
        tasks = [*self._duties, *self._readers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._jobs.empty():
            self._jobs.get_nowait()
        for _ in self._workers:
            self._jobs.put_nowait(None)
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=self._close_timeout_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        offsets = {queue: inbox.commit_offset for queue, inbox in self._inboxes.items()}
        await self._offsets.commit_all(offsets)
        for inbox in self._inboxes.values():
            inbox.dropped = True
        self._inboxes.clear()
        self._readers.clear()
        await self._session.close()

    # Membership and shares

    def _memberships(self) -> tuple[Membership, ...]:
        return (
            Membership(
                self.group,
                ConsumeType.CONSUME_PASSIVELY,
                MessageModel.CLUSTERING,
                self._from_where,
                tuple(self._subscriptions.values()),
            ),
        )

    async def _find_topics(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self._session.await_topic(topic)
            try:
                await self._session.queues(topic)
            except NoRoute:
                log.info("topic %s does not exist yet; group %s waits for it", topic, self.group)

    def _members_changed(self, peer: RemotingPeer, command: Command) -> None:
        if command.ext_map().get("consumerGroup") == self.group:
            self._shares.soon()

    def _take_share(self, topic: str, queues: list[MessageQueue]) -> None:
        wanted = set(queues)
        for queue in [queue for queue in self._readers if queue.topic == topic and queue not in wanted]:
            self._leave(queue)
        for queue in queues:
            reader = self._readers.get(queue)
            if reader is not None and reader.done():  # by an error, which is in the log
                self._leave(queue)
            if queue not in self._readers:
                self._enter(queue, None)

    def _enter(self, queue: MessageQueue, offset: QueueOffset | None) -> None:
        log.debug("group %s: reading %s", self.group, queue)
        self._readers[queue] = begin_duty(self._read(queue, offset), f"the reader of {queue}")

    def _leave(self, queue: MessageQueue) -> None:
        """Another member takes over from the offset committed here; what is not done comes to it again."""
        log.debug("group %s: leaving %s", self.group, queue)
        self._readers.pop(queue).cancel()
        inbox = self._inboxes.pop(queue, None)
        if inbox is not None:
            inbox.dropped = True
            self._offsets.commit_soon({queue: inbox.commit_offset})
        self._offsets.forget(queue)
        self._puller.forget(queue)

    def _reset(self, peer: RemotingPeer, command: Command) -> None:
        """An operator of an old broker moves the group: drop what is held and go on at the given offsets."""
        if command.ext_map().get("group") != self.group:
            return
        found = read_json(command.body)
        table = found.get("offsetTable") if isinstance(found, dict) else None
        if not isinstance(table, dict):
            raise WireError("an offset reset without an offsetTable")
        for key, offset in table.items():
            queue = queue_of(key)
            if queue in self._readers and isinstance(offset, int) and offset >= 0:
                self._leave(queue)
                self._offsets.commit_soon({queue: QueueOffset(offset)})
                self._enter(queue, QueueOffset(offset))

    # Reading

    async def _read(self, queue: MessageQueue, offset: QueueOffset | None) -> None:
        """Pulls the queue for ever; cancelled when it is no longer ours."""
        subscription = self._subscriptions[queue.topic]
        inbox = self._inboxes[queue] = QueueInbox(queue, await self._begin(queue) if offset is None else offset)
        trouble = ""
        loop = asyncio.get_running_loop()
        while True:
            if inbox.full:
                await asyncio.sleep(FULL_PAUSE_SECONDS)
                continue
            asked, asked_at = inbox.next_offset, loop.time()
            commit = inbox.commit_offset
            try:
                pulled = await self._puller.pull(
                    queue, asked, subscription, wait_ms=PULL_WAIT_MS, commit_offset=commit if commit > 0 else None
                )
            except PosthouseError as error:
                trouble = await self._rest(error, trouble)
                continue
            trouble = ""
            if pulled.moved:
                log.info("%s: offset %d is outside of the queue; going on at %d", queue, asked, pulled.next_offset)
                inbox.dropped = True
                inbox = self._inboxes[queue] = QueueInbox(queue, pulled.next_offset)
                self._offsets.commit_soon({queue: pulled.next_offset})
                continue
            inbox.pulled(pulled.messages, pulled.next_offset)
            for message in pulled.messages:
                self._jobs.put_nowait((inbox, message))
            if pulled.next_offset == asked and loop.time() - asked_at < ERROR_PAUSE_SECONDS / 10:
                await asyncio.sleep(ERROR_PAUSE_SECONDS / 10)  # a broker that does not hold pulls: do not spin

    async def _begin(self, queue: MessageQueue) -> QueueOffset:
        trouble = ""
        while True:
            try:
                return await self._offsets.begin(queue, self._from_where, self._from_time_ms)
            except PosthouseError as error:
                trouble = await self._rest(error, trouble)

    async def _rest(self, error: PosthouseError, trouble: str) -> str:
        """Waits a little after an error; the same trouble is logged once."""
        if isinstance(error, BrokerRefused) and error.code == ResponseCode.FLOW_CONTROL:
            await asyncio.sleep(FULL_PAUSE_SECONDS)
            return trouble
        kind = type(error).__name__
        log.log(logging.DEBUG if kind == trouble else logging.WARNING, "group %s: %s", self.group, error)
        await asyncio.sleep(ERROR_PAUSE_SECONDS)
        return kind

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            self._offsets.commit_soon({queue: inbox.commit_offset for queue, inbox in self._inboxes.items()})

    # Handling

    async def _work(self) -> None:
        while (job := await self._jobs.get()) is not None:
            inbox, message = job
            if inbox.dropped:
                continue
            delay_level = await self._handle(message)
            if delay_level is None:
                inbox.done(message.queue_offset)
            else:
                await self._put_back(inbox, message, delay_level)

    async def _handle(self, message: ReceivedMessage) -> int | None:
        """None when it went well, else the delay level for the next attempt."""
        if message.damage:
            log.error("%s cannot be given to the handler: %s", message.message_id, message.damage)
            return 0
        try:
            async with asyncio.timeout(self._handler_timeout_s):
                result = self._handler(message)
                if inspect.isawaitable(result):
                    await result
        except RetryLater as later:
            return later.delay_level
        except Exception:
            log.warning("the handler failed on %s, attempt %d", message.message_id, message.attempt, exc_info=True)
            return 0
        return None

    async def _put_back(self, inbox: QueueInbox, message: ReceivedMessage, delay_level: int) -> None:
        if inbox.dropped:
            return  # whoever reads the queue now gets the message again
        try:
            await self._retries.put_back(message, delay_level)
        except Exception as error:  # whatever it was, the message must not be lost
            log.warning("%s could not be put back (%s); it is tried here again", message.message_id, error)
            asyncio.get_running_loop().call_later(LOCAL_RETRY_SECONDS, self._again, inbox, message)
        else:
            inbox.done(message.queue_offset)

    def _again(self, inbox: QueueInbox, message: ReceivedMessage) -> None:
        message.reconsume_times += 1
        self._jobs.put_nowait((inbox, message))


def _subscriptions(group: str, subscribe: str | Mapping[str, str], version: int) -> dict[str, Subscription]:
    """By topic; the group's retry topic is always one of them. Raises ValueError."""
    wanted = {subscribe: "*"} if isinstance(subscribe, str) else dict(subscribe)
    if not wanted:
        raise ValueError("subscribe to at least one topic")
    found: dict[str, Subscription] = {}
    for topic, expression in (*wanted.items(), (retry_topic(group), "*")):
        check_topic_name(topic)
        try:
            found[topic] = parse_subscription(topic, expression, version=version)
        except Refused as refused:
            raise ValueError(f"the subscription to {topic}: {refused.remark}") from None
    return found
