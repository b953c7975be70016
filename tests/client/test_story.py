"""Stories from what clients have said and what a broker has. With real consumers they are in tests/behaviour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from posthouse.client import story as module
from posthouse.client.admin import Admin
from posthouse.client.producer import Producer
from posthouse.client.pull_consumer import PullConsumer
from posthouse.client.receipt import SendReceipt
from posthouse.client.story import Fate, GroupFate, Stories, Story, Unclear, due_ms
from posthouse.codec.remoting.bodies.trace import (
    Delivered,
    Handled,
    Published,
    Recalled,
    TraceLine,
    TransactionEnded,
    encode_trace,
)
from posthouse.host.clock import EpochMs
from posthouse.model.message import Message
from posthouse.model.names import TRACE_TOPIC
from posthouse.testing import cluster

pytestmark = pytest.mark.asyncio

AT = EpochMs(1000)


@dataclass
class Stage:
    """A broker with the topic `t` of one queue."""

    nameservers: str
    admin: Admin
    producer: Producer

    async def tell(self, said: str, topic: str | None = None) -> tuple[Story, ...]:
        return await Stories(self.admin).tell(said, topic)

    async def send(self, topic: str = "t", body: bytes = b"x", **properties: str) -> SendReceipt:
        return await self.producer.send(Message(topic, body, properties=properties))

    async def note(self, keys: str, lines: Iterable[TraceLine]) -> None:
        await self.producer.send(Message(TRACE_TOPIC, encode_trace(lines), keys=keys))

    async def commit(self, group: str, topic: str, offset: int) -> None:
        async with PullConsumer(group, self.nameservers) as consumer:
            (queue,) = await consumer.queues(topic)
            await consumer.commit(queue, offset)

    async def fate(self, group: str, message_id: str) -> GroupFate:
        (found,) = await self.tell(message_id, "t")
        (fate,) = [each for each in found.groups if each.group == group]
        return fate


@asynccontextmanager
async def stage(*topics: str) -> AsyncIterator[Stage]:
    async with (
        cluster() as running,
        Admin(running.nameservers) as admin,
        Producer(running.nameservers, create_topic=None) as producer,
    ):
        for topic in ("t", *topics):
            await admin.create_topic(topic, queues=1)
        yield Stage(running.nameservers, admin, producer)


async def test_what_nobody_knows_has_no_story() -> None:
    async with stage() as at:
        assert await at.tell("nobody") == ()
        assert await at.tell("nobody", "t") == ()
        assert await at.tell("nobody", "no-such-topic") == ()


async def test_where_a_message_is_for_each_group() -> None:
    async with stage("%RETRY%G", "%DLQ%G") as at:
        first, second = await at.send(), await at.send()
        await at.commit("G", "t", 1)
        assert (await at.fate("G", first.message_id)).fate is Fate.PAST
        ahead = await at.fate("G", second.message_id)
        assert (ahead.fate, ahead.offset, ahead.before_it) == (Fate.AHEAD, 1, 0)
        third = await at.send()
        assert (await at.fate("G", third.message_id)).before_it == 1
        await at.send("%RETRY%G", RETRY_TOPIC="t", UNIQ_KEY=first.message_id)
        await at.commit("G", "%RETRY%G", 0)
        assert (await at.fate("G", first.message_id)).fate is Fate.RETRY_DUE
        await at.commit("G", "%RETRY%G", 1)
        assert (await at.fate("G", first.message_id)).fate is Fate.PAST
        await at.send("%DLQ%G", DLQ_ORIGIN_TOPIC="t", DLQ_ATTEMPTS="3", UNIQ_KEY=first.message_id)
        dead = await at.fate("G", first.message_id)
        assert (dead.fate, dead.attempts) == (Fate.DEAD, 3)


async def test_a_group_that_only_traces_say_has_no_offset() -> None:
    async with stage() as at:
        sent = await at.send()
        await at.note(sent.message_id, [Delivered(AT, "silent", "R", sent.message_id)])
        assert (await at.fate("silent", sent.message_id)).fate is Fate.UNKNOWN


async def test_lines_of_a_delivery_become_one() -> None:
    async with stage() as at:
        await at.note(
            "ID other",
            [
                Handled("R1", "ID", 7, False, "", 2),  # an old client says neither when nor for whom
                Delivered(EpochMs(10), "G", "R1", "ID", 0),
                Delivered(EpochMs(20), "G", "R2", "ID", 1),
                Handled("R3", "ID", 1, True, "", 0, EpochMs(5), "H"),
                Delivered(EpochMs(1), "G", "R1", "other"),
                Published(EpochMs(2), "P", "", "ID"),
                TransactionEnded(EpochMs(3), "P", "", "ID", state="COMMIT_MESSAGE"),
                Recalled(EpochMs(4), "P", "", "ID"),
            ],
        )
        (story,) = await at.tell("ID")
        told = [
            (each.at_ms, each.group, None if each.handled is None else each.handled.success)
            for each in story.deliveries
        ]
        assert told == [(5, "H", True), (10, "G", False), (20, "G", None)]
        assert [each.group for each in story.published] == ["P"]
        assert len(story.ended) == 2
        assert story.traced


async def test_a_key_may_stand_for_several_messages() -> None:
    async with stage() as at:
        first, second = await at.send(KEYS="order-7 a"), await at.send(KEYS="order-7")
        assert [each.message_id for each in await at.tell("order-7")] == [second.message_id, first.message_id]
        assert [each.message_id for each in await at.tell("a", "t")] == [first.message_id]


async def test_a_line_with_that_key_leads_to_its_message_and_topic() -> None:
    async with stage("elsewhere") as at:
        sent = await at.send("elsewhere")
        lines = [
            Published(AT, "P", "elsewhere", sent.message_id, keys="order-8"),
            Published(AT, "P", "t", "another", keys="order-9"),
        ]
        await at.note(f"{sent.message_id} order-8 another order-9", lines)
        (story,) = await at.tell("order-8")
        assert (story.message_id, story.topic, len(story.stored)) == (sent.message_id, "elsewhere", 1)


async def test_a_message_that_waits_says_until_when() -> None:
    async with stage() as at:
        sent = await at.send(TIMER_DELAY_SEC="300")
        (story,) = await at.tell(sent.message_id)
        assert (story.topic, story.stored) == ("t", [])
        (waiting,) = story.waiting
        due = due_ms(waiting)
        assert due is not None
        assert 290_000 < due - waiting.stored_at_ms <= 301_000


async def test_the_place_of_a_retry_or_a_dead_letter_leads_to_the_message() -> None:
    async with stage("%DLQ%G") as at:
        sent = await at.send()
        letter = await at.send("%DLQ%G", DLQ_ORIGIN_TOPIC="t", UNIQ_KEY=sent.message_id)
        (story,) = await at.tell(letter.offset_message_id)
        assert (story.message_id, story.topic) == (sent.message_id, "t")
        assert [each.queue_offset for each in story.stored] == [sent.queue_offset]


async def test_no_address_is_dialled_because_an_id_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as at:
        sent = await at.send()
        asked: list[str] = []

        async def ask(self: Admin, said: str) -> None:
            asked.append(said)

        monkeypatch.setattr(Admin, "message_by_id", ask)
        elsewhere = f"0A00000100002A9F{sent.offset_message_id[16:]}"
        assert await at.tell(elsewhere) == ()
        assert asked == []


async def test_among_too_many_topics_one_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOPICS_SEARCHED_MAX", 1)
    async with stage("u") as at:
        sent = await at.send()
        with pytest.raises(Unclear, match="say which topic"):
            await at.tell(sent.message_id)
        assert len(await at.tell(sent.message_id, "t")) == 1


async def test_an_admin_tells_stories() -> None:
    async with stage() as at:
        sent = await at.send()
        (story,) = await at.admin.stories(sent.message_id)
        assert story.message_id == sent.message_id
