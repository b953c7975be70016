"""Brokers for tests: the real services over a store in memory, without a network, asked with few words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.broker.send import Accepted
from posthouse.codec.record import decode_records
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk
from posthouse.host.real import RealNet, RealRandomness
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, Membership, MessageModel
from posthouse.model.heartbeat import HeartbeatData
from posthouse.model.message import Endpoint, NewMessage, StoredMessage
from posthouse.model.names import AUTO_CREATE_TOPIC
from posthouse.model.offsets import QueueOffset
from posthouse.model.properties import TAGS, encode_properties
from posthouse.model.pull import PullRequest, PullResult
from posthouse.model.question import ClientAnswer, Question
from posthouse.model.refusal import Reason, Refused
from posthouse.store.message_store import LogError, Put
from tests.store.disks import ManualClock

HERE = Endpoint(bytes((127, 0, 0, 1)), 10911)
THERE = Endpoint(bytes((127, 0, 0, 2)), 40000)


def host_on(disk: Disk, clock: ManualClock | None = None) -> Host:
    return Host(clock or ManualClock(), disk, RealNet(), RealRandomness())


@asynccontextmanager
async def running(config: BrokerConfig | None = None, host: Host | None = None) -> AsyncIterator[Broker]:
    """An open broker that nobody can connect to; what it was given is on its disk at the end."""
    broker = Broker(host or Host.real(), config)
    broker.open()
    try:
        await settled(broker)
        yield broker
    finally:
        await broker.stop_serving()
        await broker.close()


async def settled(broker: Broker) -> None:
    """Until all that was appended is committed, or has failed."""
    await until(lambda: not broker.store.log.waiting_bytes or broker.store.failure is not None)
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits for a condition; fails when it does not come true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.001)


async def some_turns() -> None:
    """Lets happen whatever would happen at once."""
    for _ in range(5):
        await asyncio.sleep(0)


class Sent(NamedTuple):
    accepted: Accepted
    put: Put
    error: LogError | None


def message(
    topic: str, body: bytes = b"body", *, tag: str = "", queue_id: int = 0, properties: str = "", sys_flag: int = 0
) -> NewMessage:
    text = properties + (encode_properties({TAGS: tag}) if tag else "")
    return NewMessage(topic, queue_id, body, text, 0, sys_flag, EpochMs(1_700_000_000_000), THERE)


async def send(
    broker: Broker, new: NewMessage, *, template: str = AUTO_CREATE_TOPIC, queues: int = 4, store_host: Endpoint = HERE
) -> Sent:
    """Sends and waits for the receipt. Raises Refused."""
    received: asyncio.Future[tuple[Put, LogError | None]] = asyncio.get_running_loop().create_future()
    accepted = broker.send.send(new, template, queues, store_host, lambda put, error: received.set_result((put, error)))
    put, error = await asyncio.wait_for(received, 5)
    return Sent(accepted, put, error)


@dataclass(eq=False)
class Pull:
    """A pull under way. `outcomes` has what it was answered: never more than one thing."""

    request: PullRequest
    outcomes: list[PullResult | Refused] = field(default_factory=list)

    async def outcome(self, seconds: float = 5.0) -> PullResult | Refused:
        await until(lambda: bool(self.outcomes), seconds)
        (only,) = self.outcomes
        return only

    async def result(self) -> PullResult:
        found = await self.outcome()
        assert isinstance(found, PullResult), found
        return found

    async def messages(self) -> list[StoredMessage]:
        return decode_records(b"".join((await self.result()).buffers))


def request(
    topic: str,
    offset: int = 0,
    *,
    group: str = "G",
    queue_id: int = 0,
    messages_max: int = 32,
    commit: int | None = None,
    suspend_ms: int = 0,
    expression: str | None = "*",
    version: int = 0,
) -> PullRequest:
    return PullRequest(
        group,
        topic,
        queue_id,
        QueueOffset(offset),
        messages_max,
        None if commit is None else QueueOffset(commit),
        suspend_ms,
        expression,
        None,
        version,
    )


def pull(broker: Broker, asked: PullRequest, holder: object = None) -> Pull:
    """Raises Refused."""
    found = Pull(asked)
    broker.pull.pull(asked, holder or found, found.outcomes.append)
    return found


@dataclass(eq=False)
class FakeChannel:
    """A client's connection that notes what it is told."""

    client_address: str = "127.0.0.1:40000"
    told: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    questions: list[tuple[Question, dict[str, str], bytes]] = field(default_factory=list)
    """What was asked or told, in order."""
    answers: list[ClientAnswer | Refused] = field(default_factory=list)
    """What it says to the next questions; to more of them it is silent."""

    async def ask(
        self, question: Question, fields: Mapping[str, str], body: bytes = b"", *, timeout_s: float
    ) -> ClientAnswer:
        self.questions.append((question, dict(fields), body))
        answer = self.answers.pop(0) if self.answers else Refused(Reason.CLIENT_SILENT, f"silent for {timeout_s:g} s")
        if isinstance(answer, Refused):
            raise answer
        return answer

    def tell(self, question: Question, fields: Mapping[str, str], body: bytes = b"") -> None:
        self.questions.append((question, dict(fields), body))

    def group_changed(self, group: str) -> None:
        self.told.append(group)

    def close(self, why: str) -> None:
        self.closed.append(why)


def member(
    group: str,
    *subscriptions: Subscription | str,
    model: MessageModel = MessageModel.CLUSTERING,
    consume_type: ConsumeType = ConsumeType.CONSUME_PASSIVELY,
    consume_from: ConsumeFrom = ConsumeFrom.CONSUME_FROM_LAST_OFFSET,
) -> Membership:
    """A consumer of these topics (or subscriptions)."""
    wanted = tuple(parse_subscription(each, "*") if isinstance(each, str) else each for each in subscriptions)
    return Membership(group, consume_type, model, consume_from, wanted)


def beat(
    broker: Broker,
    channel: FakeChannel,
    *members: Membership,
    client_id: str = "client-1",
    producers: tuple[str, ...] = (),
    without_sub: bool = False,
) -> None:
    """A heartbeat of a Java client of version 5.3.3."""
    broker.clients.heartbeat(channel, "JAVA", 479, HeartbeatData(client_id, producers, members, 0, without_sub))
