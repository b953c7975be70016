from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from posthouse.host.disk import DiskBusy
from posthouse.testing.sim.process import Machine, Process
from posthouse.testing.sim.process_disk import ProcessDisk
from tests.sim.machines import Little, disk_of_this_process, for_ever, outcome

Deed = Callable[[ProcessDisk], Coroutine[Any, Any, None]]


def on_a_disk(deed: Deed, seed: int = 1, after: Callable[[Machine], None] | None = None) -> Machine:
    """Runs `deed` as a program of a machine until it ends, then `after`; the machine."""
    little = Little(seed)
    machine = little.machine("one")

    async def program() -> None:
        await deed(disk_of_this_process(machine))

    async def main() -> None:
        await little.program(machine, program)
        if after is not None:
            after(machine)

    little.run(main())
    return machine


def power_cut(machine: Machine) -> None:
    machine.power_off()
    machine.disk.power_cut()


def test_what_was_written_is_read_at_once_and_a_killed_process_leaves_it() -> None:
    async def deed(disk: ProcessDisk) -> None:
        file = disk.open("log", create=True)
        assert await outcome(lambda done: file.commit(0, (b"ab", b"cd"), False, done)) is None
        assert file.read(1, 2) == b"bc"
        assert file.size_bytes() == 4

    assert on_a_disk(deed).disk.files() == {"log": b"abcd"}


def test_what_was_synced_survives_every_power_cut() -> None:
    async def deed(disk: ProcessDisk) -> None:
        file = disk.open("log", create=True)
        assert await outcome(lambda done: file.commit(0, (bytes(3000), b"kept"), True, done)) is None
        file.commit(3004, (bytes([1]) * 3000,), False, lambda error: None)
        await asyncio.sleep(1.0)

    for seed in range(30):
        data = on_a_disk(deed, seed, power_cut).disk.files()["log"]
        assert data[:3004] == bytes(3000) + b"kept"


def test_a_power_cut_leaves_any_pages_of_what_was_not_synced() -> None:
    written = b"".join(bytes([number]) * 512 for number in range(1, 5))

    async def deed(disk: ProcessDisk) -> None:
        file = disk.open("log", create=True)
        file.commit(0, (written,), False, lambda error: None)
        await asyncio.sleep(1.0)

    left = {on_a_disk(deed, seed, power_cut).disk.files()["log"] for seed in range(200)}
    assert b"" in left
    assert written in left
    torn = [data for data in left if data and data != written]
    assert any(data[:512] == bytes(512) and data[512:1024] == written[512:1024] for data in torn), "a hole"
    assert any(len(data) == len(written) and not any(data[1024:]) and any(data[:1024]) for data in torn), "zeros"
    assert any(0 < len(data) < len(written) for data in torn), "a length in between"


def test_a_failed_sync_is_not_mended_by_a_later_one() -> None:
    async def deed(disk: ProcessDisk) -> None:
        trouble = disk.machine_disk.trouble
        file = disk.open("log", create=True)
        trouble.sync_fails = 1.0
        error = await outcome(lambda done: file.commit(0, (bytes([7]) * 5120,), True, done))
        assert error.errno == errno.EIO
        trouble.sync_fails = 0.0
        assert await outcome(lambda done: file.commit(5120, (), True, done)) is None
        assert file.read(0, 5120) == bytes([7]) * 5120

    left = {on_a_disk(deed, seed, power_cut).disk.files()["log"] for seed in range(20)}
    assert bytes([7]) * 5120 not in left


def test_bytes_that_are_written_again_after_a_failed_sync_can_be_synced() -> None:
    async def deed(disk: ProcessDisk) -> None:
        trouble = disk.machine_disk.trouble
        file = disk.open("log", create=True)
        trouble.sync_fails = 1.0
        await outcome(lambda done: file.commit(0, (bytes([7]) * 5120,), True, done))
        trouble.sync_fails = 0.0
        assert await outcome(lambda done: file.commit(0, (bytes([7]) * 5120,), True, done)) is None

    assert on_a_disk(deed, 1, power_cut).disk.files()["log"] == bytes([7]) * 5120


