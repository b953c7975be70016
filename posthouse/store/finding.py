"""What a check has to say: findings for a person, and the figures of what was looked at.

*damage*: bytes that were written are gone or changed; a start refuses, or would serve something wrong, or has to make
again what was lost. *warning*: nothing is lost, but somebody should look. *note*: as it should be after a crash or a
repair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from posthouse.model.offsets import LogOffset
from posthouse.store.log.engine import START

FINDINGS_MAX = 200
"""Of one severity; the rest is only counted. One cause often shows in thousands of places."""

Progress = Callable[[int, int], None]
"""(bytes of the log that are done, bytes in all)."""


class Severity(StrEnum):
    DAMAGE = "damage"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as one expects. `remedy` is empty where there is nothing to do."""

    severity: Severity
    file: str
    log_offset: LogOffset | None
    what: str
    means: str
    remedy: str = ""


@dataclass(slots=True)
class Figures:
    """What was looked at. `gap_bytes` are those that a repair could not save; `lost_messages` are queue offsets of
    topics that are there, without a message behind them.
    """

    segments: int = 0
    log_bytes: int = 0
    frames: int = 0
    records: int = 0
    messages: int = 0
    state_records: int = 0
    topics: int = 0
    groups: int = 0
    queues: int = 0
    runs: int = 0
    snapshots: int = 0
    gaps: int = 0
    gap_bytes: int = 0
    lost_messages: int = 0


@dataclass(slots=True)
class Report:
    """`refusal` is what a start says that does not start; `unlisted` counts what FINDINGS_MAX left out."""

    place: str
    refusal: str = ""
    findings: list[Finding] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    first: LogOffset = START.offset
    end: LogOffset = START.offset
    """Of the good part of the log."""
    unlisted: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))

    def add(self, severity: Severity, file: str, at: LogOffset | None, what: str, means: str, remedy: str = "") -> None:
        if sum(1 for each in self.findings if each.severity is severity) < FINDINGS_MAX:
            self.findings.append(Finding(severity, file, at, what, means, remedy))
        else:
            self.unlisted[severity] += 1

    def count(self, severity: Severity) -> int:
        return sum(1 for each in self.findings if each.severity is severity) + self.unlisted[severity]

    @property
    def is_damaged(self) -> bool:
        return self.count(Severity.DAMAGE) > 0
