"""Which topics exist, and how they come to exist: by an admin, or by the first send through a template.

The table is a fold over the store's log; this service decides its changes. A changed table has a new data version,
and `on_change` tells who registers it with the NameServers, after the change is committed. The answers to sends that
made a topic wait, for a second at most, until a NameServer knows it: who has sent to a topic finds its route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from posthouse.broker.config import BrokerConfig
from posthouse.host.clock import Clock
from posthouse.model.limits import QUEUES_PER_TOPIC_MAX, TOPICS_MAX
from posthouse.model.names import (
    AUTO_CREATE_TOPIC,
    RETRY_PREFIX,
    TRACE_TOPIC,
    check_topic,
    is_system_topic,
    reply_topic,
)
from posthouse.model.refusal import Reason, Refused
from posthouse.model.route import DataVersion
from posthouse.model.topic import Perm, TopicConfig
from posthouse.store.config import TOPIC_AGE, TOPIC_DURABILITY, Durability
from posthouse.store.message_store import LogError, MessageStore, Put
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic, TopicTable

_TEMPLATE_PERM = Perm.READ_WRITE | Perm.INHERIT
_ANNOUNCE_TIMEOUT_S = 1.0
_PERM_MAX = Perm.READ_WRITE | Perm.INHERIT | Perm.PRIORITY
_FILTER_TYPES = ("SINGLE_TAG", "MULTI_TAG")
_AGE_MS_MAX = 2**63 - 1
_WORDS = {
    "cleanup.policy": ("DELETE",),
    "message.type": ("UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"),
    "queue.type": ("SimpleCQ",),
    TOPIC_DURABILITY: tuple(Durability),
}
_ATTRIBUTES = (*_WORDS, TOPIC_AGE)
"""What a topic may be given, and the values that are served. Source: RocketMQ 5.3 TopicAttributes; durability is ours.

