"""Two ends on loopback, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
import uvloop

from posthouse.codec.remoting.command import Command, response
from posthouse.host import Host
from posthouse.host.net import Address, Listener
from posthouse.link.peer import RemotingPeer


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Recorder:
    """A dispatcher that notes what it is told and answers as a test wants."""

    on_request: Callable[[RemotingPeer, Command], None] = lambda peer, command: None
    peers: list[RemotingPeer] = field(default_factory=list)
    gone: list[RemotingPeer] = field(default_factory=list)
    requests: list[Command] = field(default_factory=list)

    def connected(self, peer: RemotingPeer) -> None:
        self.peers.append(peer)

    def disconnected(self, peer: RemotingPeer) -> None:
        self.gone.append(peer)

    def request(self, peer: RemotingPeer, command: Command) -> None:
        self.requests.append(command)
        self.on_request(peer, command)


def echo(peer: RemotingPeer, command: Command) -> None:
    if not command.is_one_way:
        peer.answer(response(0, command.request_id, {"code": str(command.code)}, command.body))


@dataclass
class Ends:
    """A listener whose side is recorded by `server`; `dial` makes the other side."""

    host: Host
    server: Recorder
    address: Address
    listener: Listener
    idle_seconds: float = 120.0

    async def dial(self, dispatcher: Recorder | None = None, idle_seconds: float = 120.0) -> RemotingPeer:
        peer = await self.host.net.dial(
            lambda: RemotingPeer(dispatcher or Recorder(), idle_seconds=idle_seconds), self.address
        )
        assert isinstance(peer, RemotingPeer)
        return peer

    def server_peer(self) -> RemotingPeer:
        return RemotingPeer(self.server, idle_seconds=self.idle_seconds)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    host = Host.real()
    server = Recorder(on_request=echo)
    found = Ends(host, server, Address("", 0), None)  # type: ignore[arg-type]
    found.listener = await host.net.serve(found.server_peer, Address("127.0.0.1", 0))
    found.address = found.listener.address
    yield found
    found.listener.close()
    for peer in server.peers:
        peer.close("the test is over")
        await peer.wait_closed()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits for a condition; fails when it does not come true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)
