"""A broker as a whole: how it begins and ends, what it tells of its address, and what makes it fail."""

from __future__ import annotations

import asyncio
import logging

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.model.message import Endpoint
from posthouse.model.offsets import QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.log.engine import LogFailed
from posthouse.store.log.memory import MemoryLog
from posthouse.store.message_store import StoreBroken
from tests.broker.brokers import host_on, message, pull, request, running, send, until
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio

DIALLED = Endpoint(bytes((10, 0, 0, 1)), 10911)


async def test_restart_keeps_all_that_was_acknowledged() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        for number in range(20):
            await send(broker, message("T", b"%d" % number, tag="odd" if number % 2 else ""))
        broker.groups.require("G")
        broker.offsets.commit("G", "T", 0, QueueOffset(5))
    for _ in range(2):
        async with running(host=host) as broker:
            found = await pull(broker, request("T")).messages()
            assert [each.body for each in found] == [b"%d" % number for number in range(20)]
            odd = await pull(broker, request("T", expression="odd")).messages()
            assert [each.queue_offset for each in odd] == list(range(1, 20, 2))
            assert await broker.offsets.query("G", "T", 0) == 5
            assert (await send(broker, message("Other"))).error is None


async def test_killed_broker_keeps_all_that_was_acknowledged() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        for number in range(5):
            await send(broker, message("T", b"%d" % number))
        survived = FaultyDisk(disk.files())  # what a kill leaves
    async with running(host=host_on(survived)) as broker:
        found = await pull(broker, request("T")).messages()
        assert [each.body for each in found] == [b"%d" % number for number in range(5)]


async def test_broker_runs_over_the_memory_engine() -> None:
    broker = Broker(Host.real(), make_log=MemoryLog)
    broker.open()
    await send(broker, message("T", b"1"))
    assert [each.body for each in await pull(broker, request("T")).messages()] == [b"1"]
    await broker.stop_serving()
    await broker.close()


async def test_folder_in_use_is_told_in_one_line() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host):
        second = Broker(host)
        with pytest.raises(StoreBroken, match="another store"):
            second.open()


async def test_nothing_is_left_running_after_close() -> None:
    before = asyncio.all_tasks()
    async with running() as broker:
        broker.listening(Address("127.0.0.1", 10911))
        await broker.topics.set(TopicConfig("T"))
        pull(broker, request("T", suspend_ms=60_000))
        assert len(asyncio.all_tasks()) > len(before)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert broker.arrivals.waiting == 0
    assert not broker.failed.done()


@pytest.mark.parametrize(
    "advertise, told",
    [
        (None, DIALLED),
        (Address("192.0.2.7", 4711), Endpoint(bytes((192, 0, 2, 7)), 4711)),
        (Address("192.0.2.7", 0), Endpoint(bytes((192, 0, 2, 7)), 10922)),
        (Address("::1", 4711), Endpoint(bytes(15) + b"\1", 4711)),
        (Address("mq.example.org", 4711), Endpoint(DIALLED.ip, 4711)),
        (Address("mq.example.org", 0), Endpoint(DIALLED.ip, 10922)),
    ],
)
async def test_records_hold_the_address_that_is_advertised_or_was_dialled(
    advertise: Address | None, told: Endpoint
) -> None:
    async with running(BrokerConfig(advertise=advertise)) as broker:
        broker.listening(Address("127.0.0.1", 10922))
        assert broker.store_host(DIALLED) == told


async def test_failed_log_fails_the_broker_once() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        disk.failing = lambda what: "log/" in what
        assert isinstance((await send(broker, message("T"))).error, LogFailed)
        first = broker.failed.exception()
        assert isinstance(first, LogFailed)
        broker.bug(ZeroDivisionError("later"))
        assert broker.failed.exception() is first


async def test_mistake_in_housekeeping_fails_the_broker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken() -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("posthouse.broker.broker.SAMPLE_PERIOD_S", 0.001)
    async with running() as broker:
        monkeypatch.setattr(broker.clients, "expire", mistaken)
        broker.listening(Address("127.0.0.1", 10911))
        await until(broker.failed.done)
        assert isinstance(broker.failed.exception(), ZeroDivisionError)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_housekeeping_expires_clients_and_takes_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.broker.SAMPLE_PERIOD_S", 0.001)
    calls: list[str] = []
    async with running() as broker:
        monkeypatch.setattr(broker.clients, "expire", lambda: calls.append("expire"))
        monkeypatch.setattr(broker.runtime, "sample", lambda: calls.append("sample"))
        broker.listening(Address("127.0.0.1", 10911))
        await until(lambda: len(calls) >= 6)
        assert set(calls) == {"expire", "sample"}
