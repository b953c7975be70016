"""Actors that pop: they take messages for a time, and acknowledge, renew, give back or forget each of them."""

from __future__ import annotations

import asyncio

from posthouse.client.errors import PosthouseError
from posthouse.client.pop_consumer import PoppedMessage, SimpleConsumer
from posthouse.codec.remoting.receipts import decode_receipt
from posthouse.model.pop import source_topic
from posthouse.testing.sim.actor import Actor, id_of
from posthouse.testing.sim.consumers import Group

_DEEDS = ("ack", "ack", "ack", "ack", "ack together", "ack together", "ack late", "renew", "give back", "forget")


async def be_popper(group: Group, until_s: float, actor: Actor) -> None:
    """Pops for as long as there is time, with a new client now and then."""
    (topic,) = group.subscribe
    while actor.stage.loop_time() < until_s:
        leaves_s = min(until_s, actor.stage.loop_time() + actor.random.uniform(5.0, 40.0))
        try:
            async with SimpleConsumer(group.name, actor.stage.nameservers, host=actor.host) as consumer:
                while actor.stage.loop_time() < leaves_s:
                    invisible_s = actor.random.choice((1.0, 3.0, 10.0))
                    messages = await pop(actor, consumer, topic, group.subscribe[topic], invisible_s)
                    await _deal_with(actor, consumer, messages, invisible_s, until_s)
        except PosthouseError as error:
            actor.note("pops", "note", error=f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(actor.random.uniform(0.1, 1.0))


async def pop(
    actor: Actor, consumer: SimpleConsumer, topic: str, expression: str, invisible_s: float, wait_s: float = 3.0
) -> list[PoppedMessage]:
    """One pop, written down. Raises PosthouseError."""
    count = actor.random.choice((1, 4, 16, 32))
    messages = await consumer.receive(topic, count, invisible_s=invisible_s, wait_s=wait_s, expression=expression)
    for message in messages:
        _note(actor, "pop", consumer.group, message)
    return messages


def _note(actor: Actor, what: str, group: str, message: PoppedMessage, outcome: str = "ok", **changed: int) -> None:
    """The place is that of the record: a message that comes again is in the retry topic."""
    receipt = decode_receipt(message.receipt)
    details = {
        "group": group,
        "topic": source_topic(receipt.source, group, message.topic),
        "broker": receipt.broker_name,
        "queue": receipt.queue_id,
        "offset": receipt.offset,
        "id": id_of(message.body),
        "tag": message.tag,
        "popped_ms": receipt.at_ms,
        "due_ms": receipt.at_ms + receipt.invisible_ms,
    }
    actor.note(what, outcome, **{**details, **changed})


async def _deal_with(
    actor: Actor, consumer: SimpleConsumer, messages: list[PoppedMessage], invisible_s: float, until_s: float
) -> None:
    together: list[PoppedMessage] = []
    for message in messages:
        if actor.stage.loop_time() >= until_s:
            break
        deed = actor.random.choice(_DEEDS)
        try:
            if deed == "ack together":
                together.append(message)
            elif deed == "give back":  # from now on another may have it, whatever the answer
                _note(actor, "renew", consumer.group, message, "invoke", due_ms=0)
                await consumer.change_invisible_time(message, 0)
            elif deed == "renew":
                await consumer.change_invisible_time(message, invisible_s)
                _note(actor, "renew", consumer.group, message)
            elif deed != "forget":
                await asyncio.sleep(actor.random.random() * invisible_s * (2.0 if deed == "ack late" else 0.01))
                _note(actor, "handle", consumer.group, message)
                await consumer.ack(message)
        except PosthouseError as error:
            actor.note(f"cannot {deed}", "note", id=id_of(message.body), error=f"{type(error).__name__}: {error}"[:200])
    if together:
        for message in together:
            _note(actor, "handle", consumer.group, message)
        await consumer.ack_all(together)


async def pop_the_rest(group: Group, actor: Actor, consumer: SimpleConsumer) -> None:
    """Pops and acknowledges what there is now. Raises PosthouseError."""
    (topic,) = group.subscribe
    messages = await pop(actor, consumer, topic, group.subscribe[topic], 10.0, wait_s=0.5)
    for message in messages:
        _note(actor, "handle", group.name, message)
    if messages:
        await consumer.ack_all(messages)
