from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from posthouse.host.net import Address
from posthouse.testing.sim.network import Slow, Weather
from posthouse.testing.sim.process import Machine
from tests.sim.machines import Little, for_ever


class Ear(asyncio.Protocol):
    """Writes down what happens to a connection, with the time."""

    def __init__(self, little: Little) -> None:
        self._loop = little.loop
        self.data = b""
        self.pieces: list[bytes] = []
        self.events: list[tuple[float, str]] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces.append(data)
        self.events.append((self._loop.time(), "data"))

    def pause_writing(self) -> None:
        self.events.append((self._loop.time(), "pause"))

    def resume_writing(self) -> None:
        self.events.append((self._loop.time(), "resume"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append((self._loop.time(), "closed" if exc is None else "reset"))

    @property
    def what(self) -> list[str]:
        return [what for _, what in self.events]


class Pair:
    """A server on one machine and a client on another, with one connection."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.little = Little(seed, weather)
        self.near, self.far = self.little.machine("near"), self.little.machine("far")
        self.ears: list[Ear] = []
        self.address = Address(self.far.ip, 80)

    def _accept(self) -> Ear:
        self.ears.append(Ear(self.little))
        return self.ears[-1]

    async def connect(self) -> Ear:
        async def serve() -> None:
            await self.little.net(self.far).serve(self._accept, self.address)
            await for_ever()

        self.server = self.little.program(self.far, serve)
        await asyncio.sleep(0.1)
        found: list[Ear] = []

        async def client() -> None:
            found.append(await self.dial(self.near))
            await for_ever()

        self.client = self.little.program(self.near, client)
        await asyncio.sleep(0.1)
        return found[0]

    async def dial(self, machine: Machine) -> Ear:
        ear = await self.little.net(machine).dial(lambda: Ear(self.little), self.address)
        assert isinstance(ear, Ear)
        return ear


def test_bytes_arrive_in_order_however_they_are_cut() -> None:
    pair = Pair(weather=Weather(latency_s=0.001, jitter_s=0.05, chunking=1.0))

    async def main() -> None:
        ear = await pair.connect()
        sent = b"".join(b"%d," % number for number in range(1000))
        for at in range(0, len(sent), 100):
            ear.transport.write(sent[at : at + 100])
        await asyncio.sleep(10.0)
        assert pair.ears[0].data == sent
        assert len(pair.ears[0].pieces) > len(sent) // 100

    pair.little.run(main())


def test_two_connections_overtake_each_other() -> None:
    pair = Pair(weather=Weather(latency_s=0.001, jitter_s=0.05, chunking=0.0))
    orders: set[bool] = set()

    async def main() -> None:
        first = await pair.connect()
        second = await pair.dial(pair.near)
        await asyncio.sleep(1.0)
        for _ in range(30):
            first.transport.write(b"1")
            second.transport.write(b"2")
            await asyncio.sleep(1.0)
            orders.add(pair.ears[0].events[-1][0] < pair.ears[1].events[-1][0])

    pair.little.run(main())
    assert orders == {True, False}


def test_a_dial_to_a_port_where_nobody_listens_is_refused() -> None:
    pair = Pair()

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            await pair.dial(pair.near)

    pair.little.run(main())


def test_a_port_is_taken_once_and_an_address_must_be_ones_own() -> None:
    pair = Pair()

    async def main() -> None:
        await pair.connect()
        net = pair.little.net(pair.far)
        with pytest.raises(OSError, match="Address already in use") as taken:
            await net.serve(asyncio.Protocol, pair.address)
        assert taken.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="Cannot assign"):
            await net.serve(asyncio.Protocol, Address(pair.near.ip, 81))
        assert (await net.serve(asyncio.Protocol, Address(pair.far.ip, 0))).address.port > 0
        pair.server.kill()
        await net.serve(asyncio.Protocol, pair.address)

    pair.little.run(main())


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_cut_in_one_direction_holds_bytes_and_lets_dials_time_out(way: str) -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        cut = ("near", "far") if way == "there" else ("far", "near")
        pair.little.network.cut_off(*cut)
        ear.transport.write(b"there")
        pair.ears[0].transport.write(b"back")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await pair.dial(pair.near)
        await asyncio.sleep(10.0)
        assert (pair.ears[0].data, ear.data) == ((b"", b"back") if way == "there" else (b"there", b""))
        pair.little.network.restore(*cut)
        await asyncio.sleep(1.0)
        assert (pair.ears[0].data, ear.data) == (b"there", b"back")

    pair.little.run(main())


def test_a_dial_under_way_succeeds_when_the_cut_ends() -> None:
    pair = Pair()

    async def main() -> None:
        await pair.connect()
        pair.little.network.cut_off("far", "near")
        pair.little.loop.call_later(2.5, pair.little.network.heal)
        async with asyncio.timeout(8.0):
            await pair.dial(pair.near)
        assert pair.little.loop.time() > 2.5

    pair.little.run(main())


def test_a_reset_tells_both_ends_and_loses_what_is_under_way() -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        ear.transport.write(b"lost")
        pair.little.network.reset(next(iter(pair.little.network.transports)))
        await asyncio.sleep(1.0)
        assert ear.what == ["reset"]
        assert pair.ears[0].what == ["reset"]
        ear.transport.write(b"nothing happens")
        await asyncio.sleep(1.0)
        assert pair.ears[0].data == b""
        assert not pair.little.network.transports

    pair.little.run(main())


def test_a_killed_process_s_connections_are_reset_and_it_hears_nothing() -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        pair.server.kill()
        await asyncio.sleep(1.0)
        assert ear.what == ["reset"]
        assert pair.ears[0].what == []
        with pytest.raises(ConnectionRefusedError):
            await pair.dial(pair.near)

    pair.little.run(main())


def test_what_a_killed_process_had_sent_may_yet_arrive() -> None:
    seen: set[bytes] = set()
    for seed in range(20):
        pair = Pair(seed)

        async def main(pair: Pair = pair) -> None:
            ear = await pair.connect()
            pair.ears[0].transport.write(b"answer")
            pair.server.kill()
            await asyncio.sleep(1.0)
            assert ear.what[-1] == "reset"
            seen.add(ear.data)

        pair.little.run(main())
    assert seen == {b"", b"answer"}


def test_a_machine_without_power_is_silent_until_it_is_back_and_is_sent_something() -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        pair.far.power_off()
        ear.transport.write(b"are you there?")
        await asyncio.sleep(60.0)
        assert ear.what == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await pair.dial(pair.near)
        pair.far.power_on()
        pair.little.network.resume()
        await asyncio.sleep(1.0)
        assert ear.what == ["reset"]

    pair.little.run(main())


def test_who_writes_more_than_is_taken_is_told_to_pause_and_to_go_on() -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        pair.ears[0].transport.pause_reading()
        for _ in range(100):
            ear.transport.write(bytes(10_000))
        assert ear.what == ["pause"]
        await asyncio.sleep(10.0)
        assert pair.ears[0].data == b""
        assert ear.transport.get_write_buffer_size() > 500_000
        pair.ears[0].transport.resume_reading()
        await asyncio.sleep(10.0)
        assert ear.what == ["pause", "resume"]
        assert len(pair.ears[0].data) == 1_000_000
        assert ear.transport.get_write_buffer_size() == 0

    pair.little.run(main())


def test_a_close_comes_after_what_was_written() -> None:
    pair = Pair(weather=Weather(latency_s=0.001, jitter_s=0.05, chunking=1.0))

    async def main() -> None:
        ear = await pair.connect()
        ear.transport.write(bytes(100_000))
        ear.transport.close()
        ear.transport.write(b"too late")
        await asyncio.sleep(10.0)
        assert pair.ears[0].data == bytes(100_000)
        assert pair.ears[0].what[-1] == "closed"
        assert ear.what == ["closed"]

    pair.little.run(main())


def test_an_abort_drops_what_has_not_left_and_resets_the_other_end() -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        pair.little.network.cut_off("near", "far")
        ear.transport.write(b"dropped")
        ear.transport.abort()
        await asyncio.sleep(1.0)
        assert pair.ears[0].what == [], "the reset does not get through either"
        pair.little.network.heal()
        await asyncio.sleep(1.0)
        assert ear.what == ["closed"]
        assert pair.ears[0].what == ["reset"]

    pair.little.run(main())


def test_a_slow_link_takes_its_time() -> None:
    pair = Pair()

    async def main() -> None:
        ear = await pair.connect()
        pair.little.network.slow["near", "far"] = Slow(bytes_per_s=1000.0, latency_s=2.0)
        begun = pair.little.loop.time()
        ear.transport.write(bytes(5000))
        await asyncio.sleep(60.0)
        assert 7.0 < pair.ears[0].events[-1][0] - begun < 7.1

    pair.little.run(main())
