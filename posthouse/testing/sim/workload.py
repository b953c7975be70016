"""What happens in a simulated world besides faults: who sends, reads and gives orders, drawn from the seed; and the
reading of everything at the end, by fresh clients and from the stores themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from posthouse.client.errors import PosthouseError
from posthouse.client.pop_consumer import SimpleConsumer
from posthouse.client.producer import Producer
from posthouse.client.pull_consumer import PullConsumer
from posthouse.client.push_consumer import ATTEMPTS_MAX
from posthouse.model.message import Message
from posthouse.model.names import RETRY_PREFIX
from posthouse.testing.sim.actor import Actor, make_body, patiently
from posthouse.testing.sim.consumers import Group, be_member, keep, open_member, poll
from posthouse.testing.sim.inspection import note_folds, note_store
from posthouse.testing.sim.operators import churn, govern, prepare
from posthouse.testing.sim.poppers import be_popper, pop_the_rest
from posthouse.testing.sim.producers import Sending, produce
from posthouse.testing.sim.randomness import Stream
from posthouse.testing.sim.stage import Handle, Stage

PREPARE_S = 10.0
"""For making the topics; then everybody begins, whether they are there or not."""
ENDING_S = 60.0
"""For actors to end when their time is over. A client's close waits some seconds for each thing that it waits for."""
RECOVERY_S = 200.0
"""After all faults are healed, until everything must work again. A broker forgets a silent client after 120 s."""
_LOOK_S = 0.25


class Plan(NamedTuple):
    """What a seed does."""

    topics: list[tuple[str, int]]
    sendings: list[Sending]
    groups: list[tuple[Group, int]]
    keepers: list[tuple[str, str]]
    governors: list[str]
    churns: list[str]


def draw_plan(random: Stream, until_s: float) -> Plan:
    """Draws who takes part."""
    topics = [("letters", random.randint(1, 4)), ("parcels", random.choice((1, 1, 3)))]
    names = tuple(name for name, _ in topics)
    sendings = [
        Sending(
            topics=random.choice((names, names, names[:1])),
            until_s=until_s,
            retries=random.choice((0, 0, 2)),
            rest_s=random.choice((0.4, 0.8, 1.5)),
            burst=random.choice((1, 4, 8, 16)),
        )
        for _ in range(random.randint(1, 3))
    ]
    if random.random() < 0.3:
        sendings.append(Sending(("auto-a", "auto-b"), until_s, 2, 2.0, 3, auto_create=True))
    groups = [
        (
            Group(
                "readers",
                {"letters": "*", "parcels": "*"},
                failing=random.choice((0.0, 0.0, 0.02)),
                slow_s=random.choice((0.0, 0.05, 2.0)),
            ),
            random.randint(1, 2),
        )
    ]
    if random.random() < 0.5:
        groups.append((Group("choosy", {"letters": "A || B"}), random.randint(1, 2)))
    plan = Plan(
        topics,
        sendings,
        groups,
        [(f"keepers-{at}", random.choice(names)) for at in range(random.randint(1, 2))],
        [f"governed-{at}" for at in range(random.randint(0, 2))],
        ["churned"] if random.random() < 0.4 else [],
    )
    if random.random() < 0.4:
        stubborn = Group("stubborn", {"letters": "*"}, failing=0.4, attempts=random.choice((0, 1, 2)))
        groups.append((stubborn, random.randint(1, 2)))
    if random.random() < 0.4:
        in_order = Group("in-order", {"parcels": "*"}, failing=random.choice((0.0, 0.05)), slow_s=0.6, ordered=True)
        groups.append((in_order, random.randint(1, 3)))
    if random.random() < 0.5:
        groups.append((Group("poppers", {"letters": random.choice(("*", "A || C"))}, pops=True), random.randint(1, 3)))
    return plan


