"""Files of a data folder that belong to nobody, and what interrupted writes left. For `check` and `repair`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from posthouse.host.disk import Disk
from posthouse.store import run as runs
from posthouse.store import snapshot as snapshots
from posthouse.store.finding import Report, Severity
from posthouse.store.log import segments
from posthouse.store.log.format import NAME as FORMAT_FILE
from posthouse.store.snapshot import Snapshot

LOST = "lost"
"""Folder of what repairs put aside."""
_AT_THE_TOP = {"lock", FORMAT_FILE, segments.FOLDER, runs.FOLDER, snapshots.FOLDER, LOST, "nameserver"}
_SEGMENT = re.compile(r"[0-9]{20}\.log")
_NEW = ".new"


_SNAPSHOT = re.compile(r"[0-9]{20}\.json")


def snapshot_files(disk: Disk) -> list[str]:
    """The files that are named as snapshots are, oldest first."""
    return [name for name in disk.list(snapshots.FOLDER) if _SNAPSHOT.fullmatch(name)]


class Stray(NamedTuple):
    """`leftover`: an interrupted write left it, and a start removes it."""

    name: str
    leftover: bool


def strays(disk: Disk, named_runs: Iterable[str]) -> Iterator[Stray]:
    """What lies in the folders of the store without belonging there; `named_runs` are the runs that count."""
    for name in disk.list(""):
        if name not in _AT_THE_TOP:
            yield Stray(name, name == FORMAT_FILE + _NEW)
    for name in disk.list(segments.FOLDER):
        if not _SEGMENT.fullmatch(name) and not name.endswith(segments.LOST_SUFFIX):
            yield Stray(f"{segments.FOLDER}/{name}", leftover=False)
    named = set(named_runs)
    run_files = set(runs.run_files(disk))
    for name in disk.list(runs.FOLDER):
        if name not in named:
            yield Stray(f"{runs.FOLDER}/{name}", leftover=name in run_files)
    for name in disk.list(snapshots.FOLDER):
        if not _SNAPSHOT.fullmatch(name):
            yield Stray(f"{snapshots.FOLDER}/{name}", name.removesuffix(_NEW) != name)


def report_strays(disk: Disk, report: Report, valid: Iterable[Snapshot]) -> None:
    for name, leftover in strays(disk, [run for snapshot in valid for run in snapshot.runs]):
        if leftover:
            report.add(
                Severity.NOTE,
                name,
                None,
                "an interrupted write left this file",
                "a start, or the next checkpoint, removes it",
            )
        else:
            report.add(
                Severity.WARNING,
                name,
                None,
                "this file does not belong to the store",
                "nobody reads it",
                "move it away if you know what it is",
            )
