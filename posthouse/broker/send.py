"""Sending: from what a producer asks to a record in the log. Nothing here suspends.

Checks in RocketMQ's order, so that a client sees the same refusal first; then the properties that the broker adds or
takes away, done on the encoded text; then the store. A delayed message is stored in a timer topic (`delays`). What a
consumer sends to its retry topic may be a dead letter. What is not served yet (half messages) is refused, never
delivered as if it were an ordinary message. `forward` is for messages that the broker itself stores once more.
Source: RocketMQ 5.3 SendMessageProcessor, HookUtils.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from posthouse.broker.config import BrokerConfig
from posthouse.broker.dead_letters import DeathReason, dead_letter, dead_letter_config
from posthouse.broker.delays import TIMER_TOPIC_CONFIGS, Delay, delay_of, delayed
from posthouse.broker.groups import Groups
from posthouse.broker.topics import Topics
from posthouse.host.clock import Clock
from posthouse.host.randomness import Randomness
from posthouse.model import properties as names
from posthouse.model.filter import tag_hash
from posthouse.model.group import GroupConfig
from posthouse.model.limits import BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage, SysFlag
from posthouse.model.names import CLOSED_TOPICS, RETRY_PREFIX, check_topic
from posthouse.model.offsets import LogOffset
from posthouse.model.properties import NAME_END, PAIR_END, find_property, property_finder, remove_property
from posthouse.model.refusal import Reason, Refused
from posthouse.store.config import TOPIC_DURABILITY, Durability
from posthouse.store.message_store import LogError, MessageStore, Put
from posthouse.store.retention import Retention
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic

OnSent = Callable[[Put, LogError | None], None]

_UNDECIDED = SysFlag.PREPARED  # also a bit of ROLLBACK
_WAITS = f"{PAIR_END}{names.WAIT}{NAME_END}true{PAIR_END}"
_find_unique_id = property_finder(names.UNIQ_KEY)
_find_tag = property_finder(names.TAGS)
_NOTHING = LogOffset(0)
_SAFE_CHARS = PROPERTIES_BYTES_MAX // 4
"""The UTF-8 of so many characters is never over the limit."""


class Accepted(NamedTuple):
    """A message that passed: as it came, the properties it is stored with, the hash of its tag, its unique id, and
    when it may be seen, if not at once.
    """

    message: NewMessage
    properties: str
    tag_hash: int
    unique_id: str
    delay: Delay | None


class SendService:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        config: BrokerConfig,
        random: Randomness,
        retention: Retention,
        clock: Clock,
        *,
        is_ordered: Callable[[str], bool] = lambda group: False,
        on_dead_letter: Callable[[str, str], None] = lambda group, topic: None,
    ) -> None:
        """`is_ordered`: whether the group holds locks on queues. `on_dead_letter` hears of a group and a topic."""
        self._store = store
        self._topics = topics
        self._groups = groups
        self._random = random
        self._clock = clock
        self._is_ordered = is_ordered
        self._on_dead_letter = on_dead_letter
        self._check_room = retention.check_writable
        self._syncs = config.store.durability == Durability.DISK
        ours = {names.CLUSTER: config.cluster, names.MSG_REGION: names.DEFAULT_REGION, names.TRACE_ON: "true"}
        self._added = tuple(ours.items())
        self._added_text = names.encode_properties(ours)
        self.sent_messages = 0
        self.sent_bytes = 0

    def use(self, config: BrokerConfig) -> None:
        """Settings that were changed."""
        self._syncs = config.store.durability == Durability.DISK

    def send(
        self,
        message: NewMessage,
        template: str,
        queues: int,
        store_host: Endpoint,
        done: OnSent,
        attempts_max: int | None = None,
    ) -> Accepted:
        """Appends one message. `done` is called when it is as safe as it must be, or could not be made so.

        `template` and `queues` are for making a topic that does not exist; `attempts_max` is for a message to a retry
        topic, and wins over its group's. Raises Refused.
        """
        topic, message = self._admit(message, template, queues, attempts_max)
        if len(message.body) > MESSAGE_BYTES_MAX:
            raise Refused(
                Reason.MESSAGE_ILLEGAL, f"a body of {len(message.body)} bytes; the limit is {MESSAGE_BYTES_MAX}"
            )
        accepted = self._accept(topic, message)
        if self._topics.unannounced:
            done = partial(self._topics.hold, message.topic, done)
        if accepted.delay is None:
            sync = self._must_sync(topic, message.properties)
            self._store.put(
                topic, message, accepted.tag_hash, store_host, done, sync, accepted.unique_id, accepted.properties
            )
        else:
            self.forward_later(_with_properties(message, accepted.properties), accepted.delay, store_host, done)
        self.sent_messages += 1
        self.sent_bytes += len(message.body)
        return accepted

    def send_many(
        self,
        message: NewMessage,
        entries: list[tuple[bytes, str, int]],
        template: str,
        queues: int,
        store_host: Endpoint,
        done: OnSent,
    ) -> list[Put]:
        """Appends a batch of (body, properties, flag) with consecutive offsets in one queue, all of it or nothing.

        `message` says everything that they have in common. Raises Refused.
        """
        if len(entries) > BATCH_MESSAGES_MAX:
            raise Refused(
                Reason.MESSAGE_ILLEGAL, f"a batch of {len(entries)} messages; the limit is {BATCH_MESSAGES_MAX}"
            )
        topic, message = self._admit(message, template, queues, None)
        accepted = [
            self._accept(topic, message._replace(body=body, properties=properties, flag=flag))
            for body, properties, flag in entries
        ]
        if any(each.delay is not None for each in accepted):
            raise Refused(
                Reason.MESSAGE_ILLEGAL, "a message of a batch cannot be delayed: send it alone, or without a delay"
            )
        if self._topics.unannounced:
            done = partial(self._topics.hold, message.topic, done)
        sync = self._must_sync(topic, message.properties) and any(_waits(properties) for _, properties, _ in entries)
        messages = [(_with_properties(each.message, each.properties), each.tag_hash) for each in accepted]
        puts = self._store.put_many(topic, messages, store_host, done, sync)
        self.sent_messages += len(puts)
        self.sent_bytes += sum(len(each.message.body) for each in accepted)
        return puts

    def _must_sync(self, topic: Topic, properties: str) -> bool:
        """Whether the answer waits for the disk."""
        attributes = topic.config.attributes
        if attributes and TOPIC_DURABILITY in attributes:
            return attributes[TOPIC_DURABILITY] == Durability.DISK and _waits(properties)
        return self._syncs and (_WAITS in properties or _waits(properties))

    # Once more

    def forward(
        self,
        message: NewMessage,
        store_host: Endpoint,
        done: OnSent | None,
        *,
        replaces: LogOffset = _NOTHING,
        states: Sequence[tuple[Kind, object]] = (),
    ) -> Put:
        """Appends a message that is the broker's own, or was in the log before, exactly as it is given.

        `replaces`: the log offset of the record in whose place it is, see `store.timers`. `states` are committed
        together with it. `done` may be told of an error only, if there is no room: it is stored when there is room.
        Raises Refused: TOPIC_NOT_EXIST, NOT_WRITABLE, BUSY, MESSAGE_ILLEGAL.
        """
        topic = self._topics.require(message.topic)
        return self._append(topic, topic, message, store_host, done, replaces, states)

    def forward_later(
        self,
        message: NewMessage,
        delay: Delay,
        store_host: Endpoint,
        done: OnSent | None,
        *,
        replaces: LogOffset = _NOTHING,
        states: Sequence[tuple[Kind, object]] = (),
    ) -> Put:
        """The same for a message that nobody sees before its time: until then it is in the timer topic of `delay`."""
        topic = self._topics.require(message.topic)
        waiting = self._topics.ensure(TIMER_TOPIC_CONFIGS[delay.topic])
        return self._append(topic, waiting, delayed(message, delay), store_host, done, replaces, states)

    def _append(
        self,
        topic: Topic,
        into: Topic,
        message: NewMessage,
        store_host: Endpoint,
        done: OnSent | None,
        replaces: LogOffset,
        states: Sequence[tuple[Kind, object]],
    ) -> Put:
        """`topic` says how safe it must be."""
        if len(message.properties) > _SAFE_CHARS:
            _check_size(message.properties)
        self._store.check_writable()
        sync = self._must_sync(topic, message.properties)
        return self._store.put_linked(into, message, store_host, done, sync=sync, replaces=replaces, states=states)

    # Checks

    def _admit(
        self, message: NewMessage, template: str, queues: int, attempts_max: int | None
    ) -> tuple[Topic, NewMessage]:
        name = message.topic
        topic = self._topics.find(name)
        if topic is None or name in CLOSED_TOPICS:
            topic = self._admit_unknown(name, template, queues)
        config = topic.config
        queue_id = message.queue_id
        if queue_id < 0:
            message = message._replace(queue_id=self._random.below(config.write_queues))
        elif queue_id >= config.queues:
            raise Refused(
                Reason.INVALID_PARAMETER, f"queue {queue_id} of topic {name!r}; it has {config.queues} queues"
            )
        if name.startswith(RETRY_PREFIX):
            topic, message = self._admit_retry(topic, message, attempts_max)
        self._store.check_writable()
        self._check_room()
        return topic, message

    def _admit_unknown(self, name: str, template: str, queues: int) -> Topic:
        check_topic(name)
        if name in CLOSED_TOPICS:
            raise Refused(Reason.NO_PERMISSION, f"topic {name!r} is the system's own; no client may send to it")
        if name.startswith(RETRY_PREFIX):
            self._check_group_of(name)
        self._check_room()  # before the topic is made for nothing
        return self._topics.for_send(name, template, queues)

    def _check_group_of(self, retry_topic: str) -> GroupConfig:
        group = self._groups.find(retry_topic.removeprefix(RETRY_PREFIX))
        if group is None:
            raise Refused(
                Reason.GROUP_NOT_EXIST, f"consumer group {retry_topic.removeprefix(RETRY_PREFIX)!r} does not exist"
            )
        return group

    def _admit_retry(self, topic: Topic, message: NewMessage, attempts_max: int | None) -> tuple[Topic, NewMessage]:
        """A consumer puts a message back by sending it; it may have been tried often enough."""
        group = self._check_group_of(message.topic)
        attempts = message.reconsume_times
        if not group.retry_queues:
            reason = DeathReason.NO_RETRY
        elif attempts > (group.retry_max_times if attempts_max is None else attempts_max):
            reason = DeathReason.ATTEMPTS
        elif self._is_ordered(group.name):
            reason = DeathReason.ORDERED
        else:
            return topic, message
        dead = dead_letter(message, group.name, reason, attempts, "")
        self._on_dead_letter(group.name, find_property(dead.properties, names.DLQ_ORIGIN_TOPIC) or "")
        return self._topics.ensure(dead_letter_config(group.name)), dead

    def _accept(self, topic: Topic, message: NewMessage) -> Accepted:
        """The message as it is stored: the properties that the broker adds are in it. Raises Refused."""
        text = message.properties
        if text and not text.endswith(PAIR_END):
            text += PAIR_END
        delay = None
        if message.sys_flag & _UNDECIDED or names.TRAN_MSG in text or "DELAY" in text or "TIMER_" in text:
            _refuse_half_messages(text, message.sys_flag)
            delay = delay_of(text, self._clock.now_ms())
        if names.POP_CK in text:
            text = remove_property(text, names.POP_CK)
        unique_id = _find_unique_id(text)
        if unique_id is None:
            unique_id = self._random.token_bytes(16).hex().upper()
            text = f"{text}{names.UNIQ_KEY}{NAME_END}{unique_id}{PAIR_END}"
        text = self._with_ours(text)
        if len(text) > _SAFE_CHARS:
            _check_size(text)
        tag = _find_tag(text)
        return Accepted(message, text, tag_hash(tag) if tag else 0, unique_id, delay)

    def _with_ours(self, text: str) -> str:
        if names.CLUSTER in text or names.MSG_REGION in text or names.TRACE_ON in text:
            for name, _ in self._added:
                text = remove_property(text, name)
        return text + self._added_text


def _waits(properties: str) -> bool:
    """Whether the sender waits for what its topic promises. Any value of WAIT but true says no."""
    if _WAITS in properties or names.WAIT not in properties:
        return True
    return (find_property(properties, names.WAIT) or "true").lower() == "true"


def _with_properties(message: NewMessage, text: str) -> NewMessage:
    """What `_replace` does, at a third of its cost: this is done for every message."""
    topic, queue_id, body, _, flag, sys_flag, born_at_ms, born_host, reconsume_times = message
    return NewMessage(topic, queue_id, body, text, flag, sys_flag, born_at_ms, born_host, reconsume_times)


def _check_size(properties: str) -> None:
    """Raises Refused(MESSAGE_ILLEGAL)."""
    size = len(properties.encode())
    if size > PROPERTIES_BYTES_MAX:
        raise Refused(
            Reason.MESSAGE_ILLEGAL,
            f"properties of {size} bytes, the broker's own included; the limit is {PROPERTIES_BYTES_MAX}",
        )


def _refuse_half_messages(text: str, sys_flag: int) -> None:
    if sys_flag & _UNDECIDED or (find_property(text, names.TRAN_MSG) or "").lower() == "true":
        raise Refused(Reason.MESSAGE_ILLEGAL, "transactional messages are not served by this version of Posthouse")
