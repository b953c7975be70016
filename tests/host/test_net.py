from __future__ import annotations

import asyncio
import ipaddress
import os

import pytest

from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.host.real import RealNet

LOOPBACK = Address("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9876", "127.0.0.1", 9876),
        ("mq.example.org:0", "mq.example.org", 0),
        (" localhost:65535 ", "localhost", 65535),
        ("[::1]:9876", "::1", 9876),
        ("::1:9876", "::1", 9876),
        ("0.0.0.0:10911", "0.0.0.0", 10911),
    ],
)
def test_host_and_port_are_parsed(text: str, host: str, port: int) -> None:
    found = Address.parse(text)
    assert found == (host, port)
    assert Address.parse(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", "localhost", "localhost:", ":9876", "[]:9876", "localhost:65536", "localhost:-1", "localhost:http",
             "localhost:٣", "[::1]", "localhost:1e3", "localhost: 80"],
)  # fmt: skip
def test_what_is_not_host_and_port_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Caller(asyncio.Protocol):
    def __init__(self) -> None:
        self.got = b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.got.endswith(b"!"):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.asyncio
async def test_port_0_takes_a_free_port_and_the_listener_says_which() -> None:
    net = Host.real().net
    listener = await net.serve(Echo, LOOPBACK)
    assert listener.address.host == "127.0.0.1"
    assert listener.address.port > 0
    caller = await net.dial(Caller, listener.address)
    assert isinstance(caller, Caller)
    caller.transport.write(b"there and back!")
    await asyncio.wait_for(caller.lost, 10)
    assert caller.got == b"there and back!"
    listener.close()


@pytest.mark.asyncio
async def test_an_address_in_use_is_an_os_error() -> None:
    net = RealNet()
    listener = await net.serve(Echo, LOOPBACK)
    with pytest.raises(OSError):
        await net.serve(Echo, listener.address)
    listener.close()


@pytest.mark.asyncio
async def test_a_closed_listener_accepts_nobody_and_open_connections_stay() -> None:
    net = RealNet()
    listener = await net.serve(Echo, LOOPBACK)
    caller = await net.dial(Caller, listener.address)
    assert isinstance(caller, Caller)
    caller.transport.write(b"?")
    while not caller.got:  # the server's side is there
        await asyncio.sleep(0.005)
    listener.close()
    await asyncio.sleep(0)
    with pytest.raises(OSError):
        await asyncio.wait_for(net.dial(Caller, listener.address), 10)
    caller.transport.write(b"still there!")
    await asyncio.wait_for(caller.lost, 10)
    assert caller.got == b"?still there!"


def test_this_machine_has_an_address_and_the_process_an_id() -> None:
    net = RealNet()
    assert ipaddress.ip_address(net.local_ip()).version == 4
    assert net.process_id() == os.getpid()
