"""Settings that are changed while a broker runs: which, what they do at once, and what is refused."""

from __future__ import annotations

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.host.net import Address
from posthouse.model.limits import POP_POLL_MS_MAX
from posthouse.model.names import AUTO_CREATE_TOPIC
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import Perm
from posthouse.store.config import HOUR_MS, Durability, StoreConfig
from tests.broker.brokers import host_on, message, request, running, send, until
from tests.broker.nameservers import LOOPBACK, real_nameserver
from tests.store.disks import FaultyDisk
from tests.store.test_retention import MeasuredDisk

pytestmark = pytest.mark.asyncio


def change(broker: Broker, **properties: str) -> None:
    broker.settings.change(properties)


def refused(broker: Broker, **properties: str) -> Refused:
    """The refusal; that nothing was changed is asserted."""
    before, version = broker.settings.config, broker.settings.version
    with pytest.raises(Refused) as caught:
        change(broker, **properties)
    assert (broker.settings.config, broker.settings.version) == (before, version)
    assert broker.config is before
    return caught.value


# What changes


async def test_topics_are_made_or_not_from_now_on() -> None:
    async with running() as broker:
        change(broker, autoCreateTopicEnable="false")
        with pytest.raises(Refused) as caught:
            await send(broker, message("T"))
        assert caught.value.reason is Reason.TOPIC_NOT_EXIST
        assert AUTO_CREATE_TOPIC not in {config.name for config in broker.topics.configs()}
        change(broker, autoCreateTopicEnable="true", defaultTopicQueueNums="2")
        await send(broker, message("T"), queues=16)
        assert broker.topics.require("T").config.write_queues == 2


async def test_groups_are_made_or_not_from_now_on() -> None:
    async with running() as broker:
        await send(broker, message("T"))
        change(broker, autoCreateSubscriptionGroup="false")
        with pytest.raises(Refused) as caught:
            broker.pull.pull(request("T"), object(), lambda result: None)
        assert caught.value.reason is Reason.GROUP_NOT_EXIST


async def test_acknowledgements_wait_for_the_disk_or_not_from_now_on() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        assert (await send(broker, message("T"))).put.synced
        change(broker, flushDiskType="ASYNC_FLUSH")
        assert broker.settings.config.store.durability is Durability.OS
        assert not (await send(broker, message("T"))).put.synced
        change(broker, flushDiskType="SYNC_FLUSH")
        assert (await send(broker, message("T"))).put.synced


async def test_levels_of_the_disk_count_from_the_next_look_on() -> None:
    disk = MeasuredDisk()
    async with running(host=host_on(disk)) as broker:
        disk.used = 600
        change(broker, diskMaxUsedSpaceRatio="20", diskSpaceCleanForciblyRatio="30", diskSpaceWarningLevelRatio="50")
        broker.retention.measure()
        with pytest.raises(Refused, match="over 50%"):
            await send(broker, message("T"))
        change(broker, diskSpaceWarningLevelRatio="95")
        broker.retention.measure()
        await send(broker, message("T"))


async def test_retention_is_told_in_hours() -> None:
    async with running() as broker:
        change(broker, fileReservedTime="48", deleteWhen="16; 4")
        assert broker.settings.config.store.retention_ms == 48 * HOUR_MS
        assert broker.settings.config.store.retention_hours == (4, 16)
        told = broker.settings.table(10911)
        assert (told["fileReservedTime"], told["deleteWhen"]) == ("48", "04;16")
        change(broker, deleteWhen="")
        assert broker.settings.table(10911)["deleteWhen"] == ""


async def test_broker_that_may_not_be_written_to_tells_so_to_nameservers() -> None:
    async with real_nameserver() as (nameserver, address), running(BrokerConfig(nameservers=(address,))) as broker:
        broker.listening(Address(LOOPBACK, 10911))
        assert await broker.registrar.wait_for_all(5)

        def perm() -> int:
            return nameserver.route(broker.config.name, LOOPBACK).queues[0].perm

        assert perm() == Perm.READ_WRITE | Perm.INHERIT
        change(broker, brokerPermission="4")
        await until(lambda: perm() == Perm.READ)
        await send(broker, message("T"))  # who has not heard of it yet loses nothing
        change(broker, brokerPermission="6")
        await until(lambda: perm() == Perm.READ_WRITE | Perm.INHERIT)


