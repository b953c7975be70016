"""A whole house: what it opens, what keeps it from opening, what it tells of itself, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from posthouse.codec.remoting.bodies.routes import decode_route
from posthouse.endpoint.house import House, HouseConfig, StartError, dialable
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.errors import LinkError
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.message import Endpoint
from posthouse.model.offsets import QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.nameserver.nameserver import NameServerConfig
from posthouse.store.log.engine import LogFailed
from tests.broker.brokers import host_on, until
from tests.endpoint.clients import IN_MEMORY, SUBSCRIPTION, SUSPEND, C, client, house, pull_ext, send_ext
from tests.endpoint.remoting.test_broker import broker_of
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio


async def refused(machine: Host | None = None, **changes: Any) -> str:
    """Why such a house cannot start; nothing of it may be left."""
    before = asyncio.all_tasks()
    with pytest.raises(StartError) as error:
        async with house(machine, **changes):
            pass
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert "\n" not in str(error.value)
    return str(error.value)


# Starting


async def test_whoever_sees_the_house_up_can_send_at_once() -> None:
    async with house() as found, client(found.nameserver_address) as asking:
        route = decode_route((await asking.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TBW102"})).body)
        assert [broker.addresses for broker in route.brokers] == [{0: str(found.broker_address)}]
        async with client(found.broker_address) as producer:
            await producer.send("T")


async def test_nameserver_alone_has_no_broker() -> None:
    async with house(broker_port=None) as found, client(found.nameserver_address) as asking:
        assert found.broker_address is None
        assert (await asking.ask(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "T"})).code == 17
        assert (await asking.ask(C.SEND_MESSAGE_V2, send_ext("T"))).code == 3


async def test_broker_alone_registers_elsewhere() -> None:
    async with house(broker_port=None) as elsewhere:
        assert elsewhere.nameserver_address is not None
        servers = (elsewhere.nameserver_address,)
        async with house(nameserver_port=None, nameservers=servers, broker_name="b") as found:
            assert found.nameserver_address is None
            assert await broker_of(found).registrar.wait_for_all(5)
            assert elsewhere.nameserver is not None
            route = elsewhere.nameserver.route("b", "127.0.0.1")
            assert route.brokers[0].addresses == {0: str(found.broker_address)}
        await until(lambda: elsewhere.nameserver is not None and not elsewhere.nameserver.routes.topics())


async def test_broker_without_any_nameserver_serves_those_who_know_it() -> None:
    async with house(nameserver_port=None) as found, client(found.broker_address) as producer:
        await producer.send("T")


async def test_two_houses_live_in_one_process() -> None:
    async with house() as first, house() as second, client(first.broker_address) as producer:
        await producer.send("T")
        assert broker_of(first).topics.find("T")
        assert broker_of(second).topics.find("T") is None


@pytest.mark.parametrize("part", ["nameserver_port", "broker_port"])
async def test_port_in_use_is_told_with_what_to_do(part: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = await refused(**{part: port})
    assert f"127.0.0.1:{port}" in said
    assert "in use" in said
    assert "another port" in said
    assert ("NameServer" if part == "nameserver_port" else "broker") in said


async def test_failed_start_frees_the_folder_and_the_other_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        await refused(Host.real(str(tmp_path)), broker_port=taken.getsockname()[1])
    async with house(Host.real(str(tmp_path))) as found, client(found.broker_address) as producer:
        await producer.send("T")


@pytest.mark.parametrize("changes", [{}, {"broker_port": None}, {"nameserver_port": None}])
async def test_folder_of_another_house_is_told_and_left_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with house(Host.real(str(tmp_path))) as first, client(first.broker_address) as producer:
        said = await refused(Host.real(str(tmp_path)), **changes)
        assert str(tmp_path) in said
        assert "another process" in said
        await producer.send("T")
        await refused(Host.real(str(tmp_path)), **changes)


async def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for changes in ({}, {"broker_port": None}):
        said = await refused(Host.real(str(tmp_path / "file" / "data")), **changes)
        assert str(tmp_path / "file") in said


async def test_file_of_the_nameserver_that_cannot_be_read_is_told() -> None:
    disk = FaultyDisk({NameServerConfig().kv_file: b"?"})
    assert NameServerConfig().kv_file in await refused(host_on(disk))


async def test_host_that_is_not_ours_is_told() -> None:
    assert "192.0.2.7" in await refused(host="192.0.2.7")


async def test_start_that_is_cancelled_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = House(Host.real(), IN_MEMORY)
    starting = asyncio.ensure_future(found.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


# The advertised address


@pytest.mark.parametrize(
    "text, port, told, in_ids",
    [
        (None, 0, "127.0.0.1:{}", "127.0.0.1:{}"),
        ("", 0, "127.0.0.1:{}", "127.0.0.1:{}"),
        ("192.0.2.7", 0, "192.0.2.7:{}", "192.0.2.7:{}"),
        ("192.0.2.7:4711", 0, "192.0.2.7:4711", "192.0.2.7:4711"),
        ("mq.example.org", 0, "mq.example.org:{}", "127.0.0.1:{}"),
        ("mq.example.org:4711", 0, "mq.example.org:4711", "127.0.0.1:4711"),
        ("2001:db8::7", 0, "[2001:db8::7]:{}", "[2001:db8::7]:{}"),
        ("[2001:db8::7]", 0, "[2001:db8::7]:{}", "[2001:db8::7]:{}"),
        ("[2001:db8::7]:4711", 0, "[2001:db8::7]:4711", "[2001:db8::7]:4711"),
    ],
)
async def test_advertised_address_is_told_to_everybody(text: str | None, port: int, told: str, in_ids: str) -> None:
    async with house(advertise=text, broker_port=port) as found:
        assert found.broker_address is not None
        assert found.nameserver is not None
        dialled = found.broker_address
        route = found.nameserver.route("TBW102", "127.0.0.1")
        assert route.brokers[0].addresses == {0: told.format(dialled.port)}
        async with client(dialled) as producer:
            store_host, _ = parse_offset_message_id((await producer.send("T")).msg_id)
            assert store_host == endpoint(in_ids.format(dialled.port))
            (stored,) = await producer.messages("T")
            assert stored.store_host == store_host


def endpoint(text: str) -> Endpoint:
    import ipaddress

    address = Address.parse(text)
    return Endpoint(ipaddress.ip_address(address.host).packed, address.port)


@pytest.mark.parametrize("text", ["host:", "host:port", "host:99999", "[::1]:port", ":4711"])
async def test_advertised_address_that_is_none_is_told(text: str) -> None:
    said = await refused(advertise=text)
    assert "--advertise" in said
    assert text in said


@pytest.mark.parametrize(
    "host, reached", [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("", "127.0.0.1"), ("10.0.0.1", "10.0.0.1")]
)
async def test_where_this_machine_reaches_a_listener(host: str, reached: str) -> None:
    assert dialable(Address(host, 1)) == Address(reached, 1)


# Ending


async def test_restart_keeps_topics_groups_offsets_and_messages(tmp_path: Path) -> None:
    async with house(Host.real(str(tmp_path))) as found, client(found.broker_address) as both:
        await broker_of(found).topics.set(TopicConfig("Empty", 3, 5))
        for number in range(10):
            await both.send("T", b"%d" % number)
        await both.pull("T")  # makes the group
        await both.ok(C.UPDATE_CONSUMER_OFFSET, {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 4})
    for _ in range(2):
        async with house(Host.real(str(tmp_path))) as found, client(found.broker_address) as both:
            broker = broker_of(found)
            assert broker.topics.require("Empty").config == TopicConfig("Empty", 3, 5)
            assert broker.groups.find("G")
            assert await broker.offsets.query("G", "T", 0) == QueueOffset(4)
            assert [each.body for each in await both.messages("T")] == [b"%d" % number for number in range(10)]
            await both.ok(C.SEND_MESSAGE_V2, send_ext("Other"))


async def test_close_in_the_middle_of_things_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    host = Host.real(str(tmp_path))
    found = House(host, IN_MEMORY)
    await found.start()
    acknowledged: list[bytes] = []
    enough = asyncio.Event()

    async def produce(number: int) -> None:
        async with client(found.broker_address) as producer:
            for at in range(1_000_000):
                body = b"%d %d" % (number, at)
                try:
                    answer = await producer.ask(C.SEND_MESSAGE_V2, send_ext("T", queueId=number), body)
                except LinkError:
                    return
                if answer.code == 0:
                    acknowledged.append(body)
                else:
                    assert answer.code == 14, answer.remark
                if len(acknowledged) > 500:
                    enough.set()

    async def consume(number: int) -> int:
        offset = 0
        async with client(found.broker_address) as consumer:
            while True:
                ext = {"queueId": number, "sysFlag": SUBSCRIPTION | SUSPEND}
                try:
                    _, reply = await consumer.pull("T", offset, **ext)
                except LinkError:
                    return offset
                offset = reply.next_begin_offset

    async with client(found.broker_address) as first:
        await first.send("T", b"first")
    users = [asyncio.ensure_future(each(number)) for number in range(4) for each in (produce, consume)]
    await asyncio.wait_for(enough.wait(), 20)
    await asyncio.wait_for(found.close(), 5)
    await asyncio.wait_for(asyncio.gather(*users), 5)  # nobody hangs
    await found.close()
    assert not found.failed.done()

    async with house(Host.real(str(tmp_path))) as again, client(again.broker_address) as reader:
        stored: list[bytes] = []
        for number in range(4):
            offset = 0
            while found_now := await reader.messages("T", offset, queueId=number):
                stored += [each.body for each in found_now]
                offset += len(found_now)
        assert set(acknowledged) <= set(stored)
        assert len(set(stored)) == len(stored), "nothing is there twice"
        for number in range(4):
            mine = [int(body.split()[1]) for body in stored if body.startswith(b"%d " % number)]
            assert mine == sorted(mine), "in the order in which it was sent"


async def test_held_pulls_are_answered_or_cut_off_at_the_end() -> None:
    async with house() as found:
        await broker_of(found).topics.set(TopicConfig("T"))
        async with client(found.broker_address) as consumer:
            ext = pull_ext("T", sysFlag=SUBSCRIPTION | SUSPEND)
            held = [asyncio.ensure_future(consumer.ask(C.PULL_MESSAGE, ext)) for _ in range(10)]
            await consumer.quiet()
            await found.close()
            assert {answer.code for answer in await asyncio.gather(*held)} == {19}


async def test_nothing_is_left_running_after_close() -> None:
    before = asyncio.all_tasks()
    async with house() as found, client(found.broker_address) as producer:
        await producer.send("T")
        await producer.beat()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    await found.close()


async def test_close_before_start_is_fine() -> None:
    found = House(Host.real(), HouseConfig(data=None))
    await found.close()
    await found.close()


async def test_house_logs_nothing_that_alarms_anybody_in_ordinary_life(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as found, client(found.broker_address) as producer:
        await producer.send("T")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Failing


async def test_failed_disk_fails_the_house_and_it_still_closes() -> None:
    disk = FaultyDisk()
    async with house(host_on(disk)) as found, client(found.broker_address) as producer:
        await producer.send("T")
        await producer.messages("T")  # makes the group
        disk.failing = lambda what: "log/" in what
        assert (await producer.ask(C.SEND_MESSAGE_V2, send_ext("T"))).code == 14
        with pytest.raises(LogFailed, match="Input/output error"):
            await asyncio.wait_for(asyncio.shield(found.failed), 1)
        assert [each.body for each in await producer.messages("T")] == [b"body"], "what is stored can still be read"
        await asyncio.wait_for(found.close(), 5)


async def test_broken_assertion_in_a_handler_fails_the_house(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with house() as found, client(found.broker_address) as asking:

        def mistaken(*args: object) -> None:
            raise AssertionError("ours")

        monkeypatch.setattr(broker_of(found).offsets, "bounds", mistaken)
        assert (await asking.ask(C.GET_MAX_OFFSET, {"topic": "T", "queueId": 0})).code == 1
        assert isinstance(found.failed.exception(), AssertionError)
    assert "ours" in caplog.text
