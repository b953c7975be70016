"""`posthouse sim`: runs seeds of the deterministic simulator, and tells the story of those that fail.

Seeds are independent of each other, so many of them run in as many processes as are wanted, a few seeds at a time;
what is printed is in the order of the seeds all the same.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from typing import IO, Final, NamedTuple

import click

from posthouse.cli.failure import Failure

SEEDS_PER_TASK: Final = 10
_PROBLEMS_SHOWN: Final = 10


class Outcome(NamedTuple):
    """What became of a seed, as text: `story` is empty if all is well."""

    seed: int
    virtual_s: float
    events: int
    digest: str
    problems: list[str]
    story: str


@click.command()
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(1), metavar="COUNT", default=1, show_default=True, help="So many of them.")
@click.option(
    "--minutes", type=click.FloatRange(0.1), metavar="M", default=1.0, show_default=True, help="Virtual, with faults."
)
@click.option("--jobs", type=click.IntRange(1), metavar="J", default=1, show_default=True, help="Processes.")
@click.option("--keep", type=click.File("a"), metavar="FILE", help="Append seeds that fail to this file.")
def sim(seed: int, seeds: int, minutes: float, jobs: int, keep: IO[str] | None) -> None:
    """Run simulated clusters with faults, and check what they did.

    Each seed is a cluster on a virtual clock; the same seed does the same, always. Exits with 1 if one fails.

    \b
    Example:
      posthouse sim --seed 42
      posthouse sim --seeds 1000 --jobs 4 --keep tests/sim/seeds.txt
    """
    if not __debug__:
        raise Failure("the checks of the code are switched off by python -O; start it without -O (or PYTHONOPTIMIZE)")
    from posthouse.host import Host

    clock = Host.real().clock
    begun_ms, failed, virtual_s = clock.now_ms(), 0, 0.0
    numbers = range(seed, seed + seeds)
    with click.progressbar(
        _run_all(numbers, minutes, jobs), seeds, label="seeds", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as outcomes:
        for outcome in outcomes:
            virtual_s += outcome.virtual_s
            if outcome.problems:
                failed += 1
                _show_failure(outcome, minutes)
                if keep is not None:
                    keep.write(f"{outcome.seed} {minutes:g}  # {outcome.problems[0]}\n")
                    keep.flush()
            elif seeds == 1:
                click.echo(
                    f"seed {seed}: all is well after {outcome.virtual_s:.0f} virtual seconds "
                    f"and {outcome.events} events; the trace is {outcome.digest}"
                )
    if seeds > 1:
        real_s = max(clock.now_ms() - begun_ms, 1) / 1000
        click.echo(
            f"{seeds} seeds, {failed} failed; {virtual_s / 3600:.2f} virtual hours in {real_s:.0f} s: "
            f"{virtual_s / 60 / real_s:.2f} virtual hours per real minute"
        )
    if failed:
        raise click.exceptions.Exit(1)


def _show_failure(outcome: Outcome, minutes: float) -> None:
    click.echo(f"seed {outcome.seed} FAILED; again with: posthouse sim --seed {outcome.seed} --minutes {minutes:g}")
    for problem in outcome.problems[:_PROBLEMS_SHOWN]:
        click.echo(f"  {problem}")
    if len(outcome.problems) > _PROBLEMS_SHOWN:
        click.echo(f"  and {len(outcome.problems) - _PROBLEMS_SHOWN} more")
    click.echo(f"\n{outcome.story}\n")


def _run_all(seeds: range, minutes: float, jobs: int) -> Iterator[Outcome]:
    """The outcomes in the order of the seeds, each as soon as those before it are there."""
    if jobs == 1:
        yield from (run_one(seed, minutes) for seed in seeds)
        return
    tasks = [seeds[at : at + SEEDS_PER_TASK] for at in range(0, len(seeds), SEEDS_PER_TASK)]
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from chain.from_iterable(pool.map(_run_some, tasks, [minutes] * len(tasks)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_some(seeds: range, minutes: float) -> list[Outcome]:
    return [run_one(seed, minutes) for seed in seeds]


def run_one(seed: int, minutes: float) -> Outcome:
    """One seed in this process, without a word in the log: what its servers log is about faults that we made."""
    from posthouse.testing.sim import run_seed
    from posthouse.testing.sim.history import History
    from posthouse.testing.sim.story import tell

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        verdict = run_seed(seed, minutes)
    finally:
        logging.disable(before)
    story = ""
    if verdict.problems:
        history = History()
        history.events = list(verdict.events)
        story = tell(history, verdict.problems[0])
    problems = [f"{problem.checker}: {problem.text}" for problem in verdict.problems]
    return Outcome(seed, verdict.virtual_s, len(verdict.events), verdict.trace_digest, problems, story)
