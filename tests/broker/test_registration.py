"""What NameServers are told of a broker, when, and what happens when they are not there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.broker.registration import is_unspecified
from posthouse.codec.remoting.bodies.registration import encode_registration
from posthouse.codec.remoting.command import Command, response
from posthouse.host.net import Address
from posthouse.link.peer import RemotingPeer
from posthouse.model.refusal import Refused
from posthouse.model.registration import Registration
from posthouse.model.topic import Perm, TopicConfig
from posthouse.nameserver.nameserver import NameServer
from tests.broker.brokers import message, running, send, until
from tests.broker.nameservers import LOOPBACK, noting_nameserver, real_nameserver

pytestmark = pytest.mark.asyncio

HERE = Address(LOOPBACK, 10911)


@asynccontextmanager
async def registering(
    config: BrokerConfig, listen: Address = HERE, own: Address | None = None
) -> AsyncIterator[Broker]:
    """A broker that has told where it listens."""
    async with running(config) as broker:
        broker.registrar.own_nameserver = own
        broker.listening(listen)
        yield broker


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are seconds, in a fraction of the time."""
    monkeypatch.setattr("posthouse.broker.registration._RETRY_S", 0.05)
    monkeypatch.setattr("posthouse.broker.registration._UNREGISTER_TIMEOUT_S", 0.05)


def knows(nameserver: NameServer, topic: str) -> bool:
    try:
        return bool(nameserver.route(topic, LOOPBACK).brokers)
    except Refused:
        return False


