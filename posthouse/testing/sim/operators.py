"""Actors that give orders: they make and change topics and groups, and look whether what they did is so.

One operator writes to one topic or group, one order after the other, each with another value; so what a broker may
answer later is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused, PosthouseError
from posthouse.client.producer import Producer
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.model.group import GroupConfig
from posthouse.model.message import Message
from posthouse.model.route import ClusterInfo
from posthouse.testing.sim.actor import Actor, make_body, patiently


class NotingAdmin(Admin):
    """Remembers which brokers its last order went to: those that the NameServer named then."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor.stage.nameservers, host=actor.host)
        self.last_seen: ClusterInfo | None = None

    async def cluster_info(self) -> ClusterInfo:
        self.last_seen = await super().cluster_info()
        return self.last_seen

    @property
    def asked(self) -> list[str]:
        found = self.last_seen
        return [] if found is None else sorted(name for name, data in found.brokers.items() if data.master is not None)


async def set_topic(actor: Actor, admin: NotingAdmin, topic: str, queues: int) -> None:
    """Makes or changes it, written down. Raises PosthouseError."""
    await _order(actor, admin, "topic", topic, queues)


async def _order(actor: Actor, admin: NotingAdmin, kind: str, name: str, value: int | None) -> None:
    admin.last_seen = None
    of = actor.note("set " + kind, "invoke", name=name, value=value)
    try:
        if kind == "group":
            assert value is not None
            await admin.create_group(GroupConfig(name, retry_max_times=value))
        elif value is None:
            await admin.delete_topic(name)
        else:
            await admin.create_topic(name, queues=value)
    except PosthouseError as error:
        nothing = not admin.asked  # nobody was asked to do anything
        actor.note(
            "set " + kind,
            "fail" if nothing else "unknown",
            of=of,
            name=name,
            value=value,
            brokers=admin.asked,
            error=f"{type(error).__name__}: {error}"[:200],
        )
        raise
    actor.note("set " + kind, "ok", of=of, name=name, value=value, brokers=admin.asked)


async def prepare(topics: Sequence[tuple[str, int]], until_s: float, actor: Actor) -> None:
    """Makes the topics, as (name, queues), before others use them."""
    async with NotingAdmin(actor) as admin:
        for topic, queues in topics:
            await patiently(actor, "prepares", partial(set_topic, actor, admin, topic, queues), until_s)


async def govern(name: str, until_s: float, actor: Actor) -> None:
    """Changes one topic and one group again and again, and asks brokers what the topic is like."""
    value = 0
    async with NotingAdmin(actor) as admin:
        while actor.stage.loop_time() < until_s:
            await asyncio.sleep(actor.random.uniform(0.2, 3.0))
            choice = actor.random.random()
            try:
                if choice < 0.4:
                    value += 1
                    await set_topic(actor, admin, name, value)
                elif choice < 0.6:
                    value += 1
                    await _order(actor, admin, "group", name, value)
                else:
                    await _look(actor, admin, name)
            except PosthouseError as error:
                actor.note("governs", "note", error=f"{type(error).__name__}: {error}"[:200])


async def _look(actor: Actor, admin: NotingAdmin, topic: str) -> None:
    brokers = sorted((await admin.cluster_info()).brokers)
    if not brokers:
        return
    broker = actor.random.choice(brokers)
    since = actor.now_index()
    value: int | None
    try:
        value = (await admin.topic_config(topic, broker)).write_queues
    except BrokerRefused as refused:
        if refused.code != ResponseCode.TOPIC_NOT_EXIST:
            raise
        value = None
    actor.note("look at topic", "ok", since=since, broker=broker, name=topic, value=value)


async def churn(name: str, until_s: float, actor: Actor) -> None:
    """Makes a topic, sends a little to it, deletes it, makes it again under the same name, and so on."""
    async with (
        NotingAdmin(actor) as admin,
        Producer(actor.stage.nameservers, host=actor.host, create_topic=None, retries=0) as producer,
    ):
        while actor.stage.loop_time() < until_s:
            await asyncio.sleep(actor.random.uniform(0.5, 3.0))
            try:
                await set_topic(actor, admin, name, actor.random.randint(1, 3))
                for _ in range(actor.random.randint(0, 4)):
                    await _send_one(actor, producer, name)
                if actor.random.random() < 0.7:
                    await _order(actor, admin, "topic", name, None)
            except PosthouseError as error:
                actor.note("churns", "note", error=f"{type(error).__name__}: {error}"[:200])


async def _send_one(actor: Actor, producer: Producer, topic: str) -> None:
    message_id = actor.next_id()
    message = Message(topic, make_body(message_id, 50))
    of = actor.note("send", "invoke", ids=[message_id], topic=topic, tag="", tries=1)
    try:
        receipt = await producer.send(message)
    except PosthouseError as error:
        actor.sent(of, [message_id], error)
    else:
        actor.sent(of, [message_id], receipt)
