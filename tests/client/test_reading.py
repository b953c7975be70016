from __future__ import annotations

import asyncio

import pytest

from posthouse.client.errors import Unreachable
from posthouse.client.figures import Figures
from posthouse.client.inbox import Held, InboxLimits, QueueInbox
from posthouse.client.pulling import Pulled
from posthouse.client.reading import QueueReader, Reading
from posthouse.client.received import ReceivedMessage, open_records
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model.filter import parse_subscription
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from tests.client.conftest import until
from tests.client.records import record

pytestmark = pytest.mark.asyncio

QUEUE = MessageQueue("t", "b", 0)
LAST = ConsumeFrom.CONSUME_FROM_LAST_OFFSET


class Begins:
    """Offsets that say what they were asked, and fail as often as they are told to."""

    def __init__(self, failures: int = 0) -> None:
        self.asked: list[ConsumeFrom] = []
        self.failures = failures

    async def begin(self, queue: MessageQueue, start: ConsumeFrom, at_ms: EpochMs) -> QueueOffset:
        self.asked.append(start)
        if len(self.asked) <= self.failures:
            raise Unreachable("no broker")
        return QueueOffset(7)


class Endless:
    """A queue that never ends: a pull gives as many messages as it asks for."""

    def __init__(self) -> None:
        self.pulls: list[tuple[int, int, int | None]] = []

    async def pull(self, queue: MessageQueue, offset: int, *args: object, **more: object) -> Pulled:
        count = more["messages_max"]
        assert isinstance(count, int)
        commit = more["commit_offset"]
        assert commit is None or isinstance(commit, int)
        self.pulls.append((offset, count, commit))
        await asyncio.sleep(0.001)
        body = b"".join(record(n) for n in range(offset, offset + count))
        end = QueueOffset(offset + count)
        return Pulled(open_records(body, QUEUE), end, QueueOffset(0), end)


def reading(offsets: object = None, puller: object = None, where: ConsumeFrom = LAST, **more: object) -> Reading:
    found = Reading(
        "g",
        puller or Endless(),  # type: ignore[arg-type]
        offsets or Begins(),  # type: ignore[arg-type]
        Figures(),
        Host.real().clock,
        where,
        EpochMs(0),
        **more,  # type: ignore[arg-type]
    )
    found.resumed.set()
    return found


def reader(of: Reading, got: list[ReceivedMessage] | None = None, **more: object) -> QueueReader:
    def deliver(inbox: QueueInbox, messages: list[ReceivedMessage]) -> None:
        if got is not None:
            got.extend(messages)

    return QueueReader(of, QUEUE, parse_subscription("t", "*"), deliver, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "is_new", "asked"),
    [
        (LAST, False, LAST),
        (LAST, True, ConsumeFrom.CONSUME_FROM_FIRST_OFFSET),
        (ConsumeFrom.CONSUME_FROM_TIMESTAMP, True, ConsumeFrom.CONSUME_FROM_TIMESTAMP),
        (ConsumeFrom.CONSUME_FROM_FIRST_OFFSET, False, ConsumeFrom.CONSUME_FROM_FIRST_OFFSET),
    ],
)
async def test_a_queue_that_is_new_is_read_from_its_begin(where: ConsumeFrom, is_new: bool, asked: ConsumeFrom) -> None:
    offsets = Begins()
    inbox = await reader(reading(offsets, where=where), is_new=is_new).open()
    assert inbox.next_offset == 7
    assert offsets.asked == [asked]


async def test_where_to_begin_is_asked_for_until_somebody_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.client.reading.ERROR_PAUSE_SECONDS", 0.01)
    offsets = Begins(failures=3)
    assert (await reader(reading(offsets)).open()).next_offset == 7
    assert len(offsets.asked) == 4
    assert (await reader(reading(offsets)).open(QueueOffset(3))).next_offset == 3
    assert len(offsets.asked) == 4


async def test_it_rests_when_its_inbox_or_all_together_are_full() -> None:
    for of in (reading(limits=InboxLimits(20), pull_messages=8), reading(held=Held(20), pull_messages=8)):
        got: list[ReceivedMessage] = []
        one = reader(of, got)
        inbox = await one.open()
        pulling = asyncio.create_task(one.pull_on())
        await until(lambda got=got: len(got) == 24)  # type: ignore[misc]
        await asyncio.sleep(0.1)
        assert len(got) == 24
        for message in got[:8]:
            inbox.done(message.queue_offset)
        await until(lambda got=got: len(got) == 32)  # type: ignore[misc]
        pulling.cancel()
        one.drop()
        assert of.held.messages == 0


async def test_a_paused_consumer_does_not_pull() -> None:
    of = reading()
    of.resumed.clear()
    got: list[ReceivedMessage] = []
    one = reader(of, got)
    await one.open()
    pulling = asyncio.create_task(one.pull_on())
    await asyncio.sleep(0.05)
    assert got == []
    of.resumed.set()
    await until(lambda: bool(got))
    pulling.cancel()


@pytest.mark.parametrize("may", [True, False])
async def test_pulls_carry_the_offset_only_if_they_may(may: bool) -> None:
    puller = Endless()
    one = reader(reading(puller=puller), may_commit=lambda: may)
    await one.open()
    pulling = asyncio.create_task(one.pull_on())
    await until(lambda: len(puller.pulls) >= 2)
    pulling.cancel()
    assert puller.pulls[1] == (39, 32, 7 if may else None)


async def test_its_status_is_that_of_its_inbox() -> None:
    of = reading(limits=InboxLimits(20))
    one = reader(of)
    assert one.status().held == 0
    inbox = await one.open()
    pulling = asyncio.create_task(one.pull_on())
    await until(lambda: len(inbox) == 32)
    pulling.cancel()
    status = one.status(True, EpochMs(5))
    assert (status.commit_offset, status.held_min_offset, status.held_max_offset, status.held) == (7, 7, 38, 32)
    assert (status.held_bytes, status.locked, status.locked_at_ms) == (32, True, 5)
    assert status.pulled_at_ms > 0
