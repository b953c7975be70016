"""Pulling: the messages of one queue from an offset on, now or, if the client may be held, when they come.

The walk: admission (group, topic, queue, subscription), the piggybacked commit, one look at the queue. Found: slices of
the log. Nothing yet and the client may wait: a waiter in `arrivals`, and the same look again when it is woken. Data
that is not in memory costs a task that waits for the device; nothing else suspends.
Source: RocketMQ 5.3 PullMessageProcessor, DefaultMessageStore.getMessage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable

from posthouse.broker.arrivals import Arrivals
from posthouse.broker.clients import Clients
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.topics import Topics
from posthouse.model.filter import TAG, Subscription, parse_subscription
from posthouse.model.limits import PULL_BYTES_MAX, PULL_MESSAGES_MAX, PULL_SUSPEND_MS_MAX, WAITING_PULLS_MAX
from posthouse.model.pull import PullRequest, PullResult, PullStatus
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.message_store import MessageStore

PullDone = Callable[[PullResult | Refused], None]

_COLD_TRIES = 3
"""Times that data is fetched for one pull before the pull is told to come again."""


class PullService:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        clients: Clients,
        offsets: Offsets,
        arrivals: Arrivals,
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
        self._suspend_ms_max = PULL_SUSPEND_MS_MAX if long_polling else 1000
        self._on_bug = on_bug
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.given_messages = 0

    def pull(self, request: PullRequest, holder: Hashable, done: PullDone) -> None:
        """`done` gets the result, now or later; never if `holder` has gone. Raises Refused."""
        queue, subscription = self._admit(request)
        if request.commit_offset is not None and request.commit_offset >= 0:
            self._offsets.commit(request.group, request.topic, request.queue_id, request.commit_offset)
        self._look(request, queue, subscription, holder, done, may_wait=request.suspend_ms > 0)

    def _admit(self, request: PullRequest) -> tuple[ConsumeQueue, Subscription]:
        group = self._groups.require(request.group)
        if not group.consume_enable:
            raise Refused(Reason.NO_PERMISSION, f"group {request.group!r} is switched off (consumeEnable is false)")
        topic = self._topics.require(request.topic)
        config = topic.config
        if not config.readable:
            raise Refused(Reason.NO_PERMISSION, f"topic {request.topic!r} may not be read (its perm is {config.perm})")
        if not 0 <= request.queue_id < config.read_queues:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"queue {request.queue_id} of {request.topic!r}; it has {config.read_queues} read queues",
            )
        return topic.queue(request.queue_id), self._subscription(request)

    def _subscription(self, request: PullRequest) -> Subscription:
        if request.expression is not None:
            return parse_subscription(request.topic, request.expression, request.expression_type)
        group = self._clients.consumer_group(request.group)
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
        if found.expression_type != TAG:  # says what is served instead; nothing may pass as if it had been asked for
            return parse_subscription(request.topic, found.expression, found.expression_type)
        return found

    def _look(
        self,
        request: PullRequest,
        queue: ConsumeQueue,
        subscription: Subscription,
        holder: Hashable,
        done: PullDone,
        may_wait: bool,
    ) -> None:
        """One look at the queue: answers, or waits for an arrival, or for the device."""
        offset, low, high = request.queue_offset, queue.min_offset, queue.max_offset
        wants = None if subscription.takes_all else subscription.matches_hash
        if not low <= offset <= high:
            done(PullResult(PullStatus.OFFSET_MOVED, low if offset < low else high, low, high, [], 0))
        elif offset < high:
            self._read(request, queue, wants, done)
        elif not may_wait:
            done(PullResult(PullStatus.NOTHING_NEW, offset, low, high, [], 0))
        elif self._arrivals.is_full:  # "nothing new" at once would make a client ask again at once
            done(Refused(Reason.BUSY, f"{WAITING_PULLS_MAX} pulls are held, which is the limit; pull again later"))
        else:
            timeout_s = min(request.suspend_ms, self._suspend_ms_max) / 1000
            again = _Again(self, request, queue, subscription, holder, done)
            self._arrivals.wait(queue, holder, wants, timeout_s, again.look)

    def _read(
        self, request: PullRequest, queue: ConsumeQueue, wants: Callable[[int], bool] | None, done: PullDone
    ) -> None:
        result = self._get(request, queue, wants)
        if result is None:
            self._start(self._read_cold(request, queue, wants, done))
        else:
            done(result)

    def _get(self, request: PullRequest, queue: ConsumeQueue, wants: Callable[[int], bool] | None) -> PullResult | None:
        try:
            found = self._store.get(queue, request.queue_offset, _count(request), PULL_BYTES_MAX, wants)
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading {request.topic!r} failed: {error}") from error
        if found is None:
            return None
        self.given_messages += found.messages
        status = PullStatus.FOUND if found.size else PullStatus.NOTHING_MATCHED
        return PullResult(status, found.next_offset, queue.min_offset, queue.max_offset, found.buffers, found.size)

    async def _read_cold(
        self, request: PullRequest, queue: ConsumeQueue, wants: Callable[[int], bool] | None, done: PullDone
    ) -> None:
        outcome: PullResult | Refused | None = None
        try:
            for _ in range(_COLD_TRIES):
                await self._store.warm(queue, request.queue_offset, _count(request), PULL_BYTES_MAX, wants)
                outcome = self._get(request, queue, wants)
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
    """What a held pull does when it is woken: the same look, not waiting a second time.

    Nothing comes out of it: it is called in the middle of a commit, where others wait for their acknowledgements.
    """

    __slots__ = ("_done", "_holder", "_queue", "_request", "_service", "_subscription")

    def __init__(
        self,
        service: PullService,
        request: PullRequest,
        queue: ConsumeQueue,
        subscription: Subscription,
        holder: Hashable,
        done: PullDone,
    ) -> None:
        self._service = service
        self._request = request
        self._queue = queue
        self._subscription = subscription
        self._holder = holder
        self._done = done

    def look(self) -> None:
        service, request = self._service, self._request
        try:
            if service._topics.require(request.topic).queues.get(request.queue_id) is not self._queue:
                raise Refused(Reason.TOPIC_NOT_EXIST, f"topic {request.topic!r} was deleted and made anew; pull again")
            service._look(request, self._queue, self._subscription, self._holder, self._done, may_wait=False)
        except Refused as refused:
            self._done(refused)
        except Exception as error:
            service._on_bug(error)
