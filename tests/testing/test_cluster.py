"""A cluster inside a test: up in milliseconds, real to its users, gone without a trace."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import posthouse.testing
from posthouse import Producer, PullConsumer
from posthouse.client.errors import PosthouseError
from posthouse.endpoint.house import House, StartError
from posthouse.host.net import Address
from tests.broker.brokers import until
from tests.endpoint.clients import C, client

pytestmark = pytest.mark.asyncio


async def test_what_is_sent_can_be_consumed() -> None:
    async with posthouse.testing.cluster() as cluster:
        async with Producer(cluster.nameservers) as producer:
            receipt = await producer.send("orders", b"42", tag="new")
        async with PullConsumer("readers", cluster.nameservers) as consumer:
            (stored,) = [message async for message in consumer.stream("orders", stop_at_end=True)]
        assert (stored.body, stored.tag, stored.message_id) == (b"42", "new", receipt.message_id)


async def test_it_starts_in_a_fifth_of_a_second() -> None:
    async with posthouse.testing.cluster():
        pass  # imports are not counted
    began_s = time.perf_counter()
    async with posthouse.testing.cluster():
        started_s = time.perf_counter()
    assert started_s - began_s < 0.2
    assert time.perf_counter() - started_s < 0.2


async def test_all_brokers_can_be_sent_to_when_the_block_begins() -> None:
    async with posthouse.testing.cluster(brokers=3) as cluster:
        assert len(set(cluster.broker_addresses)) == 3
        assert [house.config.broker_name for house in cluster.houses] == ["broker-a", "broker-b", "broker-c"]
        nameserver = cluster.houses[0].nameserver
        assert nameserver is not None
        route = nameserver.route("TBW102", "127.0.0.1")
        assert {broker.addresses[0] for broker in route.brokers} == set(cluster.broker_addresses)
        for address in cluster.broker_addresses:
            async with client(Address.parse(address)) as producer:
                await producer.send("T")


async def test_many_clusters_live_side_by_side_and_know_nothing_of_each_other() -> None:
    async with (
        posthouse.testing.cluster() as first,
        posthouse.testing.cluster() as second,
        posthouse.testing.cluster() as third,
    ):
        assert len({first.nameservers, second.nameservers, third.nameservers}) == 3
        async with Producer(first.nameservers) as producer:
            await producer.send("only-here", b"1")
        async with PullConsumer("readers", second.nameservers) as consumer:
            with pytest.raises(PosthouseError):
                await consumer.queues("only-here")


async def test_without_auto_creation_topics_must_be_made() -> None:
    async with (
        posthouse.testing.cluster(auto_create_topics=False) as cluster,
        Producer(cluster.nameservers) as producer,
    ):
        with pytest.raises(PosthouseError):
            await producer.send("unknown", b"1")


async def test_folder_keeps_what_was_stored(tmp_path: Path) -> None:
    for data in (tmp_path, str(tmp_path)):
        async with posthouse.testing.cluster(brokers=2, data=data) as cluster:
            for address in cluster.broker_addresses:
                async with client(Address.parse(address)) as both:
                    await both.send("T", address.encode())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broker-a", "broker-b"]
    async with (
        posthouse.testing.cluster(data=tmp_path) as cluster,
        client(Address.parse(cluster.broker_addresses[0])) as both,
    ):
        assert len(await both.messages("T")) == 2


async def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with posthouse.testing.cluster() as cluster, client(Address.parse(cluster.broker_addresses[0])) as both:
        await both.send("T")
    assert list(tmp_path.iterdir()) == []


async def test_nothing_of_the_process_is_touched_and_nothing_is_left() -> None:
    def state() -> tuple[object, ...]:
        root = logging.getLogger()
        handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        return handlers, list(root.handlers), root.level, logging.getLogger("posthouse").level

    before, tasks, threads = state(), asyncio.all_tasks(), threading.active_count()
    async with posthouse.testing.cluster(brokers=2) as cluster:
        assert state() == before
        async with client(Address.parse(cluster.broker_addresses[0])) as both:
            await both.send("T")
    await asyncio.sleep(0)
    assert state() == before
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads
    for house in cluster.houses:
        assert house.broker_address is not None
        with pytest.raises(OSError):
            async with client(house.broker_address):
                pass


async def test_end_does_not_wait_for_clients_that_are_still_connected() -> None:
    async with AsyncExitStack() as clients:
        async with posthouse.testing.cluster() as cluster:
            both = await clients.enter_async_context(client(Address.parse(cluster.broker_addresses[0])))
            await both.send("T")
            began_s = time.perf_counter()
        assert time.perf_counter() - began_s < 1


async def test_cluster_of_no_brokers_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        async with posthouse.testing.cluster(brokers=0):
            pass


async def test_broker_that_cannot_start_ends_those_that_have(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = asyncio.all_tasks()
    start = House.start

    async def fail(house: House) -> None:
        if house.config.broker_name == "broker-c":
            raise StartError("no room")
        await start(house)

    monkeypatch.setattr(House, "start", fail)
    with pytest.raises(StartError, match="no room"):
        async with posthouse.testing.cluster(brokers=4):
            pass
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks


async def test_failure_inside_is_raised_at_the_end_unless_the_test_has_failed_itself() -> None:
    async def fail(own: BaseException | None) -> None:
        async with posthouse.testing.cluster() as cluster:
            broker = cluster.houses[0].broker
            assert broker is not None
            broker.bug(ZeroDivisionError("inside"))
            await until(cluster.houses[0].failed.done)
            if own is not None:
                raise own

    with pytest.raises(ZeroDivisionError, match="inside"):
        await fail(None)
    with pytest.raises(KeyError, match="the test's"):
        await fail(KeyError("the test's"))


async def test_another_process_of_any_language_would_find_it() -> None:
    async with posthouse.testing.cluster() as cluster, client(Address.parse(cluster.nameservers)) as asking:
        answer = await asking.ok(C.GET_ROUTEINFO_BY_TOPIC, {"topic": "TBW102"})
        assert cluster.broker_addresses[0].encode() in answer.body
