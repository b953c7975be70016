"""Pulling: the messages of one queue from an offset on, now or, if the client may be held, when they come.

The walk: admission (group, topic, queue, subscription), the piggybacked commit, one look at the queue. Found: slices of
the log. Nothing yet and the client may wait: a waiter in `arrivals`, and one more look when it is woken, from the
message on that woke it: what came before that has been seen to be unwanted. Data that is not in memory costs a task
that waits for the device; nothing else suspends.

What a group has in its retry topic is not filtered: it passed the filter when it came the first time.
Source: RocketMQ 5.3 PullMessageProcessor, DefaultMessageStore.getMessage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import NamedTuple

from posthouse.broker.arrivals import Arrivals
from posthouse.broker.clients import Clients
from posthouse.broker.config import BrokerConfig
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.stats import Stats
from posthouse.broker.topics import Topics
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.group import MessageModel
from posthouse.model.limits import (
    COLD_READS_MAX,
    PULL_BYTES_MAX,
    PULL_MESSAGES_MAX,
    PULL_SUSPEND_MS_MAX,
    WAITING_PULLS_MAX,
)
from posthouse.model.names import is_retry_topic_of
from posthouse.model.pull import Forbidden, Forbids, PullRequest, PullResult, PullStatus
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import MessageStore, Put

PullDone = Callable[[PullResult | Refused], None]

_COLD_TRIES = 3
"""Times that data is fetched for one pull before the pull is told to come again."""


class _Filter(NamedTuple):
    """What a pull wants: tests of the tag's hash and of the encoded properties; None takes all."""

    wants: Callable[[int], bool] | None = None
    wants_properties: Callable[[bytes], bool] | None = None


_ALL = _Filter()


