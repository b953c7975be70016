"""What a store is told when it is made. Every default is safe: on disk before the answer, 72 hours kept.

A topic may say two of these itself, by the attributes named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HOUR_MS = 3_600_000

TOPIC_DURABILITY = "durability"
"""Attribute of a topic: a Durability."""
TOPIC_AGE = "reserve.time"
"""Attribute of a topic: how long its messages are kept, in ms; -1 as long as the broker says. RocketMQ's own name."""


class Durability(StrEnum):
    """What an acknowledgement promises."""

    DISK = "disk"
    """Synced: it survives a power cut."""
    OS = "os"
    """Handed to the operating system: it survives the end of the process, not that of the machine."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Sizes in bytes, times in ms, disk levels as used share of the file system.

    Source of the defaults: RocketMQ mappedFileSizeCommitLog, fileReservedTime, deleteWhen, diskMaxUsedSpaceRatio,
    diskSpaceCleanForciblyRatio, diskSpaceWarningLevelRatio. Raises ValueError for what cannot be.
    """

    segment_bytes: int = 1024 * 1024 * 1024
    checkpoint_bytes: int = 32 * 1024 * 1024
    """Log between two checkpoints: about the most that a start replays."""
    durability: Durability = Durability.DISK
    """Of topics that do not say it themselves."""
    retention_ms: int = 72 * HOUR_MS
    """How long messages are kept at least, disk space permitting. Of topics that do not say it themselves."""
    retention_bytes: int | None = None
    """The log is kept under this size, whatever its age. None: no limit but the disk."""
    retention_hours: tuple[int, ...] = (4,)
    """Hours of the local day in which what is too old is deleted; empty: at any time."""
    disk_clean_level: float = 0.75
    """Above it, what is too old is deleted at any hour."""
    disk_force_level: float = 0.85
    """Above it, the oldest segments are deleted even if they are not too old."""
    disk_full_level: float = 0.90
    """Above it, sends are refused as well."""

    def __post_init__(self) -> None:
        if min(self.segment_bytes, self.checkpoint_bytes, self.retention_ms) <= 0:
            raise ValueError("segment_bytes, checkpoint_bytes and retention_ms must be above 0")
        if self.retention_bytes is not None and self.retention_bytes <= 0:
            raise ValueError("retention_bytes must be above 0; None sets no limit")
        if not all(0 <= hour <= 23 for hour in self.retention_hours):
            raise ValueError(f"retention_hours {self.retention_hours}: an hour of the day is 0 to 23")
        levels = (self.disk_clean_level, self.disk_force_level, self.disk_full_level)
        if not 0 < levels[0] <= levels[1] <= levels[2] <= 1:
            raise ValueError(
                "the disk levels must rise: "
                f"clean ({levels[0]:.0%}) up to force ({levels[1]:.0%}) up to full ({levels[2]:.0%})"
            )