def test_a_full_disk_takes_nothing_until_there_is_room() -> None:
    async def deed(disk: ProcessDisk) -> None:
        trouble = disk.machine_disk.trouble
        file = disk.open("log", create=True)
        trouble.room_bytes = 10
        assert await outcome(lambda done: file.commit(0, (b"12345678",), True, done)) is None
        error = await outcome(lambda done: file.commit(8, (b"12345678",), True, done))
        assert error.errno == errno.ENOSPC
        assert (await outcome(lambda done: disk.replace("snapshot", b"x", done))).errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space"):
            disk.open("other", create=True)
        assert await outcome(lambda done: file.commit(0, (b"over",), True, done)) is None, "what is there may change"
        trouble.room_bytes = None
        assert await outcome(lambda done: file.commit(8, (b"12345678",), True, done)) is None

    assert on_a_disk(deed).disk.files() == {"log": b"over567812345678"}


def test_commits_are_done_in_the_order_given_and_take_time() -> None:
    told: list[tuple[str, float]] = []

    async def deed(disk: ProcessDisk) -> None:
        loop = asyncio.get_running_loop()
        file = disk.open("log", create=True)
        file.commit(0, (b"1",), True, lambda error: told.append(("first", round(loop.time(), 6))))
        file.commit(0, (b"2",), True, lambda error: told.append(("second", round(loop.time(), 6))))
        file.commit(0, (b"3",), False, lambda error: told.append(("third", round(loop.time(), 6))))
        await asyncio.sleep(1.0)

    assert on_a_disk(deed).disk.files()["log"] == b"3"
    assert told == [("first", 0.003), ("second", 0.006), ("third", 0.007)]


def test_a_kill_forgets_what_had_not_begun_and_may_leave_a_part_of_what_had() -> None:
    lengths: set[int] = set()
    for seed in range(30):
        little = Little(seed)
        machine = little.machine("one")

        async def program(machine: Machine = machine) -> None:
            file = disk_of_this_process(machine).open("log", create=True)
            file.commit(0, (bytes(100),), True, lambda error: None)
            file.commit(100, (bytes(100),), True, lambda error: None)
            await for_ever()

        async def main(little: Little = little, machine: Machine = machine) -> None:
            process = little.program(machine, program)
            await asyncio.sleep(0.0005)
            process.kill()
            await asyncio.sleep(1.0)
            lengths.add(len(machine.disk.files()["log"]))

        little.run(main())
    assert max(lengths) == 100
    assert min(lengths) < 100


@pytest.mark.parametrize("crash", ["kill", "power cut"])
def test_a_replaced_file_is_the_old_one_or_the_new_one_wherever_the_crash_comes(crash: str) -> None:
    found: set[bytes] = set()
    for step in range(12):
        for seed in range(5):
            found.add(_replace_and_crash(crash, step, seed))
    assert found == {b"old", b"new"}


