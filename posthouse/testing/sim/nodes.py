"""A server of a simulated world: its machine, its program, and who starts that again when it has died.

The program is a House with nothing but a NameServer or a broker in it, on a machine of its own. Its lives are told in
the history: "start" (invoke, then ok or fail), "exit" when it ends by itself, "bug" when it ends for a reason for which
no server may end. What the nemesis does to it the nemesis tells.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from posthouse.endpoint.house import House, HouseConfig, StartError
from posthouse.host import Host
from posthouse.store.config import Durability, StoreConfig
from posthouse.store.log.engine import LogConfig, LogFailed
from posthouse.store.message_store import LogMaker, local_log
from posthouse.testing.sim.disk import SimDisk
from posthouse.testing.sim.loop import OWNER
from posthouse.testing.sim.network import SimNet, SimNetwork
from posthouse.testing.sim.process import Machine, Process
from posthouse.testing.sim.process_disk import ProcessDisk
from posthouse.testing.sim.randomness import SimRandomness, Stream, Streams

CLOSE_SECONDS_MAX = 120.0
"""Virtual: a house that has not closed by then hangs."""

Note = Callable[..., None]
"""(who, what, outcome, **details): into the history, with the time."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a broker's files; small ones make short runs meet what takes others months."""

    segment_bytes: int = 1024 * 1024 * 1024
    batch_bytes: int = 8 * 1024 * 1024
    checkpoint_bytes: int = 32 * 1024 * 1024
    retention_bytes: int | None = None
    durability: Durability = Durability.DISK

    def log_maker(self) -> LogMaker:
        return local_log(LogConfig(self.segment_bytes, self.batch_bytes))

    def store(self) -> StoreConfig:
        return StoreConfig(
            segment_bytes=self.segment_bytes,
            checkpoint_bytes=self.checkpoint_bytes,
            retention_bytes=self.retention_bytes,
            durability=self.durability,
        )


class ServerNode:
    """See the module's text. `house` is the program while it runs, and None when it is down."""

    def __init__(
        self,
        machine: Machine,
        network: SimNetwork,
        streams: Streams,
        note: Note,
        config: HouseConfig,
        *,
        sizes: Sizes | None = None,
        on_started: Callable[[ServerNode], None] | None = None,
        on_refused: Callable[[ServerNode], None] | None = None,
    ) -> None:
        self.name = machine.name
        self.machine = machine
        self.config = config
        self.sizes = sizes or Sizes()
        self.house: House | None = None
        self.process: Process | None = None
        self.lives = 0
        self._network, self._streams, self._note = network, streams, note
        self._on_started, self._on_refused = on_started, on_refused
        self._stop: asyncio.Future[None] | None = None
        self._stays_down = False

    @property
    def data(self) -> SimDisk:
        return self.machine.disk

    @property
    def is_broker(self) -> bool:
        return self.config.broker_port is not None

    # Its lives

    def _tell(self, what: str, outcome: str, **details: Any) -> None:
        """Into the history; but who was struck in the middle of something says nothing more."""
        owner = OWNER.get()
        if owner is None or not owner.frozen:
            self._note(self.name, what, outcome, **details)

    async def supervise(self) -> None:
        """Starts the program, and again whenever it has ended; for the life of the world."""
        stream = self._streams.stream(f"restarts of {self.name}")
        while not self._stays_down:
            if self.machine.is_up:
                process = self.begin()
                await process
            await asyncio.sleep(stream.choice((0.05, 0.3, 1.0)) + stream.random())

    def begin(self) -> Process:
        self.lives += 1
        process = self.machine.run(self.name, self._live, on_error=self._ended_badly)
        self.process = process
        process.on_kill[self._down] = None
        return process

    async def _live(self) -> None:
        process = _process()
        self._tell("start", "invoke", life=self.lives)
        house = self.new_house(self.config)
        try:
            await house.start()
        except StartError as error:
            self._tell("start", "fail", error=str(error))
            if self._on_refused is not None and not process.frozen:
                self._on_refused(self)
            return
        if process.frozen:
            return
        self.house = house
        self._tell("start", "ok", life=self.lives)
        if self._on_started is not None:
            self._on_started(self)
        self._stop = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._stop, house.failed), return_when=asyncio.FIRST_COMPLETED)
        self.house = None
        failure = house.failed.exception() if house.failed.done() else None
        if failure is not None and not isinstance(failure, LogFailed):
            self._tell("bug", "note", error=describe(failure))
        await self._close(house)
        self._tell("exit", "note", error="" if failure is None else str(failure))

    async def _close(self, house: House) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await house.close()
        except TimeoutError:
            self._tell("bug", "note", error=f"close takes more than {CLOSE_SECONDS_MAX:.0f} s")

    def new_house(self, config: HouseConfig) -> House:
        """For the process that runs now."""
        process = _process()
        random = SimRandomness(self._streams.stream(f"random of {self.name}"))
        host = Host(
            self.machine.clock, ProcessDisk(self.machine.disk, process), SimNet(self._network, self.machine), random
        )
        return House(host, config, make_log=self.sizes.log_maker() if self.is_broker else None)

    def _down(self) -> None:
        self.house = None

    def _ended_badly(self, name: str, error: BaseException) -> None:
        self._note(name, "bug", "note", error=describe(error))

    # Orders

    def stop(self) -> bool:
        """Asks the program to end in good order, as by a signal; whether it runs at all."""
        if self.house is None or self._stop is None or self._stop.done():
            return False
        self._stop.set_result(None)
        return True

    def stays_down(self) -> None:
        """It is not started again."""
        self._stays_down = True

    async def start_second(self) -> None:
        """A second program on a folder that is in use: it must be refused."""
        first = self.process
        config = HouseConfig(
            host=self.config.host,
            nameserver_port=None,
            broker_port=0,
            nameservers=self.config.nameservers,
            broker_name=self.name,
            store=self.config.store,
        )

        async def live() -> None:
            house = self.new_house(config)
            try:
                await house.start()
            except StartError as error:
                self._tell("second start", "fail", error=str(error))
                return
            if first is not None and not first.frozen:
                self._tell("second start", "ok")
            await self._close(house)

        if self.house is not None and self.machine.is_up:
            await self.machine.run(f"{self.name}, again", live, on_error=self._ended_badly)


def _process() -> Process:
    """Who asks."""
    process = OWNER.get()
    assert isinstance(process, Process), "a server runs as a process of its machine"
    return process


def describe(error: BaseException) -> str:
    """What went wrong and where, the same in every run."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    places = [f" at {frame.name}, line {frame.lineno} of {frame.filename.rpartition('/')[2]}" for frame in last]
    return f"{type(error).__name__}: {error}{''.join(places)}"


def draw_sizes(stream: Stream) -> Sizes:
    """Small ones, mostly. Some brokers keep little, and some promise less."""
    segment_bytes = stream.choice((8 * 1024, 32 * 1024, 256 * 1024, 64 * 1024 * 1024))
    return Sizes(
        segment_bytes=segment_bytes,
        batch_bytes=stream.choice((4 * 1024, 64 * 1024, 8 * 1024 * 1024)),
        checkpoint_bytes=stream.choice((4 * 1024, 16 * 1024, 128 * 1024, 32 * 1024 * 1024)),
        retention_bytes=stream.choice((None, None, None, 4 * segment_bytes)),
        durability=stream.choice((Durability.DISK,) * 5 + (Durability.OS,)),
    )
