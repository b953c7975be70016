"""The producer's own message ids, kept by the broker as UNIQ_KEY: the same over retries, different for ever else.

    bytes    field
    4        IPv4 address of this machine
    2        process id, low half
    4        random, one per producer
    4        ms since the month began, in local time
    2        counter

32 digits of upper-case hex. The last two fields are one number that only grows: past 65,536 ids in a millisecond
it runs ahead of the clock, and a clock that steps back does not repeat it. Apache's tools read the time out of the
id to know where to begin a search, so the time is near the truth.
Source: RocketMQ 5.3 MessageClientIDSetter.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime

from posthouse.host import Host
from posthouse.host.clock import EpochMs


class MessageIds:
    def __init__(self, host: Host) -> None:
        try:
            ip = ipaddress.IPv4Address(host.net.local_ip()).packed
        except ipaddress.AddressValueError:
            ip = host.random.token_bytes(4)
        process = (host.net.process_id() & 0xFFFF).to_bytes(2, "big")
        self._prefix = (ip + process + host.random.token_bytes(4)).hex().upper()
        self._month_begins_ms = self._month_ends_ms = 0
        self._last = 0

    def next(self, now_ms: EpochMs) -> str:
        if not self._month_begins_ms <= now_ms < self._month_ends_ms:
            self._month_begins_ms, self._month_ends_ms = _month_of(now_ms)
            self._last = 0
        number = (now_ms - self._month_begins_ms) << 16
        if number <= self._last:
            number = self._last + 1
        self._last = number
        return f"{self._prefix}{number:012X}"


def _month_of(now_ms: int) -> tuple[int, int]:
    begins = datetime.fromtimestamp(now_ms / 1000).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (begins.year + 1, 1) if begins.month == 12 else (begins.year, begins.month + 1)
    return int(begins.timestamp() * 1000), int(begins.replace(year=year, month=month).timestamp() * 1000)
