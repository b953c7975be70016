"""Which consumer groups exist."""

from __future__ import annotations

import pytest

from posthouse.broker.config import BrokerConfig
from posthouse.model.group import FixedSubscription, GroupConfig, RetryPolicy, RetryPolicyType
from posthouse.model.limits import (
    EXPRESSION_BYTES_MAX,
    FIXED_SUBSCRIPTIONS_MAX,
    QUEUES_PER_TOPIC_MAX,
    RETRY_TIMES_MAX,
)
from posthouse.model.offsets import QueueOffset
from posthouse.model.pull import PullStatus
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import host_on, pull, request, running, settled
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio


async def test_first_use_makes_a_group_with_the_defaults() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        assert broker.groups.require("G") == GroupConfig("G")
        await settled(broker)
    async with running(host=host) as broker:
        assert broker.groups.all() == [GroupConfig("G")]


async def test_without_auto_creation_an_unknown_group_is_refused() -> None:
    async with running(BrokerConfig(auto_create_groups=False)) as broker:
        with pytest.raises(Refused, match="create it first") as refused:
            broker.groups.require("G")
        assert refused.value.reason is Reason.GROUP_NOT_EXIST
        await broker.groups.set(GroupConfig("G"))
        assert broker.groups.require("G") == GroupConfig("G")


@pytest.mark.parametrize("name", ["", "a" * 121, "with blank", "ü"])
async def test_name_that_is_not_legal_is_refused_everywhere(name: str) -> None:
    async with running() as broker:
        with pytest.raises(Refused) as refused:
            broker.groups.require(name)
        assert refused.value.reason is Reason.INVALID_PARAMETER
        with pytest.raises(Refused):
            await broker.groups.set(GroupConfig(name))
        assert broker.groups.all() == []


async def test_admin_sets_a_group_and_restart_keeps_it() -> None:
    host = host_on(FaultyDisk())
    config = GroupConfig("G", consume_enable=False, retry_queues=3, retry_max_times=5, attributes={"a": "b"})
    async with running(host=host) as broker:
        await broker.groups.set(config)
        await broker.groups.set(config)
    async with running(host=host) as broker:
        assert broker.groups.find("G") == config


@pytest.mark.parametrize("retry_queues", [-1, QUEUES_PER_TOPIC_MAX + 1, 2**31 - 1])
async def test_retry_topics_have_a_limited_number_of_queues(retry_queues: int) -> None:
    async with running() as broker:
        with pytest.raises(Refused, match=str(QUEUES_PER_TOPIC_MAX)) as refused:
            await broker.groups.set(GroupConfig("G", retry_queues=retry_queues))
        assert refused.value.reason is Reason.INVALID_PARAMETER


async def test_attributes_have_a_limited_size() -> None:
    async with running() as broker:
        with pytest.raises(Refused) as refused:
            await broker.groups.set(GroupConfig("G", attributes={"a": "x" * 32_768}))
        assert refused.value.reason is Reason.INVALID_PARAMETER


@pytest.mark.parametrize("with_offsets", [True, False])
async def test_deleted_group_takes_its_offsets_along_if_that_is_asked(with_offsets: bool) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        broker.offsets.commit("G", "T", 0, QueueOffset(5))
        await broker.groups.delete("G", with_offsets)
        assert broker.groups.find("G") is None
        assert broker.offsets.stored("G", "T", 0) == (None if with_offsets else 5)


async def test_deleting_an_unknown_group_is_no_error() -> None:
    async with running() as broker:
        await broker.groups.delete("NoSuchGroup", True)


async def test_past_the_limit_new_groups_are_refused_and_old_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.groups.GROUPS_MAX", 1)
    async with running() as broker:
        broker.groups.require("G")
        with pytest.raises(Refused, match="1 groups") as refused:
            broker.groups.require("H")
        assert refused.value.reason is Reason.BUSY
        with pytest.raises(Refused):
            await broker.groups.set(GroupConfig("H"))
        broker.groups.require("G")
        await broker.groups.set(GroupConfig("G", consume_enable=False))
        assert not broker.groups.require("G").consume_enable


async def test_nothing_is_made_when_the_store_takes_no_writes() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        disk.failing = lambda what: "log/" in what
        with pytest.raises(Refused):
            await broker.groups.set(GroupConfig("G"))
        with pytest.raises(Refused) as refused:
            broker.groups.require("H")
        assert refused.value.reason is Reason.NOT_WRITABLE
        assert broker.groups.find("H") is None


# All fields, and rules for topics


async def test_retry_policy_and_fixed_subscriptions_are_kept_and_bounded() -> None:
    host = host_on(FaultyDisk())
    config = GroupConfig(
        "G",
        retry_policy=RetryPolicy(RetryPolicyType.EXPONENTIAL, (), 1000, 60_000, 3),
        fixed_subscriptions=(FixedSubscription("T", "a || b", version=7),),
    )
    async with running(host=host) as broker:
        await broker.groups.set(config)
        for wrong in (
            GroupConfig("H", retry_policy=RetryPolicy(next_ms=(1,) * (RETRY_TIMES_MAX + 1))),
            GroupConfig("H", retry_policy=RetryPolicy(next_ms=(-1,))),
            GroupConfig("H", fixed_subscriptions=(FixedSubscription("T"),) * (FIXED_SUBSCRIPTIONS_MAX + 1)),
            GroupConfig("H", fixed_subscriptions=(FixedSubscription("T", "x" * (EXPRESSION_BYTES_MAX + 1)),)),
        ):
            with pytest.raises(Refused) as refused:
                await broker.groups.set(wrong)
            assert refused.value.reason is Reason.INVALID_PARAMETER
    async with running(host=host) as broker:
        assert broker.groups.all() == [config]


async def test_group_that_may_not_read_a_topic_is_refused_until_it_may_again() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        await broker.groups.set_readable("G", "T", False)
        with pytest.raises(Refused, match="forbidden to read") as refused:
            pull(broker, request("T"))
        assert refused.value.reason is Reason.NO_PERMISSION
        assert (await pull(broker, request("T", group="H")).result()).status is PullStatus.NOTHING_NEW
    async with running(host=host) as broker:
        with pytest.raises(Refused):
            pull(broker, request("T"))
        await broker.groups.set_readable("G", "T", True)
        await broker.groups.set_readable("G", "T", True)
        assert broker.groups.rules() == []
        assert (await pull(broker, request("T")).result()).status is PullStatus.NOTHING_NEW


async def test_rules_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.groups.GROUP_RULES_MAX", 1)
    async with running() as broker:
        await broker.groups.set_readable("G", "T", False)
        with pytest.raises(Refused, match="which is the limit") as refused:
            await broker.groups.set_readable("G", "U", False)
        assert refused.value.reason is Reason.BUSY
        await broker.groups.set_readable("G", "T", True)
        await broker.groups.set_readable("G", "U", False)


async def test_deleted_group_takes_its_rules_with_it_and_offsets_of_a_forgotten_one_can_go_too() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        broker.offsets.commit("G", "T", 0, QueueOffset(1))
        await broker.groups.set_readable("G", "T", False)
        await broker.groups.delete("G", with_offsets=False)
        assert broker.groups.rules() == []
        assert broker.offsets.stored("G", "T", 0) == 1
        await broker.groups.delete("G", with_offsets=True)
        assert broker.offsets.stored("G", "T", 0) is None
