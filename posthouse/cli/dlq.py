"""`posthouse dlq`: list, show, redrive. The desk is `Admin.dead_letters`; here is how it looks on a screen.

A redrive ends with its counts, whatever ends it: done, Ctrl-C, or a broker that went away.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from posthouse.cli.failure import Failure, NotFound
from posthouse.cli.moment import Instant, epoch_ms, instant
from posthouse.cli.remote import Remote, failures, json_option, remote_options
from posthouse.cli.subcommands import Subcommands

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthouse.client.dead_letters import Chosen, DeadLetter, GroupLetters, Redrive, Redriven, Report


@click.group(cls=Subcommands)
def dlq() -> None:
    """Dead letters: list them, look at them, send them again.

    A dead letter is a message that a group of consumers has given up.

    \b
    Example:
      posthouse dlq list
      posthouse dlq redrive billing --dry-run
    """


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which letters."""
    for option in (
        click.option("--topic", "origin", metavar="TOPIC", help="Only those that were sent to this topic at first."),
        click.option("--key", metavar="KEY", help="Only those with this key, or this message id."),
        click.option("--until", type=instant, metavar="WHEN", help="Only those that died until then."),
        click.option(
            "--since", type=instant, metavar="WHEN", help="Only those that died since: -1h (s, m, h, d), or a date."
        ),
    ):
        command = option(command)
    return command


def _chosen(since: Instant | None, until: Instant | None, key: str | None, origin: str | None) -> Chosen:
    from posthouse.client.dead_letters import EVERY_LETTER, Chosen
    from posthouse.host import Host
    from posthouse.host.clock import EpochMs

    now_ms = Host.real().clock.now_ms()
    return Chosen(
        EpochMs(epoch_ms(since, now_ms)) if since is not None else EVERY_LETTER.since_ms,
        EpochMs(epoch_ms(until, now_ms)) if until is not None else EVERY_LETTER.until_ms,
        key,
        origin,
    )


@dlq.command("list")
@json_option
@remote_options
def list_groups(remote: Remote, as_json: bool) -> None:
    """List the groups that have dead letters, and how many.

    \b
    Example:
      posthouse dlq list
    """
    from posthouse.cli.screen import show_json, show_table, time_text
    from posthouse.client.admin import Admin

    async def ask() -> tuple[GroupLetters, ...]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            return await admin.dead_letters.groups()

    found = remote.run(ask)
    if as_json:
        for each in found:
            show_json(
                {
                    "group": each.group,
                    "letters": each.letters,
                    "settled": each.settled,
                    "last_died_at_ms": each.last_died_at_ms,
                }
            )
        return
    rows = [
        (
            each.group,
            each.letters,
            each.settled,
            time_text(each.last_died_at_ms) if each.last_died_at_ms is not None else "-",
        )
        for each in found
        if each.letters
    ]
    if rows:
        show_table(("group", "letters", "redriven", "last died"), rows)
    else:
        click.echo("no group has dead letters")


