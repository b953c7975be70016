"""A whole cluster in the running event loop: one NameServer and any number of brokers, on free loopback ports.

Everything is kept in memory unless a folder is given. Nothing global is touched, no signal handler, no logging, so
many clusters may live in one process, one after another or at once. What a cluster began, its end has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from posthouse.endpoint.house import House, HouseConfig, StartError
from posthouse.host import Host
from posthouse.host.net import Address

_REGISTER_TIMEOUT_S = 5.0


class PathLike(Protocol):
    """A path as an object, such as pytest's `tmp_path`."""

    def __fspath__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster. `houses` are the parts themselves; the first one has the NameServer."""

    nameservers: str
    """What clients are configured with: `127.0.0.1:port`."""
    broker_addresses: tuple[str, ...]
    """`127.0.0.1:port` of each broker: broker-a, broker-b, ..."""
    houses: tuple[House, ...]


@asynccontextmanager
async def cluster(
    brokers: int = 1, *, auto_create_topics: bool = True, data: str | PathLike | None = None
) -> AsyncIterator[Cluster]:
    """Starts a cluster, and ends it with the block. All brokers can be sent to when the block begins.

        async with posthouse.testing.cluster(brokers=2) as cluster, Producer(cluster.nameservers) as producer:
            await producer.send("orders", b"42")

    `data` is a folder in which each broker gets one of its own; a cluster that is started there later has what this
    one stored. If a broker fails inside the block, on a full disk for example, the end of the block raises the reason.
    Raises ValueError, StartError.
    """
    if brokers < 1:
        raise ValueError(f"{brokers} brokers; a cluster has at least one")
    first = _house(0, auto_create_topics, data, ())
    houses = [first]
    try:
        await first.start()
        assert first.nameserver_address is not None
        for at in range(1, brokers):
            houses.append(_house(at, auto_create_topics, data, (first.nameserver_address,)))
            await _start_and_register(houses[-1])
        yield Cluster(str(first.nameserver_address), tuple(str(house.broker_address) for house in houses), (*houses,))
    finally:
        await asyncio.gather(*(house.close() for house in houses[1:]))
        await first.close()
    for house in houses:
        if house.failed.done():
            house.failed.result()


def _house(at: int, auto_create_topics: bool, data: str | PathLike | None, nameservers: tuple[Address, ...]) -> House:
    name = "broker-" + chr(ord("a") + at % 26) * (at // 26 + 1)
    folder = None if data is None else f"{data if isinstance(data, str) else data.__fspath__()}/{name}"
    config = HouseConfig(
        data=folder,
        nameserver_port=None if nameservers else 0,
        broker_port=0,
        nameservers=nameservers,
        broker_name=name,
        auto_create_topics=auto_create_topics,
    )
    return House(Host.real(folder), config)


async def _start_and_register(house: House) -> None:
    await house.start()
    assert house.broker is not None
    if not await house.broker.registrar.wait_for_all(_REGISTER_TIMEOUT_S):
        raise StartError(f"{house.config.broker_name} could not register in {_REGISTER_TIMEOUT_S:.0f} s")
