"""The story of a message: who sent it, where it lies, who received it, how it ended; from all that servers know.

Two sources. Clients that trace have said what they did, in the trace topic. And the brokers have the records
themselves: the message, its copies that wait for a retry, its dead letters, and how far each group is. The second is
always there, so a message that nobody traced has a story too, without the times at which handlers began and ended.

Nothing is kept here; a story is a few dozen requests, each bounded. What the brokers no longer keep is not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

from posthouse.client.dead_letters import DeadLetter
from posthouse.client.errors import BrokerRefused, NoBroker, NoRoute, PosthouseError
from posthouse.client.received import ReceivedMessage
from posthouse.codec.remoting.bodies.trace import (
    Delivered,
    Handled,
    Published,
    Recalled,
    TraceLine,
    TransactionEnded,
    decode_trace,
)
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.host.clock import EpochMs
from posthouse.host.net import Address
from posthouse.model import properties as names
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.names import (
    DEAD_LETTER_PREFIX,
    RETRY_PREFIX,
    TIMER_TOPICS,
    TRACE_TOPIC,
    dead_letter_topic,
    is_retry_topic_of,
    is_system_topic,
    reply_topic,
)
from posthouse.model.offsets import LogOffset, QueueOffset

if TYPE_CHECKING:
    from posthouse.client.admin import Admin

STORIES_MAX = 10
"""Messages that one key may stand for."""

TRACE_MESSAGES_MAX = 64
"""Messages of the trace topic that are read for an id. That is all that a broker gives."""

TOPICS_SEARCHED_MAX = 1000
"""Topics in which a message is looked for when nobody says where it is."""

ASKING_MAX = 8
"""Questions to brokers under way at a time: they bound those of all clients."""

T = TypeVar("T")


class Unclear(PosthouseError):
    """It cannot be found out with what was given; the text says what to add."""


class Fate(StrEnum):
    """Where a message is for one group."""

    DEAD = "dead letter"
    RETRY_WAITS = "waits for a retry"
    RETRY_DUE = "waits in the retry topic"
    PAST = "past it"
    AHEAD = "not yet"
    UNKNOWN = "no offset"


@dataclass(frozen=True, slots=True)
class GroupFate:
    """What brokers know of one group and one message.

    `offset` is the group's on the message's queue: PAST says that the group is beyond it. It was handled then, or
    failed and came again, or, with pop, is being handled now. `attempts` failed. `until_ms`: of a retry that waits.
    """

    group: str
    fate: Fate
    offset: QueueOffset | None = None
    before_it: int = 0
    attempts: int = 0
    until_ms: EpochMs | None = None
    letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One time that a group's handler got it. `handled` is None while it runs, or if its end was not noted."""

    begun: Delivered | None
    handled: Handled | None

    @property
    def group(self) -> str:
        return (self.begun.group if self.begun is not None else "") or (self.handled.group if self.handled else "")

    @property
    def at_ms(self) -> EpochMs:
        if self.begun is not None:
            return self.begun.at_ms
        assert self.handled is not None
        return self.handled.at_ms or EpochMs(0)


@dataclass(slots=True)
class Story:
    """Of one message id. `stored` are its records in its topic, oldest first: more than one if it was sent again."""

    message_id: str
    topic: str
    published: list[Published] = field(default_factory=list)
    stored: list[ReceivedMessage] = field(default_factory=list)
    waiting: list[ReceivedMessage] = field(default_factory=list)
    """Its records that wait to be due."""
    retried: list[ReceivedMessage] = field(default_factory=list)
    """Its records in retry topics, oldest first."""
    dead: list[DeadLetter] = field(default_factory=list)
    """Its dead letters, of all groups, also those that were redriven."""
    deliveries: list[Delivery] = field(default_factory=list)
    ended: list[TransactionEnded | Recalled] = field(default_factory=list)
    groups: list[GroupFate] = field(default_factory=list)

    @property
    def traced(self) -> bool:
        """Whether any client has said anything about it."""
        return bool(self.published or self.deliveries or self.ended)


