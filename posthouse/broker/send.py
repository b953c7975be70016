"""Sending: from what a producer asks to a record in the log. Nothing here suspends.

Checks in RocketMQ's order, so that a client sees the same refusal first; then the properties that the broker adds or
takes away, done on the encoded text; then the store. What is not served yet (half messages, delays) is refused, never
delivered as if it were an ordinary message. Source: RocketMQ 5.3 SendMessageProcessor, HookUtils.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from posthouse.broker.config import BrokerConfig
from posthouse.broker.groups import Groups
from posthouse.broker.topics import Topics
from posthouse.host.randomness import Randomness
from posthouse.model import properties as names
from posthouse.model.filter import tag_hash
from posthouse.model.limits import BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage, SysFlag
from posthouse.model.names import CLOSED_TOPICS, RETRY_PREFIX, check_topic
from posthouse.model.properties import NAME_END, PAIR_END, find_property, remove_property
from posthouse.model.refusal import Reason, Refused
from posthouse.store.config import TOPIC_DURABILITY, Durability
from posthouse.store.message_store import LogError, MessageStore, Put
from posthouse.store.retention import Retention
from posthouse.store.topic_table import Topic

OnSent = Callable[[Put, LogError | None], None]

_UNDECIDED = SysFlag.PREPARED  # also a bit of ROLLBACK
_WAITS = f"{PAIR_END}{names.WAIT}{NAME_END}true{PAIR_END}"
_TIMED = (names.DELAY, names.TIMER_DELAY_SEC, names.TIMER_DELAY_MS, names.TIMER_DELIVER_MS)


class Accepted(NamedTuple):
    """A message that passed: what is stored, the hash of its tag, its unique id, and the topic it goes to."""

    topic: Topic
    message: NewMessage
    tag_hash: int
    unique_id: str


class SendService:
    def __init__(
        self,
        store: MessageStore,
        topics: Topics,
        groups: Groups,
        config: BrokerConfig,
        random: Randomness,
        retention: Retention,
    ) -> None:
        self._store = store
        self._topics = topics
        self._groups = groups
        self._random = random
        self._check_room = retention.check_writable
        self._durability = config.store.durability
        ours = {names.CLUSTER: config.cluster, names.MSG_REGION: names.DEFAULT_REGION, names.TRACE_ON: "true"}
        self._added = tuple(ours.items())
        self._added_text = names.encode_properties(ours)
        self.sent_messages = 0
        self.sent_bytes = 0

    def send(self, message: NewMessage, template: str, queues: int, store_host: Endpoint, done: OnSent) -> Accepted:
        """Appends one message. `done` is called when it is as safe as it must be, or could not be made so.

        `template` and `queues` are for making a topic that does not exist. Raises Refused.
        """
        topic, message = self._admit(message, template, queues)
        if len(message.body) > MESSAGE_BYTES_MAX:
            raise Refused(
                Reason.MESSAGE_ILLEGAL, f"a body of {len(message.body)} bytes; the limit is {MESSAGE_BYTES_MAX}"
            )
        accepted = self._accept(topic, message)
        if self._topics.unannounced:
            done = partial(self._topics.hold, message.topic, done)
        sync = self._must_sync(topic, message.properties)
        self._store.put(topic, accepted.message, accepted.tag_hash, store_host, done, sync, accepted.unique_id)
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
        topic, message = self._admit(message, template, queues)
        accepted = [
            self._accept(topic, message._replace(body=body, properties=properties, flag=flag))
            for body, properties, flag in entries
        ]
        if self._topics.unannounced:
            done = partial(self._topics.hold, message.topic, done)
        sync = self._must_sync(topic, message.properties) and any(_waits(properties) for _, properties, _ in entries)
        messages = [(each.message, each.tag_hash) for each in accepted]
        puts = self._store.put_many(topic, messages, store_host, done, sync)
        self.sent_messages += len(puts)
        self.sent_bytes += sum(len(each.message.body) for each in accepted)
        return puts

    def _must_sync(self, topic: Topic, properties: str) -> bool:
        """Whether the answer waits for the disk."""
        attributes = topic.config.attributes
        level = attributes.get(TOPIC_DURABILITY, self._durability) if attributes else self._durability
        return level == Durability.DISK and _waits(properties)

    def _admit(self, message: NewMessage, template: str, queues: int) -> tuple[Topic, NewMessage]:
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
            self._check_group_of(name)
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

    def _check_group_of(self, retry_topic: str) -> None:
        group = retry_topic.removeprefix(RETRY_PREFIX)
        if self._groups.find(group) is None:
            raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {group!r} does not exist")

    def _accept(self, topic: Topic, message: NewMessage) -> Accepted:
        """The message as it is stored: the properties that the broker adds are in it. Raises Refused."""
        text = message.properties
        if text and not text.endswith(PAIR_END):
            text += PAIR_END
        if message.sys_flag & _UNDECIDED or names.TRAN_MSG in text or "DELAY" in text or "TIMER_" in text:
            _refuse_what_is_not_served(text, message.sys_flag)
        if names.POP_CK in text:
            text = remove_property(text, names.POP_CK)
        unique_id = find_property(text, names.UNIQ_KEY)
        if unique_id is None:
            unique_id = self._random.token_bytes(16).hex().upper()
            text = f"{text}{names.UNIQ_KEY}{NAME_END}{unique_id}{PAIR_END}"
        text = self._with_ours(text)
        if len(text) > PROPERTIES_BYTES_MAX // 4:  # only then can its UTF-8 be over the limit
            size = len(text.encode())
            if size > PROPERTIES_BYTES_MAX:
                raise Refused(
                    Reason.MESSAGE_ILLEGAL,
                    f"properties of {size} bytes, the broker's own included; the limit is {PROPERTIES_BYTES_MAX}",
                )
        tag = find_property(text, names.TAGS)
        return Accepted(topic, _with_properties(message, text), tag_hash(tag) if tag else 0, unique_id)

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


def _refuse_what_is_not_served(text: str, sys_flag: int) -> None:
    if sys_flag & _UNDECIDED or (find_property(text, names.TRAN_MSG) or "").lower() == "true":
        raise Refused(Reason.MESSAGE_ILLEGAL, "transactional messages are not served by this version of Posthouse")
    for name in _TIMED:
        value = find_property(text, name)
        if value is not None and value.strip() not in ("", "0"):
            raise Refused(
                Reason.MESSAGE_ILLEGAL,
                f"delayed messages ({name}={value[:20]}) are not served by this version of Posthouse",
            )
