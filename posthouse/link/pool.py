"""One shared connection per address. Whoever needs an address asks here; the first caller dials for all.

After a failed dial the address rests, 0.1 s at first and twice as long each time up to 3 s. In that time a caller
gets CannotConnect at once, or waits if its patience reaches to the end of the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from posthouse.host.net import Address, Net
from posthouse.link.errors import CannotConnect
from posthouse.link.peer import Dispatcher, RemotingPeer
from posthouse.model.limits import IDLE_SECONDS_MAX

_REST_SECONDS_MIN = 0.1
_REST_SECONDS_MAX = 3.0


@dataclass(slots=True)
class _Line:
    """What is known of one address."""

    peer: RemotingPeer | None = None
    dial: asyncio.Task[None] | None = None
    failures: int = 0
    rests_until: float = 0.0
    why: str = ""


class Pool:
    """Connections of one program, by address. Belongs to the loop that first uses it."""

    def __init__(
        self,
        net: Net,
        dispatcher: Dispatcher,
        *,
        connect_timeout_s: float = 3.0,
        idle_seconds: float = IDLE_SECONDS_MAX,
    ) -> None:
        self._net = net
        self._dispatcher = dispatcher
        self._connect_timeout_s = connect_timeout_s
        self._idle_seconds = idle_seconds
        self._lines: dict[Address, _Line] = {}
        self._closed = False

    def peer_if_open(self, address: Address) -> RemotingPeer | None:
        line = self._lines.get(address)
        if line is None or line.peer is None or line.peer.closed:
            return None
        return line.peer

    async def peer(self, address: Address, *, patience_s: float = 0.0) -> RemotingPeer:
        """An open connection. Waits for the dial, and for the address's rest if that ends within `patience_s`.

        Raises CannotConnect.
        """
        while True:
            found = self.peer_if_open(address)
            if found is not None:
                return found
            if self._closed:
                raise CannotConnect(str(address), "the connections of this client are closed")
            line = self._lines.setdefault(address, _Line())
            if line.dial is None:
                rest_s = line.rests_until - asyncio.get_running_loop().time()
                if rest_s <= 0:
                    line.dial = asyncio.create_task(self._dial(address, line), name=f"dial {address}")
                elif rest_s > patience_s:
                    raise CannotConnect(str(address), line.why, rest_s)
                else:
                    patience_s -= rest_s
                    await asyncio.sleep(rest_s)
                    continue
            await asyncio.wait((line.dial,))  # a caller that is cancelled does not cancel the dial of the others
            if self.peer_if_open(address) is None and line.dial is None:
                raise CannotConnect(str(address), line.why or "the connection was closed at once")

    def open_peers(self) -> list[RemotingPeer]:
        return [line.peer for line in self._lines.values() if line.peer is not None and not line.peer.closed]

    async def close(self) -> None:
        """Ends dials and connections and waits until they are gone (seconds at most). Twice is fine."""
        self._closed = True
        dials = [line.dial for line in self._lines.values() if line.dial is not None]
        for dial in dials:
            dial.cancel()
        if dials:
            await asyncio.wait(dials)
        peers = [line.peer for line in self._lines.values() if line.peer is not None]
        for peer in peers:
            peer.close("closed by us")
        for peer in peers:
            await peer.wait_closed()

    async def _dial(self, address: Address, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                peer = await self._net.dial(self._new_peer, address)
            assert isinstance(peer, RemotingPeer)
            line.peer, line.failures, line.why = peer, 0, ""
        except TimeoutError:
            self._failed(line, loop.time(), f"no connection within {self._connect_timeout_s:g} s")
        except OSError as error:
            self._failed(line, loop.time(), error.strerror or str(error) or type(error).__name__)
        finally:
            line.dial = None

    def _failed(self, line: _Line, now: float, why: str) -> None:
        line.failures += 1
        line.why = why
        line.rests_until = now + min(_REST_SECONDS_MIN * 2 ** min(line.failures - 1, 10), _REST_SECONDS_MAX)

    def _new_peer(self) -> RemotingPeer:
        return RemotingPeer(self._dispatcher, idle_seconds=self._idle_seconds)