async def run_workload(stage: Stage, until_s: float) -> None:
    """Lets all actors live until then; returns when they have ended."""
    plan = draw_plan(stage.random("workload"), until_s)
    for group, _ in plan.groups:
        stage.history.add(
            stage.loop_time(),
            "workload",
            "group",
            "note",
            group=group.name,
            subscribe=dict(group.subscribe),
            attempts=ATTEMPTS_MAX if group.attempts is None and not group.ordered else group.attempts,
            ordered=group.ordered,
            pops=group.pops,
        )
    prepared = _spawn(stage, "operator", partial(prepare, plan.topics, stage.loop_time() + PREPARE_S))
    await _ended(stage, [prepared], stage.loop_time() + PREPARE_S + ENDING_S)
    handles = [
        _spawn(stage, f"producer-{at + 1}", partial(produce, sending)) for at, sending in enumerate(plan.sendings)
    ]
    for group, members in plan.groups:
        be_one = be_popper if group.pops else be_member
        handles += (_spawn(stage, f"{group.name}-{at + 1}", partial(be_one, group, until_s)) for at in range(members))
    handles += (
        _spawn(stage, f"keeper-{at + 1}", partial(keep, group, topic, until_s))
        for at, (group, topic) in enumerate(plan.keepers)
    )
    handles += (_spawn(stage, f"governor-{name}", partial(govern, name, until_s)) for name in plan.governors)
    handles += (_spawn(stage, f"churner-{name}", partial(churn, name, until_s)) for name in plan.churns)
    await _ended(stage, handles, until_s + ENDING_S)


def _spawn(stage: Stage, name: str, deed: Callable[[Actor], Awaitable[None]]) -> Handle:
    return stage.spawn(name, Actor(stage, name).live(deed))


async def _ended(stage: Stage, handles: list[Handle], until_s: float) -> None:
    while not all(handle.done() for handle in handles):
        if stage.loop_time() >= until_s:
            left = sum(not handle.done() for handle in handles)
            stage.history.add(stage.loop_time(), "workload", "actors do not end", "note", count=left)
            return
        await asyncio.sleep(_LOOK_S)


async def final_reads(stage: Stage) -> None:
    """After all faults are healed: sends once more everywhere, lets the groups catch up, and reads everything."""
    plan = draw_plan(stage.random("workload"), 0.0)
    deadline_s = stage.loop_time() + RECOVERY_S
    await Actor(stage, "last-producer").live(partial(_send_everywhere, plan.topics, deadline_s))
    members = [Actor(stage, f"last-{group.name}") for group, _ in plan.groups]
    for actor, (group, _) in zip(members, plan.groups, strict=True):
        await actor.live(partial(_pop_up if group.pops else _catch_up, group, deadline_s))
    for node in stage.brokers:
        note_store(stage, node)
        note_folds(stage, node)
    await Actor(stage, "last-reader").live(partial(_read_everything, deadline_s + RECOVERY_S))


async def _send_everywhere(topics: list[tuple[str, int]], until_s: float, actor: Actor) -> None:
    """One message to every queue, tried until it is acknowledged."""
    async with Producer(
        actor.stage.nameservers, host=actor.host, retries=0, create_topic=None, spare_slow_brokers=False
    ) as producer:
        for topic, _ in topics:
            if not _has_topic(actor.stage, topic):
                continue  # it could not be made while there were faults
            queues: list[Any] = []

            async def ask(topic: str = topic, queues: list[Any] = queues) -> None:
                queues[:] = await producer.queues(topic)
                missing = _brokers_with(actor.stage, topic) - {queue.broker_name for queue in queues}
                if missing:
                    raise PosthouseError(f"the route of {topic} does not name {sorted(missing)}")

            if not await patiently(actor, "asks for the route", ask, until_s):
                actor.note("no recovery", "note", doing=f"find {topic}", brokers=sorted(q.broker_name for q in queues))
                continue
            for queue in queues:

                async def send(topic: str = topic, queue: Any = queue) -> None:
                    message_id = actor.next_id()
                    of = actor.note("send", "invoke", ids=[message_id], topic=topic, tag="A", tries=1)
                    try:
                        receipt = await producer.send(Message(topic, make_body(message_id, 30), "A"), queue=queue)
                    except PosthouseError as error:
                        actor.sent(of, [message_id], error)
                        raise
                    actor.sent(of, [message_id], receipt)

                if not await patiently(actor, "sends", send, until_s):
                    actor.note("no recovery", "note", doing=f"send to {topic}", broker=queue.broker_name)


