"""Delivers delayed messages when they are due: each once, never early, in the order of their times.

The fold (`store.timers`) knows what waits and where. This service takes out what is due, reads its record, and appends
the message to the topic that it is for, in the place of that record. If the process ends before that is
committed, the message still waits, and the next start delivers it; what was due meanwhile is due at once.

A hundred thousand that are due together are worked off in portions, between which the loop does other work, and no
more than TIMERS_IN_FLIGHT_MAX of them wait for the disk at a time. What cannot be delivered now (the store takes no
writes, a record cannot be read) waits and is tried again; it is never dropped. Only a message whose topic was deleted
is dropped when it is due, with a line in the log: its topic's other messages went in the same way.

The wall clock says what is due. Set forward, it makes messages due; set back, it makes them wait.
Source of the rules: RocketMQ 5.3 ScheduleMessageService, TimerMessageStore.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from posthouse.broker.delays import Delay, delivered, until
from posthouse.broker.send import OnSent, SendService
from posthouse.broker.topics import Topics
from posthouse.codec.record import RecordError, record_again
from posthouse.host.clock import Clock
from posthouse.model.limits import TIMERS_IN_FLIGHT_MAX
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import LogOffset
from posthouse.model.refusal import Refused
from posthouse.model.topic import TopicConfig
from posthouse.store import timers as fold
from posthouse.store.message_store import LogError, MessageStore, Put
from posthouse.store.state_record import Kind
from posthouse.store.timers import Waiting

log = logging.getLogger(__name__)

DELIVERED_AT_ONCE = 25
"""Messages delivered in one turn of the loop: about a millisecond."""
POURED_AT_ONCE = 1000
"""Entries brought near in one turn."""
PAUSE_S_MAX = 1.0
"""The clock is looked at this often while something waits: it may be set."""
RETRY_S = 0.1
"""After a refusal of the store. RocketMQ: 100 ms."""
UNREADABLE_RETRY_S = 10.0
"""Until a record that could not be read is tried again."""
_NOTHING = LogOffset(0)


class Timers:
    """`start` when the store is open, `close` before it takes no more writes."""

    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        send: SendService,
        clock: Clock,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._topics = topics
        self._send = send
        self._clock = clock
        self._on_bug = on_bug
        self._fold = store.folds.timers
        self._in_flight = 0
        self._less: asyncio.Event = asyncio.Event()  # fewer are in flight
        self._sooner: asyncio.Event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retries: set[asyncio.TimerHandle] = set()
        self._trouble = ""
        self.delivered = 0
        """Since the start."""

    def start(self) -> None:
        self._fold.on_sooner = self._sooner.set
        self._task = asyncio.get_running_loop().create_task(self._run(), name="broker timers")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_bug(error)

    async def close(self) -> None:
        """What is due from now on is delivered by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()

    # What others ask

    def later(
        self,
        message: NewMessage,
        due_ms: int,
        store_host: Endpoint,
        done: OnSent | None,
        *,
        replaces: LogOffset = _NOTHING,
        states: Sequence[tuple[Kind, object]] = (),
    ) -> Put:
        """Appends a message that consumers see in its topic from `due_ms` on, at once if that is past.

        Otherwise as `SendService.forward`.
        """
        delay = until(due_ms, self._clock.now_ms())
        if delay is None:
            return self._send.forward(message, store_host, done, replaces=replaces, states=states)
        return self.after(message, delay, store_host, done, replaces=replaces, states=states)

    def after(
        self,
        message: NewMessage,
        delay: Delay,
        store_host: Endpoint,
        done: OnSent | None,
        *,
        replaces: LogOffset = _NOTHING,
        states: Sequence[tuple[Kind, object]] = (),
    ) -> Put:
        """The same for a delay that is known already."""
        return self._send.forward_later(message, delay, store_host, done, replaces=replaces, states=states)

    @property
    def pending(self) -> int:
        """Messages that wait, those that are due included."""
        return len(self._fold)

    @property
    def behind_ms(self) -> int:
        """How long ago the oldest message that is due should have been delivered; 0 if none is."""
        first = self._fold.first_due_ms()
        return 0 if first is None else max(0, self._clock.now_ms() - first)

    # The work

    async def _run(self) -> None:
        fold = self._fold
        while True:
            now_ms = self._clock.now_ms()
            fold.alarm_ms = 0
            has_more = fold.pour(now_ms, POURED_AT_ONCE)
            if fold.has_late_stretches(now_ms):
                await asyncio.sleep(0)
                continue
            due = fold.take(now_ms, DELIVERED_AT_ONCE)
            if due:
                await self._deliver_all(due)
                await asyncio.sleep(0)
            elif has_more:
                await asyncio.sleep(0)
            else:
                await self._rest(fold.next_ms())

    async def _rest(self, until_ms: int) -> None:
        """Until then, or until something is added that is due before."""
        self._sooner.clear()
        self._fold.alarm_ms = until_ms
        wait_s: float | None = None
        if not self._fold.is_empty:
            wait_s = min(PAUSE_S_MAX, max(0.001, (until_ms - self._clock.now_ms()) / 1000))
        try:
            async with asyncio.timeout(wait_s):
                await self._sooner.wait()
        except TimeoutError:
            pass

    async def _deliver_all(self, due: list[Waiting]) -> None:
        for waiting in due:
            while self._in_flight >= TIMERS_IN_FLIGHT_MAX:
                self._less.clear()
                await self._less.wait()
            taken = await self._deliver(waiting)
            while not taken:
                await asyncio.sleep(RETRY_S)
                taken = await self._deliver(waiting)

    async def _deliver(self, waiting: Waiting) -> bool:
        """False if the store takes nothing for now."""
        message: NewMessage | None = None
        try:
            data = await self._store.reader.read_record(waiting.log_offset, waiting.size)
            stored, store_host = record_again(data)[:2]
            message = delivered(stored)
        except RecordError as error:
            log.error("the delayed message at log offset %d is damaged, and lost: %s", waiting.log_offset, error)
        except Refused as refused:
            self._put_off(waiting, refused)
            return True
        try:
            self._store.check_writable()
        except Refused as refused:
            if self._trouble != refused.remark:
                log.warning("delayed messages that are due wait: %s", refused.remark)
                self._trouble = refused.remark
            return False
        try:
            if message is None or not self._has_place(message):
                self._end(waiting, message)
                return True
            message = self._in_place(message)
            self._send.forward(message, store_host, self._committed, replaces=waiting.log_offset)
        except Refused as refused:  # of this one message: there may be no room for its topic
            self._put_off(waiting, refused)
            return True
        self._trouble = ""
        self._in_flight += 1
        self.delivered += 1
        return True

    def _committed(self, put: Put, error: LogError | None) -> None:
        self._in_flight -= 1
        self._less.set()

    def _has_place(self, message: NewMessage) -> bool:
        return message.topic.startswith(RETRY_PREFIX) or self._topics.find(message.topic) is not None

    def _in_place(self, message: NewMessage) -> NewMessage:
        """A retry topic is made anew if need be; a queue that its topic has no more becomes one that it has."""
        topic = self._topics.ensure(TopicConfig(message.topic, 1, 1))
        if message.queue_id < topic.config.queues:
            return message
        return message._replace(queue_id=message.queue_id % topic.config.write_queues)

    def _end(self, waiting: Waiting, message: NewMessage | None) -> None:
        """It will never be delivered. Raises Refused."""
        self._store.check_recordable()
        where = "no topic that can be read" if message is None else f"topic {message.topic!r}, which was deleted"
        log.warning("the delayed message at log offset %d is dropped: it is for %s", waiting.log_offset, where)
        self._store.record(Kind.TIMERS_ENDED, fold.Timers.ended_body((waiting,)), _ignore)

    def _put_off(self, waiting: Waiting, error: Exception) -> None:
        """Others must not wait for it."""
        log.error("the delayed message at log offset %d cannot be delivered now: %s", waiting.log_offset, error)
        loop = asyncio.get_running_loop()

        def again() -> None:
            self._retries.discard(handle)
            self._fold.give_back(waiting)
            self._sooner.set()

        handle = loop.call_later(UNREADABLE_RETRY_S, again)
        self._retries.add(handle)


def _ignore(error: LogError | None) -> None:
    """If it fails, the message is dropped after the next start."""