async def test_pulls_and_pops_are_held_shorter_without_long_polling() -> None:
    async with running() as broker:
        change(broker, longPollingEnable="false")
        assert broker.pull._suspend_ms_max == broker.pop._poll_ms_max == 1000
        change(broker, longPollingEnable="true", registerNameServerPeriod="10000")
        assert (broker.pull._suspend_ms_max, broker.pop._poll_ms_max) == (25_000, POP_POLL_MS_MAX)
        assert broker.registrar.period_s == 10.0


async def test_change_has_a_new_version_and_what_is_so_already_has_not() -> None:
    async with running() as broker:
        assert broker.settings.version.counter == 0
        change(broker, fileReservedTime="48")
        change(broker, fileReservedTime="48")
        change(broker)
        assert broker.settings.version.counter == 1
        assert broker.config.store.retention_ms == 48 * HOUR_MS


# What does not


@pytest.mark.parametrize(
    "name",
    [
        "storePathRootDir", "storePathCommitLog", "rocketmqHome", "brokerConfigPath", "configBlackList",
        "filterServerNums", "brokerName", "brokerId", "namesrvAddr", "listenPort", "brokerIP1", "maxMessageSize",
    ],
)  # fmt: skip
async def test_paths_names_addresses_and_what_is_run_are_never_changed(name: str) -> None:
    async with running() as broker:
        refusal = refused(broker, **{name: "1"})
        assert refusal.reason is Reason.NO_PERMISSION
        assert refusal.remark.startswith(f"{name} cannot be changed by request: ")


async def test_unknown_setting_is_refused_with_those_that_there_are() -> None:
    async with running() as broker:
        refusal = refused(broker, enableControllerMode="true")
        assert refusal.reason is Reason.INVALID_PARAMETER
        assert "fileReservedTime" in refusal.remark


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("autoCreateTopicEnable", "yes"), ("brokerPermission", "7"), ("defaultTopicQueueNums", "0"),
        ("defaultTopicQueueNums", "1025"), ("fileReservedTime", "-1"), ("fileReservedTime", "9" * 30),
        ("fileReservedTime", ""), ("deleteWhen", "24"), ("deleteWhen", "4,5"), ("flushDiskType", "sync"),
        ("diskMaxUsedSpaceRatio", "96"), ("diskMaxUsedSpaceRatio", "90"), ("registerNameServerPeriod", "1"),
    ],
)  # fmt: skip
async def test_value_of_the_wrong_kind_is_refused_and_said_what_may_be(name: str, value: str) -> None:
    async with running() as broker:
        assert refused(broker, **{name: value}).reason is Reason.INVALID_PARAMETER


async def test_several_are_changed_together_or_not_at_all() -> None:
    async with running() as broker:
        refused(broker, fileReservedTime="48", listenPort="1")
        refused(broker, fileReservedTime="48", deleteWhen="x")
        change(broker, diskMaxUsedSpaceRatio="91", diskSpaceCleanForciblyRatio="92", diskSpaceWarningLevelRatio="93")


async def test_table_tells_what_the_broker_runs_with() -> None:
    config = BrokerConfig(
        cluster="C",
        name="b",
        store=StoreConfig(retention_ms=90_000, durability=Durability.OS, disk_clean_level=0.5),
    )
    async with running(config) as broker:
        told = broker.settings.table(1234)
        assert (told["brokerClusterName"], told["brokerName"], told["listenPort"]) == ("C", "b", "1234")
        assert (told["fileReservedTime"], told["diskMaxUsedSpaceRatio"]) == ("0.025", "50")
        assert (told["flushDiskType"], told["brokerPermission"]) == ("ASYNC_FLUSH", "6")
