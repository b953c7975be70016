"""Orders and questions to a cluster."""

from __future__ import annotations

import asyncio

import pytest

from posthouse import Message, Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused, NoBroker, NoRoute
from posthouse.host.net import Address
from posthouse.model.group import GroupConfig
from posthouse.model.topic import Perm
from tests.behaviour.conftest import Server, until, until_equal

pytestmark = pytest.mark.asyncio


async def test_topics_are_created_changed_and_deleted(server: Server, name: str) -> None:
    async with Admin(server.nameserver) as admin:
        assert name not in await admin.topic_list()
        with pytest.raises(NoRoute):
            await admin.topic_route(name)
        await admin.create_topic(name, queues=3)
        assert name in await admin.topic_list()
        (queues,) = (await admin.topic_route(name)).queues
        assert (queues.read_queues, queues.write_queues, queues.perm) == (3, 3, Perm.READ_WRITE)
        await admin.create_topic(name, queues=5)

        async def count() -> int:
            return (await admin.topic_route(name)).queues[0].write_queues

        await until_equal(count, 5)
        config = await admin.topic_config(name, queues.broker_name)
        assert (config.name, config.read_queues, config.write_queues) == (name, 5, 5)
        await admin.delete_topic(name)
        assert name not in await admin.topic_list()
        with pytest.raises(NoRoute):
            await admin.topic_route(name)


async def test_a_cluster_names_its_brokers(server: Server) -> None:
    async with Admin(server.nameserver) as admin:
        info = await admin.cluster_info()
        ((cluster, names),) = info.clusters.items()
        (broker,) = names
        assert info.brokers[broker].cluster == cluster
        master = info.brokers[broker].master
        assert master is not None
        by_name = await admin.broker_runtime_info(broker)
        by_address = await admin.broker_runtime_info(Address.parse(master))
        assert by_name.keys() >= {"brokerVersionDesc", "putTps", "bootTimestamp"}
        assert by_name["bootTimestamp"] == by_address["bootTimestamp"]
        with pytest.raises(NoBroker, match=f"nobody.*known are: {broker}"):
            await admin.broker_runtime_info("nobody")
        with pytest.raises(NoBroker, match=f"no cluster nowhere; known are: {cluster}"):
            await admin.create_topic("t", cluster="nowhere")


async def test_the_figures_of_a_topic_count_its_messages(server: Server, name: str) -> None:
    async with Admin(server.nameserver) as admin, Producer(server.nameserver) as producer:
        await admin.create_topic(name, queues=2)
        one, two = await producer.queues(name)
        await asyncio.gather(*(producer.send(name, b"x", queue=one) for _ in range(7)))
        await producer.send(name, b"x", queue=two)

        async def bounds_of_all() -> list[tuple[int, int]]:
            stats = await admin.topic_stats(name)
            assert list(stats.queues) == [one, two]
            return [(bounds.min_offset, bounds.max_offset) for bounds in stats.queues.values()]

        await until_equal(bounds_of_all, [(0, 7), (0, 1)])
        stats = await admin.topic_stats(name)
        assert all(bounds.updated_at_ms > 1_600_000_000_000 for bounds in stats.queues.values())


async def test_the_figures_of_a_group_show_its_backlog(server: Server, name: str) -> None:
    group = f"g-{name}"
    got: list[bytes] = []
    async with Admin(server.nameserver) as admin, Producer(server.nameserver) as producer:
        await admin.create_group(GroupConfig(group))
        await admin.create_topic(name, queues=1)
        async with PushConsumer(group, server.nameserver, subscribe=name, handler=lambda m: got.append(m.body)) as c:
            await until(lambda: len(c.assigned) >= 1)
            for _ in range(5):
                await producer.send(name, b"x")
            await until(lambda: len(got) == 5)
            (broker,) = (await admin.cluster_info()).brokers
            members = await admin.group_connections(group, broker)
            assert [member.client_id for member in members.connections] == [c.client_id]
            assert members.subscriptions[name].expression == "*"
        for _ in range(3):
            await producer.send(name, b"x")

        async def figures() -> list[tuple[int, int, int]]:
            found = (await admin.group_stats(group, name)).queues.values()
            return [(progress.consumer_offset, progress.broker_offset, progress.backlog) for progress in found]

        await until_equal(figures, [(5, 8, 3)])
        with pytest.raises(BrokerRefused, match=r"CONSUMER_NOT_ONLINE.*start a consumer of that group"):
            await admin.group_connections(f"{group}-none", broker)


async def test_messages_are_found_by_key_by_id_and_by_place(server: Server, name: str) -> None:
    async with Admin(server.nameserver) as admin, Producer(server.nameserver) as producer:
        await admin.create_topic(name, queues=2)
        sent = [
            await producer.send(Message(name, f"{number}".encode(), keys=("all", f"odd-{number % 2}")))
            for number in range(8)
        ]

        async def bodies(key: str, **others: int) -> list[str]:
            return [each.body.decode() for each in await admin.query_by_key(name, key, **others)]

        await until_equal(lambda: bodies("all"), ["7", "6", "5", "4", "3", "2", "1", "0"])
        assert await bodies("odd-1") == ["7", "5", "3", "1"]
        assert await bodies("all", limit=3) == ["7", "6", "5"]
        assert await bodies("all", end_ms=1000) == []
        assert await bodies("none") == []
        for number, receipt in enumerate(sent):
            (by_id,) = await admin.query_by_unique_key(name, receipt.message_id)
            by_place = await admin.message_by_id(receipt.offset_message_id)
            assert by_id.body == by_place.body == f"{number}".encode()
            assert by_place.queue_offset == receipt.queue_offset
        assert await admin.query_by_unique_key(name, "no such id") == ()
        gone = sent[0].offset_message_id[:16] + f"{2**50:016X}"
        with pytest.raises(BrokerRefused):
            await admin.message_by_id(gone)