class Stories:
    """Asks for stories through an open Admin."""

    def __init__(self, admin: Admin, trace_topic: str = TRACE_TOPIC) -> None:
        self._admin = admin
        self._trace_topic = trace_topic
        self._asking = asyncio.Semaphore(ASKING_MAX)

    async def tell(self, said: str, topic: str | None = None, since_ms: int = 0) -> tuple[Story, ...]:
        """The stories of the messages that `said` names: a message id, the id of a place, or a key; newest first.

        Empty if nobody knows such a message. Without `topic` it is looked for in all. Raises Unclear when there are
        too many for that, and PosthouseError.
        """
        placed = await self._by_place(said)
        if placed is not None:
            said, topic = placed.properties.get(names.UNIQ_KEY) or said, topic or _origin_topic(placed)
        lines = await self._lines(said, since_ms)
        topics_of: dict[str, str] = {}
        for line in lines:
            if line.message_id == said or said in getattr(line, "keys", "").split():
                known = getattr(line, "topic", "")
                topics_of[line.message_id] = known or topics_of.get(line.message_id, "")
        records = [] if placed is None else [placed]
        if topic is not None or not any(topics_of.values()):
            records += await self._records(said, topic, since_ms)
        if not records and not topics_of:
            records = await self._copies(TIMER_TOPICS, said, since_ms)  # it was never visible yet
        for record in sorted(records, key=_age):
            topics_of[record.message_id] = _origin_topic(record)
        newest = list(topics_of)[-STORIES_MAX:]
        told = [await self._story(each, topic or topics_of[each], lines, since_ms) for each in reversed(newest)]
        return tuple(story for story in told if story.traced or story.stored or story.waiting or story.retried)

    # What was said, and where it leads

    async def _by_place(self, said: str) -> ReceivedMessage | None:
        """The record, if it names one at a broker that we know: no other address is dialled because an id says so."""
        try:
            place, _ = parse_offset_message_id(said)
            address = str(Address(str(ip_address(place.ip)), place.port))
        except ValueError:
            return None
        info = await self._admin.cluster_info()
        if not any(address in broker.addresses.values() for broker in info.brokers.values()):
            return None
        try:
            return await self._admin.message_by_id(said)
        except BrokerRefused as error:
            if error.code == ResponseCode.SYSTEM_ERROR:  # how both servers say that nothing begins there
                return None
            raise

    async def _lines(self, said: str, since_ms: int) -> list[TraceLine]:
        """Of all messages that the trace topic has under that key, in the order in which they were stored."""
        try:
            found = await self._admin.query_by_key(self._trace_topic, said, since_ms, limit=TRACE_MESSAGES_MAX)
        except (NoRoute, NoBroker):
            return []  # this cluster has no such topic
        return [line for each in reversed(found) for line in decode_trace(each.body)[0]]

    async def _records(self, said: str, topic: str | None, since_ms: int) -> list[ReceivedMessage]:
        """Messages with that id or key, in one topic or in all of the users' own."""
        topics = [topic] if topic is not None else await self._users_topics()
        found = await asyncio.gather(*(self._with_id_or_key(each, said, since_ms) for each in topics))
        return [message for messages in found for message in messages]

    async def _users_topics(self) -> list[str]:
        info = await self._admin.cluster_info()
        hidden = info.clusters.keys() | info.brokers.keys() | {reply_topic(name) for name in info.clusters}
        found = [
            each
            for each in await self._admin.topic_list()
            if each not in hidden
            and not is_system_topic(each)
            and not each.startswith((RETRY_PREFIX, DEAD_LETTER_PREFIX))
        ]
        if len(found) > TOPICS_SEARCHED_MAX:
            raise Unclear(f"there are {len(found)} topics, and nobody traced the message: say which topic it is in")
        return found

    async def _with_id_or_key(self, topic: str, said: str, since_ms: int) -> tuple[ReceivedMessage, ...]:
        found = await self._there(self._admin.query_by_unique_key(topic, said, since_ms))
        return found or await self._there(self._admin.query_by_key(topic, said, since_ms, limit=STORIES_MAX))

    async def _there(self, question: Awaitable[tuple[T, ...]]) -> tuple[T, ...]:
        """The answer to a question about a topic; nothing if there is no such topic."""
        async with self._asking:
            try:
                return await question
            except (NoRoute, NoBroker):
                return ()

    # One message

    async def _story(self, message_id: str, topic: str, lines: Sequence[TraceLine], since_ms: int) -> Story:
        story = Story(message_id, topic)
        _sort_lines(story, lines)
        if not topic:
            return story
        waiting = await self._copies(TIMER_TOPICS, message_id, since_ms)
        story.stored = await self._copies((topic,), message_id, since_ms)
        known = await self._admin.topic_list()
        groups = await self._there(self._admin.groups_on(topic))
        only_traced = {delivery.group for delivery in story.deliveries if delivery.group}.difference(groups)
        story.groups += [GroupFate(group, Fate.UNKNOWN) for group in sorted(only_traced)]

        async def of_group(group: str) -> GroupFate:
            retry_topics = [each for each in known if is_retry_topic_of(group, each)]
            retried = await self._copies(retry_topics, message_id, since_ms)
            dead = await self._copies({dead_letter_topic(group)}.intersection(known), message_id, since_ms)
            story.retried += retried
            story.dead += [DeadLetter(group, each) for each in dead]
            return await self._fate(group, story, retried, dead, waiting)

        story.groups += await asyncio.gather(*(of_group(group) for group in groups))
        story.retried.sort(key=_age)
        visible = story.stored + story.retried
        story.waiting = [each for each in waiting if _still_waits(each, visible)]
        return story

    async def _copies(self, topics: Iterable[str], message_id: str, since_ms: int) -> list[ReceivedMessage]:
        """Records of that message id in these topics, oldest first."""
        questions = [
            self._there(self._admin.query_by_unique_key(each, message_id, since_ms)) for each in sorted(topics)
        ]
        found = [message for messages in await asyncio.gather(*questions) for message in messages]
        return sorted(found, key=_age)

    async def _fate(
        self,
        group: str,
        story: Story,
        retried: list[ReceivedMessage],
        dead: list[ReceivedMessage],
        waiting: list[ReceivedMessage],
    ) -> GroupFate:
        """The last thing that happened to it there."""
        offset, ahead = None, 0
        if story.stored:
            last = story.stored[-1]
            offset = await self._offset(group, last)
            ahead = 0 if offset is None else last.queue_offset - offset
        attempts = max((each.reconsume_times for each in retried), default=0)
        since_ms = story.stored[-1].stored_at_ms if story.stored else 0
        if dead and dead[-1].stored_at_ms >= since_ms:
            letter = DeadLetter(group, dead[-1])
            return GroupFate(group, Fate.DEAD, offset, 0, letter.attempts, None, letter)
        for each in reversed(waiting):
            to = each.properties.get(names.REAL_TOPIC, "")
            if is_retry_topic_of(group, to) and _still_waits(each, retried):
                return GroupFate(group, Fate.RETRY_WAITS, offset, 0, each.reconsume_times, due_ms(each))
        if retried:
            last = retried[-1]
            retry_offset = await self._offset(group, last)
            if retry_offset is not None and retry_offset <= last.queue_offset:
                return GroupFate(group, Fate.RETRY_DUE, offset, last.queue_offset - retry_offset, attempts)
            return GroupFate(group, Fate.PAST, offset, 0, attempts)
        if offset is None:
            return GroupFate(group, Fate.UNKNOWN)
        return GroupFate(group, Fate.AHEAD if ahead >= 0 else Fate.PAST, offset, max(0, ahead))

    async def _offset(self, group: str, message: ReceivedMessage) -> QueueOffset | None:
        """What the group has committed on the queue of that record."""
        async with self._asking:
            try:
                stats = await self._admin.group_stats(group, message.queue.topic)
            except (NoRoute, NoBroker):
                return None
            except BrokerRefused:
                return None  # it is not a group of every broker of the topic
        progress = stats.queues.get(message.queue)
        return progress.consumer_offset if progress is not None and progress.consumer_offset >= 0 else None


