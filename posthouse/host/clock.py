"""Wall clock. Monotonic time is the event loop's (`loop.time()`); only stored times come from here.

The wall clock may jump either way: it is never used for order or for time-outs.
"""

from __future__ import annotations

from typing import NewType, Protocol

EpochMs = NewType("EpochMs", int)
"""Milliseconds since 1970-01-01 UTC."""


class Clock(Protocol):
    def now_ms(self) -> EpochMs: ...

    def hour_of_day(self, at_ms: EpochMs) -> int:
        """0 to 23: the hour that a clock on this machine's wall shows at `at_ms`, summer time and all."""