def _replace_and_crash(crash: str, step: int, seed: int) -> bytes:
    little = Little(seed)
    machine = little.machine("one")
    running: list[Process] = []

    async def program() -> None:
        disk = disk_of_this_process(machine)
        assert await outcome(lambda done: disk.replace("a", b"old", done)) is None
        left = step

        def strike(what: str, name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0 and not running[0].frozen:
                power_cut(machine) if crash == "power cut" else running[0].kill()

        machine.disk.on_step = strike
        await outcome(lambda done: disk.replace("a", b"new", done))

    async def main() -> None:
        running.append(little.program(machine, program))
        await running[0]

    little.run(main())
    return machine.disk.files()["a"]


def test_a_name_that_was_removed_without_a_sync_may_be_back() -> None:
    async def deed(disk: ProcessDisk) -> None:
        file = disk.open("log/a", create=True)
        await outcome(lambda done: file.commit(0, (b"x",), True, done))
        disk.remove("log/a")
        assert disk.list("log") == []

    left = [on_a_disk(deed, seed, power_cut).disk.files() for seed in range(20)]
    assert {} in left
    assert {"log/a": b"x"} in left


def test_a_name_that_was_created_or_moved_is_durable() -> None:
    async def deed(disk: ProcessDisk) -> None:
        disk.open("log/a", create=True)
        disk.open("log/b", create=True)
        disk.move("log/b", "saved/b")
        disk.remove("log/a", sync=True)
        made = await outcome(lambda done: disk.create("log/c", done))
        assert made.name == "log/c"
        assert (await outcome(lambda done: disk.create("log/c", done))).size_bytes() == 0, "an empty one is taken"
        await outcome(lambda done: made.commit(0, (b"x",), True, done))
        assert isinstance(await outcome(lambda done: disk.create("log/c", done)), FileExistsError)

    for seed in range(10):
        assert on_a_disk(deed, seed, power_cut).disk.files() == {"log/c": b"x", "saved/b": b""}


def test_a_folder_has_one_owner_until_he_closes_it_or_dies() -> None:
    little = Little()
    machine = little.machine("one")
    running: list[Process] = []

    async def holder() -> None:
        disk_of_this_process(machine).lock()
        await for_ever()

    async def other() -> None:
        disk = disk_of_this_process(machine)
        with pytest.raises(DiskBusy):
            disk.lock()
        running[0].kill()
        disk.lock()
        disk.close()
        disk.lock()

    async def main() -> None:
        running.append(little.program(machine, holder))
        await asyncio.sleep(1.0)
        await little.program(machine, other)

    little.run(main())


def test_a_cold_read_must_wait_and_then_gives_the_bytes() -> None:
    async def deed(disk: ProcessDisk) -> None:
        file = disk.open("log", create=True)
        await outcome(lambda done: file.commit(0, (b"abc",), True, done))
        disk.machine_disk.trouble.cold_reads = 1.0
        assert file.read(0, 3) is None
        assert await outcome(lambda done: file.read_later(1, 10, done)) == b"bc"
        assert file.read_wait(0, 3) == b"abc"
        file.close()
        assert (await outcome(lambda done: file.read_later(1, 10, done))).errno == errno.EBADF

    on_a_disk(deed)


def test_only_old_synced_bytes_are_flipped_and_they_can_be_restored() -> None:
    async def deed(disk: ProcessDisk) -> None:
        machine = disk.machine_disk
        file = disk.open("log/0", create=True)
        for at in (0, 100):
            assert machine.flip_a_bit(machine.stream, "log/") is None, "nothing is old yet"
            await outcome(partial(file.commit, at, (bytes(100),), True))
        await outcome(partial(file.commit, 200, (bytes(100),), True))
        flip = machine.flip_a_bit(machine.stream, "log/")
        assert flip is not None
        assert flip.at < 200
        assert bytes(300) != file.read(0, 300)
        assert machine.restore() == [flip]
        assert bytes(300) == file.read(0, 300)

    on_a_disk(deed)


def test_closing_ends_what_was_given_and_takes_no_more() -> None:
    told: list[OSError | None] = []

    async def deed(disk: ProcessDisk) -> None:
        disk.lock()
        file = disk.open("log", create=True)
        file.commit(0, (b"given",), True, told.append)
        file.close()
        disk.replace("snapshot", b"too", told.append)
        disk.close()
        disk.replace("snapshot", b"late", told.append)
        await asyncio.sleep(1.0)

    assert on_a_disk(deed, 1, power_cut).disk.files() == {"log": b"given", "snapshot": b"too"}
    assert told[:2] == [None, None]
    assert told[2] is not None


def test_names_are_listed_by_folder() -> None:
    async def deed(disk: ProcessDisk) -> None:
        for name in ("log/b", "log/a", "runs/c", "top"):
            disk.open(name, create=True)
        assert disk.list("log") == ["a", "b"]
        with pytest.raises(FileNotFoundError):
            disk.open("log/c")
        with pytest.raises(FileNotFoundError):
            disk.read_file("nothing")
        with pytest.raises(FileExistsError):
            disk.open("top", create=True)
        disk.write_file("top", b"whole")
        assert disk.read_file("top") == b"whole"

    on_a_disk(deed)
