"""`posthouse repair`: says what it would do and what would be lost, asks, then does it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from posthouse.cli.check import progress_bar, size_text
from posthouse.cli.failure import Failure
from posthouse.cli.folder import data_argument, stopped_store
from posthouse.cli.remote import json_option

if TYPE_CHECKING:
    from posthouse.host import Host
    from posthouse.store.finding import Report
    from posthouse.store.repair import Plan, Step


@click.command()
@data_argument
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def repair(data: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Repair a damaged store; what cannot be saved is moved, never deleted.

    Damage in the log becomes a gap, and what was there goes into the folder `lost` beside the log; everything behind
    it keeps its offsets. Damaged snapshots and runs are moved there, too: a start makes them again. Shows first what
    would be done, and rehearses it. A copy of the folder, if there is one, may have what is lost: look there first.

    \b
    Example:
      posthouse repair --dry-run posthouse-data
      posthouse repair posthouse-data
    """
    import asyncio

    from posthouse.cli.logs import set_up_logging
    from posthouse.store.repair import plan_repair, rehearse

    set_up_logging("critical")
    with stopped_store(data, for_writing=True) as host:
        with progress_bar("looking") as progress:
            plan = plan_repair(host, progress=progress)
        after = asyncio.run(rehearse(host, plan)) if plan.steps else None
        if as_json:
            _show_json(plan, after, dry_run)
        else:
            _show_plan(plan, after)
        if plan.steps and not dry_run:
            if not yes and not as_json:
                if not has_person():
                    raise Failure("nothing was changed: nobody is there to be asked. Give --yes to go on.")
                click.confirm("Go on?", abort=True)
            elif not yes:
                raise Failure("nothing was changed: --json does not ask. Give --yes to go on, or --dry-run.")
            _do(host, plan, as_json)
    if plan.beyond:
        raise Failure(f"{len(plan.beyond)} of the damaged places are beyond repair; restore {data} from a copy.")


def has_person() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _do(host: Host, plan: Plan, as_json: bool) -> None:
    import asyncio

    from posthouse.store.repair import carry_out

    def told(step: Step) -> None:
        if not as_json:
            click.echo(f"  done: {step.what}")

    asyncio.run(carry_out(host.disk, plan, told=told))
    if not as_json:
        click.echo(
            f"{click.style('Repaired.', fg='green')} What was moved is in {plan.place}/lost; "
            f"`posthouse dump FILE` shows what can be recognised in it."
        )


def _show_plan(plan: Plan, after: Report | None) -> None:
    from posthouse.store.salvage import in_words

    for finding in plan.beyond:
        where = f" at log offset {finding.log_offset}" if finding.log_offset is not None else ""
        click.echo(f"beyond repair: {finding.file}{where}: {finding.what}")
    if not plan.steps:
        click.echo(f"{plan.place}: there is nothing to repair.")
        return
    click.echo(f"{plan.place}: {len(plan.steps)} step{'s' if len(plan.steps) > 1 else ''}")
    for number, step in enumerate(plan.steps, 1):
        click.echo(f"  {number}. {step.what}")
        if step.topics:
            click.echo(f"     in there: {in_words(step.topics)}")
    if plan.lost_bytes:
        click.echo(f"Lost: {size_text(plan.lost_bytes)} of the log that had been on disk")
        for topic, count in plan.topics.most_common():
            click.echo(f"  {topic}: at least {count} message{'s' if count != 1 else ''}")
        if not plan.topics:
            click.echo("  no message can be recognised in there")
    else:
        click.echo("Lost: nothing that was acknowledged")
    if after is not None:
        lost = f", {after.figures.lost_messages:,} are lost" if after.figures.lost_messages else ""
        click.echo(f"Afterwards: {after.figures.messages:,} messages are there{lost}; {_after_words(after)}")


def _after_words(after: Report) -> str:
    return "a check still finds damage, and the broker may not start" if after.is_damaged else "a check finds no damage"


def _show_json(plan: Plan, after: Report | None, dry_run: bool) -> None:
    """One document: the plan."""
    from posthouse.cli.screen import show_json

    steps: list[dict[str, Any]] = [
        {
            "step": type(step).__name__,
            "what": step.what,
            "file": step.file,
            "lost_bytes": step.lost_bytes,
            "acknowledged": step.acknowledged,
            "topics": dict(step.topics),
        }
        for step in plan.steps
    ]
    show_json(
        {
            "place": plan.place,
            "dry_run": dry_run,
            "steps": steps,
            "lost_bytes": plan.lost_bytes,
            "lost_messages": dict(plan.topics),
            "beyond_repair": [asdict(finding) for finding in plan.beyond],
            "clean_afterwards": after is None or not after.is_damaged,
        }
    )
