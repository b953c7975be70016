"""Actors that read: members of groups, who come, go and fail; and keepers, who read a queue as the program says, go
back to what they have seen, and move a group's offsets with an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple

from posthouse.client.errors import PosthouseError
from posthouse.client.pull_consumer import PullConsumer
from posthouse.client.push_consumer import PushConsumer
from posthouse.client.received import ReceivedMessage
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from posthouse.testing.sim.actor import Actor, id_of


class Group(NamedTuple):
    """A consumer group. `subscribe` is topic to expression; `failing` the share of handlings that raise.

    `attempts`: after so many retries a message is a dead letter. `pops`: its members pop in place of pulling.
    """

    name: str
    subscribe: dict[str, str]
    failing: float = 0.0
    slow_s: float = 0.0
    attempts: int | None = None
    ordered: bool = False
    pops: bool = False


class HandlerFailed(Exception):
    """What a handler that fails raises."""


def open_member(group: Group, actor: Actor) -> PushConsumer:
    """A member that writes down what it handled, when it has; in an ordered group also when it began."""

    def note(outcome: str, message: ReceivedMessage) -> None:
        queue = message.queue
        actor.note(
            "handle",
            outcome,
            group=group.name,
            topic=queue.topic,
            broker=queue.broker_name,
            queue=queue.queue_id,
            offset=message.queue_offset,
            id=id_of(message.body),
            tag=message.tag,
            times=message.reconsume_times,
        )

    async def handle_slowly(message: ReceivedMessage) -> None:
        await asyncio.sleep(actor.random.random() * group.slow_s)
        note("ok", message)

    def handle(message: ReceivedMessage) -> Awaitable[None] | None:
        if group.ordered:
            note("invoke", message)
        if group.failing and actor.random.random() < group.failing:
            note("fail", message)
            raise HandlerFailed
        if group.slow_s and (group.ordered or actor.random.random() < 0.2):
            return handle_slowly(message)
        note("ok", message)
        return None

    return PushConsumer(
        group.name,
        actor.stage.nameservers,
        subscribe=group.subscribe,
        handler=handle,
        concurrency=4,
        from_where=ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
        host=actor.host,
        close_timeout_s=2.0,
        ordered=group.ordered,
        attempts_max=group.attempts,
    )


async def be_member(group: Group, until_s: float, actor: Actor) -> None:
    """Joins the group, stays for a while, leaves, comes back, until the time is over."""
    while (now_s := actor.stage.loop_time()) < until_s:
        stays_s = min(until_s - now_s, actor.random.uniform(5.0, 40.0))
        try:
            async with open_member(group, actor):
                actor.note("joins", "note", group=group.name)
                await asyncio.sleep(stays_s)
            actor.note("leaves", "note", group=group.name)
        except PosthouseError as error:
            actor.note("joins", "fail", group=group.name, error=f"{type(error).__name__}: {error}"[:200])
        await asyncio.sleep(actor.random.uniform(0.1, 3.0))


async def keep(group: str, topic: str, until_s: float, actor: Actor) -> None:
    """Reads one queue after the other in small steps, and commits how far it is; nobody else is in its group."""
    positions: dict[MessageQueue, int] = {}
    async with PullConsumer(group, actor.stage.nameservers, host=actor.host) as consumer:
        while actor.stage.loop_time() < until_s:
            try:
                queues = await consumer.queues(topic)
                queue = actor.random.choice(queues)
                await _step(actor, consumer, queue, positions)
            except PosthouseError as error:
                actor.note("reads", "note", error=f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(actor.random.uniform(0.1, 1.0))


async def _step(actor: Actor, consumer: PullConsumer, queue: MessageQueue, positions: dict[MessageQueue, int]) -> None:
    choice = actor.random.random()
    at = positions.get(queue, 0)
    if choice < 0.6:
        positions[queue] = await poll(actor, consumer, queue, at, wait_ms=actor.random.choice((0, 0, 1000)))
    elif choice < 0.75 and at:
        await poll(actor, consumer, queue, actor.random.randrange(at))
    elif choice < 0.9 and at:
        place = {"group": consumer.group, "topic": queue.topic, "broker": queue.broker_name, "queue": queue.queue_id}
        of = actor.note("commit", "invoke", **place, offset=at)
        try:
            await consumer.commit(queue, at)
        except PosthouseError as error:
            actor.note("commit", "unknown", of=of, **place, offset=at, error=f"{type(error).__name__}: {error}"[:200])
        else:
            actor.note("commit", "ok", of=of, **place, offset=at)
    else:
        since = actor.now_index()
        found = await consumer.committed(queue)
        actor.note(
            "committed",
            "ok",
            since=since,
            group=consumer.group,
            topic=queue.topic,
            broker=queue.broker_name,
            queue=queue.queue_id,
            offset=found,
        )


async def poll(
    actor: Actor, consumer: PullConsumer, queue: MessageQueue, at: int, wait_ms: int = 0, what: str = "poll"
) -> int:
    """One pull, written down; where to read on. Raises PosthouseError."""
    since = actor.now_index()
    pulled = await consumer.pull(queue, at, wait_ms=wait_ms)
    actor.note(
        what,
        "ok",
        since=since,
        topic=queue.topic,
        broker=queue.broker_name,
        queue=queue.queue_id,
        asked=at,
        next=pulled.next_offset,
        min=pulled.min_offset,
        max=pulled.max_offset,
        moved=pulled.moved,
        messages=[[message.queue_offset, id_of(message.body)] for message in pulled.messages],
    )
    return pulled.next_offset
