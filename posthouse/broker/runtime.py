"""Figures of a running broker, under the names that RocketMQ's tools parse. Tools break on a name that is missing.

Rates come from samples that are taken every ten seconds; totals are since the start, and so are those of the morning.
What is named after a queue of a thread pool is 0, as requests wait for no thread here; so is what we do not measure
or have no such thing of (page cache, transient buffers, replication). `warnings`, `diskLevel`, `heldPulls` and what
begins with `deleted` are ours.
Source: RocketMQ 5.3 AdminBrokerProcessor.prepareRuntimeInfo, StoreStatsService.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from posthouse.broker.arrivals import Arrivals
from posthouse.broker.stats import COMMIT_MS, SAMPLE_PERIOD_S, Stats
from posthouse.broker.timers import Timers
from posthouse.host import Host
from posthouse.model.refusal import Refused
from posthouse.store.message_store import MessageStore
from posthouse.store.retention import Retention

_WINDOWS_S = (10, 60, 600)
_VERSION = ("V5_3_3", "479")

_ZEROS = (
    "EndTransactionQueueSize", "ackThreadPoolQueueHeadWaitTimeMills", "ackThreadPoolQueueSize", "dispatchBehindBytes",
    "dispatchMaxBuffer", "getMessageEntireTimeMax", "litePullThreadPoolQueueHeadWaitTimeMills",
    "litePullThreadPoolQueueSize", "pageCacheLockTimeMills", "pullThreadPoolQueueHeadWaitTimeMills",
    "pullThreadPoolQueueSize", "queryThreadPoolQueueHeadWaitTimeMills", "queryThreadPoolQueueSize",
    "remainHowManyDataToCommit", "remainTransientStoreBufferNumbs", "sendThreadPoolQueueHeadWaitTimeMills",
    "sendThreadPoolQueueSize", "startAcceptSendRequestTimeStamp", "timerOffsetBehind",
)  # fmt: skip

_CAPACITIES = {
    "EndTransactionThreadPoolQueueCapacity": "100000",
    "ackThreadPoolQueueCapacity": "100000",
    "litePullThreadPoolQueueCapacity": "100000",
    "pullThreadPoolQueueCapacity": "100000",
    "queryThreadPoolQueueCapacity": "20000",
    "sendThreadPoolQueueCapacity": "10000",
}
"""RocketMQ's own: tools divide by them."""

_TIMES_MS = (
    ("<=0ms", 0), ("0~10ms", 10), ("10~50ms", 50), ("50~100ms", 100), ("100~200ms", 200), ("200~500ms", 500),
    ("500ms~1s", 1000), ("1~2s", 2000), ("2~3s", 3000), ("3~4s", 4000), ("4~5s", 5000), ("5~10s", 10_000),
)  # fmt: skip


class _Sample(NamedTuple):
    at_s: float
    put: int
    given: int
    found: int
    missed: int
    waiting: int  # delayed messages
    delivered: int


class _Totals(NamedTuple):
    put: int = 0
    given: int = 0


