from __future__ import annotations

import asyncio

import pytest

from posthouse.store import checkpoint
from posthouse.store.run import FOLDER, run_files
from posthouse.store.snapshot import valid_snapshots
from tests.store.disks import FaultyDisk
from tests.store.log.recorder import turns
from tests.store.stores import Opened, open_store


async def add(opened: Opened, count: int, topic: str = "t") -> None:
    """`count` more messages, and a checkpoint."""
    for _ in range(count):
        opened.put(topic, b"x" * 20)
    await opened.settled()
    await opened.store.checkpoint()


def sizes(opened: Opened) -> list[int]:
    """Messages in each run, oldest first."""
    return [run.entry_bytes // 20 for run in opened.store._checkpoints.runs]


def named(disk: FaultyDisk) -> list[set[str]]:
    """What the snapshots on disk name, newest first."""
    return [set(found.runs) for found in valid_snapshots(disk)][:-1]


@pytest.mark.asyncio
async def test_a_checkpoint_makes_a_run_and_a_snapshot_that_names_it() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await add(opened, 10)
    assert sizes(opened) == [10]
    assert named(disk) == [set(run_files(disk))]
    order = [what for what in disk.changes if what.startswith("replace")]
    assert [what.split("/")[0] for what in order] == ["replace queues", "replace snapshots"]
    await opened.store.checkpoint()
    assert len([what for what in disk.changes if what.startswith("replace")]) == 2, "nothing was new"
    await opened.store.close()


@pytest.mark.asyncio
async def test_runs_are_merged_so_that_there_are_few() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for number in range(200):
        await add(opened, 3)
        found = sizes(opened)
        assert sum(found) == 3 * (number + 1)
        assert len(found) <= 8
        assert len(run_files(disk)) <= 16
    assert len(opened.bodies("t")) == 600
    assert named(disk)[0] <= set(run_files(disk))
    await opened.store.close()


@pytest.mark.asyncio
async def test_many_restarts_leave_few_files() -> None:
    disk = FaultyDisk()
    for number in range(100):
        opened = open_store(disk)
        assert len(opened.bodies("t") if number else []) == number
        opened.put("t", b"%d" % number)
        await opened.store.close()
    assert len(disk.files()) < 25
    opened = open_store(disk)
    assert opened.bodies("t") == [b"%d" % number for number in range(100)]
    await opened.store.close()


@pytest.mark.asyncio
async def test_runs_over_the_limit_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MERGED_BYTES_MAX", 20 * 20)
    opened = open_store(FaultyDisk())
    for _ in range(40):
        await add(opened, 5)
    found = sizes(opened)
    assert sum(found) == 200
    assert 10 <= max(found) <= 20
    assert len(found) <= 16
    assert len(opened.bodies("t")) == 200
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_merge_leaves_out_what_is_deleted() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await add(opened, 30, "gone")
    await add(opened, 10, "stays")
    opened.delete("gone")
    await opened.settled()
    await add(opened, 10, "stays")
    await add(opened, 20, "stays")
    assert sum(sizes(opened)) == 40
    assert len(opened.bodies("stays")) == 40
    opened = open_store(disk.kill())
    assert list(opened.store.topics.live) == ["stays"]
    assert len(opened.bodies("stays")) == 40
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_queue_is_read_while_its_runs_are_merged() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await add(opened, 10)
    disk.hold()
    for number in range(8):
        opened.put("t", b"%d" % number)
    task = asyncio.ensure_future(opened.store.checkpoint())
    while not task.done():
        assert len(opened.bodies("t")) in (10, 18)
        disk.release(min(1, len(disk.held)))
        await turns(1)
    disk.release()
    await opened.settled()
    assert len(opened.bodies("t")) == 18
    await opened.store.close()


@pytest.mark.asyncio
async def test_messages_that_come_during_a_checkpoint_are_not_lost_to_it() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for _ in range(5):
        opened.put("t")
    await opened.settled()
    task = asyncio.ensure_future(opened.store.checkpoint())
    for _ in range(30):
        opened.put("t")
        opened.put("new", b"n", 1)
        await turns(1)
    await asyncio.wait_for(task, 10)
    await opened.settled()
    want = opened.folds()
    again = open_store(disk.kill())
    assert again.folds() == want
    await again.store.checkpoint()
    assert again.folds() == want
    await again.store.close()


@pytest.mark.asyncio
async def test_a_damaged_run_is_not_merged_and_not_spread(caplog: pytest.LogCaptureFixture) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await add(opened, 5)
    (name,) = run_files(disk)
    data = disk.files()[f"{FOLDER}/{name}"]
    disk.flip(f"{FOLDER}/{name}", len(data) - 1)
    await add(opened, 5)
    assert sizes(opened) == [5, 5]
    assert name in caplog.text
    assert "damaged" in caplog.text
    await opened.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["replace queues", "replace snapshots", "sync log"])
