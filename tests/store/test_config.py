"""What a store may be told, and what is refused because it could only be meant otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.store.config import HOUR_MS, Durability, StoreConfig


def test_defaults_are_safe_and_those_of_rocketmq() -> None:
    config = StoreConfig()
    assert config.durability is Durability.DISK
    assert config.segment_bytes == 1 << 30
    assert (config.retention_ms, config.retention_bytes, config.retention_hours) == (72 * HOUR_MS, None, (4,))
    assert (config.disk_clean_level, config.disk_force_level, config.disk_full_level) == (0.75, 0.85, 0.90)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"segment_bytes": 0}, "must be above 0"),
        ({"checkpoint_bytes": -1}, "must be above 0"),
        ({"retention_ms": 0}, "must be above 0"),
        ({"retention_bytes": 0}, "None sets no limit"),
        ({"retention_hours": (4, 24)}, "an hour of the day is 0 to 23"),
        ({"disk_clean_level": 0.0}, "the disk levels must rise"),
        ({"disk_clean_level": 0.86}, r"clean \(86%\) up to force \(85%\) up to full \(90%\)"),
        ({"disk_force_level": 0.91}, "the disk levels must rise"),
        ({"disk_full_level": 1.01}, "the disk levels must rise"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StoreConfig(**wrong)


def test_levels_may_be_one() -> None:
    assert StoreConfig(disk_clean_level=0.9, disk_force_level=0.9).disk_full_level == 0.9


def test_durability_reads_as_it_is_written() -> None:
    assert Durability("os") == "os"
    assert f"{Durability.DISK}" == "disk"
