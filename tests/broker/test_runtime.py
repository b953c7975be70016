"""The figures of request 28, as RocketMQ's tools take them apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.broker.runtime import Runtime
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model.properties import TIMER_DELAY_SEC, encode_properties
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
        size = broker.store.log.committed_offset
        await pull(broker, request("T", 1)).result()
        table = broker.runtime.table()
        assert table["msgPutTotalTodayNow"] == table["putMessageTimesTotal"] == "3"
        assert table["msgGetTotalTodayNow"] == "2"
        assert 3 * 91 < int(table["putMessageSizeTotal"]) < size, "whole records, as RocketMQ counts"
        assert float(table["putMessageAverageSize"]) == pytest.approx(int(table["putMessageSizeTotal"]) / 3, abs=0.01)
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
            broker.stats.put.messages += 60 if second < 1190 else 6
            broker.stats.given.messages += 10
            broker.stats.found_requests += 2
            broker.stats.missed_requests += 1
            if second % 10 == 9:
                runtime.sample()
        table = runtime.table()
        assert tps(table["putTps"]) == [6.0, (50 * 60 + 10 * 6) / 60, (590 * 60 + 10 * 6) / 600]
        assert tps(table["getTransferredTps"]) == [10.0, 10.0, 10.0]
        assert tps(table["getFoundTps"]) == [2.0, 2.0, 2.0]
        assert tps(table["getMissTps"]) == [1.0, 1.0, 1.0]
        assert tps(table["getTotalTps"]) == [3.0, 3.0, 3.0]


async def test_rates_right_after_the_start_are_over_the_time_that_there_was() -> None:
    async with running() as broker:
        runtime, now = runtime_of(broker)
        broker.stats.put.messages += 8
        assert tps(runtime.table()["putTps"]) == [8.0, 8.0, 8.0]
        now.s += 4
        assert tps(runtime.table()["putTps"]) == [2.0, 2.0, 2.0]


async def test_totals_of_the_morning_are_what_they_were_at_midnight() -> None:
    clock = HourClock()
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        for hour, put, given in ((9, 5, 4), (23, 3, 2), (0, 2, 1), (9, 10, 10), (1, 7, 7)):
            clock.hour = hour
            broker.runtime.sample()
            broker.stats.put.messages += put
            broker.stats.given.messages += given
        table = broker.runtime.table()
        assert (table["msgPutTotalYesterdayMorning"], table["msgGetTotalYesterdayMorning"]) == ("8", "6")
        assert (table["msgPutTotalTodayMorning"], table["msgGetTotalTodayMorning"]) == ("20", "17")
        assert (table["msgPutTotalTodayNow"], table["msgGetTotalTodayNow"]) == ("27", "24")


async def test_times_to_commit_are_told_by_share_and_by_range() -> None:
    clock = ManualClock(1000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await send(broker, message("T"))
        table = broker.runtime.table()
        assert (table["putLatency99"], table["putMessageEntireTimeMax"]) == ("0.00", "0")
        done = asyncio.ensure_future(send(broker, message("T")))
        await asyncio.sleep(0)
        clock.at_ms += 30
        await done
        table = broker.runtime.table()
        assert table["putMessageDistributeTime"].startswith("[<=0ms]:1 [0~10ms]:0 [10~50ms]:1 [50~100ms]:0 ")
        assert (table["putLatency99"], table["putMessageEntireTimeMax"]) == ("50.00", "30")


async def test_delayed_messages_are_counted_as_they_come_wait_and_go() -> None:
    clock = ManualClock(1_000_000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        runtime, now = runtime_of(broker)
        for seconds in ("5", "5", "500"):
            await send(broker, message("T", properties=encode_properties({TIMER_DELAY_SEC: seconds})))
        now.s += 60
        table = runtime.table()
        assert (table["timerCongestNum"], table["timerReadBehind"]) == ("3", "0")
        assert (table["timerEnqueueTps"], table["timerDequeueTps"]) == ("0.05", "0.00")
        runtime.sample()
        broker.timers.delivered += 60
        now.s += 60
        assert runtime.table()["timerDequeueTps"] == "1.00"


async def test_messages_that_could_not_be_stored_are_counted() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        disk.failing = lambda what: "log/" in what
        await send(broker, message("T"))
        assert broker.runtime.table()["putMessageFailedTimes"] == "1"


async def test_names_are_those_of_rocketmq() -> None:
    """All that its 5.3.3 gives, but the offsets of delay levels and one ratio per path of a log."""
    async with running() as broker:
        assert not set(NAMES.split()) - broker.runtime.table().keys()


NAMES = """
brokerActive brokerVersionDesc brokerVersion msgPutTotalYesterdayMorning msgPutTotalTodayMorning msgPutTotalTodayNow
msgGetTotalYesterdayMorning msgGetTotalTodayMorning msgGetTotalTodayNow dispatchBehindBytes pageCacheLockTimeMills
earliestMessageTimeStamp startAcceptSendRequestTimeStamp timerReadBehind timerOffsetBehind timerCongestNum
timerEnqueueTps timerDequeueTps remainTransientStoreBufferNumbs remainHowManyDataToCommit remainHowManyDataToFlush
commitLogDirCapacity sendThreadPoolQueueSize sendThreadPoolQueueCapacity pullThreadPoolQueueSize
pullThreadPoolQueueCapacity litePullThreadPoolQueueSize litePullThreadPoolQueueCapacity queryThreadPoolQueueSize
queryThreadPoolQueueCapacity ackThreadPoolQueueSize ackThreadPoolQueueCapacity sendThreadPoolQueueHeadWaitTimeMills
pullThreadPoolQueueHeadWaitTimeMills queryThreadPoolQueueHeadWaitTimeMills litePullThreadPoolQueueHeadWaitTimeMills
ackThreadPoolQueueHeadWaitTimeMills EndTransactionQueueSize EndTransactionThreadPoolQueueCapacity bootTimestamp runtime
putMessageEntireTimeMax putMessageTimesTotal putMessageFailedTimes putMessageSizeTotal putMessageDistributeTime
putMessageAverageSize dispatchMaxBuffer getMessageEntireTimeMax putTps getFoundTps getMissTps getTotalTps
getTransferredTps putLatency99 putLatency999 commitLogDiskRatio consumeQueueDiskRatio commitLogMinOffset
commitLogMaxOffset
"""


def runtime_of(broker: Broker) -> tuple[Runtime, Now]:
    now = Now()
    runtime = Runtime(Host.real(), broker.store, broker.stats, broker.arrivals, broker.timers, now, broker.retention)
    return runtime, now


class HourClock(ManualClock):
    hour = 8

    def hour_of_day(self, at_ms: EpochMs) -> int:
        return self.hour


class Now:
    """Monotonic time that moves when told."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s
