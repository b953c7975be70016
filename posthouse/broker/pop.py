"""Popping: messages of any queue of a topic, each for one member of the group, for a time.

The walk: admission (group, topic, queue, subscription); then one look at the queues, which is plain code from
beginning to end, so no queue needs a lock: for each queue from where the group is, so many messages as there is room
for; then one state record with what was taken and how far the group is (`store.in_flight`), and when that is
committed, the answer. A process that is killed has either not answered or knows what it gave. Nothing found and the
client may be held: it waits in `pop_waiting`. What has to be fetched from the device costs a task, nothing else does.

The group's retry topics are read as well: every fifth time first, else last. Ordered pops read the topic alone.
The look: `pop_taking`. Receipts: `pop_acks`. What comes back, and when: `revival`. Order: `pop_order`.
Source: RocketMQ 5.3 PopMessageProcessor, NotificationProcessor, PeekMessageProcessor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial

from posthouse.broker.config import BrokerConfig
from posthouse.broker.groups import Groups
from posthouse.broker.offsets import Offsets
from posthouse.broker.pop_acks import PopAcks
from posthouse.broker.pop_order import PopOrders
from posthouse.broker.pop_taking import Cold, PopTaker, Taking
from posthouse.broker.pop_waiting import HeldPop, PopKey, PopWaiting
from posthouse.broker.revival import Revival
from posthouse.broker.send import SendService
from posthouse.broker.stats import Stats
from posthouse.broker.timers import Timers
from posthouse.broker.topics import Topics
from posthouse.host.clock import Clock, EpochMs
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.limits import (
    ATTEMPT_ID_CHARS_MAX,
    COLD_READS_MAX,
    POP_INVISIBLE_MS_MAX,
    POP_MESSAGES_MAX,
    POP_POLL_MS_MAX,
    PULL_BYTES_MAX,
)
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import (
    ANY_QUEUE,
    NotificationRequest,
    PopPart,
    PopRequest,
    PopResult,
    PopStatus,
)
from posthouse.model.refusal import Reason, Refused
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.in_flight import GroupQueue, Order, Popped
from posthouse.store.message_store import LogError, MessageStore, Put
from posthouse.store.reading import Found
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic

PopDone = Callable[[PopResult | Refused], None]
NotificationDone = Callable[[bool, bool], None]
"""Called with: there is something, too many are held."""

_COLD_TRIES = 3


class PopService:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        offsets: Offsets,
        send: SendService,
        timers: Timers,
        clock: Clock,
        stats: Stats,
        *,
        long_polling: bool = True,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._in_flight = store.in_flight
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._send = send
        self._clock = clock
        self._stats = stats
        self._poll_ms_max = _poll_ms_max(long_polling)
        self._on_bug = on_bug
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.waiting = PopWaiting()
        self.revival = Revival(store, topics, groups, send, timers, clock, stats, on_bug=on_bug)
        self.orders = PopOrders(store.in_flight, self._freed)
        self.acks = PopAcks(store, topics, clock, stats, self.revival, self.orders, self._freed)
        self._taker = PopTaker(store, topics, groups, offsets, send, stats, self.revival, self.orders)
        self.given_messages = 0

    def use(self, config: BrokerConfig) -> None:
        """Settings that were changed: for pops from now on."""
        self._poll_ms_max = _poll_ms_max(config.long_polling)

    def start(self) -> None:
        """After the store was opened: what was in flight goes on being so."""
        now_ms = self._clock.now_ms()
        self._store.before_trim.append(self.revival.carry)
        self.revival.start(now_ms)
        self.orders.start(now_ms)

    def pop(self, request: PopRequest, holder: Hashable, done: PopDone) -> None:
        """`done` gets the result, now or later; never if `holder` has gone. Raises Refused."""
        subscription = self._admit(request)
        asked = _Asked(self, request, subscription, done)
        if asked.look_now():
            return
        held_s = self._held_s(request.poll_ms)
        if held_s <= 0:
            asked.end()
            return
        key = PopKey(request.group, request.topic, request.queue_id)
        if not self.waiting.hold(HeldPop(key, holder, subscription, asked.look, asked.end), held_s):
            done(self._nothing(request, PopStatus.FULL))

    # Admission

    def _held_s(self, poll_ms: int) -> float:
        """How long the client may be held. Its own clock (bornTime) is not asked: that may be wrong by hours."""
        return min(poll_ms, self._poll_ms_max) / 1000

    def _admit(self, request: PopRequest) -> Subscription:
        if not 0 < request.messages_max <= POP_MESSAGES_MAX:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"{request.messages_max} messages; 1 to {POP_MESSAGES_MAX} can be popped at once",
            )
        if not 0 < request.invisible_ms <= POP_INVISIBLE_MS_MAX:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"invisible for {request.invisible_ms} ms; 1 to {POP_INVISIBLE_MS_MAX} are possible",
            )
        if len(request.attempt_id) > ATTEMPT_ID_CHARS_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"an attempt id has at most {ATTEMPT_ID_CHARS_MAX} characters")
        self._admit_reader(request.group, request.topic, request.queue_id)
        return parse_subscription(request.topic, request.expression, request.expression_type)

    def _admit_reader(self, group_name: str, topic_name: str, queue_id: int) -> Topic:
        topic = self._topics.require(topic_name)
        config = topic.config
        if not config.readable:
            raise Refused(Reason.NO_PERMISSION, f"topic {topic_name!r} may not be read (its perm is {config.perm})")
        if not ANY_QUEUE <= queue_id < config.read_queues:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"queue {queue_id} of {topic_name!r}; it has {config.read_queues} read queues, -1 is any",
            )
        group = self._groups.require(group_name)
        if not group.consume_enable:
            raise Refused(Reason.NO_PERMISSION, f"group {group_name!r} is switched off (consumeEnable is false)")
        self._groups.check_readable(group_name, topic_name)
        return topic

    def _nothing(self, request: PopRequest, status: PopStatus = PopStatus.NOTHING) -> PopResult:
        return PopResult(status, self._clock.now_ms(), request.invisible_ms)

    # What was taken

    def take(self, request: PopRequest, subscription: Subscription) -> Taking:
        """See the taker. Raises Refused."""
        return self._taker.take(request, subscription)

    def give(self, request: PopRequest, taking: Taking, done: PopDone) -> None:
        """Records what was taken; `done` when that is committed. Raises Refused."""
        self._store.check_writable()
        at_ms = self._clock.now_ms()
        for row in taking.rows:
            if row.order is not None:
                row.order = _dated(row.order, at_ms)
            row.popped = [(at_ms, invisible_ms, flat) for _, invisible_ms, flat in row.popped]
        self._store.record(Kind.POPPED, taking.rows, partial(self._recorded, request, taking, at_ms, done), sync=False)
        for row in taking.rows:
            if row.order is not None:
                self.orders.given(row.queue, row.order)
            for _, invisible_ms, flat in row.popped:
                self.revival.watch(row.queue, Popped(at_ms, invisible_ms), flat, invisible_ms / 1000)

    def _recorded(
        self, request: PopRequest, taking: Taking, at_ms: EpochMs, done: PopDone, error: LogError | None
    ) -> None:
        if error is not None:
            done(Refused(Reason.NOT_WRITABLE, f"what is popped cannot be written down: {error}"))
            return
        messages = sum(len(part.offsets) for part in taking.parts)
        self.given_messages += messages
        self._stats.gave(request.group, request.topic, messages, PULL_BYTES_MAX - taking.bytes_left)
        done(PopResult(PopStatus.FOUND, at_ms, request.invisible_ms, taking.rest, tuple(taking.parts)))

    # Others who ask

    def notify(self, request: NotificationRequest, holder: Hashable, done: NotificationDone) -> None:
        """`done` when a pop would find something, or at the end of the time. Raises Refused."""
        self._admit_reader(request.group, request.topic, request.queue_id)
        subscription = parse_subscription(request.topic, request.expression, request.expression_type)

        def look() -> bool:
            has = self.has_messages(request)
            if has:
                done(True, False)
            return has

        if look():
            return
        held_s = self._held_s(request.poll_ms)
        key = PopKey(request.group, request.topic, request.queue_id)
        held = HeldPop(key, holder, subscription, look, partial(done, False, False))
        if held_s <= 0:
            done(False, False)
        elif not self.waiting.hold(held, held_s):
            done(False, True)

    def has_messages(self, request: NotificationRequest) -> bool:
        """Whether there is something behind where the group is, whether it passes a filter or not."""
        asked = PopRequest(request.group, request.topic, request.queue_id, 1, 1, ordered=request.ordered)
        if self._topics.find(request.topic) is None:
            return False
        for _, topic, queue_id in self._taker.places(asked):
            queue = topic.queues.get(queue_id)
            place = GroupQueue(request.group, topic.config.name, queue_id)
            if queue is None or (request.ordered and self.orders.is_locked(place, request.attempt_id)):
                continue
            if self._taker.group_at(place, queue) < queue.max_offset:
                return True
        return False

    async def peek(self, group: str, topic_name: str, queue_id: int, messages_max: int) -> PopResult:
        """The next messages without taking them. Raises Refused."""
        if not 0 < messages_max <= POP_MESSAGES_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"{messages_max} messages; 1 to {POP_MESSAGES_MAX} are possible")
        self._admit_reader(group, topic_name, queue_id)
        taking = Taking(messages_max)
        for source, topic, each_id in list(self._taker.places(PopRequest(group, topic_name, queue_id, 1, 1))):
            queue = topic.queues.get(each_id)
            if queue is None:
                continue
            offset = self._taker.group_at(GroupQueue(group, topic.config.name, each_id), queue)
            found = await self._read(queue, offset, taking) if offset < queue.max_offset else None
            if found is not None and found.messages:
                taking.room -= found.messages
                taking.bytes_left -= found.size
                taking.rest += queue.max_offset - found.next_offset
                taking.parts.append(PopPart(source, each_id, list(found.offsets), found.buffers))
            if taking.is_full:
                break
        status = PopStatus.FOUND if taking.parts else PopStatus.NOTHING
        return PopResult(status, self._clock.now_ms(), 0, taking.rest, tuple(taking.parts))

    async def _read(self, queue: ConsumeQueue, offset: QueueOffset, taking: Taking) -> Found | None:
        try:
            for _ in range(_COLD_TRIES):
                found = self._store.get(queue, offset, taking.room, taking.bytes_left)
                if found is not None:
                    return found
                await self._store.warm(queue, offset, taking.room, taking.bytes_left)
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading queue {queue.queue_id} failed: {error}") from error
        raise Refused(Reason.BUSY, "the disk is slow to give old messages; ask again")

    def polling(self, group: str, topic: str, queue_id: int) -> int:
        """How many pops are held there. Raises Refused."""
        self._admit_reader(group, topic, queue_id)
        return self.waiting.count(PopKey(group, topic, queue_id))

    # What happens around it

    def arrived(self, puts: list[Put]) -> None:
        self.waiting.arrived(puts)

    def gone(self, holder: Hashable) -> None:
        self.waiting.gone(holder)

    def reset(self, group: str, topic: str) -> None:
        """An admin has moved the group in a topic: its waiters look."""
        self.waiting.wake(group, topic)

    def topic_deleted(self, topic: str) -> None:
        self.orders.drop(topic)
        self.waiting.end_topic(topic)

    def _freed(self, queue: GroupQueue) -> None:
        self.waiting.wake(queue.group, queue.topic)

    def check_room(self) -> None:
        """Raises Refused(BUSY) while too many pops wait for the device, or for their turn."""
        if len(self._tasks) >= COLD_READS_MAX:
            raise Refused(Reason.BUSY, f"{COLD_READS_MAX} pops wait for the disk, which is the limit; pop again later")

    def start_task(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_bug(error)

    def bug(self, error: BaseException) -> None:
        self._on_bug(error)

    def missed(self, request: PopRequest) -> PopResult:
        """The answer at the end of the time."""
        self._stats.missed()
        return self._nothing(request)

    async def warm(self, cold: Cold, request: PopRequest, subscription: Subscription) -> None:
        """Waits for the device. Raises Refused."""
        wants_hash, wants_properties = subscription.wants_hash, subscription.wants_properties
        try:
            await self._store.warm(
                cold.queue, cold.offset, request.messages_max, PULL_BYTES_MAX, wants_hash, wants_properties
            )
        except OSError as error:
            raise Refused(Reason.FAILED, f"reading {request.topic!r} failed: {error}") from error

    async def close(self) -> None:
        """Answers all who wait, and ends the work under way."""
        self.waiting.end_all()
        self.orders.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.revival.close()


def _poll_ms_max(long_polling: bool) -> int:
    return POP_POLL_MS_MAX if long_polling else 1000


def _dated(order: Order, at_ms: EpochMs) -> Order:
    """The order with the time at which it is recorded."""
    due = (at_ms + order.invisible_ms,) * len(order.offsets)
    return Order(at_ms, order.invisible_ms, order.attempt_id, order.offsets, due, order.times, order.acked)


class _Asked:
    """One pop and how it is answered. Nothing comes out of `look`: it is called in the middle of a commit."""

    __slots__ = ("_done", "_request", "_service", "_subscription")

    def __init__(self, service: PopService, request: PopRequest, subscription: Subscription, done: PopDone) -> None:
        self._service = service
        self._request = request
        self._subscription = subscription
        self._done = done

    def look_now(self) -> bool:
        """Answers, or sees to an answer, if there is something; True if it does. Raises Refused."""
        service, request = self._service, self._request
        taking = service.take(request, self._subscription)
        if taking.parts:
            service.give(request, taking, self._done)
        elif taking.cold is not None or taking.unfinished:
            service.check_room()
            service.start_task(self._go_on(taking))
        else:
            return False
        return True

    def look(self) -> bool:
        try:
            return self.look_now()
        except Refused as refused:
            self._done(refused)
        except Exception as error:
            self._service.bug(error)
        return True

    async def _go_on(self, taking: Taking) -> None:
        """Looks again when the device has given what it has, or when others had their turn."""
        service, request = self._service, self._request
        try:
            for _ in range(_COLD_TRIES):
                if taking.cold is not None:
                    await service.warm(taking.cold, request, self._subscription)
                else:
                    await asyncio.sleep(0)
                taking = service.take(request, self._subscription)
                if taking.parts:
                    service.give(request, taking, self._done)
                    return
                if taking.cold is None and not taking.unfinished:
                    break
        except Refused as refused:
            self._done(refused)
            return
        self.end()

    def end(self) -> None:
        """The time is over."""
        self._done(self._service.missed(self._request))
