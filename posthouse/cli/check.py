"""`posthouse check`: what is in a data folder and what is wrong with it, for a person or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from posthouse.cli.failure import ExitCode
from posthouse.cli.folder import data_argument, stopped_store
from posthouse.cli.remote import json_option

if TYPE_CHECKING:
    from posthouse.host import Host
    from posthouse.store.finding import Finding, Progress, Report

_BAR_FROM_BYTES: Final = 64 * 1024 * 1024
"""Less than this is checked before one has read the bar."""
_COLOURS: Final = {"damage": "red", "warning": "yellow", "note": "cyan"}
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command()
@data_argument
@json_option
@click.pass_context
def check(ctx: click.Context, data: str, as_json: bool) -> None:
    """Check the store of a stopped broker, byte by byte; changes nothing.

    Reads all of the log, and compares what is made from it with everything else in the folder. Ends with 0 if nothing
    is damaged, 1 if something is, 2 if the folder cannot be read.

    \b
    Example:
      posthouse check posthouse-data
    """
    from posthouse.cli.logs import set_up_logging
    from posthouse.store.check import check_store

    set_up_logging("critical")
    with stopped_store(data, for_writing=False) as host:
        begun_ms = host.clock.now_ms()
        with progress_bar("checking") as progress:
            report = check_store(host, progress=progress)
        _check_nameserver(host, report)
        seconds = (host.clock.now_ms() - begun_ms) / 1000
    if as_json:
        show_report_json(report, seconds)
    else:
        show_report(report, seconds)
    ctx.exit(ExitCode.FAILED if report.is_damaged else ExitCode.OK)


def _check_nameserver(host: Host, report: Report) -> None:
    """The one file of the NameServer that runs in the same process."""
    from posthouse.nameserver.config import NameServerConfig
    from posthouse.nameserver.kv import KvConfig, KvUnreadable
    from posthouse.store.finding import Severity
    from posthouse.store.overlay import OverlayDisk

    file = NameServerConfig().kv_file
    try:
        KvConfig(OverlayDisk(host.disk), file).load()
    except KvUnreadable as error:
        report.add(Severity.DAMAGE, file, None, str(error), "a NameServer with this folder does not start")


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """On a terminal, for much work; nothing elsewhere."""
    import sys

    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    shown = 0
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            nonlocal shown
            if total >= _BAR_FROM_BYTES and done - shown >= total // 200:
                bar.length = total
                bar.update(done - shown)
                shown = done

        yield progress


def show_report(report: Report, seconds: float) -> None:
    for finding in report.findings:
        _show_finding(finding)
    for severity, count in report.unlisted.items():
        if count:
            click.echo(f"... and {count} more of {severity}")
    figures = report.figures
    if report.findings:
        click.echo()
    click.echo(
        f"{report.place}: log offsets {report.first} to {report.end}, {size_text(figures.log_bytes)} in "
        f"{_many(figures.segments, 'segment')}"
    )
    click.echo(
        f"  {_many(figures.messages, 'message')} of {_many(figures.topics, 'topic')} in "
        f"{_many(figures.queues, 'queue')}, {_many(figures.groups, 'group')}; "
        f"{_many(figures.state_records, 'state record')}, {_many(figures.frames, 'frame')}, "
        f"{_many(figures.runs, 'run')}, {_many(figures.snapshots, 'snapshot')}"
    )
    if figures.lost_messages:
        click.echo(f"  {figures.lost_messages:,} more were lost; their offsets are passed over")
    rate = f", {size_text(figures.log_bytes / seconds)}/s" if seconds and figures.log_bytes > 1e6 else ""
    click.echo(f"  read in {seconds:.1f} s{rate}")
    click.echo(verdict(report))


def verdict(report: Report) -> str:
    from posthouse.store.finding import Severity

    counts = {severity: report.count(severity) for severity in Severity}
    others = [_many(count, severity) for severity, count in counts.items() if count and severity is not Severity.DAMAGE]
    beside = f" ({', '.join(others)})" if others else ""
    if not counts[Severity.DAMAGE]:
        return click.style("No damage.", fg="green") + beside
    where = _many(counts[Severity.DAMAGE], "place")
    first = click.style(f"Damaged in {where}{beside}.", fg="red")
    return (
        f"{first} Restore the folder from a copy, or see what `posthouse repair --dry-run {report.place}` would save."
    )


def _show_finding(finding: Finding) -> None:
    where = finding.file or "the store"
    if finding.log_offset is not None:
        where += f" at log offset {finding.log_offset}"
    click.echo(f"{click.style(finding.severity, fg=_COLOURS[finding.severity], bold=True)}  {where}: {finding.what}")
    click.echo(f"        {finding.means}")
    if finding.remedy:
        click.echo(f"        -> {finding.remedy}")


def show_report_json(report: Report, seconds: float) -> None:
    """One document."""
    from posthouse.cli.screen import show_json

    show_json(
        {
            "place": report.place,
            "damaged": report.is_damaged,
            "first_offset": report.first,
            "end_offset": report.end,
            "seconds": round(seconds, 3),
            "figures": asdict(report.figures),
            "findings": [asdict(finding) for finding in report.findings],
            "unlisted": {str(severity): count for severity, count in report.unlisted.items()},
        }
    )


def size_text(size: float) -> str:
    """As 1.5 MiB."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
