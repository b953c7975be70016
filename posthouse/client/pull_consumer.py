"""Reads queues as the program says: nothing is shared with members of a group, nothing is committed by itself.

    async with PullConsumer("group") as consumer:
        async for message in consumer.stream("topic", start="begin"): ...

Unlike Java's it does not join the group, so it can look at the offsets of a group whose members are at work, and
even move them, without taking a queue from anybody. Source: RocketMQ 5.3 DefaultMQPullConsumer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import Literal, TypeAlias, TypeVar

from posthouse.client.client import Client
from posthouse.client.errors import BrokerRefused, ClientClosed, PosthouseError
from posthouse.client.offsets import GroupOffsets, QueueBounds
from posthouse.client.outbox import check_group_name, check_topic_name
from posthouse.client.pulling import Pulled, Puller
from posthouse.client.received import ReceivedMessage
from posthouse.client.session import Session
from posthouse.client.subscribing import Sql, subscription_of
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model.filter import ALL, SQL92, Subscription
from posthouse.model.limits import PULL_MESSAGES_MAX, PULL_SUSPEND_MS_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)

STREAM_MESSAGES_MAX = 1000
"""Messages that a stream reads ahead."""

STREAM_PULL_WAIT_MS = 15_000
"""How long a broker holds a stream's pull."""

NEW_QUEUES_SECONDS = 10.0
"""How often a stream looks for queues that are new."""

ERROR_PAUSE_SECONDS = 1.0
"""Before a stream pulls again after an error."""

STREAM_PATIENCE_SECONDS = 60.0
"""How long a stream waits for a broker that cannot be asked before it raises."""

NO_PROGRESS_PAUSE_SECONDS = 0.1
"""Before a queue is pulled again that gave nothing and was not held."""

Start: TypeAlias = Literal["begin", "end", "committed"]

T = TypeVar("T")

_Item: TypeAlias = ReceivedMessage | MessageQueue | PosthouseError