async def test_broker_is_known_with_all_its_topics_after_its_start() -> None:
    async with (
        real_nameserver() as (nameserver, address),
        registering(BrokerConfig("C", "b", nameservers=(address,))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        assert set(nameserver.routes.topics()) == {"TBW102", "C", "b", "C_REPLY_TOPIC", "RMQ_SYS_TRACE_TOPIC"}
        route = nameserver.route("TBW102", LOOPBACK)
        assert route.brokers[0].addresses == {0: "127.0.0.1:10911"}
        assert (route.brokers[0].cluster, route.brokers[0].broker_name) == ("C", "b")
        assert (route.queues[0].write_queues, route.queues[0].perm) == (8, Perm.READ_WRITE | Perm.INHERIT)


async def test_new_or_changed_topic_is_known_at_once() -> None:
    async with (
        real_nameserver() as (nameserver, address),
        registering(BrokerConfig(nameservers=(address,))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        await send(broker, message("Made"))
        await until(lambda: knows(nameserver, "Made"), 2)
        await broker.topics.set(TopicConfig("Made", 7, 7))
        await until(lambda: nameserver.route("Made", "").queues[0].write_queues == 7, 2)


async def test_topic_has_its_route_when_the_send_that_made_it_is_answered() -> None:
    async with (
        real_nameserver() as (nameserver, address),
        registering(BrokerConfig(nameservers=(address,))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        for n in range(20):
            await send(broker, message(f"Made{n}"))
            assert knows(nameserver, f"Made{n}")
        assert not broker.topics.unannounced


async def test_send_that_makes_a_topic_is_answered_though_no_nameserver_hears_of_it() -> None:
    async with registering(BrokerConfig(nameservers=(Address(LOOPBACK, 9),))) as broker:
        await asyncio.wait_for(send(broker, message("Made")), 3)
        await asyncio.wait_for(send(broker, message("Made")), 0.5)
        assert not broker.topics.unannounced


async def test_registration_says_what_rocketmqs_nameserver_wants_to_know() -> None:
    async with (
        noting_nameserver() as (noting, address),
        registering(BrokerConfig("C", "b", broker_id=3, nameservers=(address,))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        header, registration, _ = noting.told[0]
        assert (header.cluster_name, header.broker_name, header.broker_id) == ("C", "b", 3)
        assert header.broker_addr == "127.0.0.1:10911"
        assert header.heartbeat_timeout_ms == 120_000
        assert header.enable_acting_master is False
        assert header.body_crc != 0
        assert set(registration.topics) == {"TBW102", "C", "b", "C_REPLY_TOPIC", "RMQ_SYS_TRACE_TOPIC"}
        assert registration.version == broker.topics.version


async def test_broker_registers_again_every_period() -> None:
    async with (
        noting_nameserver() as (noting, address),
        registering(BrokerConfig(nameservers=(address,), register_period_s=0.05)),
    ):
        await until(lambda: len(noting.told) >= 6)
        pauses = [after.at_s - before.at_s for before, after in zip(noting.told, noting.told[1:], strict=False)]
        assert min(pauses[2:]) > 0.04
        assert len(noting.peers) == 1, "over one connection"


async def test_changes_while_a_registration_is_under_way_are_told_after_it() -> None:
    async with noting_nameserver() as (noting, address):
        held: list[tuple[RemotingPeer, Command]] = []
        noting.answer = lambda peer, command: held.append((peer, command))
        async with registering(BrokerConfig(nameservers=(address,))) as broker:
            await until(lambda: len(held) == 1)
            for name in ("A", "B", "C"):
                await broker.topics.set(TopicConfig(name))
            assert len(noting.told) == 1
            noting.answer = lambda peer, command: peer.answer(response(0, command.request_id))
            for peer, command in held:
                noting.answer(peer, command)
            await until(lambda: len(noting.told) == 2)
            assert {"A", "B", "C"} <= set(noting.told[1].registration.topics)


@pytest.mark.usefixtures("impatience")
async def test_restarted_nameserver_is_told_again_at_once() -> None:
    async with real_nameserver() as (_, address):
        pass
    async with registering(BrokerConfig(nameservers=(address,))) as broker:
        for _ in range(2):
            async with real_nameserver(address.port) as (nameserver, _):
                await until(partial(knows, nameserver, "TBW102"), 5)
        assert await broker.registrar.wait_for_all(0)


async def test_lost_connection_is_healed_at_once_and_not_after_half_a_minute() -> None:
    async with (
        real_nameserver() as (nameserver, address),
        registering(BrokerConfig(nameservers=(address,))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        peer = broker.registrar._pool.peer_if_open(address)
        assert peer is not None
        peer._transport.abort()  # as when a firewall forgets a connection
        await until(lambda: not knows(nameserver, "TBW102"))
        await until(lambda: knows(nameserver, "TBW102"), 2)


@pytest.mark.usefixtures("impatience")
async def test_nameserver_that_is_down_holds_up_nobody_and_is_told_when_it_comes() -> None:
    async with real_nameserver() as (_, free):
        pass
    async with (
        real_nameserver() as (nameserver, address),
        registering(BrokerConfig(nameservers=(free, address))) as broker,
    ):
        await until(lambda: knows(nameserver, "TBW102"), 2)
        assert not await broker.registrar.wait_for_all(0.05)
        await send(broker, message("Made"))
        await until(lambda: knows(nameserver, "Made"), 2)
        async with real_nameserver(free.port) as (late, _):
            await until(lambda: knows(late, "Made"), 5)


async def test_nameserver_that_refuses_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "posthouse")
    async with noting_nameserver() as (noting, address):
        noting.answer = lambda peer, command: peer.answer(response(1, command.request_id, remark="not yet"))
        async with registering(BrokerConfig(nameservers=(address,), register_period_s=0.03)) as broker:
            await until(lambda: len(noting.told) >= 3)
            assert not broker.registrar._links[0].registered.is_set()
            noting.answer = lambda peer, command: peer.answer(response(0, command.request_id))
            assert await broker.registrar.wait_for_all(5)
    said = [record.getMessage() for record in caplog.records if "register" in record.getMessage()]
    assert len(said) == 2, "once when it begins, once when it is over"
    assert "not yet" in said[0]


@pytest.mark.parametrize("after_answer", [True, False])
async def test_nameserver_that_cuts_connections_is_not_hammered(after_answer: bool) -> None:
    async with noting_nameserver() as (noting, address):

        def cut(peer: RemotingPeer, command: Command) -> None:
            if after_answer:
                peer.answer(response(0, command.request_id))
            peer.close("cut")

        noting.answer = cut
        async with registering(BrokerConfig(nameservers=(address,))):
            await asyncio.sleep(0.5)
            assert 1 <= len(noting.told) <= 7


async def test_broker_that_stops_says_so() -> None:
    async with noting_nameserver() as (noting, address):
        async with registering(BrokerConfig("C", "b", nameservers=(address,))) as broker:
            assert await broker.registrar.wait_for_all(5)
        (left,) = noting.left
        assert (left.cluster_name, left.broker_name, left.broker_addr, left.broker_id) == ("C", "b", str(HERE), 0)
        count = len(noting.told)
        await asyncio.sleep(0.05)
        assert len(noting.told) == count


@pytest.mark.usefixtures("impatience")
async def test_stop_does_not_wait_for_a_nameserver_that_says_nothing() -> None:
    async with noting_nameserver() as (noting, address):
        noting.answer = lambda peer, command: None
        async with registering(BrokerConfig(nameservers=(address,))):
            await until(lambda: bool(noting.told))
            began_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began_s < 1.0


# The address


@pytest.mark.parametrize(
    "listen, advertise, told",
    [
        (HERE, None, "127.0.0.1:10911"),
        (Address("::1", 10911), None, "[::1]:10911"),
        (HERE, Address("192.0.2.7", 4711), "192.0.2.7:4711"),
        (HERE, Address("mq.example.org", 0), "mq.example.org:10911"),
        (Address("0.0.0.0", 10911), Address("2001:db8::7", 0), "[2001:db8::7]:10911"),
        (Address("0.0.0.0", 10911), None, "127.0.0.1:10911"),
        (Address("::", 10911), None, "127.0.0.1:10911"),
        (Address("", 10911), None, "127.0.0.1:10911"),
    ],
)
async def test_nameserver_elsewhere_is_told_an_address_that_can_be_dialled(
    listen: Address, advertise: Address | None, told: str
) -> None:
    async with (
        noting_nameserver() as (noting, address),
        registering(BrokerConfig(advertise=advertise, nameservers=(address,)), listen) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        assert noting.told[0].header.broker_addr == told


async def test_nameserver_in_the_same_process_is_told_that_all_addresses_will_do() -> None:
    listen = Address("0.0.0.0", 10911)
    async with (
        noting_nameserver() as (noting, own),
        noting_nameserver() as (elsewhere, address),
        registering(BrokerConfig(nameservers=(address, own)), listen, own) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        assert {told.header.broker_addr for told in noting.told} == {"0.0.0.0:10911"}
        assert {told.header.broker_addr for told in elsewhere.told} == {"127.0.0.1:10911"}
    assert noting.left[0].broker_addr == "0.0.0.0:10911", "the address must be the one it registered with"


@pytest.mark.parametrize(
    "host, unspecified", [("0.0.0.0", True), ("::", True), ("", True), ("127.0.0.1", False), ("example.org", False)]
)
async def test_hosts_that_mean_all_addresses(host: str, unspecified: bool) -> None:
    assert is_unspecified(host) is unspecified


# Sizes and mistakes


async def test_large_table_of_topics_is_sent_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.registration._PLAIN_TOPICS_MAX", 3)
    async with (
        noting_nameserver() as (noting, address),
        real_nameserver() as (nameserver, real),
        registering(BrokerConfig(nameservers=(address, real))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        wanted = TopicConfig("T", 3, 2, Perm.READ, attributes={"message.type": "FIFO"})
        await broker.topics.set(wanted)
        await until(lambda: knows(nameserver, "T"))
        await until(lambda: "T" in noting.told[-1].registration.topics)
        assert noting.told[-1].header.compressed
        assert noting.told[-1].registration.topics["T"] == wanted


async def test_burst_of_changes_to_a_large_table_takes_a_small_share_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent_s: list[float] = []

    def slow(registration: Registration, *, compressed: bool) -> bytes:
        began_s = time.perf_counter()
        time.sleep(0.005)  # as with hundreds of topics
        body = encode_registration(registration, compressed=compressed)
        spent_s.append(time.perf_counter() - began_s)
        return body

    monkeypatch.setattr("posthouse.broker.registration.encode_registration", slow)
    monkeypatch.setattr("posthouse.broker.registration._SMALL_TABLE_TOPICS", 0)
    async with (
        real_nameserver() as (nameserver, address),
        noting_nameserver() as (noting, other),
        registering(BrokerConfig(nameservers=(address, other))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < 0.4:
            await broker.topics.set(TopicConfig(f"T{len(broker.topics.configs())}"))
            await asyncio.sleep(0.001)
        assert sum(spent_s) < 0.2 * (time.perf_counter() - began_s)
        last = broker.topics.configs()[-1].name
        await until(lambda: knows(nameserver, last), 2)
        await until(lambda: last in noting.told[-1].registration.topics, 2)


async def test_table_that_has_not_changed_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: list[int] = []

    def counting(registration: Registration, *, compressed: bool) -> bytes:
        versions.append(registration.version.counter)
        return encode_registration(registration, compressed=compressed)

    monkeypatch.setattr("posthouse.broker.registration.encode_registration", counting)
    async with (
        noting_nameserver() as (noting, address),
        registering(BrokerConfig(nameservers=(address,), register_period_s=0.01)) as broker,
    ):
        await until(lambda: len(noting.told) >= 5)
        await broker.topics.set(TopicConfig("T"))
        await until(lambda: "T" in noting.told[-1].registration.topics)
        assert len(versions) == len(set(versions)) == 2


async def test_mistake_in_registering_ends_the_broker_and_not_only_its_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mistaken(*args: object, **options: object) -> bytes:
        raise ZeroDivisionError("ours")

    async with noting_nameserver() as (_, address), registering(BrokerConfig(nameservers=(address,))) as broker:
        assert await broker.registrar.wait_for_all(5)
        monkeypatch.setattr("posthouse.broker.registration.encode_registration", mistaken)
        await broker.topics.set(TopicConfig("T"))
        await until(broker.failed.done)
        assert isinstance(broker.failed.exception(), ZeroDivisionError)


async def test_nameserver_that_asks_something_is_answered_that_this_is_not_served() -> None:
    async with (
        noting_nameserver() as (noting, address),
        registering(BrokerConfig(nameservers=(address,))) as broker,
    ):
        assert await broker.registrar.wait_for_all(5)
        answer = await noting.peers[0].ask(905)
        assert answer.code == 3
        assert "905" in (answer.remark or "")
        noting.peers[0].tell(905)
        assert (await noting.peers[0].ask(906)).code == 3