class Runtime:
    def __init__(
        self,
        host: Host,
        store: MessageStore,
        stats: Stats,
        arrivals: Arrivals,
        timers: Timers,
        monotonic_s: Callable[[], float],
        retention: Retention,
    ) -> None:
        self._host = host
        self._store = store
        self._stats = stats
        self._arrivals = arrivals
        self._timers = timers
        self._now_s = monotonic_s
        self._retention = retention
        self._started_at_ms = host.clock.now_ms()
        self._hour = host.clock.hour_of_day(self._started_at_ms)
        self._this_morning = self._yesterday_morning = _Totals()
        self._samples: deque[_Sample] = deque(maxlen=_WINDOWS_S[-1] // SAMPLE_PERIOD_S + 1)
        self.sample()

    def sample(self) -> None:
        """Takes one sample; called every SAMPLE_PERIOD_S. A day begins when the hour of the day is less than it was."""
        self._samples.append(self._sampled())
        hour = self._host.clock.hour_of_day(self._host.clock.now_ms())
        if hour < self._hour:
            self._yesterday_morning = self._this_morning
            self._this_morning = _Totals(self._stats.put.messages, self._stats.given.messages)
        self._hour = hour

    def _sampled(self) -> _Sample:
        stats = self._stats
        return _Sample(
            self._now_s(),
            stats.put.messages,
            stats.given.messages,
            stats.found_requests,
            stats.missed_requests,
            self._timers.pending,
            self._timers.delivered,
        )

    def _rates(self, of: Callable[[_Sample], int]) -> list[float]:
        """How much `of` rose in a second, over the last 10, 60 and 600 s, as far as there are so many."""
        now = self._sampled()
        rates = []
        for window_s in _WINDOWS_S:
            since = next((s for s in self._samples if s.at_s >= now.at_s - window_s - 0.5), self._samples[-1])
            rates.append((of(now) - of(since)) / max(now.at_s - since.at_s, 1.0))
        return rates

    def table(self) -> dict[str, str]:
        """All figures as text by name."""
        table = dict.fromkeys(_ZEROS, "0") | _CAPACITIES
        table |= self._of_store() | self._of_traffic() | self._of_timers() | self._of_retention()
        return dict(sorted(table.items()))

    def _of_store(self) -> dict[str, str]:
        used, total = self._disk_usage()
        log = self._store.log
        now_ms = self._host.clock.now_ms()
        ratio = f"{used / total:.4f}" if total else "-1"
        return {
            "bootTimestamp": str(self._started_at_ms),
            "brokerActive": "true",
            "brokerVersion": _VERSION[1],
            "brokerVersionDesc": _VERSION[0],
            "commitLogDirCapacity": f"Total : {_gib(total)}, Free : {_gib(total - used)}.",
            "commitLogDiskRatio": ratio,
            "commitLogMaxOffset": str(log.committed_offset),
            "commitLogMinOffset": str(log.first_offset),
            "consumeQueueDiskRatio": ratio,  # the same disk
            "earliestMessageTimeStamp": str(self._store.earliest_stored_at_ms or now_ms),
            "remainHowManyDataToFlush": f"{log.waiting_bytes} B",
            "runtime": _duration(now_ms - self._started_at_ms),
        }

    def _of_traffic(self) -> dict[str, str]:
        stats = self._stats
        put, given = stats.put, stats.given
        return {
            "getFoundTps": _rates_text(self._rates(lambda sample: sample.found)),
            "getMissTps": _rates_text(self._rates(lambda sample: sample.missed)),
            "getTotalTps": _rates_text(self._rates(lambda sample: sample.found + sample.missed)),
            "getTransferredTps": _rates_text(self._rates(lambda sample: sample.given)),
            "heldPulls": str(self._arrivals.waiting),
            "msgGetTotalTodayMorning": str(self._this_morning.given),
            "msgGetTotalTodayNow": str(given.messages),
            "msgGetTotalYesterdayMorning": str(self._yesterday_morning.given),
            "msgPutTotalTodayMorning": str(self._this_morning.put),
            "msgPutTotalTodayNow": str(put.messages),
            "msgPutTotalYesterdayMorning": str(self._yesterday_morning.put),
            "putLatency99": f"{stats.commit_ms(0.99):.2f}",
            "putLatency999": f"{stats.commit_ms(0.999):.2f}",
            "putMessageAverageSize": f"{put.size / max(put.messages, 1):.2f}",
            "putMessageDistributeTime": self._distribution(),
            "putMessageEntireTimeMax": str(stats.commit_ms_max),
            "putMessageFailedTimes": str(self._store.failed_puts),
            "putMessageSizeTotal": str(put.size),
            "putMessageTimesTotal": str(put.messages),
            "putTps": _rates_text(self._rates(lambda sample: sample.put)),
        }

    def _distribution(self) -> str:
        """Messages by time from append to commit, as RocketMQ writes it."""
        parts, done = [], 0
        counts = self._stats.commit_counts
        for name, limit in _TIMES_MS:
            upto = COMMIT_MS.index(limit) + 1
            parts.append(f"[{name}]:{sum(counts[done:upto])}")
            done = upto
        return " ".join([*parts, f"[10s~]:{sum(counts[done:])}"])

    def _of_timers(self) -> dict[str, str]:
        """Over the last minute: what went out, and what came; that is what went out and what waits now beside."""
        delivered = self._rates(lambda sample: sample.delivered)[1]
        came = delivered + self._rates(lambda sample: sample.waiting)[1]
        return {
            "timerCongestNum": str(self._timers.pending),
            "timerDequeueTps": f"{delivered:.2f}",
            "timerEnqueueTps": f"{max(0.0, came):.2f}",
            "timerReadBehind": str(self._timers.behind_ms // 1000),
        }

    def _disk_usage(self) -> tuple[int, int]:
        """(bytes used, bytes in all); nothing of nothing if that cannot be had."""
        try:
            return self._host.disk.usage()
        except OSError:
            return 0, 0

    def _of_retention(self) -> dict[str, str]:
        """`warnings` is empty when nothing needs a person."""
        warnings: list[str] = []
        try:
            self._store.check_writable()
        except Refused as refused:
            warnings.append(refused.remark)
        status = self._retention.status()
        return {
            "deletedBytes": str(status.deleted_bytes),
            "deletedSegments": str(status.deleted_segments),
            "diskLevel": status.level.name.lower(),
            "warnings": "; ".join([*warnings, *status.warnings]),
        }


def _rates_text(rates: list[float]) -> str:
    return " ".join(f"{rate:.2f}" for rate in rates)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _duration(span_ms: int) -> str:
    seconds = span_ms // 1000
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    return f"[ {days} days, {hours} hours, {minutes} minutes, {seconds % 60} seconds ]"
