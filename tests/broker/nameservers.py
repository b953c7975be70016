"""NameServers for tests of registration: a real one that can be restarted, and one that notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from posthouse.codec.remoting.bodies.registration import decode_registration
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.nameserver import (
    REGISTER_BROKER,
    UNREGISTER_BROKER,
    RegisterBroker,
    UnregisterBroker,
)
from posthouse.endpoint.house import House, HouseConfig
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.peer import RemotingPeer
from posthouse.model.registration import Registration
from posthouse.nameserver.nameserver import NameServer

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def real_nameserver(port: int = 0) -> AsyncIterator[tuple[NameServer, Address]]:
    house = House(Host.real(), HouseConfig(data=None, nameserver_port=port, broker_port=None))
    await house.start()
    assert house.nameserver is not None
    assert house.nameserver_address is not None
    try:
        yield house.nameserver, house.nameserver_address
    finally:
        await house.close()


class Told(NamedTuple):
    """One registration as it came."""

    header: RegisterBroker
    registration: Registration
    at_s: float


@dataclass
class NotingNameServer:
    """Takes every registration, unless `answer` has something else to say."""

    told: list[Told] = field(default_factory=list)
    left: list[UnregisterBroker] = field(default_factory=list)
    peers: list[RemotingPeer] = field(default_factory=list)
    answer: Callable[[RemotingPeer, Command], None] = lambda peer, command: peer.answer(response(0, command.request_id))

    def connected(self, peer: RemotingPeer) -> None:
        self.peers.append(peer)

    def disconnected(self, peer: RemotingPeer) -> None:
        self.peers.remove(peer)

    def request(self, peer: RemotingPeer, command: Command) -> None:
        if command.code == RequestCode.REGISTER_BROKER:
            header = REGISTER_BROKER.decode(command.ext)
            registration = decode_registration(command.body, compressed=header.compressed, crc=header.body_crc)
            self.told.append(Told(header, registration, asyncio.get_running_loop().time()))
        else:
            assert command.code == RequestCode.UNREGISTER_BROKER
            self.left.append(UNREGISTER_BROKER.decode(command.ext))
        self.answer(peer, command)


@asynccontextmanager
async def noting_nameserver(host: str = LOOPBACK) -> AsyncIterator[tuple[NotingNameServer, Address]]:
    noting = NotingNameServer()
    listener = await Host.real().net.serve(lambda: RemotingPeer(noting), Address(host, 0))
    try:
        yield noting, listener.address
    finally:
        listener.close()
        for peer in list(noting.peers):
            peer.close("the test is over")
            await peer.wait_closed()
