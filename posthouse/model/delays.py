"""Delays: the levels that every client knows, and how exact a due time is.

Source of the levels: RocketMQ 5.3 MessageStoreConfig.messageDelayLevel.
"""

from __future__ import annotations

DELAY_LEVELS_MS = (
    1_000, 5_000, 10_000, 30_000,
    60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000, 600_000,
    1_200_000, 1_800_000, 3_600_000, 7_200_000,
)  # fmt: skip
"""Of level 1, 2, ...: 1 s to 2 h."""

LEVEL_MAX = len(DELAY_LEVELS_MS)

RETRY_LEVEL = 3
"""The delay level of a first retry, 10 s; one more for each attempt after it."""

TICK_MS = 100
"""Due times are multiples of it."""


def on_tick(due_ms: int) -> int:
    """The time at which what is due then is delivered: the next tick, so never early."""
    return -(-due_ms // TICK_MS) * TICK_MS
