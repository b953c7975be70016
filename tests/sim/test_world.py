"""The whole machine: worlds with the real servers and clients in them, first without faults, then with each kind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from posthouse.client.producer import Producer
from posthouse.client.pull_consumer import PullConsumer
from posthouse.testing.sim import World, run_seed
from posthouse.testing.sim.faults import CHANCES, Swarm
from posthouse.testing.sim.nodes import ServerNode
from posthouse.testing.sim.randomness import Streams

Deed = Callable[[World], Coroutine[Any, Any, None]]


def calm(seed: int = 1) -> World:
    """A world in which nothing goes wrong by itself."""
    drawn = Swarm.draw(Streams(seed).stream("swarm"))
    return World(seed, swarm=replace(drawn, kinds=(), weather=replace(drawn.weather, reset=0.0)))


def in_a_calm_world(deed: Deed, seed: int = 1) -> World:
    """Starts the servers, runs `deed` as a client program; what it raises is raised here."""
    world = calm(seed)
    raised: list[BaseException] = []

    async def main() -> None:
        nodes = (*world.nameserver_nodes, *world.brokers)
        supervisors = [asyncio.create_task(node.supervise()) for node in nodes]
        await asyncio.sleep(3.0)

        async def live() -> None:
            try:
                await deed(world)
            except BaseException as error:
                raised.append(error)
                raise

        world.client_host("client")
        await world.spawn("client", live())
        for each in supervisors:
            each.cancel()

    try:
        world.loop.run_until_complete(main())
    finally:
        world.close()
    if raised:
        raise raised[0]
    return world


def happened(world: World, who: str, what: str, outcome: str) -> int:
    return sum((event.who, event.what, event.outcome) == (who, what, outcome) for event in world.history.events)


async def send(world: World, body: bytes) -> int:
    """Sends one message to the first broker's first queue; its offset."""
    async with Producer(world.nameservers, host=world.client_host("client"), retries=0) as producer:
        queues = [each for each in await producer.queues("letters") if each.broker_name == "broker-a"]
        return (await producer.send("letters", body, queue=queues[0])).queue_offset


async def make_topic(world: World) -> None:
    async with Producer(world.nameservers, host=world.client_host("client")) as producer:
        await producer.send("letters", b"makes the topic")
        await asyncio.sleep(2.0)


async def read(world: World) -> list[bytes]:
    """All bodies in the first broker's first queue."""
    async with PullConsumer("readers", world.nameservers, host=world.client_host("client")) as consumer:
        queues = [each for each in await consumer.queues("letters") if each.broker_name == "broker-a"]
        found: list[bytes] = []
        while len(found) < await consumer.max_offset(queues[0]):
            pulled = await consumer.pull(queues[0], type(await consumer.max_offset(queues[0]))(len(found)))
            found += [message.body for message in pulled.messages]
        return found


async def until_up(node: ServerNode, life: int) -> None:
    async with asyncio.timeout(60.0):
        while node.house is None or node.lives < life:
            await asyncio.sleep(0.1)
        await asyncio.sleep(3.0)


def test_a_message_is_sent_and_read() -> None:
    async def deed(world: World) -> None:
        await make_topic(world)
        offset = await send(world, b"hello")
        assert (await read(world))[offset] == b"hello"

    world = in_a_calm_world(deed)
    assert happened(world, "broker-a", "start", "ok") == 1


@pytest.mark.parametrize("crash", ["kill", "power cut", "stop"])
def test_what_was_acknowledged_is_there_after_a_crash(crash: str) -> None:
    async def deed(world: World) -> None:
        node = world.brokers[0]
        await make_topic(world)
        offset = await send(world, b"before")
        house = node.house
        if crash == "kill":
            world.nemesis.kill(node)
            assert node.house is None
        elif crash == "power cut":
            world.nemesis.power_cut(node)
            assert node.house is None
        else:
            assert node.stop()
        await until_up(node, 2)
        assert node.house is not house
        later = await send(world, b"after")
        bodies = await read(world)
        assert (bodies[offset], bodies[later]) == (b"before", b"after")

    world = in_a_calm_world(deed)
    assert happened(world, "broker-a", "start", "ok") == 2
    assert happened(world, "broker-a", "exit", "note") == (crash == "stop")


def test_a_second_broker_on_a_folder_in_use_is_refused() -> None:
    async def deed(world: World) -> None:
        await world.brokers[0].start_second()
        assert world.brokers[0].house is not None

    world = in_a_calm_world(deed)
    assert happened(world, "broker-a", "second start", "fail") == 1
    assert happened(world, "broker-a", "second start", "ok") == 0


def test_a_broker_whose_disk_fails_ends_and_is_started_again() -> None:
    async def deed(world: World) -> None:
        node = world.brokers[0]
        await make_topic(world)
        node.data.trouble.sync_fails = 1.0
        with pytest.raises(Exception, match="stored"):
            await send(world, b"not acknowledged")
        node.data.heal()
        await until_up(node, 2)
        await send(world, b"acknowledged")
        assert (await read(world))[-1] == b"acknowledged"

    world = in_a_calm_world(deed)
    assert happened(world, "broker-a", "exit", "note") == 1
    assert happened(world, "broker-a", "bug", "note") == 0


def test_the_same_seed_tells_the_same_story() -> None:
    first, second = run_seed(11, 0.5), run_seed(11, 0.5)
    assert first.trace_digest == second.trace_digest
    assert first.virtual_s == second.virtual_s
    assert run_seed(12, 0.5).trace_digest != first.trace_digest


@pytest.mark.parametrize("kind", CHANCES)
def test_each_kind_of_fault_comes_and_is_healed(kind: str) -> None:
    told = {"kill nameserver": "kill", "kill client": "kill"}.get(kind, kind)
    drawn = Swarm.draw(Streams(3).stream("swarm"))
    world = World(3, 0.5, swarm=replace(drawn, kinds=(kind,), interval_s=1.5, aimed=0.5))
    try:
        events = world.run().events
    finally:
        world.close()
    came = [event for event in events if event.what == told and event.who != "world" and "ends" not in event.details]
    assert came, "it never came"
    assert any((event.who, event.what) == ("world", "healed") for event in events)
    assert all(node.house is not None for node in world.brokers) or world.loop.is_closed()
    assert not world.network.cut
    assert not world.network.slow
    assert all(node.machine.is_up for node in world.brokers)
    assert not any(event.what == "bug" for event in events), [event for event in events if event.what == "bug"]


def test_a_world_leaves_nothing_behind() -> None:
    world = World(5, 0.3)
    world.run()
    world.close()
    gone = weakref.ref(world.loop)
    del world
    gc.collect()
    assert gone() is None


def test_seeds_differ_in_what_goes_wrong() -> None:
    kinds = [Swarm.draw(Streams(seed).stream("swarm")).kinds for seed in range(50)]
    assert len(set(kinds)) > 40
    assert set().union(*kinds) == CHANCES.keys()
    assert any(len(each) <= 3 for each in kinds)
    assert any(len(each) >= 8 for each in kinds)
