"""Actors that send: single messages in bursts, batches, keyed, to a chosen queue, one way, for later; with and without
retries.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple

from posthouse.client.errors import PosthouseError
from posthouse.client.producer import Producer
from posthouse.model.message import Message
from posthouse.model.names import AUTO_CREATE_TOPIC
from posthouse.testing.sim.actor import Actor, make_body, surely_not_stored

TAGS = ("", "A", "B", "C")
_SIZES = (20, 200, 200, 1500, 3500)
_STYLES = ("burst", "burst", "burst", "batch", "keyed", "queue", "one way", "later")
_DELAYS = (
    {"DELAY": "1"},
    {"DELAY": "2"},
    {"TIMER_DELAY_MS": "250"},
    {"TIMER_DELAY_MS": "7000"},
    {"TIMER_DELAY_SEC": "30"},
)


class Sending(NamedTuple):
    """How one producer sends. `rest_s` is the mean time between two bursts, `burst` the most messages in one."""

    topics: tuple[str, ...]
    until_s: float
    retries: int
    rest_s: float
    burst: int
    auto_create: bool = False


async def produce(sending: Sending, actor: Actor) -> None:
    """Sends until the time is over, then waits for what is under way."""
    template = AUTO_CREATE_TOPIC if sending.auto_create else None
    async with Producer(
        actor.stage.nameservers,
        host=actor.host,
        retries=sending.retries,
        create_topic=template,
        compress_over_bytes=None,
        send_timeout_ms=actor.random.choice((500, 3000, 3000)),
    ) as producer:
        while actor.stage.loop_time() < sending.until_s:
            await asyncio.sleep(actor.random.expovariate(1 / sending.rest_s))
            topic = actor.random.choice(sending.topics)
            count = actor.random.randint(1, sending.burst)
            await _send(actor, producer, sending, topic, count)


async def _send(actor: Actor, producer: Producer, sending: Sending, topic: str, count: int) -> None:
    style = actor.random.choice(_STYLES)
    messages = [_message(actor, topic) for _ in range(count)]
    if style == "batch":
        await _send_batch(actor, producer, sending, messages)
        return
    key = f"key-{actor.random.randrange(3)}" if style == "keyed" else ""
    queue = None
    if style == "queue":
        try:
            queues = await producer.queues(topic)
        except PosthouseError:
            return  # nowhere to send: no message was made up yet
        queue = actor.random.choice(queues)
    if style == "later":
        await _send_for_later(actor, producer, messages[0], 1 + sending.retries)
        return
    if style == "one way":
        await _send_one_way(actor, producer, messages[0])
        return
    tries = 1 if queue is not None or key else 1 + sending.retries
    for message, message_id in messages:
        message.sharding_key = key
        of = actor.note("send", "invoke", ids=[message_id], topic=topic, tag=message.tag, tries=tries)
        future = producer.send(message, queue=queue)
        future.add_done_callback(partial(_sent, actor, of, message_id))
    if actor.random.random() < 0.5:
        await asyncio.wait((future,))  # the others may go on while the next burst begins


def _sent(actor: Actor, of: int, message_id: str, future: asyncio.Future[object]) -> None:
    actor.sent(of, [message_id], future.exception() or future.result())


async def _send_batch(actor: Actor, producer: Producer, sending: Sending, messages: list[tuple[Message, str]]) -> None:
    ids = [message_id for _, message_id in messages]
    topic = messages[0][0].topic
    tags = [message.tag for message, _ in messages]
    of = actor.note("send", "invoke", ids=ids, topic=topic, tags=tags, tries=1 + sending.retries, batch=len(ids) > 1)
    try:
        receipts = await producer.send_many(message for message, _ in messages)
    except PosthouseError as error:
        actor.sent(of, ids, error)
    else:
        actor.sent(of, ids, receipts)


async def _send_one_way(actor: Actor, producer: Producer, message: tuple[Message, str]) -> None:
    of = actor.note("send", "invoke", ids=[message[1]], topic=message[0].topic, tag=message[0].tag, tries=1)
    try:
        await producer.send_one_way(message[0])
    except PosthouseError as error:
        actor.note("send", "unknown", of=of, ids=[message[1]], error=f"{type(error).__name__}: {error}"[:200])
    else:
        actor.note("send", "unknown", of=of, ids=[message[1]], error="sent one way")


async def _send_for_later(actor: Actor, producer: Producer, message: tuple[Message, str], tries: int) -> None:
    """The answer does not say where the message will be: its place until then is the broker's own."""
    message[0].properties.update(actor.random.choice(_DELAYS))
    of = actor.note("send later", "invoke", ids=[message[1]], topic=message[0].topic, tag=message[0].tag, tries=tries)
    try:
        await producer.send(message[0])
    except PosthouseError as error:
        done = "fail" if surely_not_stored(error) else "unknown"
        actor.note("send later", done, of=of, ids=[message[1]], error=f"{type(error).__name__}: {error}"[:200])
    else:
        actor.note("send later", "ok", of=of, ids=[message[1]])


def _message(actor: Actor, topic: str) -> tuple[Message, str]:
    message_id = actor.next_id()
    body = make_body(message_id, actor.random.choice(_SIZES))
    return Message(topic, body, actor.random.choice(TAGS)), message_id
