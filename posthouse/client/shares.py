"""Which queues this member of a group reads, kept right while members and queues come and go.

Every 20 s, and at once when a broker or a new route says so, it asks who the members are and computes its share.
When the members cannot be had, or do not include itself yet, everything stays as it is, and it tries again in 1 s.
Source: RocketMQ 5.3 RebalanceImpl, RebalanceService.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from posthouse.client.errors import BadAnswer, BrokerRefused, PosthouseError
from posthouse.client.rebalance import Strategy, java_order
from posthouse.client.routing import TopicQueues
from posthouse.client.session import Session
from posthouse.codec.remoting.bodies.consumers import decode_consumer_list
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.frame import WireError
from posthouse.model.message import MessageQueue

log = logging.getLogger(__name__)

SHARE_SECONDS = 20.0
"""RocketMQ: rocketmq.client.rebalance.waitInterval."""

SHARE_AGAIN_SECONDS = 1.0
"""When the last round could not be done. RocketMQ 5.x: the same."""

SHARE_GAP_SECONDS = 0.1
"""Between two rounds, however often one is asked for."""


class Shares:
    """Calls `changed` with all own queues of a topic after each round that found them out."""

    def __init__(
        self,
        session: Session,
        group: str,
        topics: tuple[str, ...],
        strategy: Strategy,
        changed: Callable[[str, list[MessageQueue]], None],
    ) -> None:
        self._session = session
        self._group = group
        self._topics = topics
        self._strategy = strategy
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
                members = await self._members(queues)
            except PosthouseError as error:
                log.debug("sharing %s: %s", topic, error)
                complete = False
                continue
            if self._session.client_id not in members:
                await self._session.beat_all()
                complete = False
                continue
            ids = sorted(set(members), key=java_order)
            self._changed(topic, self._strategy(self._session.client_id, ids, queues.read_queues))
        return complete

    async def _members(self, queues: TopicQueues) -> tuple[str, ...]:
        """As any broker of the topic knows them."""
        names = sorted(queues.brokers)
        name = names[self._session.host.random.below(len(names))]
        answer = await self._session.ask_broker(
            self._session.address_of(name),
            RequestCode.GET_CONSUMER_LIST_BY_GROUP,
            {"consumerGroup": self._group},
            doing=f"name the members of group {self._group}",
        )
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(name, answer.code, answer.remark, f"name the members of group {self._group}")
        try:
            return decode_consumer_list(answer.body)
        except WireError as error:
            raise BadAnswer(f"the members of group {self._group}: {error}") from None
