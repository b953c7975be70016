"""The NameServers that a client was given. Any one will do: it keeps to one until that fails, then takes the next.

Source: RocketMQ 5.3 NettyRemotingClient.getAndCreateNameserverChannel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from posthouse.client.errors import NoNameServer
from posthouse.codec.remoting.command import Command
from posthouse.host.net import Address
from posthouse.host.randomness import Randomness
from posthouse.link.errors import CannotConnect, LinkError
from posthouse.link.pool import Pool

NAMESERVER_SECONDS = 3.0
"""How long one NameServer may take to answer. RocketMQ: mqClientApiTimeout."""


def parse_nameservers(text: str | Iterable[str]) -> tuple[Address, ...]:
    """`a:9876;b:9876` (commas will do), or several such texts. Raises ValueError."""
    parts = text.replace(",", ";").split(";") if isinstance(text, str) else list(text)
    found = tuple(Address.parse(part) for part in parts if part.strip())
    if not found:
        raise ValueError("no NameServer is given; give host:port, for example 127.0.0.1:9876")
    return found


class NameServers:
    def __init__(self, addresses: tuple[Address, ...], pool: Pool, random: Randomness) -> None:
        self.addresses = addresses
        self._pool = pool
        self._current = random.below(len(addresses))

    async def ask(
        self, code: int, ext: dict[str, str] | None = None, body: bytes = b"", timeout_s: float = NAMESERVER_SECONDS
    ) -> Command:
        """The answer of the first one that answers at all, whatever it says; `timeout_s` is for each.

        Raises NoNameServer.
        """
        tried: list[tuple[str, str]] = []
        first = self._current
        for step in range(len(self.addresses)):
            at = (first + step) % len(self.addresses)
            address = self.addresses[at]
            try:
                answer = await self.ask_one(address, code, ext, body, timeout_s)
            except LinkError as error:
                tried.append((str(address), str(error)))
                continue
            self._current = at
            return answer
        raise NoNameServer(tried)

    async def ask_one(
        self,
        address: Address,
        code: int,
        ext: dict[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = NAMESERVER_SECONDS,
    ) -> Command:
        """Raises LinkError."""
        peer = self._pool.peer_if_open(address)
        if peer is None:
            try:
                async with asyncio.timeout(timeout_s):
                    peer = await self._pool.peer(address)
            except TimeoutError:
                raise CannotConnect(str(address), f"no connection within {timeout_s:g} s") from None
        return await peer.ask(code, ext, body, timeout_s)
