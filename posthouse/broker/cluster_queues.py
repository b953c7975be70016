"""The queues of a topic in the whole cluster, as the NameServers know them, kept for QUEUES_KEPT_S.

This broker's own queues are taken from itself, which knows first. When no NameServer answers, what was known last
counts: a broker that is alone needs no NameServer for its own queues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from posthouse.broker.registration import Registrar
from posthouse.broker.topics import Topics
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.frame import WireError
from posthouse.link.errors import LinkError
from posthouse.model.limits import TOPICS_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.topic import Perm

log = logging.getLogger(__name__)

QUEUES_KEPT_S = 5.0
"""RocketMQ asks for all routes every 30 s (pollNameServerInterval)."""


class _Known(NamedTuple):
    queues: tuple[MessageQueue, ...]
    until_s: float


class ClusterQueues:
    def __init__(
        self, broker_name: str, topics: Topics, registrar: Registrar, monotonic_s: Callable[[], float]
    ) -> None:
        self._broker_name = broker_name
        self._topics = topics
        self._registrar = registrar
        self._now_s = monotonic_s
        self._known: dict[str, _Known] = {}

    async def read_queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """All that may be read; empty if there is no such topic."""
        found = self._topics.find(topic)
        own = range(found.config.read_queues) if found is not None and found.config.readable else range(0)
        others = await self._others(topic)
        return (*others, *(MessageQueue(topic, self._broker_name, queue_id) for queue_id in own))

    async def _others(self, topic: str) -> tuple[MessageQueue, ...]:
        """On other brokers."""
        known, now_s = self._known.get(topic), self._now_s()
        if known is not None and known.until_s > now_s:
            return known.queues
        queues = await self._ask(topic)
        if queues is None:
            queues = known.queues if known is not None else ()
        if len(self._known) >= TOPICS_MAX:
            self._known.clear()
        self._known[topic] = _Known(queues, now_s + QUEUES_KEPT_S)
        return queues

    async def _ask(self, topic: str) -> tuple[MessageQueue, ...] | None:
        """None when no NameServer gives an answer."""
        if not self._registrar.has_nameservers:
            return ()
        ext = {"topic": topic, "acceptStandardJsonOnly": "true"}
        try:
            answer = await self._registrar.ask_nameserver(RequestCode.GET_ROUTEINFO_BY_TOPIC, ext)
            if answer.code == ResponseCode.TOPIC_NOT_EXIST:
                return ()
            if answer.code != ResponseCode.SUCCESS:
                log.debug("the route of topic %s: code %d: %s", topic, answer.code, answer.remark)
                return None
            route = decode_route(answer.body)
        except (LinkError, WireError) as error:
            log.debug("the route of topic %s: %s", topic, error)
            return None
        return tuple(
            MessageQueue(topic, each.broker_name, queue_id)
            for each in route.queues
            if each.broker_name != self._broker_name and each.perm & Perm.READ
            for queue_id in range(each.read_queues)
        )
