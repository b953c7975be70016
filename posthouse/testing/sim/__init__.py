"""The deterministic simulator: a whole cluster in one process on a virtual clock, with faults, from one number.

    verdict = run_seed(42, minutes=1)
    assert not verdict.problems

Same seed, same history. NameServers, brokers and clients are the real code; the network, the disks, the clocks and
what goes wrong with them are drawn from the seed. `world` is the place to begin reading.
"""

from __future__ import annotations

from posthouse.testing.sim.world import Verdict, World, run_seed

__all__ = ["Verdict", "World", "run_seed"]
