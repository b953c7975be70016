"""Figures of a running broker, under the names that RocketMQ's tools parse. Tools break on a name that is missing.

Rates come from samples that are taken every ten seconds. What we have no such thing of is told as 0. `warnings`,
`diskLevel` and what begins with `deleted` are ours.
Source: RocketMQ 5.3 AdminBrokerProcessor.prepareRuntimeInfo, StoreStatsService.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from posthouse.broker.pull import PullService
from posthouse.broker.send import SendService
from posthouse.host import Host
from posthouse.model.refusal import Refused
from posthouse.store.message_store import MessageStore
from posthouse.store.retention import Retention

SAMPLE_PERIOD_S = 10
_WINDOWS_S = (10, 60, 600)
_VERSION = ("V5_3_3", "479")

_ZEROS = (
    "EndTransactionQueueSize", "ackThreadPoolQueueHeadWaitTimeMills", "ackThreadPoolQueueSize",
    "consumeQueueDiskRatio", "dispatchBehindBytes", "dispatchMaxBuffer", "getMessageEntireTimeMax",
    "pageCacheLockTimeMills", "pullThreadPoolQueueHeadWaitTimeMills", "pullThreadPoolQueueSize",
    "putMessageDistributeTime", "putMessageEntireTimeMax", "putMessageFailedTimes",
    "queryThreadPoolQueueHeadWaitTimeMills", "queryThreadPoolQueueSize", "remainTransientStoreBufferNumbs",
    "sendThreadPoolQueueHeadWaitTimeMills", "sendThreadPoolQueueSize", "startAcceptSendRequestTimeStamp",
    "timerCongestNum", "timerDequeueTps", "timerEnqueueTps", "timerOffsetBehind", "timerReadBehind",
)  # fmt: skip


class Runtime:
    def __init__(
        self,
        host: Host,
        store: MessageStore,
        send: SendService,
        pull: PullService,
        monotonic_s: Callable[[], float],
        retention: Retention,
    ) -> None:
        self._host = host
        self._store = store
        self._send = send
        self._pull = pull
        self._now_s = monotonic_s
        self._retention = retention
        self._started_at_ms = host.clock.now_ms()
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=_WINDOWS_S[-1] // SAMPLE_PERIOD_S + 1)
        self.sample()

    def sample(self) -> None:
        """Takes one sample; called every SAMPLE_PERIOD_S."""
        self._samples.append((self._now_s(), self._send.sent_messages, self._pull.given_messages))

    def _rates(self, which: int) -> str:
        """Messages a second over the last 10, 60 and 600 s, as three decimals with blanks between."""
        now_s, current = self._now_s(), (0.0, self._send.sent_messages, self._pull.given_messages)[which]
        rates = []
        for window_s in _WINDOWS_S:
            since = next((s for s in self._samples if s[0] >= now_s - window_s - 0.5), self._samples[-1])
            rates.append((current - since[which]) / max(now_s - since[0], 1.0))
        return " ".join(f"{rate:.2f}" for rate in rates)

    def table(self) -> dict[str, str]:
        """All figures as text by name."""
        used, total = self._disk_usage()
        log = self._store.log
        put, given = self._send.sent_messages, self._pull.given_messages
        now_ms = self._host.clock.now_ms()
        table = dict.fromkeys(_ZEROS, "0")
        table |= {
            "EndTransactionThreadPoolQueueCapacity": "100000",
            "bootTimestamp": str(self._started_at_ms),
            "brokerActive": "true",
            "brokerVersion": _VERSION[1],
            "brokerVersionDesc": _VERSION[0],
            "commitLogDirCapacity": f"Total : {_gib(total)}, Free : {_gib(total - used)}.",
            "commitLogDiskRatio": f"{used / max(total, 1):.4f}" if total else "-1",
            "commitLogMaxOffset": str(log.committed_offset),
            "commitLogMinOffset": str(log.first_offset),
            "earliestMessageTimeStamp": str(self._store.earliest_stored_at_ms or now_ms),
            "getFoundTps": self._rates(2),
            "getMissTps": "0.00 0.00 0.00",
            "getTotalTps": self._rates(2),
            "getTransferredTps": self._rates(2),
            "msgGetTotalTodayMorning": "0",
            "msgGetTotalTodayNow": str(given),
            "msgGetTotalYesterdayMorning": "0",
            "msgPutTotalTodayMorning": "0",
            "msgPutTotalTodayNow": str(put),
            "msgPutTotalYesterdayMorning": "0",
            "pullThreadPoolQueueCapacity": "100000",
            "putMessageAverageSize": f"{self._send.sent_bytes / max(put, 1):.2f}",
            "putMessageSizeTotal": str(self._send.sent_bytes),
            "putMessageTimesTotal": str(put),
            "putTps": self._rates(1),
            "remainHowManyDataToFlush": f"{log.waiting_bytes} B",
            "runtime": _duration(now_ms - self._started_at_ms),
            "sendThreadPoolQueueCapacity": "10000",
        }
        return dict(sorted((table | self._of_retention()).items()))

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


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _duration(span_ms: int) -> str:
    seconds = span_ms // 1000
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    return f"[ {days} days, {hours} hours, {minutes} minutes, {seconds % 60} seconds ]"
