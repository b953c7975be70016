"""The dead letter desk: which groups have dead letters, what they are, and sending them again.

A dead letter stays where it is, as the log does not change; to redrive it is to send a copy. The copy keeps body, id,
keys, tag and the program's own properties, and names the place of its dead letter in the property REDRIVEN_FROM.

What must stay true
- Every letter that was there when a redrive began is in exactly one count of its report: nothing drops out in silence.
- Doing it twice sends nothing twice. Before a letter is sent, the topic that it goes to is asked for a message of its
  id that names this letter. And the desk commits, as group POSTHOUSE_REDRIVE, up to where all letters of a queue are
  settled, so that the next time begins there. The first holds if the desk dies at any moment; the second when the
  copies are gone.
- What it is not sure of it does not send: a letter whose copy cannot be looked for has failed, and comes next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from posthouse.client.errors import BrokerRefused, NoRoute, PosthouseError
from posthouse.client.offsets import GroupOffsets, QueueBounds
from posthouse.client.producer import Producer
from posthouse.client.pulling import Puller
from posthouse.client.receipt import SendReceipt
from posthouse.client.received import ReceivedMessage
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.filter import ALL, parse_subscription
from posthouse.model.message import Message, MessageQueue
from posthouse.model.names import DEAD_LETTER_PREFIX, RETRY_PREFIX, dead_letter_topic
from posthouse.model.offsets import QueueOffset

if TYPE_CHECKING:
    from posthouse.client.admin import Admin

log = logging.getLogger(__name__)

READER_GROUP = "TOOLS_CONSUMER"
"""Every broker has it, for tools that read."""

DESK_GROUP = "POSTHOUSE_REDRIVE"
"""Whose committed offset on a dead letter queue says that everything before it is settled."""

AT_ONCE_MAX = 32
"""Letters that are sent before the first of them is acknowledged."""

ASKING_MAX = 8
"""Questions to brokers under way at a time."""

_ALWAYS_MS = EpochMs(0)
_FOREVER_MS = EpochMs(2**63 - 1)

_CLOCKS_APART_MS = 3_600_000
"""A copy may lie on another broker, whose clock is so much behind."""

_OF_EARLIER_LIFE = frozenset(
    {
        names.RETRY_TOPIC, names.ORIGIN_MESSAGE_ID, names.DELAY, names.TIMER_DELAY_SEC, names.TIMER_DELAY_MS,
        names.TIMER_DELIVER_MS, "TIMER_OUT_MS", "TIMER_ENQUEUE_MS", "TIMER_DEQUEUE_MS", "TIMER_ROLL_TIMES",
        names.RECONSUME_TIME, names.MAX_RECONSUME_TIMES, names.POP_CK, "1ST_POP_TIME", "REAL_TOPIC", "REAL_QID",
        names.TRAN_MSG, "PGROUP", "TRANSACTION_CHECK_TIMES", names.CLUSTER, names.MSG_REGION, names.TRACE_ON,
        names.MIN_OFFSET, names.MAX_OFFSET, "CONSUME_START_TIME", names.WAIT, names.DLQ_ORIGIN_TOPIC,
        names.DLQ_ORIGIN_MESSAGE_ID, names.DLQ_REASON, names.DLQ_ATTEMPTS,
    }
)  # fmt: skip
"""Properties that a copy does not take along: of the first sending, of retries, of the death, of brokers."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that a group has given up. `message` is the record in the group's dead letter topic."""

    group: str
    message: ReceivedMessage

    @property
    def origin_topic(self) -> str:
        """Where it was sent to at first; empty if nobody has noted it."""
        properties = self.message.properties
        found = properties.get(names.DLQ_ORIGIN_TOPIC) or properties.get(names.RETRY_TOPIC) or ""
        return "" if found.startswith((RETRY_PREFIX, DEAD_LETTER_PREFIX)) else found

    @property
    def message_id(self) -> str:
        """The id that its producer gave it."""
        return self.message.properties.get(names.DLQ_ORIGIN_MESSAGE_ID) or self.message.message_id

    @property
    def reason(self) -> str:
        """attempts, refused, ordered, no_retry; empty if the broker does not say (Apache's)."""
        return self.message.properties.get(names.DLQ_REASON, "")

    @property
    def attempts(self) -> int:
        """How often a handler had it. Without the property, what the record's own count says."""
        text = self.message.properties.get(names.DLQ_ATTEMPTS, "")
        return int(text) if text.isdecimal() and len(text) < 10 else self.message.reconsume_times

    @property
    def died_at_ms(self) -> EpochMs:
        return self.message.stored_at_ms

    @property
    def redrives(self) -> int:
        """How often it had been sent again before it died this time."""
        text = self.message.properties.get(names.REDRIVES, "")
        return int(text) if text.isdecimal() and len(text) < 10 else 0

    @property
    def place(self) -> str:
        """What REDRIVEN_FROM holds. The time tells it from one in a topic of the same name that was deleted."""
        queue = self.message.queue
        return f"{queue.topic}:{queue.broker_name}:{queue.queue_id}:{self.message.queue_offset}@{self.died_at_ms}"


