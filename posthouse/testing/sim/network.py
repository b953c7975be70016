"""A simulated network: TCP between machines, by address.

What it promises is what TCP does: bytes in order, or a lost connection. Everything else is chance and weather: each
piece of a stream takes a time of its own, so two connections overtake each other; a stream may be cut into other
pieces than were written; connections are reset; a direction between two machines may be cut (bytes wait and dials time
out until it is whole again) or slow. Who writes more than the other side takes is told to pause, as by a real
transport.

A killed process's connections are reset at once by its machine. A machine without power says nothing at all: the other
side learns of it when the machine is back and answers what it is sent with a reset.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass

from posthouse.host.net import Address
from posthouse.testing.sim.errors import system_error
from posthouse.testing.sim.loop import OWNER, SimLoop
from posthouse.testing.sim.process import Machine, Process
from posthouse.testing.sim.randomness import Stream
from posthouse.testing.sim.transport import SimTransport

_SYN_AGAIN_S = (1.0, 2.0, 4.0, 8.0)
"""A dial that nobody answers is tried again after these, as Linux does (tcp(7), tcp_syn_retries)."""

_FIRST_FREE_PORT = 40_000


@dataclass(slots=True)
class Weather:
    """How the network is today."""

    latency_s: float = 0.0003
    """Of every piece at least."""
    jitter_s: float = 0.001
    """On top of it, on average."""
    chunking: float = 0.05
    """How likely it is that what is written arrives in pieces."""
    reset: float = 0.0
    """How likely it is that a write ends its connection."""


@dataclass(slots=True)
class Slow:
    """A slow direction between two machines."""

    bytes_per_s: float = 10_000_000.0
    latency_s: float = 0.0


class SimListener:
    """A port that is listened on."""

    def __init__(
        self, network: SimNetwork, process: Process, address: Address, factory: Callable[[], asyncio.Protocol]
    ) -> None:
        self.network, self.process, self.factory = network, process, factory
        self._address = address

    @property
    def address(self) -> Address:
        return self._address

    def close(self) -> None:
        if self.network.listeners.get(self._key) is self:
            del self.network.listeners[self._key]

    @property
    def _key(self) -> tuple[str, int]:
        return (self.process.machine.ip, self._address.port)


class SimNetwork:
    """All machines and what runs between them. `cut` and `slow` are keyed by (from, to) names of machines."""

    def __init__(self, loop: SimLoop, stream: Stream, weather: Weather | None = None) -> None:
        self.loop, self.stream = loop, stream
        self.weather = weather or Weather()
        self.machines: dict[str, Machine] = {}  # by address
        self.listeners: dict[tuple[str, int], SimListener] = {}
        self.transports: dict[SimTransport, None] = {}  # open ones, oldest first
        self.cut: dict[tuple[str, str], None] = {}
        self.slow: dict[tuple[str, str], Slow] = {}
        self.unsaid: list[Callable[[], None]] = []  # resets that did not get through
        self._ports = _FIRST_FREE_PORT

    def add(self, machine: Machine) -> None:
        assert machine.ip not in self.machines, f"{machine.ip} is taken"
        self.machines[machine.ip] = machine

    def free_port(self) -> int:
        self._ports += 1
        return self._ports

    # Trouble

    def cut_off(self, source: str, target: str) -> None:
        """From now on nothing gets from one machine to the other; the way back is another matter."""
        self.cut[source, target] = None

    def restore(self, source: str, target: str) -> None:
        if (source, target) in self.cut:
            del self.cut[source, target]
            self.resume()

    def heal(self) -> None:
        """All directions are whole and fast again."""
        self.cut.clear()
        self.slow.clear()
        self.resume()

    def resume(self) -> None:
        """Sends what could not be sent before: a way is whole again, or a machine is back."""
        unsaid, self.unsaid = self.unsaid, []
        for say in unsaid:
            say()
        for transport in list(self.transports):
            transport.out.go_on()

    def reset(self, transport: SimTransport) -> None:
        """Both ends lose the connection and what was under way; each hears of it in its own time."""
        transport.reset()
        if transport.other is not None:
            transport.other.reset()

    def delay_s(self, source: str, target: str, size: int) -> float:
        """How long a piece takes from one machine to another."""
        weather = self.weather
        delay = weather.latency_s + self.stream.random() * 2.0 * weather.jitter_s
        if self.slow:
            slow = self.slow.get((source, target))
            if slow is not None:
                delay += slow.latency_s + size / slow.bytes_per_s
        return delay

    # Dialling

    async def dial(
        self, machine: Machine, process: Process, factory: Callable[[], asyncio.Protocol], address: Address
    ) -> asyncio.Protocol:
        """See the seam. Waits at most as long as an operating system does."""
        host = machine.ip if address.host in ("127.0.0.1", "localhost") else address.host
        target = self.machines.get(host)
        for again_s in _SYN_AGAIN_S:
            if target is not None and await self._reached(machine, target):
                break
            await asyncio.sleep(again_s)
        else:
            raise system_error(errno.ETIMEDOUT)
        listener = self.listeners.get((host, address.port))
        if listener is None:
            raise system_error(errno.ECONNREFUSED)
        return await self._connect(machine, process, factory, listener, Address(host, address.port))

    async def _reached(self, machine: Machine, target: Machine) -> bool:
        """Whether a first packet gets there and its answer back."""
        await asyncio.sleep(self.delay_s(machine.name, target.name, 0))
        there, back = (machine.name, target.name), (target.name, machine.name)
        return target.is_up and there not in self.cut and back not in self.cut

    async def _connect(
        self,
        machine: Machine,
        process: Process,
        factory: Callable[[], asyncio.Protocol],
        listener: SimListener,
        address: Address,
    ) -> asyncio.Protocol:
        mine = SimTransport(self, process, Address(machine.ip, self.free_port()), address)
        other = SimTransport(self, listener.process, address, mine.sockname)
        mine.meet(other)
        other.meet(mine)
        listener.process.machine.loop.call_soon(other.begin, listener.factory, context=listener.process.context)
        delay = self.delay_s(other.machine.name, machine.name, 0)
        mine.expects_after(self.loop.time() + delay)
        try:
            await asyncio.sleep(delay)
        except BaseException:
            mine.abort()
            raise
        if mine.is_lost:
            raise system_error(errno.ECONNRESET)
        return mine.begin(factory)


class SimNet:
    """The network seam of whatever runs on one machine."""

    def __init__(self, network: SimNetwork, machine: Machine) -> None:
        self._network, self._machine = network, machine

    async def serve(self, factory: Callable[[], asyncio.Protocol], address: Address) -> SimListener:
        if address.host not in ("0.0.0.0", "127.0.0.1", self._machine.ip):  # noqa: S104
            raise system_error(errno.EADDRNOTAVAIL)
        port = address.port or self._network.free_port()
        key = (self._machine.ip, port)
        if key in self._network.listeners:
            raise system_error(errno.EADDRINUSE)
        process = self._process()
        listener = SimListener(self._network, process, Address(address.host, port), factory)
        self._network.listeners[key] = listener
        process.on_kill[listener.close] = None
        return listener

    async def dial(self, factory: Callable[[], asyncio.Protocol], address: Address) -> asyncio.Protocol:
        return await self._network.dial(self._machine, self._process(), factory, address)

    def local_ip(self) -> str:
        return self._machine.ip

    def process_id(self) -> int:
        return self._process().pid

    def _process(self) -> Process:
        process = OWNER.get()
        if isinstance(process, Process) and process.machine is self._machine:
            return process
        return self._machine.system
