"""What goes wrong in a world: which kinds of fault a seed has, and the nemesis who brings them about.

Swarm style: every seed draws which kinds it has and how often they come, so that some seeds meet one kind in peace
and others many at once. Each fault is told in the history when it begins, and with `ends=True` when it is over.

Crashes are at any time, or aimed: at the n-th step of a disk from now, when a sync begins or has just ended, or a few
milliseconds after. Mistakes in what is durable when live for a very short time.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from posthouse.testing.sim.loop import SimLoop
from posthouse.testing.sim.network import SimNetwork, Slow, Weather
from posthouse.testing.sim.nodes import Note, ServerNode
from posthouse.testing.sim.process import Machine
from posthouse.testing.sim.randomness import Stream, weighted

CHANCES: dict[str, float] = {
    "kill": 0.5,
    "power cut": 0.5,
    "stop": 0.3,
    "second start": 0.2,
    "kill nameserver": 0.3,
    "kill client": 0.2,
    "reset": 0.4,
    "partition": 0.4,
    "swizzle": 0.2,
    "slow link": 0.3,
    "slow disk": 0.3,
    "sync fails": 0.25,
    "write fails": 0.15,
    "disk full": 0.2,
    "cold reads": 0.3,
    "bit flip": 0.1,
    "clock jump": 0.3,
}
"""How likely it is that a seed has each kind."""

_WEIGHTS: dict[str, float] = {"kill": 3.0, "power cut": 3.0, "second start": 0.5, "bit flip": 0.5}
"""How often one kind comes beside another one, if not as often."""


@dataclass(frozen=True, slots=True)
class Swarm:
    """What one seed has."""

    kinds: tuple[str, ...]
    interval_s: float
    """Between two faults, on average."""
    aimed: float
    """How many of the crashes are aimed."""
    weather: Weather
    sync_s: tuple[float, float]
    page_bytes: int

    @staticmethod
    def draw(stream: Stream) -> Swarm:
        kinds = tuple(kind for kind, chance in CHANCES.items() if stream.random() < chance)
        weather = Weather(
            latency_s=stream.choice((0.0001, 0.0005, 0.005)),
            jitter_s=stream.choice((0.0001, 0.001, 0.02)),
            chunking=stream.choice((0.0, 0.05, 0.5)),
            reset=stream.choice((0.0, 0.0, 0.001, 0.01)),
        )
        return Swarm(
            kinds,
            interval_s=stream.choice((1.0, 3.0, 8.0)),
            aimed=stream.choice((0.0, 0.5, 1.0)),
            weather=weather,
            sync_s=stream.choice(((0.0001, 0.001), (0.001, 0.008), (0.01, 0.09))),
            page_bytes=stream.choice((512, 4096)),
        )


class Nemesis:
    """Brings faults about until it is told to heal everything."""

    def __init__(
        self,
        loop: SimLoop,
        network: SimNetwork,
        brokers: list[ServerNode],
        nameservers: list[ServerNode],
        clients: dict[str, Machine],
        swarm: Swarm,
        stream: Stream,
        note: Note,
    ) -> None:
        self._loop, self._network, self._stream, self._swarm = loop, network, stream, swarm
        self._brokers, self._nameservers, self._clients = brokers, nameservers, clients
        self._tell = note
        self._ends: dict[int, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._begun = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._deeds: dict[str, Callable[[], None]] = {
            "kill": self._crash_by(self.kill),
            "power cut": self._crash_by(self.power_cut),
            "stop": self._stop,
            "second start": self._second_start,
            "kill nameserver": self._kill_nameserver,
            "kill client": self._kill_client,
            "reset": self._reset,
            "partition": self._partition,
            "swizzle": self._swizzle,
            "slow link": self._slow_link,
            "slow disk": self._slow_disk,
            "sync fails": partial(self._fails, "sync fails"),
            "write fails": partial(self._fails, "write fails"),
            "disk full": self._disk_full,
            "cold reads": self._cold_reads,
            "bit flip": self._bit_flip,
            "clock jump": self._clock_jump,
        }
        assert self._deeds.keys() == CHANCES.keys()

    async def run(self, until_s: float) -> None:
        """Until then one fault after another; what lasts may go on after that."""
        weights = [(kind, _WEIGHTS.get(kind, 1.0)) for kind in self._swarm.kinds]
        if not weights:
            return
        while True:
            await asyncio.sleep(self._stream.expovariate(1.0 / self._swarm.interval_s))
            if self._loop.time() >= until_s:
                return
            self._deeds[weighted(self._stream, weights)]()

    def last_blow(self) -> None:
        """Most of the time, every broker crashes once more when all is said and done."""
        for node in self._brokers:
            kinds = [strike for kind, strike in (("kill", self.kill), ("power cut", self.power_cut)) if self._has(kind)]
            if kinds and node.machine.is_up and self._stream.random() < 0.7:
                self._stream.choice(kinds)(node)

    def _has(self, kind: str) -> bool:
        return kind in self._swarm.kinds

    async def heal(self) -> None:
        """Ends all that lasts, and makes everything whole."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for node in (*self._brokers, *self._nameservers):
            node.data.on_step = None
        for timer, end in list(self._ends.values()):
            timer.cancel()
            end()
        self._ends.clear()
        self._network.heal()
        self._network.weather.reset = 0.0
        for node in self._brokers:
            node.data.heal()
            self.restore(node)

    # How faults are told, and how they end

    def _note(self, what: str, target: str, **details: Any) -> None:
        self._tell("nemesis", what, "note", target=target, **details)

    def _lasts(self, what: str, target: str, seconds: float, end: Callable[[], None]) -> None:
        """It is over after a time, or when everything is healed."""
        self._begun += 1
        number = self._begun

        def over() -> None:
            self._ends.pop(number, None)
            end()
            self._note(what, target, ends=True)

        context = contextvars.Context()  # nobody's: an aimed blow falls inside the program that it strikes
        self._ends[number] = (self._loop.call_later(seconds, over, context=context), over)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(self._loop.create_task(coroutine))

    def _seconds(self) -> float:
        return self._stream.choice((0.3, 2.0, 8.0)) * (0.5 + self._stream.random())

    # Crashes

    def _crash_by(self, strike: Callable[[ServerNode], None]) -> Callable[[], None]:
        def crash() -> None:
            node = self._stream.choice(self._brokers)
            if self._stream.random() < self._swarm.aimed:
                self._aim(node, strike)
            else:
                strike(node)

        return crash

    def _aim(self, node: ServerNode, strike: Callable[[ServerNode], None]) -> None:
        """Strikes at a step of the node's disk that is to come."""
        disk, stream = node.data, self._stream
        wanted = stream.choice(("", "sync", "synced", "synced", "written", "rename", "create", "truncate"))
        left = stream.choice((1, 1, 2, 5, 20))
        delay_s = stream.choice((0.0, 0.0, 0.001, 0.005)) * stream.random()

        def on_step(what: str, name: str) -> None:
            nonlocal left
            if wanted in ("", what):
                left -= 1
                if left <= 0:
                    disk.on_step = None
                    if delay_s:
                        self._loop.call_later(delay_s, strike, node, context=contextvars.Context())
                    else:
                        strike(node)

        if disk.on_step is None:
            disk.on_step = on_step

    def kill(self, node: ServerNode) -> None:
        """kill -9 of what runs there."""
        if node.process is not None and not node.process.frozen:
            self._note("kill", node.name)
            node.process.kill()

    def power_cut(self, node: ServerNode) -> None:
        """The machine is off for a while."""
        if node.machine.is_up:
            node.machine.power_off()
            lost = node.data.power_cut()
            self._note("power cut", node.name, lost_pages=lost)
            self._lasts("power cut", node.name, self._seconds(), partial(self._power_on, node))

    def _power_on(self, node: ServerNode) -> None:
        node.machine.power_on()
        self._network.resume()

    def _kill_nameserver(self) -> None:
        self.kill(self._stream.choice(self._nameservers))

    def _kill_client(self) -> None:
        running = [process for machine in self._clients.values() for process in machine.processes if process.pid > 1]
        if running:
            process = self._stream.choice(running)
            self._note("kill", process.name)
            process.kill()

    def _stop(self) -> None:
        node = self._stream.choice((*self._brokers, *self._brokers, *self._nameservers))
        if node.stop():
            self._note("stop", node.name)

    def _second_start(self) -> None:
        self._spawn(self._stream.choice(self._brokers).start_second())

    # The network

    def _machines(self) -> list[Machine]:
        return [node.machine for node in (*self._brokers, *self._nameservers)] + list(self._clients.values())

    def _reset(self) -> None:
        transports = list(self._network.transports)
        count = min(len(transports), self._stream.choice((1, 1, 5, 1000)))
        for transport in self._stream.sample(transports, count):
            self._network.reset(transport)
        self._note("reset", "the network", connections=count)

    def _partition(self) -> None:
        """One machine and some of the others do not hear each other, or one does not hear the other."""
        machines = self._machines()
        one = self._stream.choice(machines)
        most = self._stream.choice((0.3, 1.0))
        others = [each for each in machines if each is not one and self._stream.random() < most]
        ways = self._stream.choice(("in", "out", "both"))
        pairs = [(one.name, other.name) for other in others if ways != "in"]
        pairs += [(other.name, one.name) for other in others if ways != "out"]
        for pair in pairs:
            self._network.cut_off(*pair)
        self._note("partition", one.name, ways=ways, others=[other.name for other in others])
        self._lasts("partition", one.name, self._seconds(), partial(self._reunite, pairs))

    def _reunite(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self._network.restore(*pair)

    def _swizzle(self) -> None:
        self._spawn(self._swizzle_all())

    async def _swizzle_all(self) -> None:
        """Stops the links of some machines one by one, and restores them in another order."""
        machines = self._machines()
        chosen = self._stream.sample(machines, self._stream.randint(1, max(1, len(machines) // 2)))
        stopped: list[Machine] = []
        pause_s = self._seconds() / 4
        try:
            for machine in chosen:
                stopped.append(machine)
                self._note("swizzle", machine.name)
                for other in machines:
                    self._network.cut_off(machine.name, other.name)
                    self._network.cut_off(other.name, machine.name)
                await asyncio.sleep(pause_s * self._stream.random())
            await asyncio.sleep(pause_s)
            self._stream.shuffle(stopped)
            while stopped:
                self._unclog(stopped.pop(), machines)
                await asyncio.sleep(pause_s * self._stream.random())
        finally:
            for machine in stopped:
                self._unclog(machine, machines)

    def _unclog(self, machine: Machine, machines: list[Machine]) -> None:
        for other in machines:
            self._network.restore(machine.name, other.name)
            self._network.restore(other.name, machine.name)
        self._note("swizzle", machine.name, ends=True)

    def _slow_link(self) -> None:
        one, other = self._stream.sample(self._machines(), 2)
        way = (one.name, other.name)
        latency_s = self._stream.choice((0.0, 0.1, 1.0, 4.0))
        self._network.slow[way] = Slow(self._stream.choice((2_000.0, 50_000.0)), latency_s)
        self._note("slow link", one.name, to=other.name, latency_s=latency_s)
        self._lasts("slow link", one.name, self._seconds(), lambda: self._fast_again(way))

    def _fast_again(self, way: tuple[str, str]) -> None:
        self._network.slow.pop(way, None)

    # Disks and clocks

    def _slow_disk(self) -> None:
        node = self._stream.choice(self._brokers)
        trouble = node.data.trouble
        trouble.slowness = self._stream.choice((10.0, 100.0, 1000.0))
        self._note("slow disk", node.name, times=trouble.slowness)
        self._lasts("slow disk", node.name, self._seconds(), lambda: setattr(node.data.trouble, "slowness", 1.0))

    def _fails(self, kind: str) -> None:
        node = self._stream.choice(self._brokers)
        field = kind.replace(" ", "_")
        chance = self._stream.choice((0.1, 1.0))
        setattr(node.data.trouble, field, chance)
        self._note(kind, node.name, chance=chance)
        self._lasts(kind, node.name, self._seconds(), lambda: setattr(node.data.trouble, field, 0.0))

    def _disk_full(self) -> None:
        node = self._stream.choice(self._brokers)
        room = self._stream.choice((0, 100, 5000))
        node.data.trouble.room_bytes = room
        self._note("disk full", node.name, room_bytes=room)
        self._lasts("disk full", node.name, self._seconds(), lambda: setattr(node.data.trouble, "room_bytes", None))

    def _cold_reads(self) -> None:
        node = self._stream.choice(self._brokers)
        node.data.trouble.cold_reads = self._stream.choice((0.2, 1.0))
        self._note("cold reads", node.name, chance=node.data.trouble.cold_reads)
        self._lasts("cold reads", node.name, self._seconds(), lambda: setattr(node.data.trouble, "cold_reads", 0.0))

    def _bit_flip(self) -> None:
        node = self._stream.choice(self._brokers)
        flip = node.data.flip_a_bit(self._stream, "log/")
        if flip is not None:
            self._note("bit flip", node.name, file=flip.name, at=flip.at)

    def restore(self, node: ServerNode) -> None:
        """Somebody puts flipped bits back, from a copy."""
        if node.data.restore():
            self._note("bit flip", node.name, ends=True)

    def _clock_jump(self) -> None:
        machine = self._stream.choice(self._machines())
        by_ms = int(self._stream.choice((-1, 1)) * 1000 * 10 ** self._stream.uniform(0.0, 4.0))
        machine.clock.jump(by_ms)
        self._note("clock jump", machine.name, by_ms=by_ms)
