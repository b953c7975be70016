"""The network seam: listen and dial with asyncio protocols. Promise: ordered bytes, or a lost connection.

Also the few facts about this machine that a client's identity is made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Address(NamedTuple):
    """Where to listen or dial. Text form is `host:port`; IPv6 hosts are written in square brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def parse(text: str) -> Address:
        """Raises ValueError, with the text, when it is not `host:port`."""
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is not host:port")
        return Address(host, int(port))


class Listener(Protocol):
    @property
    def address(self) -> Address:
        """Where it listens, with the real port when 0 was asked for."""

    def close(self) -> None:
        """Stops accepting. Connections that are open stay open; their owner closes them."""


class Net(Protocol):
    async def serve(self, factory: Callable[[], asyncio.Protocol], address: Address) -> Listener:
        """Listens; port 0 takes a free one. Raises OSError (address in use, not ours)."""

    async def dial(self, factory: Callable[[], asyncio.Protocol], address: Address) -> asyncio.Protocol:
        """Connects. Raises OSError. The caller bounds the wait."""

    def local_ip(self) -> str:
        """An address of this machine that others would see, without asking anyone: used in client ids only."""

    def process_id(self) -> int: ...
