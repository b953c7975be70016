"""The figures of request 28, as RocketMQ's tools take them apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.broker.runtime import Runtime
from posthouse.host import Host
from posthouse.store.config import StoreConfig
from tests.broker.brokers import host_on, message, pull, request, running, send
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.test_retention import MeasuredDisk

pytestmark = pytest.mark.asyncio


def tps(text: str) -> list[float]:
    """How clusterList and the dashboard read a rate: three numbers with blanks between."""
    found = [float(part) for part in text.split(" ")]
    assert len(found) == 3
    return found


def long(text: str) -> int:
    """Java's Long.parseLong: digits with an optional sign and nothing else."""
    assert text.removeprefix("-").isascii()
    assert text.removeprefix("-").isdecimal()
    return int(text)


# What clusterList, brokerStatus and the dashboard read. They fail on a name that is missing.
# Source: RocketMQ 5.3 ClusterListSubCommand, BrokerStatusSubCommand; rocketmq-dashboard ClusterServiceImpl.
PARSED: dict[str, Callable[[str], object]] = {
    "brokerVersionDesc": str,
    "putTps": tps,
    "getTransferredTps": tps,
    "getTotalTps": tps,
    "getFoundTps": tps,
    "getMissTps": tps,
    "earliestMessageTimeStamp": long,
    "msgPutTotalYesterdayMorning": long,
    "msgPutTotalTodayMorning": long,
    "msgPutTotalTodayNow": long,
    "msgGetTotalYesterdayMorning": long,
    "msgGetTotalTodayMorning": long,
    "msgGetTotalTodayNow": long,
    "sendThreadPoolQueueSize": long,
    "pullThreadPoolQueueSize": long,
    "ackThreadPoolQueueSize": long,
    "queryThreadPoolQueueSize": long,
    "sendThreadPoolQueueHeadWaitTimeMills": long,
    "pullThreadPoolQueueHeadWaitTimeMills": long,
    "ackThreadPoolQueueHeadWaitTimeMills": long,
    "queryThreadPoolQueueHeadWaitTimeMills": long,
    "pageCacheLockTimeMills": long,
    "commitLogDiskRatio": float,
    "consumeQueueDiskRatio": float,
    "commitLogMinOffset": long,
    "commitLogMaxOffset": long,
    "timerReadBehind": long,
    "timerOffsetBehind": long,
    "timerCongestNum": long,
    "timerEnqueueTps": float,
    "timerDequeueTps": float,
    "bootTimestamp": long,
    "putMessageTimesTotal": long,
    "putMessageSizeTotal": long,
    "putMessageAverageSize": float,
}


async def test_every_figure_is_there_and_parses_as_tools_parse_it() -> None:
    async with running() as broker:
        for _ in range(2):  # without a message and with one
            table = broker.runtime.table()
            assert not PARSED.keys() - table.keys()
            for name, parse in PARSED.items():
                assert parse(table[name]) is not None
            assert table["brokerActive"] == "true"
            assert table["brokerVersionDesc"].startswith("V5_")
            assert 0 <= float(table["commitLogDiskRatio"]) <= 1
            await send(broker, message("T"))


async def test_totals_grow_with_what_is_sent_and_given() -> None:
    async with running() as broker:
        for _ in range(3):
            await send(broker, message("T", b"12345"))
        await pull(broker, request("T", 1)).result()
        table = broker.runtime.table()
        assert table["msgPutTotalTodayNow"] == table["putMessageTimesTotal"] == "3"
        assert table["msgGetTotalTodayNow"] == "2"
        assert table["putMessageSizeTotal"] == "15"
        assert table["putMessageAverageSize"] == "5.00"
        assert int(table["commitLogMaxOffset"]) == broker.store.log.committed_offset > 0


async def test_oldest_message_is_told_by_the_time_at_which_the_log_begins() -> None:
    clock = ManualClock(1000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        clock.at_ms = 5000
        await send(broker, message("T"))
        clock.at_ms = 9000
        assert broker.runtime.table()["earliestMessageTimeStamp"] == "1000"
        assert broker.runtime.table()["bootTimestamp"] == "1000"
        assert broker.runtime.table()["runtime"] == "[ 0 days, 0 hours, 0 minutes, 8 seconds ]"


async def test_warnings_say_what_needs_a_person_and_are_empty_else() -> None:
    disk = MeasuredDisk()
    async with running(host=host_on(disk)) as broker:
        table = broker.runtime.table()
        assert (table["warnings"], table["diskLevel"], table["commitLogDiskRatio"]) == ("", "fine", "0.1000")
        disk.used = 910
        broker.retention.measure()
        table = broker.runtime.table()
        assert "91.0% used" in table["warnings"]
        assert (table["diskLevel"], table["commitLogDiskRatio"]) == ("full", "0.9100")
        disk.used, disk.error = 100, OSError("gone")
        broker.retention.measure()
        table = broker.runtime.table()
        assert "the usage of the disk" in table["warnings"]
        assert table["commitLogDiskRatio"] == "-1"
        disk.error, disk.failing = None, lambda what: "log/" in what
        broker.retention.measure()
        await send(broker, message("T"))
        assert "the store takes no more writes" in broker.runtime.table()["warnings"]


async def test_figures_follow_what_retention_deletes() -> None:
    clock = ManualClock(1000)
    config = BrokerConfig(store=StoreConfig(segment_bytes=64 * 1024, retention_bytes=100 * 1024))
    async with running(config, host_on(FaultyDisk(), clock)) as broker:
        clock.at_ms = 5000
        for _ in range(20):
            await send(broker, message("T", bytes(16 * 1024)))
        last = int(broker.runtime.table()["commitLogMaxOffset"])
        await broker.retention.round()
        table = broker.runtime.table()
        first = int(table["commitLogMinOffset"])
        assert 0 < last - first <= 100 * 1024
        assert table["earliestMessageTimeStamp"] == "5000"
        assert int(table["deletedSegments"]) > 1
        assert int(table["deletedBytes"]) == first
        low, high = broker.offsets.bounds("T", 0)
        assert 0 < low < high == 20
        assert len(await pull(broker, request("T", low)).messages()) == high - low


async def test_rates_are_over_ten_seconds_a_minute_and_ten_minutes() -> None:
    async with running() as broker:
        runtime, now = runtime_of(broker)
        for second in range(1200):
            now.s += 1
            broker.send.sent_messages += 60 if second < 1190 else 6
            broker.pull.given_messages += 10
            if second % 10 == 9:
                runtime.sample()
        assert tps(runtime.table()["putTps"]) == [6.0, (50 * 60 + 10 * 6) / 60, (590 * 60 + 10 * 6) / 600]
        assert tps(runtime.table()["getTransferredTps"]) == [10.0, 10.0, 10.0]


async def test_rates_right_after_the_start_are_over_the_time_that_there_was() -> None:
    async with running() as broker:
        runtime, now = runtime_of(broker)
        broker.send.sent_messages += 8
        assert tps(runtime.table()["putTps"]) == [8.0, 8.0, 8.0]
        now.s += 4
        assert tps(runtime.table()["putTps"]) == [2.0, 2.0, 2.0]


def runtime_of(broker: Broker) -> tuple[Runtime, Now]:
    now = Now()
    return Runtime(Host.real(), broker.store, broker.send, broker.pull, now, broker.retention), now


class Now:
    """Monotonic time that moves when told."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s
