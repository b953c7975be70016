"""A small world for tests of its parts: some machines on a calm network, and programs on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from posthouse.testing.sim.clock import SimClock
from posthouse.testing.sim.disk import DiskTrouble, SimDisk
from posthouse.testing.sim.loop import OWNER, SimLoop
from posthouse.testing.sim.network import SimNet, SimNetwork, Weather
from posthouse.testing.sim.process import Machine, Process
from posthouse.testing.sim.process_disk import ProcessDisk
from posthouse.testing.sim.randomness import Streams


class Little:
    """Machines by name; `run` runs a test's coroutine as nobody's, `program` one of a machine."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.loop = SimLoop()
        self.streams = Streams(seed)
        calm = Weather(latency_s=0.001, jitter_s=0.0, chunking=0.0)
        self.network = SimNetwork(self.loop, self.streams.stream("network"), weather or calm)
        self.errors: list[BaseException] = []

    def machine(self, name: str) -> Machine:
        disk = SimDisk(self.loop, self.streams.stream(f"disk {name}"), name)
        disk.trouble = DiskTrouble(sync_s=(0.002, 0.002), write_s=(0.001, 0.001))
        machine = Machine(self.loop, name, f"10.0.0.{len(self.network.machines) + 1}", SimClock(self.loop), disk)
        self.network.add(machine)
        return machine

    def net(self, machine: Machine) -> SimNet:
        return SimNet(self.network, machine)

    def program(self, machine: Machine, main: Callable[[], Coroutine[Any, Any, None]]) -> Process:
        return machine.run(f"on {machine.name}", main, on_error=lambda name, error: self.errors.append(error))

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            self.loop.run_until_complete(main)
        finally:
            self.loop.close()
            for machine in self.network.machines.values():
                machine.bury()
        if self.errors:
            raise self.errors[0]


def disk_of_this_process(machine: Machine) -> ProcessDisk:
    process = OWNER.get()
    assert isinstance(process, Process)
    return ProcessDisk(machine.disk, process)


async def outcome(give: Callable[[Callable[[Any], None]], object]) -> Any:
    """What the disk's thread says in the end."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    give(told.set_result)
    return await told


async def for_ever() -> None:
    await asyncio.sleep(1e9)


def soon(work: Awaitable[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(work)