There `reserve.time` needs tiered storage. Here it is how long the topic keeps its messages.
"""


class Topics:
    """`find` is the hot path: one look into a dict."""

    def __init__(self, store: MessageStore, config: BrokerConfig, clock: Clock) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._table = store.topics
        self._hidden = frozenset(() if config.auto_create_topics else (AUTO_CREATE_TOPIC,))
        self.version = DataVersion(0, clock.now_ms(), 0)
        self.on_change: Callable[[], None] = lambda: None
        self.on_deleted: Callable[[Topic], None] = lambda topic: None
        self.find = self._table.live.get
        self.is_announced = False
        """Whether somebody tells NameServers of new topics, and calls `announced`."""
        self.unannounced: dict[str, list[Callable[[], None]]] = {}
        """Topics made by a send that no NameServer knows yet, with the answers that wait for it."""

    def prepare(self) -> None:
        """Makes the topics that every broker has, as its configuration says."""
        wanted = [
            TopicConfig(self._config.cluster, 16, 16, _TEMPLATE_PERM),
            TopicConfig(self._config.name, 1, 1, _TEMPLATE_PERM),
        ]
        if self._config.auto_create_topics:
            queues = self._config.default_topic_queues
            wanted.append(TopicConfig(AUTO_CREATE_TOPIC, queues, queues, _TEMPLATE_PERM))
        for config in wanted:
            topic = self._table.live.get(config.name)
            if topic is None or topic.config != config:
                self._write(config)
        for config in (
            TopicConfig(reply_topic(self._config.cluster), 1, 1),
            TopicConfig(TRACE_TOPIC, 1, 1, attributes={TOPIC_DURABILITY: Durability.OS}),
        ):
            if self.find(config.name) is None:  # one that was made otherwise, by a first send for example, stays
                self._write(config)

    def use(self, config: BrokerConfig) -> None:
        """Settings that were changed; NameServers are told."""
        self._config = config
        self._hidden = frozenset(() if config.auto_create_topics else (AUTO_CREATE_TOPIC,))
        self.prepare()
        self._changed(None)

    def require(self, name: str) -> Topic:
        """Raises Refused(TOPIC_NOT_EXIST) saying what to do."""
        topic = self.find(name)
        if topic is None:
            raise Refused(
                Reason.TOPIC_NOT_EXIST,
                f"topic {name[:255]!r} does not exist on {self._config.name}; "
                f"create it with `posthouse topic create`, or send to it where auto-creation is on",
            )
        return topic

    def configs(self) -> list[TopicConfig]:
        """All that NameServers and admins may see."""
        return [topic.config for name, topic in self._table.live.items() if name not in self._hidden]

    def names_of_system(self) -> list[str]:
        """Topics that are not the users' own."""
        return [name for name in self._table.live if self._is_of_system(name)]

    def for_send(self, name: str, template: str, queues: int) -> Topic:
        """The topic to send to: as it is, or made from `template` if the broker makes topics.

        Raises Refused: a bad name, TOPIC_NOT_EXIST, BUSY when there are too many.
        """
        topic = self.find(name)
        if topic is not None:
            return topic
        check_topic(name)
        found = self.find(template)
        if found is not None and found.config.perm & Perm.INHERIT and template not in self._hidden:
            count = max(1, min(queues, found.config.write_queues))
            perm = found.config.perm & ~Perm.INHERIT
            return self._make(TopicConfig(name, count, count, perm, found.config.filter_type))
        if name.startswith(RETRY_PREFIX):
            return self._make(TopicConfig(name, 1, 1))
        return self.require(name)

    def ensure(self, config: TopicConfig) -> Topic:
        """The topic of that name, made as `config` says if it does not exist. For topics of the broker's own making."""
        return self.find(config.name) or self._make(config)

    async def set(self, config: TopicConfig) -> None:
        """Creates or changes a topic, as an admin asks; what `config` does not say is no longer so. Raises Refused."""
        check_topic(config.name)
        if self._is_of_system(config.name):
            raise Refused(Reason.INVALID_PARAMETER, f"topic {config.name!r} is the system's own")
        _check_config(config)
        topic = self.find(config.name)
        if topic is None:
            self._check_room()
        if topic is None or topic.config != config:
            await self._store.record_and_wait(Kind.TOPIC_SET, TopicTable.set_body(config), self._changed)
            self._changed(None)
        else:
            await self._store.settled()

    async def delete(self, name: str) -> None:
        """Forgets a topic with its queues and all groups' offsets in it; an unknown one is no error. Raises Refused."""
        if not name or self._is_of_system(name):
            raise Refused(Reason.INVALID_PARAMETER, f"topic {name[:255]!r} cannot be deleted: it is the system's own")
        topic = self.find(name)
        if topic is not None:
            await self._store.record_and_wait(Kind.TOPIC_DELETED, TopicTable.deleted_body(name), self._changed)
            self.on_deleted(topic)
            self._changed(None)
        else:
            await self._store.settled()

    def _is_of_system(self, name: str) -> bool:
        own = (self._config.cluster, self._config.name, reply_topic(self._config.cluster))
        return is_system_topic(name) or name in own

    def _make(self, config: TopicConfig) -> Topic:
        self._check_room()
        self._store.check_writable()
        if self.is_announced:
            self.unannounced[config.name] = []
            asyncio.get_running_loop().call_later(_ANNOUNCE_TIMEOUT_S, self.announced, (config.name,))
        return self._write(config)

    def hold(self, name: str, done: Callable[[Put, LogError | None], None], put: Put, error: LogError | None) -> None:
        """Calls `done` when a NameServer knows the topic, so that who is answered finds its route."""
        held = self.unannounced.get(name)
        if held is None or error is not None:
            done(put, error)
        else:
            held.append(partial(done, put, error))

    def announced(self, names: Iterable[str]) -> None:
        """A NameServer knows these topics, or was waited for long enough."""
        for name in names:
            for answer in self.unannounced.pop(name, ()):
                answer()

    def _write(self, config: TopicConfig) -> Topic:
        self._store.record(Kind.TOPIC_SET, TopicTable.set_body(config), self._changed)
        return self._table.live[config.name]

    def _check_room(self) -> None:
        if len(self._table.live) >= TOPICS_MAX:
            raise Refused(Reason.BUSY, f"this broker has {TOPICS_MAX} topics, which is the limit; delete some")

    def _changed(self, error: LogError | None) -> None:
        if error is None:
            self.version = DataVersion(0, self._clock.now_ms(), self.version.counter + 1)
            self.on_change()


def _check_config(config: TopicConfig) -> None:
    """Raises Refused(INVALID_PARAMETER): nothing is kept, and told to NameServers, that was not understood."""
    for what, count in (("read", config.read_queues), ("write", config.write_queues)):
        if not 0 < count <= QUEUES_PER_TOPIC_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"{count} {what} queues; 1 to {QUEUES_PER_TOPIC_MAX} are possible")
    if not 0 <= config.perm <= _PERM_MAX:
        raise Refused(Reason.INVALID_PARAMETER, f"perm {config.perm}; 0 to {_PERM_MAX}: 4 reads, 2 writes, 1 inherits")
    if config.filter_type not in _FILTER_TYPES:
        raise Refused(Reason.INVALID_PARAMETER, f"filter type {config.filter_type[:60]!r}; one of {_FILTER_TYPES}")
    for name, value in config.attributes.items():
        _check_attribute(name, value)


def _check_attribute(name: str, value: str) -> None:
    """Raises Refused(INVALID_PARAMETER)."""
    if name == TOPIC_AGE:
        is_age = value.isascii() and value.isdecimal() and len(value) <= 19 and 0 < int(value) <= _AGE_MS_MAX
        if value != "-1" and not is_age:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"attribute {name}={value[:60]}: milliseconds, 1 to {_AGE_MS_MAX}, or -1 for as long as the broker",
            )
    elif name not in _WORDS:
        raise Refused(Reason.INVALID_PARAMETER, f"no attribute {name[:60]!r} is known; {', '.join(_ATTRIBUTES)} are")
    elif value not in _WORDS[name]:
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"attribute {name}={value[:60]} is not served by this version of Posthouse; {', '.join(_WORDS[name])}",
        )