async def test_a_checkpoint_that_fails_is_told_and_the_next_one_makes_up_for_it(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await add(opened, 5)
    disk.failing = lambda done: done.startswith(what)
    opened.store.offsets.commit("g", "t", 0, opened.acknowledged[0].queue_offset)
    opened.write_offsets()  # without a sync, so that the checkpoint has to ask for one
    await opened.settled()
    await add(opened, 0)
    if what == "sync log":
        assert opened.store.failure is not None, "a sync of the log that fails is final"
        return
    await add(opened, 5)
    assert "a checkpoint in a faulty disk failed" in caplog.text
    assert opened.store.failure is None
    assert len(opened.bodies("t")) == 10
    want = opened.folds()
    assert open_store(FaultyDisk(disk.files())).folds() == want
    disk.failing = lambda done: False
    await add(opened, 1)
    assert len(opened.bodies("t")) == 11
    want = opened.folds()
    again = open_store(disk.kill())
    assert again.folds() == want
    assert again.store.recovered is not None
    assert again.store.recovered.records == 0
    await again.store.close()


@pytest.mark.asyncio
async def test_what_interrupted_checkpoints_left_is_removed_and_foreign_files_stay() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await add(opened, 5)
    await add(opened, 5)
    left = {
        f"{FOLDER}/{9:020d}-{10:020d}.run": b"",
        f"{FOLDER}/{9:020d}-{11:020d}.run.new": b"",
        f"{FOLDER}/notes.txt": b"mine",
    }
    files = disk.files()
    survivor = FaultyDisk(files | left)
    again = open_store(survivor)
    assert survivor.files() == files | {f"{FOLDER}/notes.txt": b"mine"}
    assert len(again.bodies("t")) == 10
    await again.store.close()


@pytest.mark.asyncio
async def test_the_snapshot_before_the_newest_can_always_be_used() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for number in range(1, 30):
        await add(opened, number % 7 + 1)
        for names in named(disk):
            assert names <= set(run_files(disk))
        files = disk.files()
        newest = max(name for name in files if name.startswith("snapshots/"))
        again = open_store(FaultyDisk({name: data for name, data in files.items() if name != newest}))
        assert again.folds() == opened.folds()
    await opened.store.close()


@pytest.mark.asyncio
async def test_a_checkpoint_without_messages_writes_no_run() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    for name in ("g", "h"):
        opened.group(name)
        await opened.settled()
        await opened.store.checkpoint()
    assert run_files(disk) == []
    opened = open_store(disk.kill())
    assert sorted(opened.store.groups.live) == ["g", "h"]
    assert opened.store.recovered is not None
    assert opened.store.recovered.records == 0
    await opened.store.close()


@pytest.mark.asyncio
async def test_files_of_merged_runs_are_closed_and_those_of_the_store_at_its_end() -> None:
    open_files: set[str] = set()

    class Counting(FaultyDisk):
        def open(self, name: str, create: bool = False):  # type: ignore[no-untyped-def]
            file = super().open(name, create)
            open_files.add(name)
            file.close = lambda: open_files.discard(name)  # type: ignore[method-assign]
            return file

    disk = Counting()
    opened = open_store(disk)
    for _ in range(50):
        await add(opened, 3)
    assert len([name for name in open_files if name.startswith(FOLDER)]) == len(sizes(opened))
    await opened.store.close()
    assert open_files == set()
