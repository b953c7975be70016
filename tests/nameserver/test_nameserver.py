from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.host import Host
from posthouse.model.refusal import Reason, Refused
from posthouse.model.registration import Registration
from posthouse.model.route import DataVersion
from posthouse.model.topic import TopicConfig
from posthouse.nameserver.addresses import Origin
from posthouse.nameserver.kv import ORDER_TOPIC_CONFIG, KvUnreadable
from posthouse.nameserver.nameserver import NameServer, NameServerConfig
from posthouse.nameserver.routes import BrokerIdentity, BrokerTraits

HERE = Origin("127.0.0.1", "127.0.0.1")


class Wire:
    def __init__(self) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def close(self, why: str) -> None:
        self.closed.set_result(why)


@asynccontextmanager
async def running(config: NameServerConfig | None = None, host: Host | None = None) -> AsyncIterator[NameServer]:
    nameserver = NameServer(host or Host.real(), config)
    await nameserver.start()
    try:
        yield nameserver
    finally:
        await nameserver.close()
        await nameserver.close()


def register(nameserver: NameServer, wire: Wire, timeout_ms: int | None = None) -> None:
    who = BrokerIdentity("C", "broker-a", "10.0.0.1:10911", 0)
    topics = Registration({name: TopicConfig(name) for name in ("T", "U")}, DataVersion(0, 1, 1))
    nameserver.routes.register(who, topics, BrokerTraits(timeout_ms=timeout_ms), wire, HERE)


@pytest.mark.asyncio
async def test_silent_broker_is_forgotten_and_its_connection_closed() -> None:
    async with running(NameServerConfig(scan_interval_ms=5)) as nameserver:
        wire = Wire()
        register(nameserver, wire, timeout_ms=30)
        assert nameserver.route("T", "")
        assert "silent" in await asyncio.wait_for(wire.closed, 5)
        with pytest.raises(Refused):
            nameserver.route("T", "")


@pytest.mark.asyncio
async def test_mistake_of_ours_in_the_task_is_told() -> None:
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    nameserver = NameServer(Host.real(), NameServerConfig(scan_interval_ms=5), told.set_result)
    await nameserver.start()
    wire = Wire()
    wire.closed.set_result("twice is an error of this test's wire")
    register(nameserver, wire, timeout_ms=1)
    assert isinstance(await asyncio.wait_for(told, 5), asyncio.InvalidStateError)
    await nameserver.close()


@pytest.mark.asyncio
async def test_nothing_is_left_running_after_close() -> None:
    before = asyncio.all_tasks()
    async with running():
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert asyncio.all_tasks() == before


@pytest.mark.asyncio
async def test_routes_are_refused_while_brokers_are_waited_for() -> None:
    async with running(NameServerConfig(need_wait_for_service=True)) as nameserver:
        register(nameserver, Wire())
        with pytest.raises(Refused, match="name server not ready") as refused:
            nameserver.route("T", "")
        assert refused.value.reason is Reason.FAILED
        nameserver.change_config({"needWaitForService": "false"})
        assert nameserver.route("T", "")


@pytest.mark.asyncio
async def test_waiting_for_brokers_ends() -> None:
    async with running(NameServerConfig(need_wait_for_service=True, wait_for_service_s=0)) as nameserver:
        register(nameserver, Wire())
        assert nameserver.route("T", "")


@pytest.mark.asyncio
async def test_order_configuration_is_part_of_a_route_only_when_enabled() -> None:
    async with running() as nameserver:
        register(nameserver, Wire())
        await nameserver.kv.put(ORDER_TOPIC_CONFIG, "T", "broker-a:4")
        assert nameserver.route("T", "").order_conf is None
        nameserver.change_config({"orderMessageEnable": "true"})
        assert nameserver.route("T", "").order_conf == "broker-a:4"
        assert nameserver.route("U", "").order_conf is None


@pytest.mark.asyncio
async def test_brokers_are_told_the_order_table_unless_disabled() -> None:
    async with running() as nameserver:
        assert nameserver.order_table() is None
        await nameserver.kv.put(ORDER_TOPIC_CONFIG, "T", "broker-a:4")
        assert nameserver.order_table() == {"T": "broker-a:4"}
        nameserver.change_config({"returnOrderTopicConfigToBroker": "false"})
        assert nameserver.order_table() is None


@pytest.mark.asyncio
async def test_restart_keeps_the_kv_configuration_and_nothing_else() -> None:
    host = Host.real()
    async with running(host=host) as first:
        register(first, Wire())
        await first.kv.put("NS", "key", "value")
        first.change_config({"orderMessageEnable": "true"})
    async with running(host=host) as second:
        assert second.kv.get("NS", "key") == "value"
        assert second.routes.topics() == []
        assert not second.config.order_message_enable


@pytest.mark.asyncio
async def test_refused_change_of_settings_changes_nothing() -> None:
    async with running() as nameserver:
        with pytest.raises(Refused):
            nameserver.change_config({"orderMessageEnable": "true", "kvConfigPath": "elsewhere"})
        assert nameserver.config == NameServerConfig()


@pytest.mark.asyncio
async def test_start_fails_on_a_kv_file_that_cannot_be_read() -> None:
    host = Host.real()
    written = asyncio.get_running_loop().create_future()
    host.disk.replace(NameServerConfig().kv_file, b"?", written.set_result)
    await written
    nameserver = NameServer(host)
    with pytest.raises(KvUnreadable):
        await nameserver.start()
    await nameserver.close()