class PullService:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        clients: Clients,
        offsets: Offsets,
        arrivals: Arrivals,
        stats: Stats,
        *,
        long_polling: bool = True,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._topics = topics
        self._groups = groups
        self._clients = clients
        self._offsets = offsets
        self._arrivals = arrivals
        self._stats = stats
        self._suspend_ms_max = PULL_SUSPEND_MS_MAX if long_polling else 1000
        self._on_bug = on_bug
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.given_messages = 0

    def use(self, config: BrokerConfig) -> None:
        """Settings that were changed; pulls that are held stay held."""
        self._suspend_ms_max = PULL_SUSPEND_MS_MAX if config.long_polling else 1000

    def pull(self, request: PullRequest, holder: Hashable, done: PullDone) -> None:
        """`done` gets the result, now or later; never if `holder` has gone. Raises Refused."""
        queue, wanted = self._admit(request)
        if request.commit_offset is not None and request.commit_offset >= 0:
            self._offsets.commit(request.group, request.topic, request.queue_id, request.commit_offset)
        self._look(request, queue, wanted, holder, done, may_wait=request.suspend_ms > 0)

    def _admit(self, request: PullRequest) -> tuple[ConsumeQueue, _Filter]:
        group = self._groups.require(request.group)
        if not group.consume_enable:
            raise Forbidden(Forbids.GROUP, f"group {request.group!r} is switched off (consumeEnable is false)")
        topic = self._topics.require(request.topic)
        config = topic.config
        if not config.readable:
            raise Forbidden(Forbids.TOPIC, f"topic {request.topic!r} may not be read (its perm is {config.perm})")
        if not 0 <= request.queue_id < config.read_queues:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"queue {request.queue_id} of {request.topic!r}; it has {config.read_queues} read queues",
            )
        subscription = self._subscription(request, may_broadcast=group.consume_broadcast_enable)
        try:
            self._groups.check_readable(request.group, request.topic)
        except Refused as refused:
            raise Forbidden(Forbids.SUBSCRIPTION, refused.remark) from refused
        if subscription.takes_all or is_retry_topic_of(request.group, request.topic):
            return topic.queue(request.queue_id), _ALL
        return topic.queue(request.queue_id), _Filter(subscription.wants_hash, subscription.wants_properties)

    def _subscription(self, request: PullRequest, may_broadcast: bool) -> Subscription:
        """The request's own, or the one of the group's heartbeats."""
        if request.expression is not None:
            return parse_subscription(request.topic, request.expression, request.expression_type, 0)
        group = self._clients.consumer_group(request.group)
        if group is not None and not may_broadcast and group.message_model is MessageModel.BROADCASTING:
            raise Forbidden(
                Forbids.BROADCAST, f"group {request.group!r} may not broadcast (consumeBroadcastEnable is false)"
            )
        found = None if group is None else group.subscriptions.get(request.topic)
        if found is None:
            raise Refused(
                Reason.SUBSCRIPTION_NOT_EXIST,
                f"group {request.group!r} has not subscribed {request.topic!r}: no heartbeat said so; "
                f"are all its members subscribed alike?",
            )
        if found.version < request.subscription_version:
            raise Refused(
                Reason.SUBSCRIPTION_NOT_LATEST,
                f"group {request.group!r}: the pull's subscription to {request.topic!r} is newer than the heartbeat's",
            )
        return found

    def _look(
        self,
        request: PullRequest,
        queue: ConsumeQueue,
        wanted: _Filter,
        holder: Hashable,
        done: PullDone,
        may_wait: bool,
        passed_over: bool = False,
    ) -> None:
        """One look at the queue: answers, or waits for an arrival, or for the device.

        `passed_over`: the client asked from further ahead, where nothing matched.
        """
        offset, low, high = request.queue_offset, queue.min_offset, queue.max_offset
        moved_to = self._offsets.take_reset(request.group, request.topic, request.queue_id, offset)
        if moved_to is not None:
            done(PullResult(PullStatus.OFFSET_MOVED, moved_to, low, high, [], 0))
        elif not low <= offset <= high:
            done(PullResult(PullStatus.OFFSET_MOVED, low if offset < low else high, low, high, [], 0))
        elif offset < high:
            self._read(request, queue, wanted, done)
        elif not may_wait:
            self._stats.missed()
            status = PullStatus.NOTHING_MATCHED if passed_over else PullStatus.NOTHING_NEW
            done(PullResult(status, offset, low, high, [], 0))
        elif self._arrivals.is_full:  # "nothing new" at once would make a client ask again at once
            done(Refused(Reason.BUSY, f"{WAITING_PULLS_MAX} pulls are held, which is the limit; pull again later"))
        else:
            timeout_s = min(request.suspend_ms, self._suspend_ms_max) / 1000
            again = _Again(self, request, queue, wanted, holder, done)
            self._arrivals.wait(queue, holder, wanted.wants, timeout_s, again.look, wanted.wants_properties)

    def _read(self, request: PullRequest, queue: ConsumeQueue, wanted: _Filter, done: PullDone) -> None:
        result = self._get(request, queue, wanted)
        if result is None:
            if len(self._tasks) >= COLD_READS_MAX:
                raise Refused(
                    Reason.BUSY, f"{COLD_READS_MAX} pulls wait for old messages, which is the limit; pull again later"
                )
            self._start(self._read_cold(request, queue, wanted, done))
        else:
            done(result)

    def _get(self, request: PullRequest, queue: ConsumeQueue, wanted: _Filter) -> PullResult | None:
        try:
            found = self._store.get(queue, request.queue_offset, _count(request), PULL_BYTES_MAX, *wanted)
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading {request.topic!r} failed: {error}") from error
        if found is None:
            return None
        if not found.size:
            self._stats.missed()
            return PullResult(
                PullStatus.NOTHING_MATCHED, found.next_offset, queue.min_offset, queue.max_offset, found.buffers, 0
            )
        self.given_messages += found.messages
        self._stats.gave(request.group, request.topic, found.messages, found.size)
        self._offsets.pulled(request.group, request.topic, request.queue_id, found.next_offset)
        return PullResult(
            PullStatus.FOUND, found.next_offset, queue.min_offset, queue.max_offset, found.buffers, found.size
        )

    async def _read_cold(self, request: PullRequest, queue: ConsumeQueue, wanted: _Filter, done: PullDone) -> None:
        outcome: PullResult | Refused | None = None
        try:
            for _ in range(_COLD_TRIES):
                await self._store.warm(queue, request.queue_offset, _count(request), PULL_BYTES_MAX, *wanted)
                outcome = self._get(request, queue, wanted)
                if outcome is not None:
                    break
        except Refused as refused:
            outcome = refused
        except OSError as error:
            outcome = Refused(Reason.FAILED, f"reading {request.topic!r} failed: {error}")
        done(outcome or Refused(Reason.BUSY, "the disk is slow to give old messages; pull again"))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_bug(error)

    async def close(self) -> None:
        """Answers all who wait, and ends the reads under way."""
        self._arrivals.wake_all()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _count(request: PullRequest) -> int:
    return max(1, min(request.messages_max, PULL_MESSAGES_MAX))


class _Again:
    """What a held pull does when it is woken: one more look, not waiting a second time.

    Nothing comes out of it: it is called in the middle of a commit, where others wait for their acknowledgements.
    """

    __slots__ = ("_done", "_holder", "_queue", "_request", "_service", "_wanted")

    def __init__(
        self,
        service: PullService,
        request: PullRequest,
        queue: ConsumeQueue,
        wanted: _Filter,
        holder: Hashable,
        done: PullDone,
    ) -> None:
        self._service = service
        self._request = request
        self._queue = queue
        self._wanted = wanted
        self._holder = holder
        self._done = done

    def look(self, put: Put | None) -> None:
        """`put` is the message that is wanted, None if none has come."""
        service, request, queue = self._service, self._request, self._queue
        try:
            if service._topics.require(request.topic).queues.get(request.queue_id) is not queue:
                raise Refused(Reason.TOPIC_NOT_EXIST, f"topic {request.topic!r} was deleted and made anew; pull again")
            begin = queue.max_offset if put is None else put.queue_offset
            passed_over = begin > request.queue_offset
            if passed_over:
                request = request._replace(queue_offset=begin)
            service._look(request, queue, self._wanted, self._holder, self._done, False, passed_over)
        except Refused as refused:
            self._done(refused)
        except Exception as error:
            service._on_bug(error)
