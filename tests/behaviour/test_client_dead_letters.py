"""Dead letters from their death to their second life; and what the trace of a message says, on any server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from posthouse import Message, Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.dead_letters import Verdict
from posthouse.client.errors import PosthouseError
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import DEAD, RetryLater
from posthouse.client.story import Fate, Stories, Story
from posthouse.model.group import ConsumeFrom
from tests.behaviour.conftest import Server, until

pytestmark = pytest.mark.asyncio

FIRST = ConsumeFrom.CONSUME_FROM_FIRST_OFFSET


async def until_letters(admin: Admin, group: str, count: int) -> None:
    async with asyncio.timeout(30):
        while not any(each.group == group and each.letters == count for each in await admin.dead_letters.groups()):
            await asyncio.sleep(0.1)


async def told(admin: Admin, said: str, topic: str) -> Story:
    """The story, when both of its sources have come: Apache knows keys a moment later."""
    stories = Stories(admin)
    async with asyncio.timeout(30):
        while True:
            try:
                found = await stories.tell(said, topic)
            except PosthouseError:
                found = ()
            if found and found[0].traced and found[0].stored and any(each.handled for each in found[0].deliveries):
                return found[0]
            await asyncio.sleep(0.2)


async def test_what_a_group_gave_up_is_sent_again_and_handled(server: Server, name: str) -> None:
    group = f"{name}-g"
    is_mended = False
    handled: list[ReceivedMessage] = []

    def handle(message: ReceivedMessage) -> None:
        if not is_mended:
            raise RetryLater(DEAD)
        handled.append(message)

    async with (
        Admin(server.nameserver) as admin,
        Producer(server.nameserver) as producer,
        PushConsumer(group, server.nameserver, subscribe=name, handler=handle, from_where=FIRST),
    ):
        await admin.create_topic(name)
        sent = [await producer.send(Message(name, b"%d" % n, tag="t", keys=f"k{n}")) for n in range(3)]
        await until_letters(admin, group, 3)
        letters = [each async for each in admin.dead_letters.read(group)]
        assert {each.message_id for each in letters} == {each.message_id for each in sent}
        assert {each.origin_topic for each in letters} == {name}
        assert {each.attempts for each in letters} <= {0, 1}, "Apache does not count the last one"
        is_mended = True
        report = await admin.dead_letters.redrive(group).finish()
        assert (report.found, report.counts[Verdict.SENT]) == (3, 3)
        await until(lambda: len(handled) >= 3)
        assert {(each.message_id, each.body, each.tag, each.keys) for each in handled} == {
            (each.message_id, b"%d" % n, "t", (f"k{n}",)) for n, each in enumerate(sent)
        }
        again = await admin.dead_letters.redrive(group).finish()
        assert (again.found, again.settled_before) == (0, 3)
        await until_letters(admin, group, 3)


async def test_a_message_has_a_story_with_every_attempt(server: Server, name: str) -> None:
    group, other = f"{name}-g", f"{name}-h"
    attempts: list[int] = []

    def handle(message: ReceivedMessage) -> None:
        attempts.append(message.attempt)
        if message.attempt == 1:
            raise RetryLater(1)

    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Admin(server.nameserver))
        await admin.create_topic(name)
        producer = await stack.enter_async_context(Producer(server.nameserver, group=f"{name}-p", trace=True))
        consumer = PushConsumer(group, server.nameserver, subscribe=name, handler=handle, from_where=FIRST, trace=True)
        await stack.enter_async_context(consumer)
        silent = PushConsumer(other, server.nameserver, subscribe=name, handler=lambda message: None, from_where=FIRST)
        await stack.enter_async_context(silent)
        receipt = await producer.send(Message(name, b"x", keys="k1"))
        await until(lambda: attempts == [1, 2], 30)
        async with asyncio.timeout(40):
            while True:
                story = await told(admin, receipt.message_id, name)
                fates = {each.group: each.fate for each in story.groups if each.group in (group, other)}
                ends = [each.handled.success for each in story.deliveries if each.handled is not None]
                if fates == {group: Fate.PAST, other: Fate.PAST} and len(ends) == 2 and story.retried:
                    break
                await asyncio.sleep(0.3)
        (published,) = story.published
        assert (published.group, published.success) == (f"{name}-p", True)
        assert published.offset_message_id == receipt.offset_message_id
        assert [each.queue_offset for each in story.stored] == [receipt.queue_offset]
        assert ends == [False, True]
        assert [each.begun.reconsume_times for each in story.deliveries if each.begun is not None] == [0, 1]
        assert {each.group for each in story.deliveries} == {group}, "the other one does not trace"
        assert [each.reconsume_times for each in story.retried] == [1]
        (by_key,) = await Stories(admin).tell("k1", name)
        (by_place,) = await Stories(admin).tell(receipt.offset_message_id)
        assert by_key.message_id == by_place.message_id == receipt.message_id


async def test_a_retry_that_waits_is_part_of_the_story(server: Server, name: str) -> None:
    group = f"{name}-g"
    began = asyncio.Event()

    def handle(message: ReceivedMessage) -> None:
        began.set()
        raise RetryLater(9)  # five minutes

    async with (
        Admin(server.nameserver) as admin,
        Producer(server.nameserver) as producer,
        PushConsumer(group, server.nameserver, subscribe=name, handler=handle, from_where=FIRST),
    ):
        await admin.create_topic(name)
        receipt = await producer.send(Message(name, b"x"))
        await asyncio.wait_for(began.wait(), 20)
        async with asyncio.timeout(20):
            while True:
                found = await Stories(admin).tell(receipt.message_id, name)
                fates = [each for story in found for each in story.groups if each.group == group]
                if fates and fates[0].fate is Fate.RETRY_WAITS:
                    break
                await asyncio.sleep(0.2)
        (story,) = found
        assert (story.traced, fates[0].attempts) == (False, 1)
        (waiting,) = story.waiting
        assert waiting.properties["REAL_TOPIC"] == f"%RETRY%{group}"