def _brokers_with(stage: Stage, topic: str) -> set[str]:
    return {
        node.name
        for node in stage.brokers
        if node.house is not None and node.house.broker is not None and topic in node.house.broker.store.topics.live
    }


def _has_topic(stage: Stage, topic: str) -> bool:
    return bool(_brokers_with(stage, topic))


async def _catch_up(group: Group, until_s: float, actor: Actor) -> None:
    """A fresh member reads what is left for the group, until all of its offsets are at the ends of the queues."""
    try:
        async with open_member(group._replace(failing=0.0, slow_s=0.0), actor):
            while behind := _behind(actor.stage, group):
                if actor.stage.loop_time() >= until_s:
                    break
                await asyncio.sleep(0.5)
    except PosthouseError as error:
        actor.note("joins", "fail", group=group.name, error=f"{type(error).__name__}: {error}"[:200])
        behind = _behind(actor.stage, group)
    if behind:
        actor.note("no recovery", "note", doing=f"catch up as {group.name}", behind=behind[:5])


async def _pop_up(group: Group, until_s: float, actor: Actor) -> None:
    """Pops what is left for the group, until there is nothing any more, in flight neither."""
    async with SimpleConsumer(group.name, actor.stage.nameservers, host=actor.host) as consumer:
        while (behind := _behind(actor.stage, group)) and actor.stage.loop_time() < until_s:
            await patiently(actor, "pops", partial(pop_the_rest, group, actor, consumer), until_s)
            await asyncio.sleep(0.2)
    if behind:
        actor.note("no recovery", "note", doing=f"catch up as {group.name}", behind=behind[:5])


def _behind(stage: Stage, group: Group) -> list[str]:
    """Queues whose end the group's offset has not reached."""
    found: list[str] = []
    for node in stage.brokers:
        if node.house is None or node.house.broker is None:
            found.append(f"{node.name} is down")
            continue
        store = node.house.broker.store
        flying = [queue for queue in store.in_flight.live.queues if queue.group == group.name]
        found += (f"{node.name} {queue.topic}/{queue.queue_id}: some are in flight" for queue in flying)
        retried = [name for name in sorted(store.topics.live) if name.startswith(f"{RETRY_PREFIX}{group.name}")]
        for name in (*group.subscribe, *retried):
            topic = store.topics.live.get(name)
            for queue in topic.queues.values() if topic is not None else ():
                at = store.offsets.find(group.name, name, queue.queue_id)
                if queue.max_offset and (at is None or at < queue.max_offset):
                    found.append(f"{node.name} {name}/{queue.queue_id}: {at} of {queue.max_offset}")
    return found


async def _read_everything(until_s: float, actor: Actor) -> None:
    """Every queue of the topics from end to end, through a client."""
    async with PullConsumer("last-readers", actor.stage.nameservers, host=actor.host) as consumer:
        for topic in sorted({name for node in stage_topics(actor.stage) for name in node}):
            await patiently(actor, "reads", partial(_read_topic, actor, consumer, topic), until_s)


def stage_topics(stage: Stage) -> list[list[str]]:
    """The topics with messages, of each broker that is up."""
    return [
        [name for name, topic in node.house.broker.store.topics.live.items() if topic.queues]
        for node in stage.brokers
        if node.house is not None and node.house.broker is not None
    ]


async def _read_topic(actor: Actor, consumer: PullConsumer, topic: str) -> None:
    for queue in await consumer.queues(topic):
        at, end = await consumer.min_offset(queue), await consumer.max_offset(queue)
        place: int = at
        while place < end:
            place = await poll(actor, consumer, queue, place, what="final poll")
