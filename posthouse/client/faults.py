"""Which brokers to spare for a while. A slow or failed answer books a time in which other brokers go first.

It is advice: when every broker is spared, the plain order holds. Keyed by broker name, as a broker keeps its name
when its address changes. Source: RocketMQ 5.3 MQFaultStrategy, LatencyFaultToleranceImpl.
"""

from __future__ import annotations

from bisect import bisect_right

_LATENCIES_MS = (50, 100, 550, 1800, 3000, 5000, 15_000)
_SPARED_FOR_MS = (0, 0, 2000, 5000, 6000, 10_000, 30_000)

FAILED_MS = 10_000
"""What a failure is booked as."""


def spared_for_ms(latency_ms: float) -> int:
    """How long a broker that answered after `latency_ms` is left alone."""
    at = bisect_right(_LATENCIES_MS, latency_ms) - 1
    return _SPARED_FOR_MS[at] if at >= 0 else 0


class BrokerFaults:
    """Times are the loop's, in seconds."""

    def __init__(self) -> None:
        self._spared_until: dict[str, float] = {}

    def answered(self, broker_name: str, latency_ms: float, now: float) -> None:
        if latency_ms >= 100:
            self._spared_until[broker_name] = now + spared_for_ms(latency_ms) / 1000
        elif self._spared_until:
            self._spared_until.pop(broker_name, None)

    def failed(self, broker_name: str, now: float) -> None:
        self.answered(broker_name, FAILED_MS, now)

    def any(self) -> bool:
        """Whether there is anything to look at: mostly not, and then every broker is good."""
        return bool(self._spared_until)

    def good(self, broker_name: str, now: float) -> bool:
        return self._spared_until.get(broker_name, 0.0) <= now
