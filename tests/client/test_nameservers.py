from __future__ import annotations

import asyncio

import pytest

from posthouse.client.errors import NoNameServer
from posthouse.client.nameservers import NameServers, parse_nameservers
from posthouse.codec.remoting.command import response
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.pool import Pool
from tests.client.conftest import FakeServer


async def two() -> tuple[list[FakeServer], NameServers, Pool]:
    servers = [FakeServer(), FakeServer()]
    for server in servers:
        await server.listen()
        server.answers[105] = lambda command: response(17, command.request_id)
    host = Host.real()
    pool = Pool(host.net, servers[0])
    return servers, NameServers(tuple(server.address for server in servers), pool, host.random), pool


@pytest.mark.parametrize(
    "text",
    ["a:1;b:2", "a:1,b:2", " a:1 ; b:2;", ["a:1", "b:2"], ("a:1", "b:2")],
    ids=["semicolon", "comma", "blanks", "list", "tuple"],
)
def test_lists_of_nameservers_are_read(text: str | list[str]) -> None:
    assert parse_nameservers(text) == (Address("a", 1), Address("b", 2))


@pytest.mark.parametrize("text", ["", ";", "a", "a:b", []])
def test_lists_that_name_none_are_refused(text: str | list[str]) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_nameservers(text)


@pytest.mark.asyncio
async def test_one_nameserver_is_kept_until_it_fails() -> None:
    servers, nameservers, pool = await two()
    for _ in range(5):
        assert (await nameservers.ask(105)).code == 17
    counts = [server.count(105) for server in servers]
    assert sorted(counts) == [0, 5]
    used, other = (servers[0], servers[1]) if counts[0] else (servers[1], servers[0])
    await used.vanish()
    for _ in range(3):
        assert (await nameservers.ask(105)).code == 17
    assert other.count(105) == 3
    await pool.close()
    await other.vanish()


@pytest.mark.asyncio
async def test_a_nameserver_that_says_nothing_is_passed_over() -> None:
    servers, nameservers, pool = await two()
    del servers[nameservers._current].answers[105]
    async with asyncio.timeout(3):
        assert (await nameservers.ask(105, timeout_s=0.1)).code == 17
    await pool.close()
    for server in servers:
        await server.vanish()


@pytest.mark.asyncio
async def test_when_none_answers_all_are_named_with_the_reason() -> None:
    servers, nameservers, pool = await two()
    servers[1].answers.clear()
    await servers[0].vanish()
    with pytest.raises(NoNameServer) as error:
        await nameservers.ask(105, timeout_s=0.1)
    assert {address for address, _ in error.value.tried} == {str(server.address) for server in servers}
    assert "cannot connect" in str(error.value)
    assert "no answer" in str(error.value)
    await pool.close()
    await servers[1].vanish()
