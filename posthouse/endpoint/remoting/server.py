"""A listening remoting endpoint: accepts connections up to a limit, and closes them all in the end."""

from __future__ import annotations

import asyncio
import logging

from posthouse.codec.remoting.command import Command
from posthouse.endpoint.remoting.dispatcher import Dispatcher
from posthouse.host.net import Address, Listener, Net
from posthouse.link.peer import RemotingPeer, Turn
from posthouse.model.limits import CONNECTIONS_MAX, IDLE_SECONDS_MAX

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 2.0


class RemotingServer:
    """One port with one dispatcher behind it."""

    def __init__(
        self,
        net: Net,
        dispatcher: Dispatcher,
        *,
        connections_max: int = CONNECTIONS_MAX,
        idle_seconds: float = IDLE_SECONDS_MAX,
    ) -> None:
        self._net = net
        self._dispatcher = dispatcher
        self._connections_max = connections_max
        self._idle_seconds = idle_seconds
        self._turn = Turn()
        self._peers: dict[RemotingPeer, None] = {}
        self._listener: Listener | None = None
        self._full = False
        self._closing = False

    async def start(self, address: Address) -> Address:
        """Listens; the address with the real port. Raises OSError."""
        self._listener = await self._net.serve(self._accept, address)
        return self._listener.address

    def _accept(self) -> asyncio.Protocol:
        return RemotingPeer(self, idle_seconds=self._idle_seconds, turn=self._turn)

    def connected(self, peer: RemotingPeer) -> None:
        if self._closing:
            peer.close("the server is stopping")
            return
        if len(self._peers) >= self._connections_max:
            if not self._full:
                self._full = True
                log.warning("%d connections are open, which is the limit; new ones are closed", self._connections_max)
            peer.close("too many connections")
            return
        self._peers[peer] = None
        self._dispatcher.connected(peer)

    def disconnected(self, peer: RemotingPeer) -> None:
        if peer in self._peers:
            del self._peers[peer]
            self._full = False
            self._dispatcher.disconnected(peer)

    def request(self, peer: RemotingPeer, command: Command) -> None:
        self._dispatcher.request(peer, command)

    def stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Stops listening and closes all connections; what was answered still leaves."""
        self.stop_listening()
        self._closing = True
        await self._dispatcher.close()
        peers = list(self._peers)
        for peer in peers:
            peer.close("the server is stopping")
        if peers:
            waits = [asyncio.ensure_future(peer.wait_closed()) for peer in peers]
            _, late = await asyncio.wait(waits, timeout=_CLOSE_TIMEOUT_S)
            for wait in late:
                wait.cancel()