@dlq.command()
@click.argument("group")
@_choosing
@click.option("-n", "limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="The newest N.")
@json_option
@remote_options
def show(
    remote: Remote,
    group: str,
    since: Instant | None,
    until: Instant | None,
    key: str | None,
    origin: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show dead letters of a group, the newest last: from where, why, after how many attempts.

    \b
    Example:
      posthouse dlq show billing
      posthouse dlq show billing --since -1h --topic orders -n 100 --json
    """
    from posthouse.cli.screen import CELL_CHARS_MAX, body_text, printable, show_json, show_table, time_text
    from posthouse.client.admin import Admin
    from posthouse.client.dead_letters import EVERY_LETTER

    chosen = _chosen(since, until, key, origin)

    async def ask() -> list[DeadLetter]:
        newest: deque[DeadLetter] = deque(maxlen=limit)
        at_end = limit if chosen == EVERY_LETTER else None
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            letters = [each async for each in admin.dead_letters.read(group, chosen, newest=at_end)]
        newest.extend(sorted(letters, key=lambda each: each.died_at_ms))
        return list(newest)

    found: list[DeadLetter] = _run(remote, group, ask)
    if as_json:
        for each in found:
            show_json(_document(each))
        return
    if not found:
        click.echo("no letter is among the chosen")
        return
    show_table(
        ("died", "queue:offset", "topic", "reason", "attempts", "redrives", "id", "keys", "body"),
        [
            (
                time_text(each.died_at_ms),
                f"{each.message.queue_id}:{each.message.queue_offset}",
                printable(each.origin_topic) or "-",
                printable(each.reason) or "-",
                each.attempts,
                each.redrives,
                printable(each.message_id),
                printable(",".join(each.message.keys)) or "-",
                body_text(each.message.body, CELL_CHARS_MAX),
            )
            for each in found
        ],
    )


def _run(remote: Remote, group: str, work: Callable[[], Any]) -> Any:
    """To its end, however long that takes: each request in it has its own time-out. Raises Failure."""
    import asyncio

    from posthouse.client.errors import NoRoute
    from posthouse.model.names import dead_letter_topic

    with failures(remote):
        try:
            return asyncio.run(work())
        except NoRoute as error:
            if error.topic != dead_letter_topic(group):
                raise
            raise NotFound(
                f"group {group} has no dead letters, or there is no such group; look at `posthouse dlq list`."
            ) from error


def _document(letter: DeadLetter) -> dict[str, Any]:
    from posthouse.cli.screen import message_document

    return {
        "group": letter.group,
        "origin_topic": letter.origin_topic or None,
        "origin_message_id": letter.message_id,
        "reason": letter.reason or None,
        "attempts": letter.attempts,
        "redrives": letter.redrives,
        "died_at_ms": letter.died_at_ms,
        **message_document(letter.message, letter.message.body),
    }


@dlq.command()
@click.argument("group")
@_choosing
@click.option("--to", metavar="TOPIC", help="Send them to this topic, not to where each came from.")
@click.option("--max", "count_max", type=click.IntRange(1), metavar="N", help="Send so many, not more.")
@click.option(
    "--rate",
    "per_second",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Send so many a second, not more.",
)
@click.option("--dry-run", is_flag=True, help="Send nothing; say what would be sent.")
@click.option("--again", is_flag=True, help="Also what was redriven before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@remote_options
def redrive(
    remote: Remote,
    group: str,
    since: Instant | None,
    until: Instant | None,
    key: str | None,
    origin: str | None,
    to: str | None,
    count_max: int | None,
    per_second: float | None,
    dry_run: bool,
    again: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send dead letters of a group again: to the topics that they came from, where all groups get them.

    A letter is sent once, however often this is run. Ends with counts that add up; exit code 1 if one has failed.

    \b
    Example:
      posthouse dlq redrive billing --dry-run
      posthouse dlq redrive billing --since -1h --max 1000 --rate 50
      posthouse dlq redrive billing --to orders-repair --json
    """
    from posthouse.client.admin import Admin
    from posthouse.client.dead_letters import Report

    chosen = _chosen(since, until, key, origin)
    report = Report()

    async def work() -> None:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            run = admin.dead_letters.redrive(
                group, chosen, to=to, count_max=count_max, per_second=per_second, dry_run=dry_run, again=again,
                report=report,
            )  # fmt: skip
            await _show_redrive(run, as_json)

    if not (yes or dry_run) and sys.stdin.isatty():
        where = f"to {to}" if to else "to the topics that they came from, for all groups there"
        click.confirm(f"Send the dead letters of {group} {where}?", abort=True)
    ended = "done"
    try:
        _run(remote, group, work)
    except KeyboardInterrupt:
        ended = "broken off"
    except click.ClickException:
        if report.found:
            _show_report(report, dry_run, "failed", as_json)
        raise
    _show_report(report, dry_run, ended, as_json)
    _raise_if_failed(report, ended)


async def _show_redrive(run: Redrive, as_json: bool) -> None:
    from posthouse.cli.screen import show_json
    from posthouse.client.dead_letters import Verdict

    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(length=1, label="letters", file=sys.stderr, hidden=hidden, show_pos=True) as bar:
        async for redriven in run:
            bar.length = max(1, run.report.found)
            bar.update(run.report.looked_at - bar.pos)
            if as_json and redriven.verdict is not Verdict.PASSED_OVER:
                show_json(_receipt_document(redriven))
            elif redriven.why:
                click.echo(f"{redriven.letter.message_id} to {redriven.topic or '-'}: {redriven.why}", err=True)


def _receipt_document(redriven: Redriven) -> dict[str, Any]:
    receipt, message = redriven.receipt, redriven.letter.message
    return {
        "outcome": redriven.verdict,
        "message_id": redriven.letter.message_id,
        "broker": message.queue.broker_name,
        "queue": message.queue_id,
        "offset": message.queue_offset,
        "topic": redriven.topic or None,
        "sent_broker": receipt.queue.broker_name if receipt else None,
        "sent_queue": receipt.queue.queue_id if receipt else None,
        "sent_offset": receipt.queue_offset if receipt else None,
        "why": redriven.why or None,
    }


def _show_report(report: Report, dry_run: bool, ended: str, as_json: bool) -> None:
    from posthouse.cli.screen import show_json
    from posthouse.client.dead_letters import Verdict

    if as_json:
        counts = {verdict.value: count for verdict, count in report.counts.items()}
        found: dict[str, Any] = {"ended": ended, "dry_run": dry_run, "found": report.found, **counts}
        show_json({"report": found | {"settled_before": report.settled_before}})
        return
    before = f" (redriven before: {report.settled_before})" if report.settled_before else ""
    click.echo(f"{report.found} dead letter{'' if report.found == 1 else 's'} to look at{before}")
    for verdict, text in (
        (Verdict.SENT, "would be sent" if dry_run else "sent"),
        (Verdict.ALREADY, "already there, sent by an earlier redrive"),
        (Verdict.PASSED_OVER, "passed over, not chosen"),
        (Verdict.GONE, "gone: deleted by retention before they were redriven"),
        (Verdict.FAILED, "failed"),
        (Verdict.LEFT, "left"),
    ):
        if report.counts[verdict] or verdict is Verdict.SENT:
            click.echo(f"{report.counts[verdict]:8d} {text}")


def _raise_if_failed(report: Report, ended: str) -> None:
    from posthouse.client.dead_letters import Verdict

    failed = report.counts[Verdict.FAILED]
    if failed:
        raise Failure(f"{failed} were not sent; run it again when the cause is gone: what was sent is not sent again.")
    if ended != "done":
        raise Failure("broken off; run it again to go on: what was sent is not sent again.")
