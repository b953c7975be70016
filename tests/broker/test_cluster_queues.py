"""The queues of a topic in a cluster of two brokers."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.cluster_queues import QUEUES_KEPT_S, ClusterQueues
from posthouse.broker.config import BrokerConfig
from posthouse.host.net import Address
from posthouse.model.message import MessageQueue
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import running
from tests.broker.nameservers import LOOPBACK, real_nameserver

pytestmark = pytest.mark.asyncio


class Time:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def queues_of(broker: Broker, time: Time) -> ClusterQueues:
    return ClusterQueues(broker.config.name, broker.topics, broker.registrar, time)


def places(*pairs: tuple[str, int]) -> list[MessageQueue]:
    return [MessageQueue("T", broker, queue_id) for broker, queue_id in pairs]


async def test_broker_without_a_nameserver_knows_its_own_queues() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", 2, 3))
        queues = queues_of(broker, Time())
        assert sorted(await queues.read_queues("T")) == places(("broker-a", 0), ("broker-a", 1))
        assert await queues.read_queues("NoSuchTopic") == ()
        await broker.topics.set(TopicConfig("T", 2, 3, perm=int(Perm.WRITE)))
        assert await queues.read_queues("T") == ()


async def test_queues_of_other_brokers_are_asked_for_and_kept_for_a_moment() -> None:
    async with real_nameserver() as (_, address):
        config_a = BrokerConfig(nameservers=(address,), register_period_s=0.1)
        config_b = BrokerConfig(name="broker-b", nameservers=(address,), register_period_s=0.1)
        async with running(config_a) as one, running(config_b) as other:
            for broker in (one, other):
                await broker.topics.set(TopicConfig("T", 1, 1))
                broker.listening(Address(LOOPBACK, 1))
                assert await broker.registrar.wait_for_all(5)
            time = Time()
            queues = queues_of(one, time)
            both = places(("broker-a", 0), ("broker-b", 0))
            assert sorted(await queues.read_queues("T")) == both
            await other.topics.set(TopicConfig("T", 2, 2))
            assert sorted(await queues.read_queues("T")) == both, "kept"
            async with asyncio.timeout(5):  # until the NameServer knows
                while sorted(await queues.read_queues("T")) != [*both, *places(("broker-b", 1))]:
                    await asyncio.sleep(0.01)
                    time.now_s += QUEUES_KEPT_S


async def test_what_was_known_last_counts_when_no_nameserver_answers() -> None:
    async with real_nameserver() as (_, address):
        config = BrokerConfig(nameservers=(address,), register_period_s=0.1)
        other_config = BrokerConfig(name="broker-b", nameservers=(address,), register_period_s=0.1)
        async with running(config) as one, running(other_config) as other:
            await other.topics.set(TopicConfig("T", 1, 1))
            for broker in (one, other):
                broker.listening(Address(LOOPBACK, 1))
                assert await broker.registrar.wait_for_all(5)
            time = Time()
            queues = queues_of(one, time)
            assert await queues.read_queues("T") == tuple(places(("broker-b", 0)))
            one.registrar._links[0].address = Address(LOOPBACK, 1)  # nobody listens there
            time.now_s += QUEUES_KEPT_S
            assert await queues.read_queues("T") == tuple(places(("broker-b", 0)))
            assert await queues.read_queues("U") == ()
