from __future__ import annotations

import asyncio

import pytest

from posthouse.model.offsets import LogOffset
from posthouse.model.properties import encode_properties
from posthouse.store import checkpoint
from posthouse.store.checkpoint import Checkpoints
from posthouse.store.key_index import KeyIndex, key_hash
from posthouse.store.run import FOLDER, run_end, run_files
from posthouse.store.snapshot import EMPTY, Snapshot, encode_snapshot, snapshot_name, valid_snapshots
from tests.store.disks import FaultyDisk, FaultyFile
from tests.store.log.recorder import turns
from tests.store.stores import HERE, Opened, message, open_store


async def add(opened: Opened, count: int, topic: str = "t") -> None:
    """`count` more messages, and a checkpoint."""
    for _ in range(count):
        opened.put(topic, b"x" * 20)
    await opened.settled()
    await opened.store.checkpoint()


def sizes(opened: Opened) -> list[int]:
    """Messages in each run, oldest first."""
    return [run.entry_bytes // 20 for run in opened.store._checkpoints.runs]


def written(disk: FaultyDisk) -> list[str]:
    """The folders into which checkpoints wrote, in order."""
    folders = [what.removeprefix("replace ").split("/")[0] for what in disk.changes if what.startswith("replace ")]
    return [folder for folder in folders if folder in ("queues", "snapshots")]


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
    assert written(disk) == ["queues", "snapshots"]
    await opened.store.checkpoint()
    assert written(disk) == ["queues", "snapshots"], "nothing was new"
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


class Counting(FaultyDisk):
    """Knows which files are open."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__(files)
        self.open_files: list[str] = []

    def open(self, name: str, create: bool = False) -> FaultyFile:
        file = super().open(name, create)
        self.open_files.append(name)
        file.close = lambda: self.open_files.remove(name)  # type: ignore[method-assign]
        return file

    @property
    def open_runs(self) -> int:
        return len([name for name in self.open_files if name.startswith(FOLDER)])


@pytest.mark.asyncio
async def test_files_of_merged_runs_are_closed_a_checkpoint_later_and_all_at_the_end() -> None:
    """Reads of them may be under way until then."""
    disk = Counting()
    opened = open_store(disk)
    for number in range(50):
        before = len(sizes(opened))
        await add(opened, 3)
        merged = before + 1 - len(sizes(opened))
        assert disk.open_runs == len(sizes(opened)) + merged, number
    await opened.store.close()
    assert disk.open_runs == 0


# Keys


async def keyed(opened: Opened, key: str, count: int = 1) -> list[int]:
    """Sends messages with that key; where they are."""
    found = []
    for _ in range(count):
        text = encode_properties({"KEYS": f"{key} all", "UNIQ_KEY": f"id-{key}"})
        new = message("t")._replace(properties=text)
        found.append(opened.store.put(opened.topic("t"), new, 0, HERE, opened.done).log_offset)
    await opened.settled()
    return [int(each) for each in found]


async def places(opened: Opened, key: str) -> list[int]:
    """Where the index says that the key is, newest first."""
    search = opened.store.keys.find(key_hash("t", key), LogOffset(0), 0, 1 << 62)
    return [int(each) async for each in search]


@pytest.mark.asyncio
async def test_keys_are_found_from_the_commit_on_and_through_checkpoints_and_restarts() -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    want: dict[str, int] = {}
    for number in range(60):
        (want[f"k{number}"],) = await keyed(opened, f"k{number}")
        if number % 7 == 0:
            await opened.store.checkpoint()
        if number % 13 == 0:
            opened = open_store(disk := disk.kill())
        if number % 17 == 0:
            await opened.store.close()
            opened = open_store(disk)
    for key, place in want.items():
        assert await places(opened, key) == [place]
        assert await places(opened, f"id-{key}") == [place]
    assert await places(opened, "all") == sorted(want.values(), reverse=True)
    assert await places(opened, "k60") == []
    await opened.store.close()


@pytest.mark.asyncio
async def test_small_blocks_of_keys_are_joined_when_runs_are_merged() -> None:
    opened = open_store(FaultyDisk())
    for number in range(100):
        await keyed(opened, f"k{number}")
        await opened.store.checkpoint()
    runs = opened.store._checkpoints.runs
    assert [len(run.keys) for run in runs] == [1] * len(runs)
    assert sum(block.entries for run in runs for block in run.keys) == 300
    assert len(await places(opened, "all")) == 100
    await opened.store.close()


@pytest.mark.asyncio
async def test_keys_of_a_topic_that_is_deleted_are_written_all_the_same() -> None:
    """They cost little, and whoever reads the record sees that it is gone."""
    disk = FaultyDisk()
    opened = open_store(disk)
    (place,) = await keyed(opened, "k")
    opened.delete("t")
    await opened.settled()
    await opened.store.checkpoint()
    assert await places(opened, "k") == [place]
    opened = open_store(disk.kill())
    assert await places(opened, "k") == [place]
    await opened.store.close()


@pytest.mark.asyncio
async def test_damaged_keys_of_a_run_are_not_spread(caplog: pytest.LogCaptureFixture) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    await keyed(opened, "a", 3)
    await opened.store.checkpoint()
    (name,) = run_files(disk)
    disk.flip(f"{FOLDER}/{name}", len(disk.files()[f"{FOLDER}/{name}"]) - 1)
    await keyed(opened, "b", 3)
    await opened.store.checkpoint()
    assert sizes(opened) == [3, 3]
    assert name in caplog.text
    await opened.store.close()


# A log whose beginning is gone


async def trimmed(disk: FaultyDisk, messages: int = 400) -> tuple[Opened, list[int]]:
    """A store with a run for every tenth of its messages and its older half trimmed; and the keys' places."""
    opened = open_store(disk, segment_bytes=8192)
    found: list[int] = []
    for number in range(messages):
        found += await keyed(opened, f"k{number}")
        if number % (messages // 10) == 0:
            opened.store._checkpoints._to_merge = lambda size: []  # type: ignore[method-assign]
            await opened.store.checkpoint()
    await opened.store.trim(LogOffset(found[messages // 2]))
    return opened, found


@pytest.mark.asyncio
async def test_runs_of_what_was_trimmed_are_forgotten_and_their_files_go_when_no_snapshot_names_them() -> None:
    disk = Counting()
    opened, found = await trimmed(disk)
    first = opened.store.log.first_offset
    assert first > found[100]
    runs = opened.store._checkpoints.runs
    assert runs[0].end > first
    assert len(runs) < 8
    assert len(run_files(disk)) == 10, "the newest snapshots name them"
    for number in range(2):
        await keyed(opened, f"more{number}")
        await opened.store.checkpoint()
    assert sorted(run_files(disk)) == sorted(run.short_name for run in opened.store._checkpoints.runs)
    assert disk.open_runs == len(run_files(disk))
    kept = [place for place in found if place >= first]
    assert [place for place in await places(opened, "all") if place >= first][2:] == kept[::-1]
    queue = opened.store.topics.live["t"].queue(0)
    assert [each.log_offset for each in opened.read("t", begin=queue.min_offset)][:-2] == kept
    await opened.store.close()
    assert disk.open_runs == 0


@pytest.mark.asyncio
async def test_a_store_that_was_trimmed_opens_with_what_is_left_whatever_of_it_is_missing() -> None:
    disk = FaultyDisk()
    opened, _ = await trimmed(disk)
    queue = opened.store.topics.live["t"].queue(0)
    want = [each.log_offset for each in opened.read("t", begin=queue.min_offset)]
    first = opened.store.log.first_offset
    files = {name: data for name, data in disk.kill().files().items() if not is_below(name, first)}
    gone = [name for name in files if name.startswith(FOLDER) and (run_end(name.split("/")[1]) or 0) <= first]
    assert gone, "runs of what was trimmed"
    snapshots = [name for name in files if name.startswith("snapshots/")]
    for missing in ([], gone, gone[:1], snapshots, snapshots[-1:], gone + snapshots[-1:]):
        again = open_store(FaultyDisk({name: data for name, data in files.items() if name not in missing}))
        queue = again.store.topics.live["t"].queue(0)
        assert [each.log_offset for each in again.read("t", begin=queue.min_offset)] == want
        assert [place for place in await places(again, "all") if place >= first] == want[::-1]
        for number in range(3):
            await keyed(again, f"more{number}")
            await again.store.checkpoint()
        await again.store.close()


def is_below(name: str, first: int) -> bool:
    """A segment that a trim has removed, or will."""
    return name.startswith("log/") and int(name.removeprefix("log/").removesuffix(".log")) < first


@pytest.mark.asyncio
async def test_snapshots_from_before_the_log_begins_are_not_used() -> None:
    disk = FaultyDisk()
    checkpoints = Checkpoints(disk, KeyIndex())
    disk.replace(snapshot_name(500), encode_snapshot(Snapshot(offset=500, checksum=1)), lambda error: None)
    assert checkpoints.load(LogOffset(500)).offset == 500
    assert checkpoints.load(LogOffset(501)) == EMPTY


def kept_of(opened: Opened) -> list[int]:
    """Where the messages of the queue are that can be read."""
    queue = opened.store.topics.live["t"].queue(0)
    return [int(each.log_offset) for each in opened.read("t", begin=queue.min_offset)]


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", range(6))
async def test_a_trim_during_a_checkpoint_waits_for_its_end(moment: int) -> None:
    """And whatever of the trimmed segments a crash brings back, the store opens."""
    disk = Counting()
    opened = open_store(disk, segment_bytes=8192)
    found: list[int] = []
    for number in range(200):
        found += await keyed(opened, f"k{number}")
        if number in (100, 140, 160):
            await opened.store.checkpoint()
    segments = {name: data for name, data in disk.files().items() if name.startswith("log/")}
    disk.hold()
    task = asyncio.ensure_future(opened.store.checkpoint())
    await turns(3)
    for _ in range(moment):
        disk.release(min(1, len(disk.held)))
        await turns(2)
    await opened.store.trim(LogOffset(found[190]))
    while not task.done():
        disk.release(min(1, len(disk.held)))
        await turns(1)
    disk.release()
    await opened.settled()
    first = opened.store.log.first_offset
    assert first > found[150]
    kept = [place for place in found if place >= first]
    assert kept_of(opened) == kept
    assert [place for place in await places(opened, "all") if place >= first] == kept[::-1]
    again = open_store(FaultyDisk(segments | disk.files()), segment_bytes=8192)
    assert kept_of(again)[-len(kept) :] == kept
    await again.store.checkpoint()
    await again.store.close()
    await opened.store.close()
    again = open_store(disk)
    assert kept_of(again)[-len(kept) :] == kept, "segments that were not removed in time may be back"
    await again.store.close()


# A disk without room


@pytest.mark.asyncio
@pytest.mark.parametrize("what", [f"replace {FOLDER}", "replace snapshots"])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_full_disk_leaves_no_half_state_and_the_next_checkpoint_works(what: str, times: int) -> None:
    disk = FaultyDisk()
    opened = open_store(disk)
    want: list[int] = []
    for number in range(5):
        want += await keyed(opened, f"k{number}")
        await opened.store.checkpoint()
    before = disk.files()
    disk.full = lambda done: done.startswith(what)
    for number in range(times):
        want += await keyed(opened, f"full{number}")
        await opened.store.checkpoint()
        assert not [name for name in disk.files() if name.endswith(".new")]
        assert {name for name in before if name.startswith("snapshots/")} <= disk.files().keys()
        assert await places(opened, "all") == want[::-1]
        assert len(opened.bodies("t")) == len(want)
        again = open_store(FaultyDisk(disk.files()))
        assert again.folds() == opened.folds()
        assert await places(again, "all") == want[::-1]
    disk.full = lambda done: False
    want += await keyed(opened, "after")
    await opened.store.checkpoint()
    assert set(run_files(disk)) == set().union(*named(disk)[:2])
    again = open_store(disk.kill())
    assert again.store.recovered is not None
    assert again.store.recovered.records == 0
    assert await places(again, "all") == want[::-1]
    assert len(again.bodies("t")) == len(want)
    await again.store.close()


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_removed_does_not_fail_the_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    class Sticky(FaultyDisk):
        def remove(self, name: str, sync: bool = False) -> None:
            raise OSError(1, "Operation not permitted")

    disk = Sticky()
    opened = open_store(disk)
    for _ in range(8):
        await add(opened, 5)
    assert "cannot be removed" in caplog.text
    assert "a checkpoint in" not in caplog.text
    assert len(opened.bodies("t")) == 40
    await opened.store.close()
