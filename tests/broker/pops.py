"""Pops for tests: asked with few words, at the service itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from posthouse.broker.broker import Broker
from posthouse.broker.pop_acks import Renewed
from posthouse.codec.record import decode_records
from posthouse.model.message import StoredMessage
from posthouse.model.pop import ANY_QUEUE, PopReceipt, PopRequest, PopResult, source_topic
from posthouse.model.refusal import Refused
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import message, send, until

LONG_MS = 60_000


@dataclass(eq=False)
class Pop:
    """A pop under way. `outcomes` has what it was answered: never more than one thing."""

    request: PopRequest
    outcomes: list[PopResult | Refused] = field(default_factory=list)

    @property
    def is_held(self) -> bool:
        return not self.outcomes

    async def outcome(self) -> PopResult | Refused:
        await until(lambda: bool(self.outcomes))
        (only,) = self.outcomes
        return only

    async def result(self) -> PopResult:
        found = await self.outcome()
        assert isinstance(found, PopResult), found
        return found

    async def messages(self) -> list[StoredMessage]:
        return [message for part in (await self.result()).parts for message in decode_records(b"".join(part.buffers))]

    async def bodies(self) -> list[bytes]:
        return [message.body for message in await self.messages()]

    async def receipts(self) -> list[PopReceipt]:
        result, asked = await self.result(), self.request
        return [
            PopReceipt(
                asked.group,
                source_topic(part.source, asked.group, asked.topic),
                part.queue_id,
                offset,
                result.at_ms,
                result.invisible_ms,
                asked.ordered,
            )
            for part in result.parts
            for offset in part.offsets
        ]


def asking(topic: str = "T", **changes: Any) -> PopRequest:
    asked = PopRequest("G", topic, ANY_QUEUE, 32, LONG_MS)
    return asked._replace(**changes)


def pop(broker: Broker, topic: str = "T", holder: object = None, **changes: Any) -> Pop:
    """Raises Refused."""
    found = Pop(asking(topic, **changes))
    broker.pop.pop(found.request, holder or found, found.outcomes.append)
    return found


async def popped(broker: Broker, topic: str = "T", **changes: Any) -> list[bytes]:
    return await pop(broker, topic, **changes).bodies()


async def renewed(broker: Broker, receipt: PopReceipt, invisible_ms: int) -> Renewed:
    """The answer to a change of time. Raises Refused."""
    outcomes: list[Renewed | Refused] = []
    broker.pop.acks.renew(receipt, invisible_ms, outcomes.append)
    await until(lambda: bool(outcomes))
    (only,) = outcomes
    assert isinstance(only, Renewed), only
    return only


def in_flight(broker: Broker) -> int:
    return broker.store.in_flight.live.messages


async def fill(broker: Broker, count: int, topic: str = "T", queues: int = 1) -> None:
    """A topic with so many messages."""
    if broker.topics.find(topic) is None:
        await broker.topics.set(TopicConfig(topic, queues, queues))
    for number in range(count):
        await send(broker, message(topic, b"%d" % number, queue_id=number % queues))
