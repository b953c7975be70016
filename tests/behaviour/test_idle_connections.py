"""Thousands of connections that do nothing: they cost little, and others are served as before."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.codec.remoting.codes import ResponseCode
from tests.crash.server import ServerProcess
from tests.crash.wire import dial, pull_all, send

CONNECTIONS = 2000
MIB = 1024 * 1024


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process and the servers that it starts may have enough of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this system allows {hard} open files; {wanted} are needed")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server(many_files: None, tmp_path: Path) -> Iterator[ServerProcess]:
    found = ServerProcess(tmp_path / "data").start()
    yield found
    found.kill()


async def round_trip_seconds(server: ServerProcess, body: bytes) -> float:
    """One message there and back on a new connection."""
    begin = time.monotonic()
    wire = await dial(server.broker)
    answer = await send(wire, "t", 0, body)
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    found = await pull_all(wire, "g", "t", 0, int(answer.ext_map()["queueOffset"]))
    assert [message.body for message in found] == [body]
    wire.close()
    return time.monotonic() - begin


@pytest.mark.asyncio
async def test_two_thousand_idle_connections_cost_little_and_others_are_served(server: ServerProcess) -> None:
    await round_trip_seconds(server, b"before")
    resident = server.resident_bytes()
    idle: list[socket.socket] = []
    try:
        for number in range(CONNECTIONS):
            address = server.broker if number % 2 else server.nameserver
            idle.append(socket.create_connection((address.host, address.port), timeout=10))
        for number in range(3):
            assert await round_trip_seconds(server, b"meanwhile %d" % number) < 1.0
            await asyncio.sleep(0.2)
        assert server.resident_bytes() - resident < 64 * MIB
    finally:
        for sock in idle:
            sock.close()
    assert await round_trip_seconds(server, b"after") < 1.0
    assert server.log == ""
    assert server.stop() == 0
