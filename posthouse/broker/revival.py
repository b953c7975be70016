"""Revival: what was popped and not acknowledged in its time is stored again, where its group gets it anew.

It goes to the retry topic of its group and topic with one more attempt counted; after the group's retryMaxTimes to the
group's dead letters instead, with the reason. The new record and the end of the old entry are committed together, so
a message is in flight or waiting, never both and never neither. Its old receipt is worth nothing from then on.

Times are monotonic: a wall clock that jumps makes nothing due. After a start an entry has the rest of its time, by the
wall clock, but never more than it was given. Due entries are found by ticks of TICK_S: one timer for all, one object
for what one pop gave of one queue, gone when all of that is acknowledged. The work is done by one task, which is there
only while something is due; what cannot be stored now (a full disk) is tried again after AGAIN_S.

Before retention lets go of a segment, what is in flight in it is stored again as a delayed message, due when its
holder's time is over. The holder can neither acknowledge nor renew it from then on; nobody has it before its time.
What is damaged is lost with its segment, with a line in the log: nothing may keep a segment for ever.
Source: RocketMQ 5.3 PopReviveService, which has no dead letters: there the client decides.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections import deque
from collections.abc import Callable

from posthouse.broker.dead_letters import DeathReason, dead_letter, dead_letter_config
from posthouse.broker.groups import Groups
from posthouse.broker.send import SendService
from posthouse.broker.stats import Stats
from posthouse.broker.timers import Timers
from posthouse.broker.topics import Topics
from posthouse.codec.record import RecordAgain, RecordError, record_again
from posthouse.host.clock import Clock, EpochMs
from posthouse.model import properties as names
from posthouse.model.ids import offset_message_id
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.message import NewMessage, SysFlag
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.pop import pop_retry_topic
from posthouse.model.properties import find_property, set_property
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store.in_flight import GroupQueue, Popped, Row, offsets_of
from posthouse.store.message_store import MessageStore
from posthouse.store.run import QueueKey
from posthouse.store.state_record import Kind

log = logging.getLogger(__name__)

TICK_S = 0.1
AGAIN_S = 5.0
_AT_ONCE = 50
"""Messages stored again before others have their turn."""
_COLD_TRIES = 3


class _Damaged(Refused):
    """The record is there, and is not as it was written."""


class _Watched:
    """What one pop gave of one queue. `left` of the offsets in `flat` (runs) are not acknowledged."""

    __slots__ = ("flat", "left", "popped", "queue", "tick")

    def __init__(self, queue: GroupQueue, popped: Popped, flat: list[int], left: int, tick: int) -> None:
        self.queue = queue
        self.popped = popped
        self.flat = flat
        self.left = left
        self.tick = tick


class Revival:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        send: SendService,
        timers: Timers,
        clock: Clock,
        stats: Stats,
        *,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._in_flight = store.in_flight
        self._topics = topics
        self._groups = groups
        self._send = send
        self._timers = timers
        self._clock = clock
        self._stats = stats
        self._on_bug = on_bug
        self._watched: dict[tuple[GroupQueue, Popped], _Watched] = {}
        self._buckets: dict[int, dict[_Watched, None]] = {}
        self._ticks: list[int] = []  # a heap of the keys of the buckets
        self._due: deque[_Watched] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick = 0
        self._work: asyncio.Task[None] | None = None
        self._told_stuck = False
        self.revived_messages = 0

    def start(self, now_ms: EpochMs) -> None:
        """After a start: watches what the store brought."""
        for row in self._in_flight.live.rows():
            for at_ms, invisible_ms, flat in row.popped:
                popped = Popped(EpochMs(at_ms), invisible_ms)
                rest_ms = min(max(0, popped.due_ms - now_ms), max(0, invisible_ms))
                self.watch(row.queue, popped, flat, rest_ms / 1000)

    def watch(self, queue: GroupQueue, popped: Popped, flat: list[int], for_s: float) -> None:
        """Revives these offsets (runs) in `for_s` seconds, but those that are acknowledged by then."""
        left = sum(flat[1::2])
        tick = math.ceil((asyncio.get_running_loop().time() + for_s) / TICK_S)
        watched = self._watched.get((queue, popped))
        if watched is None:
            watched = self._watched[queue, popped] = _Watched(queue, popped, flat, left, tick)
        else:
            watched.flat = watched.flat + flat
            watched.left += left
            if tick <= watched.tick:
                return
            self._buckets[watched.tick].pop(watched)  # the clock was set back: what was popped last is not early
            watched.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._ticks, tick)
            self._arm()
        bucket[watched] = None

    def ended(self, queue: GroupQueue, popped: Popped) -> None:
        """One of those messages needs no revival any more."""
        watched = self._watched.get((queue, popped))
        if watched is None:
            return
        watched.left -= 1
        if watched.left <= 0:
            del self._watched[queue, popped]
            bucket = self._buckets.get(watched.tick)
            if bucket is not None:
                bucket.pop(watched, None)

    def _arm(self) -> None:
        tick = self._ticks[0] if self._ticks else 0
        if self._timer is not None and (not tick or self._timer_tick != tick):
            self._timer.cancel()
            self._timer = None
        if tick and self._timer is None:
            self._timer_tick = tick
            self._timer = asyncio.get_running_loop().call_at(tick * TICK_S, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now_tick = math.floor(asyncio.get_running_loop().time() / TICK_S + 0.001)
        while self._ticks and self._ticks[0] <= now_tick:
            for watched in self._buckets.pop(heapq.heappop(self._ticks)):
                del self._watched[watched.queue, watched.popped]
                self._due.append(watched)
        self._arm()
        if self._due and self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._revive(), name="pop revival")
            self._work.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._work = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_bug(error)

    async def _revive(self) -> None:
        done = 0
        while self._due:
            watched = self._due.popleft()
            for offset in list(offsets_of(watched.flat)):
                if self._in_flight.find(watched.queue, offset) == watched.popped:
                    await self._try(watched.queue, offset, watched.popped)
                    done += 1
                    if done % _AT_ONCE == 0:
                        await asyncio.sleep(0)

    async def _try(self, queue: GroupQueue, offset: QueueOffset, popped: Popped) -> None:
        """One message; what does not go now is tried again."""
        try:
            await self._revive_one(queue, offset, popped)
        except Refused as refused:
            if not self._told_stuck:
                self._told_stuck = True
                log.warning(
                    "a message of %s that group %s did not acknowledge cannot be stored again: %s; "
                    "it is tried again every %d s",
                    queue.topic,
                    queue.group,
                    refused.remark,
                    AGAIN_S,
                )
            self.watch(queue, popped, [offset, 1], AGAIN_S)
        else:
            self._told_stuck = False

    async def _revive_one(self, queue: GroupQueue, offset: QueueOffset, popped: Popped, rest_ms: int = 0) -> None:
        """`rest_ms`: how long nobody may get it yet. Raises Refused."""
        again = await self._read(queue, offset)
        if self._in_flight.find(queue, offset) != popped:
            return  # acknowledged, renewed or dropped while it was read
        group = self._groups.find(queue.group)
        if again is None or group is None:
            self._in_flight.end(queue, offset)
            return
        attempts = again.message.reconsume_times + 1
        is_dead = attempts > group.retry_max_times
        message = _dead(again, queue, attempts) if is_dead else _retry(again, queue, popped, attempts)
        self._prepare(queue.group, message.topic)
        ended = [(Kind.REVIVED, [Row(*queue, ended=[offset, 1])])]
        if rest_ms:
            due_ms = self._clock.now_ms() + rest_ms
            self._timers.later(message, due_ms, again.store_host, None, states=ended)
        else:
            self._send.forward(message, again.store_host, None, states=ended)
        if is_dead:
            self._stats.dead_lettered(queue.group, queue.topic)
        else:
            self._stats.sent_back(queue.group, queue.topic)

    def _prepare(self, group: str, topic: str) -> None:
        """Makes the topic that such messages go to. Raises Refused(BUSY) when there are too many."""
        if self._topics.find(topic) is None:
            dead = dead_letter_config(group)
            is_dead = topic == dead.name
            self._topics.ensure(dead if is_dead else TopicConfig(topic, 1, 1))
            if not is_dead:
                self._store.offsets.commit(group, topic, 0, QueueOffset(0))

    async def _read(self, queue: GroupQueue, offset: QueueOffset) -> RecordAgain | None:
        """The record; None if it is not there any more. Raises Refused."""
        topic = self._topics.find(queue.topic)
        source = None if topic is None else topic.queues.get(queue.queue_id)
        if source is None:
            return None
        for _ in range(_COLD_TRIES):
            if not source.min_offset <= offset < source.max_offset:
                return None
            try:
                found = self._store.get(source, offset, 1, 1)
                if found is not None:
                    return record_again(found.buffers[0]) if offset in found.offsets else None
                await self._store.warm(source, offset, 1, 1)
            except OSError as error:
                raise Refused(Reason.FAILED, f"reading {queue.topic!r} at {offset} failed: {error}") from error
            except RecordError as error:
                raise _Damaged(Reason.FAILED, f"{queue.topic!r} at {offset} is damaged: {error}") from error
        raise Refused(Reason.BUSY, "the disk is slow to give old messages")

    # Before retention lets go of a segment

    async def carry(self, before: LogOffset) -> None:
        """Stores again all that is in flight below `before`, where the log will begin. Raises Refused."""
        if not self._in_flight.live.queues:
            return
        ends = await self._store.next_offsets_at(before)
        carried = 0
        for queue, entries in list(self._in_flight.live.queues.items()):
            topic = self._topics.find(queue.topic)
            end = ends.get(QueueKey(topic.id, queue.queue_id), 0) if topic is not None else 0
            for offset, popped in list(entries.items()):
                if offset < end and self._in_flight.find(queue, offset) == popped:
                    try:
                        await self._revive_one(queue, offset, popped, self._rest_ms(queue, popped))
                    except _Damaged as damaged:  # it must not keep all that is too old
                        log.error("a message that group %s popped is lost with its segment: %s", queue.group, damaged)
                        self._in_flight.end(queue, offset)
                    self.ended(queue, popped)
                    carried += 1
        if carried:
            log.info("%d popped messages were stored again, as retention takes their segment", carried)
            await self._store.settled()

    def _rest_ms(self, queue: GroupQueue, popped: Popped) -> int:
        """How long its holder still has it."""
        watched = self._watched.get((queue, popped))
        now_s = asyncio.get_running_loop().time()
        return 0 if watched is None else max(0, math.ceil((watched.tick * TICK_S - now_s) * 1000))

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ticks.clear()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)


def _retry(again: RecordAgain, queue: GroupQueue, popped: Popped, attempts: int) -> NewMessage:
    """The message as the group gets it again."""
    text = again.message.properties
    if find_property(text, names.FIRST_POP_TIME) is None:
        text = set_property(text, names.FIRST_POP_TIME, str(popped.at_ms))
    retry = queue.topic
    if not retry.startswith(RETRY_PREFIX):
        retry = pop_retry_topic(queue.group, queue.topic)
        text = set_property(text, names.RETRY_TOPIC, queue.topic)
    return again.message._replace(
        topic=retry,
        queue_id=0,
        properties=_if_it_fits(text, again.message.properties),
        sys_flag=again.message.sys_flag & ~SysFlag.TRANSACTION_MASK,
        reconsume_times=attempts,
    )


def _dead(again: RecordAgain, queue: GroupQueue, attempts: int) -> NewMessage:
    message_id = offset_message_id(again.store_host, again.log_offset)
    found = dead_letter(again.message, queue.group, DeathReason.ATTEMPTS, attempts, message_id)
    return found._replace(
        properties=_if_it_fits(found.properties, again.message.properties),
        sys_flag=found.sys_flag & ~SysFlag.TRANSACTION_MASK,
    )


def _if_it_fits(text: str, before: str) -> str:
    """What we add is left out where a producer has used up the room."""
    return text if len(text.encode()) <= PROPERTIES_BYTES_MAX else before
