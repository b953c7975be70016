"""Which address a client is told: the one that it dialled, unless the house advertises one of its own.

Routes, cluster information, message ids and the records themselves must agree, as tools compare them.
"""

from __future__ import annotations

import ipaddress
import socket

import pytest

from posthouse import Producer
from posthouse.codec.remoting.bodies.cluster import decode_cluster_info
from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.endpoint.house import House
from posthouse.host.net import Address
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.message import Endpoint
from tests.endpoint.clients import C, client, house

pytestmark = pytest.mark.asyncio


def can_listen(host: str) -> bool:
    try:
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError:
        return False


async def told_to_one_who_dials(found: House, host: str) -> set[str]:
    """Every address of the broker that a client is told when it dials `host`."""
    assert found.nameserver_address is not None
    assert found.broker_address is not None
    told: set[str] = set()
    async with client(Address(host, found.nameserver_address.port)) as asking:
        route = decode_route((await asking.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TBW102"})).body)
        told |= {address for broker in route.brokers for address in broker.addresses.values()}
        info = decode_cluster_info((await asking.ok(C.GET_BROKER_CLUSTER_INFO)).body)
        told |= {address for broker in info.brokers.values() for address in broker.addresses.values()}
    async with client(Address(host, found.broker_address.port)) as both:
        store_host, log_offset = parse_offset_message_id((await both.send("T")).msg_id)
        stored = (await both.messages("T"))[-1]
        assert stored.log_offset == log_offset
        told |= {as_text(store_host), as_text(stored.store_host)}
    return told


def as_text(endpoint: Endpoint) -> str:
    return str(Address(str(ipaddress.ip_address(endpoint.ip)), endpoint.port))


@pytest.mark.parametrize("dialled", ["127.0.0.1", "127.0.0.2"])
async def test_house_on_all_addresses_tells_each_client_the_one_that_it_dialled(dialled: str) -> None:
    if not can_listen(dialled):
        pytest.skip(f"{dialled} is no address of this machine")
    async with house(host="0.0.0.0") as found:
        assert found.broker_address is not None
        assert await told_to_one_who_dials(found, dialled) == {f"{dialled}:{found.broker_address.port}"}


async def test_clients_that_dial_different_addresses_are_told_different_ones_by_the_same_house() -> None:
    if not can_listen("127.0.0.2"):
        pytest.skip("127.0.0.2 is no address of this machine")
    async with house(host="0.0.0.0") as found:
        assert found.broker_address is not None
        for dialled in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            assert await told_to_one_who_dials(found, dialled) == {f"{dialled}:{found.broker_address.port}"}


@pytest.mark.parametrize("dialled", ["127.0.0.1", "127.0.0.2"])
async def test_advertised_address_is_told_to_everybody(dialled: str) -> None:
    if not can_listen(dialled):
        pytest.skip(f"{dialled} is no address of this machine")
    async with house(host="0.0.0.0", advertise="192.0.2.7:4711") as found:
        assert await told_to_one_who_dials(found, dialled) == {"192.0.2.7:4711"}


@pytest.mark.parametrize("host", ["::1", "::"])
async def test_ipv6_is_told_to_those_who_dial_it(host: str) -> None:
    if not can_listen("::1"):
        pytest.skip("this machine has no IPv6")
    async with house(host=host) as found:
        assert found.broker_address is not None
        assert await told_to_one_who_dials(found, "::1") == {f"[::1]:{found.broker_address.port}"}


@pytest.mark.parametrize("dialled", ["127.0.0.1", "127.0.0.2"])
async def test_producer_comes_to_the_broker_by_the_address_of_the_nameserver(dialled: str) -> None:
    if not can_listen(dialled):
        pytest.skip(f"{dialled} is no address of this machine")
    async with house(host="0.0.0.0") as found:
        assert found.nameserver_address is not None
        assert found.broker_address is not None
        async with Producer(f"{dialled}:{found.nameserver_address.port}") as producer:
            receipt = await producer.send("T", b"1")
        store_host, _ = parse_offset_message_id(receipt.offset_message_id)
        assert as_text(store_host) == f"{dialled}:{found.broker_address.port}"


async def test_house_on_all_addresses_tells_a_nameserver_elsewhere_where_it_can_be_reached() -> None:
    async with house(broker_port=None) as elsewhere:
        assert elsewhere.nameserver_address is not None
        servers = (elsewhere.nameserver_address,)
        async with house(host="0.0.0.0", nameservers=servers) as found:
            assert found.broker is not None
            assert found.broker_address is not None
            assert await found.broker.registrar.wait_for_all(5)
            assert elsewhere.nameserver is not None
            route = elsewhere.nameserver.route("TBW102", "127.0.0.1")
            assert route.brokers[0].addresses == {0: f"127.0.0.1:{found.broker_address.port}"}
