"""A whole cluster in one process, on a virtual clock: NameServers, brokers, clients, network, disks, and faults.

Everything in it is the real code but the outside world, and everything that is chance comes from the seed. A run is:
servers start; actors work while the nemesis is at it; a last blow; everything is healed; all must be well again within
a time; everything is read; the checkers judge the history. Same seed, same history, in every process.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from posthouse.endpoint.house import HouseConfig
from posthouse.host import Host
from posthouse.host.memory import MemoryDisk
from posthouse.host.net import Address
from posthouse.testing.sim.checkers import check
from posthouse.testing.sim.clock import SimClock
from posthouse.testing.sim.disk import DiskTrouble, SimDisk
from posthouse.testing.sim.facts import Problem
from posthouse.testing.sim.faults import Nemesis, Swarm
from posthouse.testing.sim.history import Event, History
from posthouse.testing.sim.inspection import note_folds
from posthouse.testing.sim.loop import SimLoop, WaitsForEver
from posthouse.testing.sim.network import SimNet, SimNetwork
from posthouse.testing.sim.nodes import ServerNode, Sizes, describe, draw_sizes
from posthouse.testing.sim.process import Machine, Process
from posthouse.testing.sim.randomness import SimRandomness, Stream, Streams
from posthouse.testing.sim.workload import final_reads, run_workload

_NAMESERVER_PORT = 9876
_BROKER_PORT = 10911
_CALM_S = 5.0
"""In the beginning nothing goes wrong, so that there is something that can."""
_RECOVERY_S = 120.0
"""After everything is healed, until every broker is up and every NameServer knows it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one seed. `events` are for the story."""

    seed: int
    problems: list[Problem]
    trace_digest: str
    virtual_s: float
    events: list[Event] = field(repr=False)


class World:
    """One seed's cluster. `run` it once; then `close` it."""

    def __init__(self, seed: int, minutes: float = 1.0, *, swarm: Swarm | None = None) -> None:
        self.seed = seed
        self.until_s = minutes * 60.0
        self.loop = SimLoop()
        self.loop.on_error = self._callback_failed
        self.history = History()
        self._streams = Streams(seed)
        drawn = self._streams.stream("world")
        self.swarm = swarm or Swarm.draw(self._streams.stream("swarm"))
        self.network = SimNetwork(self.loop, self._streams.stream("network"), self.swarm.weather)
        self._clients: dict[str, Machine] = {}
        servers = drawn.choice((1, 1, 2, 3))
        self.nameserver_nodes = [self._new_nameserver(at) for at in range(servers)]
        self.nameservers = ";".join(f"{node.machine.ip}:{_NAMESERVER_PORT}" for node in self.nameserver_nodes)
        self.sizes = sizes = draw_sizes(drawn)
        self.brokers = [self._new_broker(at, sizes) for at in range(drawn.choice((1, 1, 2, 3)))]
        self.nemesis = Nemesis(
            self.loop,
            self.network,
            self.brokers,
            self.nameserver_nodes,
            self._clients,
            self.swarm,
            self._streams.stream("nemesis"),
            self.note,
        )

    # What actors are given

    def loop_time(self) -> float:
        return self.loop.time()

    def random(self, name: str) -> Stream:
        """The seed's stream of that name, new each time."""
        return Stream(f"{self.seed}/workload/{name}")

    def client_host(self, name: str) -> Host:
        """For a client program, on a machine of its own."""
        machine = self._client_machine(name)
        random = SimRandomness(self._streams.stream(f"random of {name}"))
        return Host(machine.clock, MemoryDisk(), SimNet(self.network, machine), random)

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> Process:
        """Runs an actor as a program on the machine of that name."""
        return self._client_machine(name).run(name, lambda: coroutine, on_error=self._callback_failed)

    def note(self, who: str, what: str, outcome: str, **details: Any) -> None:
        self.history.add(self.loop.time(), who, what, outcome, **details)

    # Machines

    def _machine(self, name: str, ip: str) -> Machine:
        stream = self._streams.stream(f"machine {name}")
        skew_ms = stream.choice((0, 0, stream.randint(-2000, 2000)))
        clock = SimClock(self.loop, skew_ms=skew_ms, drift=stream.uniform(-0.0001, 0.0001))
        disk = SimDisk(self.loop, self._streams.stream(f"disk of {name}"), name, page_bytes=self.swarm.page_bytes)
        disk.trouble = DiskTrouble(sync_s=self.swarm.sync_s)
        machine = Machine(self.loop, name, ip, clock, disk)
        self.network.add(machine)
        return machine

    def _client_machine(self, name: str) -> Machine:
        found = self._clients.get(name)
        if found is None:
            at = len(self._clients) + 1
            found = self._clients[name] = self._machine(name, f"10.0.{2 + at // 250}.{at % 250 + 1}")
        return found

    def _new_nameserver(self, at: int) -> ServerNode:
        machine = self._machine(f"nameserver-{at + 1}", f"10.0.0.{at + 1}")
        config = HouseConfig(host=machine.ip, nameserver_port=_NAMESERVER_PORT, broker_port=None)
        return ServerNode(machine, self.network, self._streams, self.note, config)

    def _new_broker(self, at: int, sizes: Sizes) -> ServerNode:
        name = f"broker-{'abc'[at]}"
        machine = self._machine(name, f"10.0.1.{at + 1}")
        config = HouseConfig(
            host=machine.ip,
            nameserver_port=None,
            broker_port=_BROKER_PORT,
            nameservers=tuple(Address(node.machine.ip, _NAMESERVER_PORT) for node in self.nameserver_nodes),
            broker_name=name,
            store=sizes.store(),
        )
        return ServerNode(
            machine,
            self.network,
            self._streams,
            self.note,
            config,
            sizes=sizes,
            on_started=lambda node: note_folds(self, node),
            on_refused=self._refused,
        )

    def _refused(self, node: ServerNode) -> None:
        """A broker does not start. If that is for a bit that is not as it was written, somebody restores it."""
        self.nemesis.restore(node)

    def _callback_failed(self, who: str, error: BaseException) -> None:
        self.note(who or "world", "bug", "note", error=describe(error))

    # The run

    def run(self) -> Verdict:
        """The whole story of the seed, and the verdict."""
        self.note(
            "world",
            "begin",
            "note",
            seed=self.seed,
            faults=list(self.swarm.kinds),
            durability=str(self.sizes.durability),
        )
        try:
            self.loop.run_until_complete(self._run())
        except WaitsForEver as error:
            self.note("world", "bug", "note", error=str(error))
        for text in self.loop.never_retrieved:
            self.note("world", "bug", "note", error=text)
        steps = {node.name: node.data.steps for node in self.brokers}
        self.note("world", "end", "note", turns=self.loop.turns, steps=steps)
        problems = check(self.history)
        return Verdict(self.seed, problems, self.history.digest(), self.loop.time(), [*self.history.events])

    async def _run(self) -> None:
        supervisors = [
            asyncio.create_task(node.supervise(), name=f"supervisor of {node.name}")
            for node in (*self.nameserver_nodes, *self.brokers)
        ]
        nemesis = asyncio.create_task(self._trouble(), name="nemesis")
        await run_workload(self, self.until_s)
        nemesis.cancel()
        self.nemesis.last_blow()
        await asyncio.sleep(1.0)
        await self.nemesis.heal()
        self.note("world", "healed", "note")
        if await self._recovered():
            await self._client_machine("judge").run("judge", lambda: final_reads(self), on_error=self._callback_failed)
        for task in supervisors:
            task.cancel()

    async def _trouble(self) -> None:
        await asyncio.sleep(_CALM_S)
        await self.nemesis.run(self.until_s)

    async def _recovered(self) -> bool:
        """Whether every broker is up and known to every NameServer, after some time at most."""
        until_s = self.loop.time() + _RECOVERY_S
        while self.loop.time() < until_s:
            missing = self._missing()
            if not missing:
                return True
            await asyncio.sleep(0.5)
        self.note("world", "no recovery", "note", doing=f"come up within {_RECOVERY_S:.0f} s", behind=missing)
        return False

    def _missing(self) -> list[str]:
        missing = [f"{node.name} is down" for node in (*self.nameserver_nodes, *self.brokers) if node.house is None]
        for node in self.nameserver_nodes:
            if node.house is None or node.house.nameserver is None:
                continue
            known = node.house.nameserver.routes.cluster_info(node.machine.ip).brokers
            missing += [f"{node.name} does not know {each.name}" for each in self.brokers if each.name not in known]
        return missing

    def close(self) -> None:
        """Lets go of everything. Twice is fine."""
        self.loop.close()
        for machine in self.network.machines.values():
            machine.bury()


def run_seed(seed: int, minutes: float = 1.0) -> Verdict:
    """Runs a world of its own, and lets go of it.

    The interpreter's garbage collector rests meanwhile: its moments are not the seed's, and there is little for it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        world = World(seed, minutes)
        try:
            return world.run()
        finally:
            world.close()
    finally:
        if collects:
            gc.enable()
