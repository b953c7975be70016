"""Questions and orders about groups, asked of a house with two brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.broker.broker import Broker
from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused, NoBroker
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.model.group import GroupConfig, GroupRule, RequestMode
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from tests.broker.brokers import FakeChannel, beat, member, message, send
from tests.endpoint.clients import house

pytestmark = pytest.mark.asyncio

A, B = MessageQueue("T", "broker-a", 0), MessageQueue("T", "broker-b", 0)


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Admin, Broker, Broker]]:
    """Topic T has a queue with three messages on each broker; group G has consumed two and one of them."""
    async with house() as first:
        assert first.nameserver_address is not None
        async with (
            house(nameserver_port=None, broker_name="broker-b", nameservers=(first.nameserver_address,)) as second,
            Admin(str(first.nameserver_address)) as admin,
        ):
            assert first.broker is not None
            assert second.broker is not None
            await second.broker.registrar.wait_for_all(5)
            await admin.create_topic("T", queues=1)
            await admin.create_group(GroupConfig("G"))
            for broker, consumed in ((first.broker, 2), (second.broker, 1)):
                for _ in range(3):
                    await send(broker, message("T"))
                broker.offsets.commit("G", "T", 0, QueueOffset(consumed))
            yield admin, first.broker, second.broker


async def test_groups_are_shown_as_each_broker_has_them() -> None:
    async with cluster() as (admin, _, other):
        await other.groups.set(GroupConfig("G", retry_max_times=3))
        await other.groups.set(GroupConfig("H"))
        assert await admin.group_configs() == {
            "G": {"broker-a": GroupConfig("G"), "broker-b": GroupConfig("G", retry_max_times=3)},
            "H": {"broker-b": GroupConfig("H")},
        }
        assert (await admin.group_config("G", "broker-b")).retry_max_times == 3
        with pytest.raises(BrokerRefused) as refused:
            await admin.group_config("H", "broker-a")
        assert refused.value.code == ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST
        assert await admin.groups_on("T") == ("G",)
        assert await admin.group_topics("G") == ("T",)


async def test_members_are_those_of_all_brokers_that_know_some() -> None:
    async with cluster() as (admin, one, _):
        assert await admin.group_members("G") == {}
        beat(one, FakeChannel(), member("G", "T"))
        found = await admin.group_members("G")
        assert [client.client_id for client in found["broker-a"].connections] == ["client-1"]
        assert list(found) == ["broker-a"]


async def test_lag_is_told_in_messages_and_in_time() -> None:
    async with cluster() as (admin, _, _):
        lags = await admin.group_lag("G")
        assert {queue: lag.messages for queue, lag in lags.items()} == {A: 1, B: 2}
        assert all(lag.lag_ms is not None and 0 <= lag.lag_ms < 60_000 for lag in lags.values())
        assert {queue: lag.messages for queue, lag in (await admin.group_lag("new", "T")).items()} == {A: 3, B: 3}


async def test_reset_does_what_its_targets_say() -> None:
    async with cluster() as (admin, one, other):
        for wanted in ({"at_ms": 0}, {"at_ms": None}, {"at_ms": None, "only_back": True}):
            targets = await admin.reset_targets("G", "T", **wanted)
            assert await admin.reset_offsets("G", "T", **wanted) == targets
        assert targets == {A: 3, B: 3}
        assert await admin.reset_offsets("G", "T", queue=B, offset=1) == {B: 1}
        assert await admin.reset_targets("G", "T", queue=B, offset=1) == {B: 1}
        assert (one.offsets.stored("G", "T", 0), other.offsets.stored("G", "T", 0)) == (3, 1)
        with pytest.raises(NoBroker, match="has no queue 7"):
            await admin.reset_targets("G", "T", queue=A._replace(queue_id=7))
        with pytest.raises(BrokerRefused) as refused:
            await admin.reset_offsets("G", "T", at_ms=0, through_clients=True)
        assert refused.value.code == ResponseCode.CONSUMER_NOT_ONLINE


async def test_offsets_are_cloned_on_all_brokers_and_compared() -> None:
    async with cluster() as (admin, one, other):
        await admin.clone_offsets("G", "H")
        assert (one.offsets.stored("H", "T", 0), other.offsets.stored("H", "T", 0)) == (2, 1)
        assert await admin.correction_offsets("T", "H", "broker-a") == {0: 2}


async def test_modes_and_permissions_are_set_on_the_brokers_that_have_the_topic() -> None:
    async with cluster() as (admin, _, other):
        await other.topics.delete("T")
        await admin.set_request_mode("G", "T", RequestMode.POP, 1)
        assert await admin.request_modes("G") == (GroupRule("G", "T", RequestMode.POP, 1),)
        assert await admin.request_modes("H") == ()
        await admin.set_readable("G", "T", False)
        assert not await admin.is_readable("G", "T")
        await admin.set_readable("G", "T", True)
        assert await admin.is_readable("G", "T")
        with pytest.raises(BrokerRefused) as refused:
            await admin.set_request_mode("G", "U", RequestMode.POP)
        assert refused.value.code == ResponseCode.TOPIC_NOT_EXIST


@pytest.mark.parametrize("keep_offsets", [False, True])
async def test_deleted_group_takes_its_topics_with_it(keep_offsets: bool) -> None:
    async with cluster() as (admin, one, _):
        for topic in ("%RETRY%G", "%DLQ%G", "%RETRY%G_T", "%RETRY%G_other"):
            await admin.create_topic(topic, queues=1)
        assert await admin.delete_group("G", keep_offsets=keep_offsets) == ("%RETRY%G", "%DLQ%G", "%RETRY%G_T")
        assert await admin.group_configs() == {}
        assert (one.offsets.stored("G", "T", 0) is not None) is keep_offsets
        assert set(await admin.topic_list()) & {"%RETRY%G", "%DLQ%G", "%RETRY%G_T"} == set()
        assert "%RETRY%G_other" in await admin.topic_list(), "another group has that name"