class GroupLetters(NamedTuple):
    """How many dead letters a group has over all brokers. `settled`: of these, redriven up to the desk's mark."""

    group: str
    letters: int
    settled: int
    last_died_at_ms: EpochMs | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters: those that died between the two times, both included, with that key or id, from that topic."""

    since_ms: EpochMs = _ALWAYS_MS
    until_ms: EpochMs = _FOREVER_MS
    key: str | None = None
    origin_topic: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        if not self.since_ms <= letter.died_at_ms <= self.until_ms:
            return False
        if self.origin_topic is not None and letter.origin_topic != self.origin_topic:
            return False
        return self.key is None or self.key in (*letter.message.keys, letter.message_id)


EVERY_LETTER = Chosen()


class Verdict(StrEnum):
    """What became of one letter in a redrive."""

    SENT = "sent"
    """A broker has acknowledged the copy. In a dry run: it would be sent."""
    ALREADY = "already"
    """An earlier redrive sent it; the copy is there."""
    GONE = "gone"
    """Retention deleted it before anybody redrove it."""
    FAILED = "failed"
    """Not acknowledged. The copy may be there all the same, which the next redrive finds out."""
    PASSED_OVER = "passed_over"
    """Not among the chosen ones."""
    LEFT = "left"
    """Not come to: the greatest number was sent, or the redrive was stopped."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """The receipt for one letter. `receipt` if it was sent; `why` if it failed."""

    verdict: Verdict
    letter: DeadLetter
    topic: str
    receipt: SendReceipt | None = None
    why: str = ""


@dataclass(slots=True)
class Report:
    """Counts of letters. `found` is how many there were to look at: the counts add up to it, always.

    `settled_before`: letters that are still there and were not looked at, as an earlier redrive settled them.
    """

    found: int = 0
    settled_before: int = 0
    counts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))

    def count(self, verdict: Verdict, letters: int = 1) -> None:
        self.counts[verdict] += letters
        self.counts[Verdict.LEFT] -= letters

    def expect(self, letters: int) -> None:
        self.found += letters
        self.counts[Verdict.LEFT] += letters

    @property
    def looked_at(self) -> int:
        return self.found - self.counts[Verdict.LEFT]


class _Span(NamedTuple):
    """The letters of one queue that there are to do: from `begin` on, of which those before `first` are gone."""

    queue: MessageQueue
    kept_from: QueueOffset
    begin: QueueOffset
    first: QueueOffset
    end: QueueOffset


class DeadLetterDesk:
    """Get it from an open Admin, as `admin.dead_letters`. All calls raise PosthouseError."""

    def __init__(self, admin: Admin, session: Session) -> None:
        self._admin = admin
        self._session = session
        self._bounds = QueueBounds(session)
        self._puller = Puller(session, READER_GROUP)
        self._marks = GroupOffsets(session, DESK_GROUP)
        self._asking = asyncio.Semaphore(ASKING_MAX)

    async def groups(self) -> tuple[GroupLetters, ...]:
        """All groups with a dead letter topic, sorted."""
        topics = [topic for topic in await self._admin.topic_list() if topic.startswith(DEAD_LETTER_PREFIX)]
        return tuple(await asyncio.gather(*(self._count(topic) for topic in topics)))

    async def _count(self, topic: str) -> GroupLetters:
        async with self._asking:
            stats = await self._admin.topic_stats(topic)
            letters = settled = 0
            died = [bounds.updated_at_ms for bounds in stats.queues.values() if bounds.updated_at_ms]
            for queue, bounds in stats.queues.items():
                if bounds.max_offset > bounds.min_offset:
                    letters += bounds.max_offset - bounds.min_offset
                    mark = await self._mark(queue)
                    settled += max(0, min(mark, bounds.max_offset) - bounds.min_offset)
        return GroupLetters(topic.removeprefix(DEAD_LETTER_PREFIX), letters, settled, max(died, default=None))

    async def read(
        self, group: str, chosen: Chosen = EVERY_LETTER, *, newest: int | None = None
    ) -> AsyncGenerator[DeadLetter, None]:
        """The letters that are there now, queue by queue, the oldest first; `newest` is how many of each queue's end.

        Raises NoRoute if the group never had one.
        """
        for queue in await self._queues(group):
            first, end = await self._bounds.min_offset(queue), await self._bounds.max_offset(queue)
            if newest is not None:
                first = QueueOffset(max(first, end - newest))
            async for letter in self._letters(group, queue, first, end):
                if chosen.takes(letter):
                    yield letter

    def redrive(
        self,
        group: str,
        chosen: Chosen = EVERY_LETTER,
        *,
        to: str | None = None,
        count_max: int | None = None,
        per_second: float | None = None,
        dry_run: bool = False,
        again: bool = False,
        report: Report | None = None,
    ) -> Redrive:
        """Sends letters again, to their original topics or to one topic: iterate over it, for a receipt for each letter
        that it comes to.

        All groups of the topic get the copies, not only the one that gave them up. `count_max`: so many are sent, not
        more. `again`: also what was redriven before. `dry_run`: nothing is sent or committed. `report`: where to count,
        for who wants to read it whatever happens.
        """
        return Redrive(self, group, chosen, to, count_max, per_second, dry_run, again, report or Report())

    # What a redrive needs of its desk

    async def _queues(self, group: str) -> tuple[MessageQueue, ...]:
        topic = dead_letter_topic(group)
        try:
            found = (await self._session.queues(topic)).read_queues
        except NoRoute:
            raise NoRoute(topic, f"group {group} has no dead letters, or there is no such group") from None
        if not found:
            raise PosthouseError(f"the brokers do not let anybody read {topic}: set its permission to read and write")
        return found

    async def _mark(self, queue: MessageQueue) -> QueueOffset:
        """Everything before it is settled."""
        try:
            return await self._marks.committed(queue, young_is_zero=False) or QueueOffset(0)
        except BrokerRefused as refused:
            if refused.code != ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST:
                raise
            return QueueOffset(0)

    async def _set_mark(self, queue: MessageQueue, offset: QueueOffset) -> None:
        try:
            await self._marks.commit(queue, offset)
        except BrokerRefused as refused:
            if refused.code != ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST:
                raise
            subscription = parse_subscription(queue.topic, ALL)
            # A broker that may makes the group of who pulls.
            await Puller(self._session, DESK_GROUP).pull(queue, offset, subscription, wait_ms=0, messages_max=1)
            await self._marks.commit(queue, offset)

    async def _span(self, queue: MessageQueue, again: bool) -> _Span:
        first, end = await self._bounds.min_offset(queue), await self._bounds.max_offset(queue)
        if again:
            return _Span(queue, first, first, first, end)
        begin = min(await self._mark(queue), end)
        return _Span(queue, first, begin, max(first, begin), end)

    async def _letters(
        self, group: str, queue: MessageQueue, offset: QueueOffset, end: QueueOffset
    ) -> AsyncGenerator[DeadLetter, None]:
        subscription = parse_subscription(queue.topic, ALL)
        while offset < end:
            pulled = await self._puller.pull(queue, offset, subscription, wait_ms=0)
            for message in pulled.messages:
                if message.queue_offset < end:
                    yield DeadLetter(group, message)
            if pulled.next_offset <= offset:
                return  # the queue was cut meanwhile
            offset = pulled.next_offset

    async def _was_sent(self, letter: DeadLetter, topic: str) -> bool:
        """Whether the topic has a copy that names this letter."""
        since_ms = max(0, letter.died_at_ms - _CLOCKS_APART_MS)
        async with self._asking:
            copies = await self._admin.query_by_unique_key(topic, letter.message.message_id, since_ms)
        return any(copy.properties.get(names.REDRIVEN_FROM) == letter.place for copy in copies)


class Redrive:
    """One run over the dead letters of a group. `report` counts as it goes, and holds when it is broken off."""

    def __init__(
        self,
        desk: DeadLetterDesk,
        group: str,
        chosen: Chosen,
        to: str | None,
        count_max: int | None,
        per_second: float | None,
        dry_run: bool,
        again: bool,
        report: Report,
    ) -> None:
        """Raises ValueError for numbers that cannot be."""
        if count_max is not None and count_max < 1:
            raise ValueError(f"count_max is {count_max}; at least one letter")
        if per_second is not None and per_second <= 0:
            raise ValueError(f"per_second is {per_second}; more than none")
        self.report = report
        self._desk = desk
        self._group = group
        self._chosen = chosen
        self._to = to
        self._left = count_max
        self._per_second = per_second
        self._dry_run = dry_run
        self._again = again
        self._next_at = 0.0
        self._routes: dict[str, str] = {}  # topic to why it cannot be sent to, "" if it can

    def __aiter__(self) -> AsyncGenerator[Redriven, None]:
        return self._run()

    async def finish(self) -> Report:
        """Runs to the end."""
        async for _ in self:
            pass
        return self.report

    async def _run(self) -> AsyncGenerator[Redriven, None]:
        desk = self._desk
        if self._to is not None:
            await desk._admin.topic_route(self._to)
        spans = [await desk._span(queue, self._again) for queue in await desk._queues(self._group)]
        for span in spans:
            self.report.expect(span.end - span.begin)
            self.report.settled_before += max(0, span.begin - span.kept_from)
        session = desk._session
        addresses = [str(address) for address in session.nameservers.addresses]
        async with Producer(addresses, group=DESK_GROUP, host=session.host, create_topic=None) as producer:
            for span in spans:
                async for redriven in self._run_queue(span, producer):
                    yield redriven
                if self._left == 0:
                    return

    async def _run_queue(self, span: _Span, producer: Producer) -> AsyncGenerator[Redriven, None]:
        """One queue, some letters at a time; after each the mark moves over what is settled without a gap."""
        self.report.count(Verdict.GONE, span.first - span.begin)
        expected = settled = span.first
        blocked = False  # by a letter that is not settled
        chunk: list[DeadLetter] = []

        async def finish_chunk() -> list[Redriven]:
            nonlocal settled, blocked
            found = await self._redrive(chunk, producer)
            for each in found:
                blocked = blocked or each.verdict not in _SETTLED
                if not blocked:
                    settled = QueueOffset(each.letter.message.queue_offset + 1)
            return found

        async for letter in self._desk._letters(self._group, span.queue, span.first, span.end):
            offset = letter.message.queue_offset
            self.report.count(Verdict.GONE, offset - expected)  # deleted since we began
            expected = QueueOffset(offset + 1)
            chunk.append(letter)
            if len(chunk) >= self._chunk_letters():
                for redriven in await finish_chunk():
                    if redriven.verdict is not Verdict.LEFT:
                        yield redriven
                chunk.clear()
                await self._mark(span, settled)
                if self._left == 0:
                    return
        for redriven in await finish_chunk():
            if redriven.verdict is not Verdict.LEFT:
                yield redriven
        if self._left != 0:
            self.report.count(Verdict.GONE, span.end - expected)
            if not blocked:
                settled = span.end
        await self._mark(span, settled)

    def _chunk_letters(self) -> int:
        """Not more than a second's worth, so that what is said about a slow run is not late."""
        return AT_ONCE_MAX if self._per_second is None else max(1, min(AT_ONCE_MAX, int(self._per_second)))

    async def _mark(self, span: _Span, settled: QueueOffset) -> None:
        if self._dry_run or self._again or settled <= span.begin:
            return
        try:
            await self._desk._set_mark(span.queue, settled)
        except PosthouseError as error:  # the copies themselves say that they were sent
            log.warning("the mark of the dead letter desk on %s could not be moved: %s", span.queue, error)

    async def _redrive(self, letters: list[DeadLetter], producer: Producer) -> list[Redriven]:
        """What becomes of these, in their order; counted."""
        verdicts = await asyncio.gather(*(self._look(letter) for letter in letters))
        sends: dict[int, asyncio.Future[SendReceipt]] = {}
        outcomes: dict[int, Redriven] = {}
        try:
            for at, (letter, found) in enumerate(zip(letters, verdicts, strict=True)):
                if found is not None:
                    outcomes[at] = found
                elif self._left == 0:
                    outcomes[at] = Redriven(Verdict.LEFT, letter, self._topic(letter))
                else:
                    self._left = None if self._left is None else self._left - 1
                    if self._dry_run:
                        outcomes[at] = Redriven(Verdict.SENT, letter, self._topic(letter))
                    else:
                        await self._pace()
                        sends[at] = self._send(letter, producer)
            if sends:
                await asyncio.wait(sends.values())
        finally:
            for at, sending in sends.items():
                outcomes[at] = self._outcome(letters[at], sending)
            done = [outcomes[at] for at in sorted(outcomes)]
            for each in done:
                if each.verdict is not Verdict.LEFT:
                    self.report.count(each.verdict)
        return done

    async def _look(self, letter: DeadLetter) -> Redriven | None:
        """None: it is to be sent. Never raises but when it is cancelled."""
        topic = self._topic(letter)
        if not self._chosen.takes(letter):
            return Redriven(Verdict.PASSED_OVER, letter, topic)
        if not topic:
            return Redriven(Verdict.FAILED, letter, topic, why="nothing says which topic it came from: name one")
        if letter.message.damage:
            return Redriven(Verdict.FAILED, letter, topic, why=f"its body cannot be opened: {letter.message.damage}")
        try:
            if not self._again and await self._desk._was_sent(letter, topic):
                return Redriven(Verdict.ALREADY, letter, topic)
            if (trouble := await self._no_way(topic)) != "":
                return Redriven(Verdict.FAILED, letter, topic, why=trouble)
        except NoRoute:
            return Redriven(Verdict.FAILED, letter, topic, why=f"topic {topic} does not exist")
        except PosthouseError as error:
            return Redriven(Verdict.FAILED, letter, topic, why=f"whether it was sent already cannot be seen: {error}")
        return None

    async def _no_way(self, topic: str) -> str:
        """Why nothing can be sent to the topic; asked once. Raises PosthouseError."""
        if topic not in self._routes:
            route = await self._desk._admin.topic_route(topic)
            is_open = any(queue.write_queues and queue.perm & 2 for queue in route.queues)
            self._routes[topic] = "" if is_open else f"topic {topic} takes no messages"
        return self._routes[topic]

    def _topic(self, letter: DeadLetter) -> str:
        return self._to or letter.origin_topic

    async def _pace(self) -> None:
        if self._per_second is None:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._next_at - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._next_at = max(self._next_at, loop.time()) + 1 / self._per_second

    def _send(self, letter: DeadLetter, producer: Producer) -> asyncio.Future[SendReceipt]:
        """Never raises: a failure is in the future."""
        message = letter.message
        properties = {name: value for name, value in message.properties.items() if name not in _OF_EARLIER_LIFE}
        properties.setdefault(names.UNIQ_KEY, message.message_id)
        properties[names.REDRIVEN_FROM] = letter.place
        properties[names.REDRIVES] = str(letter.redrives + 1)
        copy = Message(self._topic(letter), message.body, properties=properties, flag=message.flag)
        copy.sharding_key = message.sharding_key
        try:
            return producer.send(copy)
        except PosthouseError as error:
            failed: asyncio.Future[SendReceipt] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def _outcome(self, letter: DeadLetter, sending: asyncio.Future[SendReceipt]) -> Redriven:
        topic = self._topic(letter)
        if not sending.done() or sending.cancelled():
            sending.cancel()
            return Redriven(Verdict.FAILED, letter, topic, why="broken off before the answer came; it may be there")
        error = sending.exception()
        if error is not None:
            return Redriven(Verdict.FAILED, letter, topic, why=str(error))
        return Redriven(Verdict.SENT, letter, topic, sending.result())


_SETTLED = frozenset({Verdict.SENT, Verdict.ALREADY})
