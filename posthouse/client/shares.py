"""Which queues this member of a group reads, kept right while members and queues come and go.

Every 20 s, and at once when a broker or a new route says so, it finds out its share: it asks who the members are and
computes it (`ByMembers`), or asks a broker for it (`ByBroker`), or takes all (`everything`, for broadcast). When that
cannot be found out now, everything stays as it is, and it tries again in 1 s.
Source: RocketMQ 5.3 RebalanceImpl, RebalanceService.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from posthouse.client.errors import BadAnswer, BrokerRefused, PosthouseError
from posthouse.client.rebalance import Strategy, java_order
from posthouse.client.routing import TopicQueues
from posthouse.client.session import Session
from posthouse.codec.remoting.bodies.assignment import (
    AssignmentQuestion,
    decode_assignment,
    encode_assignment_question,
)
from posthouse.codec.remoting.bodies.consumers import decode_consumer_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.model.group import RequestMode
from posthouse.model.message import MessageQueue

log = logging.getLogger(__name__)

SHARE_SECONDS = 20.0
"""RocketMQ: rocketmq.client.rebalance.waitInterval."""

SHARE_AGAIN_SECONDS = 1.0
"""When the last round could not be done. RocketMQ 5.x: the same."""

SHARE_GAP_SECONDS = 0.1
"""Between two rounds, however often one is asked for."""


Source: TypeAlias = Callable[[str, TopicQueues], Awaitable[list[MessageQueue] | None]]
"""(topic, its route) to own queues; None: not known now, change nothing. Raises PosthouseError."""


class Shares:
    """Calls `changed` with all own queues of a topic after each round that found them out."""

    def __init__(
        self,
        session: Session,
        topics: tuple[str, ...],
        source: Source,
        changed: Callable[[str, list[MessageQueue]], None],
    ) -> None:
        self._session = session
        self._topics = topics
        self._source = source
        self._changed = changed
        self._asked = asyncio.Event()

    def soon(self) -> None:
        """Asks for a round."""
        self._asked.set()

    async def run(self) -> None:
        while True:
            self._asked.clear()
            complete = await self.once()
            await asyncio.sleep(SHARE_GAP_SECONDS)
            try:
                async with asyncio.timeout(SHARE_SECONDS if complete else SHARE_AGAIN_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                pass  # it is time for a round anyway

    async def once(self) -> bool:
        """One round. False if a topic could not be done; topics that do not exist yet do not count."""
        complete = True
        for topic in self._topics:
            queues = self._session.queues_if_known(topic)
            if queues is None or not queues.brokers:
                continue
            try:
                own = await self._source(topic, queues)
            except PosthouseError as error:
                log.debug("sharing %s: %s", topic, error)
                own = None
            except ValueError as error:  # of the program's own strategy
                log.error("the strategy cannot share %s: %s", topic, error)
                own = None
            if own is None:
                complete = False
            else:
                self._changed(topic, own)
        return complete


class ByMembers:
    """Computes the share from all members, as any broker of the topic knows them."""

    def __init__(self, session: Session, group: str, strategy: Strategy) -> None:
        self._session = session
        self._group = group
        self._strategy = strategy

    async def __call__(self, topic: str, queues: TopicQueues) -> list[MessageQueue] | None:
        doing = f"name the members of group {self._group}"
        ext = {"consumerGroup": self._group}
        answer = await _ask_any(self._session, queues, RequestCode.GET_CONSUMER_LIST_BY_GROUP, ext, b"", doing)
        try:
            members = decode_consumer_list(answer.body)
        except WireError as error:
            raise BadAnswer(f"the members of group {self._group}: {error}") from None
        if self._session.client_id not in members:
            await self._session.beat_all()
            return None
        ids = sorted(set(members), key=java_order)
        return self._strategy(self._session.client_id, ids, queues.read_queues)


class ByBroker:
    """Asks a broker of the topic for the share. Topics that the broker wants to be popped are left alone."""

    def __init__(self, session: Session, group: str, strategy_name: str) -> None:
        self._session = session
        self._group = group
        self._strategy_name = strategy_name
        self._warned: dict[str, None] = {}

    async def __call__(self, topic: str, queues: TopicQueues) -> list[MessageQueue] | None:
        session = self._session
        body = encode_assignment_question(
            AssignmentQuestion(topic, self._group, session.client_id, self._strategy_name)
        )
        doing = f"assign queues of {topic}"
        answer = await _ask_any(session, queues, RequestCode.QUERY_ASSIGNMENT, None, body, doing)
        try:
            assigned = decode_assignment(answer.body)
        except WireError as error:
            raise BadAnswer(f"the assignment of {topic}: {error}") from None
        if assigned is None:
            await session.beat_all()  # a broker that does not know us yet gives nothing
            return None
        if any(each.mode == RequestMode.POP for each in assigned) and topic not in self._warned:
            self._warned[topic] = None
            log.error(
                "group %s is set to pop topic %s, which this consumer does not do: use a PopConsumer, or set the mode "
                "back to PULL",
                self._group,
                topic,
            )
        return [each.queue for each in assigned if each.mode == RequestMode.PULL]


async def everything(topic: str, queues: TopicQueues) -> list[MessageQueue] | None:
    """All queues, for each member by itself."""
    return list(queues.read_queues)


async def _ask_any(
    session: Session, queues: TopicQueues, code: int, ext: dict[str, str] | None, body: bytes, doing: str
) -> Command:
    """The good answer of one broker of the topic."""
    names = sorted(queues.brokers)
    name = names[session.host.random.below(len(names))]
    answer = await session.ask_broker(session.address_of(name), code, ext, body, doing=doing)
    if answer.code != ResponseCode.SUCCESS:
        raise BrokerRefused(name, answer.code, answer.remark, doing)
    return answer
