"""Every test that opens a store ends with a check of its disk: whatever happened, nothing on it is damaged.

Tests that change bytes behind the store's back, and stores that refuse to open, are not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from posthouse.host.disk import Disk
from posthouse.host.memory import MemoryDisk
from posthouse.store.log.engine import Recovered
from posthouse.store.message_store import MessageStore, StoreBroken
from tests.store.clean import assert_clean
from tests.store.disks import FaultyDisk

# Tests that damage a disk in other ways than `FaultyDisk.edit`: how.
DAMAGING: Final = {
    "test_a_damaged_checkpoint_costs_time_and_nothing_else": "takes a run away",
    "test_what_interrupted_checkpoints_left_is_removed_and_foreign_files_stay": "puts files there that are not ours",
}


@pytest.fixture(autouse=True)
def _nothing_is_damaged_in_the_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[Disk] = []
    damaged = request.node.originalname in DAMAGING
    open_store, edit = MessageStore.open, FaultyDisk.edit

    def remember(store: MessageStore) -> Recovered:
        nonlocal damaged
        opened.append(store._disk)
        try:
            return open_store(store)
        except StoreBroken:
            damaged = True
            raise

    def note(disk: FaultyDisk, name: str, change: Callable[[bytearray], None]) -> None:
        nonlocal damaged
        damaged = True
        edit(disk, name, change)

    with monkeypatch.context() as patched:
        patched.setattr(MessageStore, "open", remember)
        patched.setattr(FaultyDisk, "edit", note)
        yield
    if opened and not damaged:
        last = opened[-1]
        if isinstance(last, FaultyDisk):
            assert_clean(FaultyDisk(last.files()))  # the last one may be dead
        elif isinstance(last, MemoryDisk):
            assert_clean(last)
