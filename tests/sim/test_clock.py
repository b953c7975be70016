from __future__ import annotations

import asyncio

from posthouse.host.clock import EpochMs
from posthouse.testing.sim.clock import WORLD_BEGAN_MS, SimClock
from posthouse.testing.sim.loop import run_simulated


def test_a_wall_clock_follows_the_world_s_time_wrongly_and_may_be_set() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        right, wrong = SimClock(loop), SimClock(loop, skew_ms=500, drift=0.25)
        await asyncio.sleep(1000.0)
        assert right.now_ms() == WORLD_BEGAN_MS + 1_000_000
        assert wrong.now_ms() == WORLD_BEGAN_MS + 1_250_500
        wrong.jump(-5000)
        assert wrong.now_ms() == WORLD_BEGAN_MS + 1_245_500

    run_simulated(main())


def test_the_hour_of_the_day_is_the_world_s() -> None:
    async def main() -> None:
        clock = SimClock(asyncio.get_running_loop())
        assert clock.hour_of_day(EpochMs(0)) == 0
        assert clock.hour_of_day(EpochMs(4 * 3_600_000 + 86_400_000)) == 4
        assert 0 <= clock.hour_of_day(clock.now_ms()) < 24

    run_simulated(main())
