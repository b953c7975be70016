"""A listening endpoint: how many may come, and how all of them go."""

from __future__ import annotations

import asyncio
import socket

import pytest

from posthouse.codec.remoting.codes import RequestCode
from posthouse.endpoint.remoting.dispatcher import Dispatcher, Reply, Route
from posthouse.endpoint.remoting.server import RemotingServer
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.peer import RemotingPeer
from tests.broker.brokers import until
from tests.endpoint.clients import Client, client

pytestmark = pytest.mark.asyncio

CODE = RequestCode.GET_MAX_OFFSET
ANY = Address("127.0.0.1", 0)


def server(connections_max: int = 10, gone: list[RemotingPeer] | None = None) -> RemotingServer:
    dispatcher = Dispatcher(
        {"service": [Route(CODE, None, lambda service, header, command, peer: Reply())]},
        what="desk",
        on_bug=lambda error: None,
        on_disconnected=(gone if gone is not None else []).append,
    )
    return RemotingServer(Host.real().net, dispatcher, connections_max=connections_max)


async def test_connections_past_the_limit_are_closed_and_the_others_served(caplog: pytest.LogCaptureFixture) -> None:
    gone: list[RemotingPeer] = []
    serving = server(2, gone)
    address = await serving.start(ANY)
    async with client(address) as first:
        async with client(address) as second:
            for _ in range(3):
                async with client(address) as third:
                    await until(lambda third=third: third.is_gone)  # type: ignore[misc]
            assert gone == [], "one that was not let in is nobody's loss"
            for each in (first, second):
                await each.ok(CODE)
        await until(lambda: len(gone) == 1)
        async with client(address) as again:
            await again.ok(CODE)
    await serving.close()
    assert len([record for record in caplog.records if "2 connections" in record.getMessage()]) == 1


async def test_port_in_use_is_an_error() -> None:
    first, second = server(), server()
    address = await first.start(ANY)
    with pytest.raises(OSError, match="in use"):
        await second.start(address)
    await second.close()
    await first.close()


async def test_close_ends_all_connections_after_their_answers_and_frees_the_port() -> None:
    serving = server()
    address = await serving.start(ANY)
    async with client(address) as first, client(address) as second:
        await first.ok(CODE)
        asked = [asyncio.ensure_future(each.ask(CODE)) for each in (first, second)]
        await asyncio.sleep(0.02)
        await serving.close()
        assert [each.code for each in await asyncio.gather(*asked)] == [0, 0]
        await until(lambda: first.is_gone and second.is_gone)
    with socket.socket() as probe:
        assert probe.connect_ex((address.host, address.port)) != 0
    await serving.close()


async def test_close_does_not_wait_for_a_client_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.endpoint.remoting.server._CLOSE_TIMEOUT_S", 0.05)
    peers: list[RemotingPeer] = []
    dispatcher = Dispatcher({}, what="desk", on_bug=lambda error: None, on_connected=peers.append)
    serving = RemotingServer(Host.real().net, dispatcher)
    address = await serving.start(ANY)
    with socket.create_connection(address):
        await until(lambda: bool(peers))
        peers[0].write(bytes(20_000_000))
        began_s = asyncio.get_running_loop().time()
        await serving.close()
        assert asyncio.get_running_loop().time() - began_s < 1
    await peers[0].wait_closed()


async def test_connection_that_comes_while_the_server_closes_is_closed() -> None:
    serving = server()
    late = Client()
    other = await serving.start(ANY)
    await serving.close()
    serving.connected(late.peer)
    assert late.peer not in serving._peers
    assert other.port


async def test_stop_listening_leaves_open_connections_alone() -> None:
    serving = server()
    address = await serving.start(ANY)
    async with client(address) as first:
        await first.ok(CODE)
        serving.stop_listening()
        serving.stop_listening()
        await first.ok(CODE)
        with pytest.raises(OSError):
            async with client(address):
                pass
    await serving.close()
