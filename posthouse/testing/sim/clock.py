"""Wall clocks of simulated machines: each a little wrong, and now and then put right or wrong at a stroke.

They follow the world's virtual time. `drift` is how many seconds too many they count in each second.
"""

from __future__ import annotations

import asyncio

from posthouse.host.clock import EpochMs

WORLD_BEGAN_MS = 1_750_000_000_000
"""Where every world's wall clocks begin: 2025-06-15."""


class SimClock:
    """The clock seam of one machine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, skew_ms: int = 0, drift: float = 0.0) -> None:
        self._loop = loop
        self._offset_ms = WORLD_BEGAN_MS + skew_ms
        self._rate_ms = 1000.0 * (1.0 + drift)

    def now_ms(self) -> EpochMs:
        return EpochMs(self._offset_ms + int(self._loop.time() * self._rate_ms))

    def hour_of_day(self, at_ms: EpochMs) -> int:
        """All machines are in Greenwich, in winter."""
        return at_ms // 3_600_000 % 24

    def jump(self, by_ms: int) -> None:
        """Somebody sets the clock, forward or back."""
        self._offset_ms += by_ms