class PullConsumer(Client):
    """Use it inside `async with`. `group` names whose offsets `committed` and `commit` mean."""

    def __init__(
        self, group: str, nameservers: str | Iterable[str] = "127.0.0.1:9876", *, host: Host | None = None
    ) -> None:
        check_group_name(group)
        self.group = group
        super().__init__(Session(nameservers, host=host, kind="pull consumer"))
        self._bounds = QueueBounds(self._session)
        self._offsets = GroupOffsets(self._session, group)
        self._puller = Puller(self._session, group)
        self._subscriptions: dict[str, Subscription] = {}  # by topic, the one used last

    async def queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The queues that can be read, sorted. Raises NoRoute, NoNameServer."""
        check_topic_name(topic)
        return (await self._session.queues(topic)).read_queues

    async def pull(
        self,
        queue: MessageQueue,
        offset: int,
        max_messages: int = PULL_MESSAGES_MAX,
        wait_ms: int = 0,
        *,
        expression: str = ALL,
    ) -> Pulled:
        """Messages from `offset` on; if there are none, waits up to `wait_ms` (at most 25 s) for one.

        Go on at `next_offset`, whatever came. Raises PosthouseError; ValueError for a bad expression.
        """
        if self._session.queues_if_known(queue.topic) is None:
            await self.queues(queue.topic)
        return await self._puller.pull(
            queue,
            QueueOffset(offset),
            self._subscription(queue.topic, expression),
            wait_ms=min(wait_ms, PULL_SUSPEND_MS_MAX),
            messages_max=max_messages,
        )

    async def min_offset(self, queue: MessageQueue) -> QueueOffset:
        """The first message that is still there."""
        return await self._bounds.min_offset(queue)

    async def max_offset(self, queue: MessageQueue) -> QueueOffset:
        """The offset that the next message will get."""
        return await self._bounds.max_offset(queue)

    async def search_offset(self, queue: MessageQueue, at_ms: int) -> QueueOffset:
        """The first message stored at or after that time; the end if there is none."""
        return await self._bounds.search_offset(queue, EpochMs(at_ms))

    async def committed(self, queue: MessageQueue) -> QueueOffset | None:
        """What the group has stored for the queue, None if nothing."""
        return await self._offsets.committed(queue)

    async def commit(self, queue: MessageQueue, offset: int) -> None:
        """Stores that everything before `offset` is done; with an answer."""
        if self._session.queues_if_known(queue.topic) is None:
            await self.queues(queue.topic)
        try:
            await self._offsets.commit(queue, QueueOffset(offset))
        except BrokerRefused as refused:
            if refused.code != ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST:
                raise
            await self.pull(queue, offset, 1)  # a broker that may makes the group of who pulls
            await self._offsets.commit(queue, QueueOffset(offset))

    async def stream(
        self,
        topic: str,
        *,
        start: Start | EpochMs = "begin",
        expression: str = ALL,
        stop_at_end: bool = False,
    ) -> AsyncGenerator[ReceivedMessage, None]:
        """All messages of all queues of the topic; in order within a queue.

        `start`: the first message kept, the end, what the group committed (or the begin), or a time. With
        `stop_at_end` it ends where the queues ended when it began, else never. Errors of brokers are waited out.
        Raises NoRoute, NoNameServer.
        """
        subscription = self._subscription(topic, expression)
        ready: asyncio.Queue[_Item] = asyncio.Queue(STREAM_MESSAGES_MAX)
        readers: dict[MessageQueue, asyncio.Task[None]] = {}
        ended = 0
        loop = asyncio.get_running_loop()
        look_at = loop.time()
        try:
            while True:
                if loop.time() >= look_at:
                    look_at = math.inf if stop_at_end else loop.time() + NEW_QUEUES_SECONDS
                    first = not readers
                    for queue in await self.queues(topic):
                        if queue not in readers:
                            reading = self._read(queue, start if first else "begin", subscription, stop_at_end, ready)
                            readers[queue] = asyncio.create_task(reading, name=f"stream {queue}")
                if ended == len(readers) and stop_at_end:
                    return
                try:
                    async with asyncio.timeout_at(None if look_at == math.inf else look_at):
                        found = await ready.get()
                except TimeoutError:
                    continue
                if isinstance(found, ReceivedMessage):
                    yield found
                elif isinstance(found, PosthouseError):
                    raise found
                else:
                    ended += 1
        finally:
            for reader in readers.values():
                reader.cancel()
            await asyncio.gather(*readers.values(), return_exceptions=True)

    async def _read(
        self,
        queue: MessageQueue,
        start: Start | EpochMs,
        subscription: Subscription,
        stop_at_end: bool,
        ready: asyncio.Queue[_Item],
    ) -> None:
        """Puts messages into `ready`; last its queue, to say that there are no more, or the error that ended it."""
        loop = asyncio.get_running_loop()
        try:
            offset = await _patiently(lambda: self._start_offset(queue, start))
            end = await _patiently(lambda: self.max_offset(queue)) if stop_at_end else None
            wait_ms = STREAM_PULL_WAIT_MS if end is None else 0
            while end is None or offset < end:
                asked, asked_at = offset, loop.time()
                pulled = await _patiently(partial(self._puller.pull, queue, asked, subscription, wait_ms=wait_ms))
                for message in pulled.messages:
                    if end is None or message.queue_offset < end:
                        await ready.put(message)
                offset = pulled.next_offset
                if offset == asked and loop.time() - asked_at < NO_PROGRESS_PAUSE_SECONDS:
                    await asyncio.sleep(NO_PROGRESS_PAUSE_SECONDS)
        except PosthouseError as error:
            await ready.put(error)
        else:
            await ready.put(queue)

    async def _start_offset(self, queue: MessageQueue, start: Start | EpochMs) -> QueueOffset:
        if start == "end":
            return await self.max_offset(queue)
        if isinstance(start, int):
            return await self.search_offset(queue, start)
        stored = await self.committed(queue) if start == "committed" else None
        return stored if stored is not None else await self.min_offset(queue)

    def _subscription(self, topic: str, expression: str) -> Subscription:
        """Raises ValueError."""
        known = self._subscriptions.get(topic)
        is_sql = isinstance(expression, Sql)
        if known is not None and known.expression == expression and (known.expression_type == SQL92) == is_sql:
            return known
        found = self._subscriptions[topic] = subscription_of(topic, expression, self._session.host.clock.now_ms())
        return found


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks until there is an answer, while the trouble is of a kind that passes and the patience lasts."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STREAM_PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except ClientClosed:
            raise
        except PosthouseError as error:
            passes = not isinstance(error, BrokerRefused) or error.code in _PASSING
            if not passes or loop.time() >= deadline:
                raise
            log.debug("a stream waits: %s", error)
            await asyncio.sleep(ERROR_PAUSE_SECONDS)


_PASSING = frozenset({ResponseCode.SYSTEM_BUSY, ResponseCode.SYSTEM_ERROR, ResponseCode.FLOW_CONTROL})
"""Refusals after which the same question may be answered."""
