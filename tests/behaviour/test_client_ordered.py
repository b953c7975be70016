"""Ordered groups: one message of a queue at a time, in order, whoever comes, goes, fails or is killed."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pytest

from posthouse import Producer, PullConsumer, PushConsumer
from posthouse.client.errors import NoRoute, PosthouseError, SendFailed
from posthouse.client.handling import Handler
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import DEAD, RetryLater
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.model.group import ConsumeFrom
from posthouse.model.names import DEAD_LETTER_PREFIX
from tests.behaviour.conftest import PosthouseProcess, Server, until
from tests.behaviour.test_client_push import FIRST, make_topic, of_topic

pytestmark = pytest.mark.asyncio


class Log:
    """What the members of a group handled, in time: (member, queue, offset); and two handlers of one queue at once."""

    def __init__(self) -> None:
        self.handled: list[tuple[str, int, int]] = []
        self.at: list[float] = []
        self.busy: dict[int, str] = {}
        self.overlaps: list[str] = []

    def handler(self, member: str, seconds: float = 0.0) -> Handler:
        async def handle(message: ReceivedMessage) -> None:
            queue = message.queue.queue_id
            if queue in self.busy:
                self.overlaps.append(f"queue {queue}: {member} while {self.busy[queue]}")
            self.busy[queue] = member
            if seconds:
                await asyncio.sleep(seconds)
            self.handled.append((member, queue, message.queue_offset))
            self.at.append(time.monotonic())
            del self.busy[queue]

        return handle

    def offsets(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for _, queue, offset in self.handled:
            found[queue].append(offset)
        return found

    def check_exact(self, total: int) -> None:
        """Every message once, in order."""
        assert not self.overlaps
        found = self.offsets()
        for offsets in found.values():
            assert offsets == list(range(len(offsets)))
        assert sum(len(offsets) for offsets in found.values()) == total

    def check_at_least(self, total: int) -> None:
        """Every message; one that comes again takes those behind it along, so nothing is ever skipped."""
        assert not self.overlaps
        found = self.offsets()
        for offsets in found.values():
            highest = -1
            for offset in offsets:
                assert offset <= highest + 1, f"{offset} was handled before {highest + 1}"
                highest = max(highest, offset)
        assert sum(max(offsets) + 1 for offsets in found.values()) == total


async def send_surely(producer: Producer, topic: str, body: bytes, key: str) -> None:
    """Once: a broker that says that it is busy (the control, on a slow machine) has stored nothing."""
    while True:
        try:
            await producer.send(topic, body, sharding_key=key)
        except SendFailed as failed:
            if failed.code != ResponseCode.SYSTEM_BUSY or failed.maybe_stored:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def send_by_key(server: Server, topic: str, count: int, keys: int = 8) -> None:
    """Messages of one key wait for each other, as a program does that needs their order."""
    async with Producer(server.nameserver) as producer:

        async def send_key(key: int) -> None:
            for n in range(count // keys):
                await send_surely(producer, topic, b"%d:%d" % (key, n), f"key-{key}")

        await asyncio.gather(*(send_key(key) for key in range(keys)))


def member(server: Server, group: str, topic: str, handler: Handler, **more: Any) -> PushConsumer:
    return PushConsumer(
        group,
        server.nameserver,
        subscribe=topic,
        handler=handler,
        ordered=True,
        from_where=FIRST,
        **more,
    )


async def test_messages_of_a_key_are_handled_in_the_order_in_which_they_were_sent(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    seen: dict[str, list[int]] = defaultdict(list)
    running: set[int] = set()

    async def handle(message: ReceivedMessage) -> None:
        assert message.queue.queue_id not in running
        running.add(message.queue.queue_id)
        await asyncio.sleep(0.001)
        key, n = message.body.decode().split(":")
        assert message.sharding_key == f"key-{key}"
        seen[key].append(int(n))
        running.remove(message.queue.queue_id)

    async with member(server, f"g-{name}", name, handle):
        await send_by_key(server, name, 160)
        await until(lambda: sum(map(len, seen.values())) >= 160, 30)
    assert len(seen) == 8
    assert all(numbers == list(range(20)) for numbers in seen.values())


async def test_a_failed_message_holds_up_its_queue_and_no_other(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    attempts: list[int] = []
    order: dict[int, list[int]] = defaultdict(list)

    def handle(message: ReceivedMessage) -> None:
        if message.queue.queue_id == 0 and message.queue_offset == 1:
            attempts.append(message.attempt)
            if len(attempts) < 4:
                raise RuntimeError("not yet")
        order[message.queue.queue_id].append(message.queue_offset)

    async with (
        Producer(server.nameserver) as producer,
        member(server, f"g-{name}", name, handle, ordered_pause_s=0.2),
    ):
        first, second = await producer.queues(name)
        await asyncio.gather(*(producer.send(name, b"x", queue=queue) for queue in (first, second) for _ in range(5)))
        await until(lambda: len(order[1]) == 5)
        assert len(attempts) < 4
        assert order[0] == [0]
        await until(lambda: len(order[0]) == 5)
    assert attempts == [1, 2, 3, 4]
    assert order[0] == order[1] == [0, 1, 2, 3, 4]


async def test_after_the_last_attempt_a_message_is_a_dead_letter_and_the_queue_goes_on(
    server: Server, name: str
) -> None:
    await make_topic(server, name, 1)
    attempts: list[bytes] = []
    done: list[bytes] = []

    def handle(message: ReceivedMessage) -> None:
        if message.body in (b"1", b"3"):
            attempts.append(message.body)
            raise RetryLater(DEAD) if message.body == b"3" else RuntimeError("never")
        done.append(message.body)

    group = f"g-{name}"
    async with (
        Producer(server.nameserver) as producer,
        member(server, group, name, handle, attempts_max=3, ordered_pause_s=0.05),
    ):
        for n in range(5):
            await producer.send(name, b"%d" % n)
        await until(lambda: done == [b"0", b"2", b"4"], 20)
    assert attempts == [b"1", b"1", b"1", b"3"]
    dead: list[bytes] = []
    async with PullConsumer("reader", server.nameserver) as reader:

        async def look() -> list[bytes]:
            found = reader.stream(DEAD_LETTER_PREFIX + group, stop_at_end=True)
            return [message.body async for message in found]

        deadline = time.monotonic() + 20
        while dead != [b"1", b"3"]:
            assert time.monotonic() < deadline, dead
            await asyncio.sleep(0.2)
            with suppress(NoRoute):
                dead = await look()


async def test_two_members_share_and_nothing_is_handled_twice_or_out_of_order(server: Server, name: str) -> None:
    await make_topic(server, name, 4)
    group, found = f"g-{name}", Log()
    sending = asyncio.create_task(send_by_key(server, name, 400))
    async with member(server, group, name, found.handler("one", 0.005)) as one:
        await until(lambda: len(of_topic(one, name)) == 4 and len(found.handled) > 20)
        async with member(server, group, name, found.handler("two", 0.005)) as two:
            joined_at = time.monotonic()
            await until(lambda: any(each[0] == "two" for each in found.handled), 10)
            began_s = found.at[next(at for at, each in enumerate(found.handled) if each[0] == "two")] - joined_at
            await until(lambda: len(found.handled) > 200, 20)
            assert len(of_topic(one, name)) == len(of_topic(two, name)) == 2
        left_at = time.monotonic()
        await until(lambda: len(of_topic(one, name)) == 4, 10)
        await sending
        await until(lambda: len(found.handled) >= 400, 30)
    assert {each[0] for each in found.handled} == {"one", "two"}
    assert began_s < 1.0, f"a newly assigned queue began after {began_s:.2f} s"
    assert left_at
    found.check_exact(400)


async def test_a_queue_that_is_given_back_goes_on_within_a_second(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    group, found = f"g-{name}", Log()
    async with Producer(server.nameserver) as producer:
        one = member(server, group, name, found.handler("one"))
        await one.start()
        await producer.send(name, b"0")
        await until(lambda: len(found.handled) == 1)
        async with member(server, group, name, found.handler("two")):
            await asyncio.sleep(1)
            await producer.send(name, b"1")
            await until(lambda: len(found.handled) == 2)
            closed_at = time.monotonic()
            await one.close()
            await producer.send(name, b"2")
            await until(lambda: len(found.handled) == 3)
            assert found.at[-1] - closed_at < 1.5
    found.check_exact(3)


async def test_a_running_handler_ends_before_another_member_begins(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    group, found = f"g-{name}", Log()
    async with Producer(server.nameserver) as producer:
        await asyncio.gather(*(producer.send(name, b"%d" % n) for n in range(4)))
        members = [member(server, group, name, found.handler(f"m{n}", 0.7)) for n in range(4)]
        await members[0].start()
        await until(lambda: bool(found.busy))
        for each in members[1:]:
            await each.start()
        await until(lambda: len(found.handled) == 4, 20)
        await asyncio.gather(*(each.close() for each in members))
    found.check_exact(4)


async def test_a_member_that_comes_back_goes_on_where_it_was(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    group, found = f"g-{name}", Log()
    await send_by_key(server, name, 80)
    for _ in range(3):
        before = len(found.handled)
        async with member(server, group, name, found.handler("one", 0.005)):
            await until(lambda wanted=before + 10: len(found.handled) >= wanted)  # type: ignore[misc]
    async with member(server, group, name, found.handler("one")):
        await until(lambda: len(found.handled) >= 80)
    found.check_exact(80)


async def test_batches_of_one_queue_come_in_order(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    batches: list[list[tuple[int, int]]] = []
    failed: list[int] = []

    async def handle(messages: list[ReceivedMessage]) -> None:
        if len(failed) < 2:
            failed.append(len(messages))
            raise RuntimeError("not yet")
        batches.append([(message.queue.queue_id, message.queue_offset) for message in messages])

    await send_by_key(server, name, 80)
    async with PushConsumer(
        f"g-{name}",
        server.nameserver,
        subscribe=name,
        batch_handler=handle,
        batch_max=7,
        ordered=True,
        ordered_pause_s=0.05,
        from_where=ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
    ):
        await until(lambda: sum(map(len, batches)) >= 80, 20)
    assert max(map(len, batches)) == 7
    assert all(len({queue for queue, _ in batch}) == 1 for batch in batches)
    for wanted in (0, 1):
        offsets = [offset for batch in batches for queue, offset in batch if queue == wanted]
        assert offsets == list(range(len(offsets)))


@pytest.mark.slow
async def test_order_outlives_the_broker(posthouse_process: PosthouseProcess, name: str) -> None:
    server = posthouse_process
    await make_topic(server, name, 2)
    group, found, stop = f"g-{name}", Log(), asyncio.Event()

    async def send_on() -> None:
        async with Producer(server.nameserver, send_timeout_ms=1000) as producer:
            while not stop.is_set():
                with suppress(PosthouseError):
                    await producer.send(name, b"x")
                await asyncio.sleep(0.01)

    async def ends() -> list[int]:
        async with PullConsumer("reader", server.nameserver) as reader:
            return [await reader.max_offset(queue) for queue in await reader.queues(name)]

    sending = asyncio.create_task(send_on())
    async with (
        member(server, group, name, found.handler("one", 0.01)),
        member(server, group, name, found.handler("two", 0.01)),
    ):
        for _ in range(2):
            before = len(found.handled)
            await until(lambda wanted=before + 60: len(found.handled) >= wanted)  # type: ignore[misc]
            server.kill()
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
        stop.set()
        await sending
        total = sum(await ends())
        await until(lambda: sum(max(each) + 1 for each in found.offsets().values()) >= total, 30)
    found.check_at_least(total)