def _age(message: ReceivedMessage) -> tuple[EpochMs, LogOffset]:
    return message.stored_at_ms, message.log_offset


def due_ms(message: ReceivedMessage) -> EpochMs | None:
    """When a record that waits is due; Apache does not say it of levels."""
    text = message.properties.get(names.TIMER_OUT_MS, "")
    return EpochMs(int(text)) if text.isdecimal() and len(text) < 19 else None


def _still_waits(waiting: ReceivedMessage, visible: Iterable[ReceivedMessage]) -> bool:
    """Whether nothing has come of a record that waits: what comes of it is stored later, where it is for."""
    to = waiting.properties.get(names.REAL_TOPIC)
    return not any(each.queue.topic == to and each.stored_at_ms >= waiting.stored_at_ms for each in visible)


def _origin_topic(message: ReceivedMessage) -> str:
    """The topic that it was sent to, whatever record of it this is."""
    properties = message.properties
    found = properties.get(names.DLQ_ORIGIN_TOPIC) or properties.get(names.RETRY_TOPIC)
    if found is None and message.topic in TIMER_TOPICS:
        found = properties.get(names.REAL_TOPIC)
    return found or message.topic


def _sort_lines(story: Story, lines: Sequence[TraceLine]) -> None:
    """Those of this message, each where it belongs; the two lines of a delivery become one."""
    begun: dict[tuple[str, str], Delivered] = {}
    handled: dict[tuple[str, str], Handled] = {}
    for line in lines:
        if line.message_id != story.message_id:
            continue
        match line:
            case Published():
                story.published.append(line)
            case Delivered():
                begun[line.request_id, line.group] = line
            case Handled():
                handled[line.request_id, line.group] = line
            case TransactionEnded() | Recalled():
                story.ended.append(line)
    for key, first in begun.items():
        story.deliveries.append(Delivery(first, handled.pop(key, None) or handled.pop((key[0], ""), None)))
    story.deliveries += [Delivery(None, each) for each in handled.values()]
    story.deliveries.sort(key=lambda each: each.at_ms)
    story.published.sort(key=lambda each: each.at_ms)
