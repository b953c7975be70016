from __future__ import annotations

from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.stats import QueueProgress


def test_backlog_is_what_the_group_has_still_to_consume() -> None:
    progress = QueueProgress(QueueOffset(10), QueueOffset(7), QueueOffset(9), EpochMs(0))
    assert progress.backlog == 3
