from __future__ import annotations

import asyncio
import gc

import pytest

from posthouse.testing.sim.loop import OWNER
from posthouse.testing.sim.process import Process
from tests.sim.machines import Little, disk_of_this_process, for_ever, outcome


def test_a_killed_process_runs_nothing_more_not_even_what_is_in_finally() -> None:
    little = Little()
    machine = little.machine("one")
    seen: list[str] = []

    async def child() -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
                seen.append("child")
        finally:
            seen.append("tidied up")

    async def program() -> None:
        asyncio.get_running_loop().create_task(child())
        asyncio.get_running_loop().call_later(5.0, seen.append, "late")
        await for_ever()

    async def main() -> None:
        process = little.program(machine, program)
        await asyncio.sleep(2.5)
        process.kill()
        assert process.done()
        gc.collect()
        await asyncio.sleep(100.0)
        assert seen == ["child", "child"]

    little.run(main())


def test_who_waits_for_a_process_goes_on_when_it_is_killed_or_has_ended() -> None:
    little = Little()
    machine = little.machine("one")
    ends: list[float] = []

    async def short() -> None:
        await asyncio.sleep(1.0)

    async def main() -> None:
        await little.program(machine, short)
        ends.append(little.loop.time())
        process = little.program(machine, for_ever)
        little.loop.call_later(2.0, process.kill)
        await process
        ends.append(little.loop.time())

    little.run(main())
    assert ends == [1.0, 3.0]


def test_callbacks_and_tasks_belong_to_the_process_that_made_them() -> None:
    little = Little()
    one, other = little.machine("one"), little.machine("other")
    seen: dict[str, str] = {}

    def note(what: str) -> None:
        owner = OWNER.get()
        seen[what] = "nobody" if owner is None else owner.name

    async def program(name: str) -> None:
        async def later() -> None:
            await asyncio.sleep(1.0)
            note(f"task of {name}")

        asyncio.get_running_loop().call_later(1.0, note, f"timer of {name}")
        await asyncio.create_task(later())

    async def main() -> None:
        little.program(one, lambda: program("one"))
        little.program(other, lambda: program("other"))
        await asyncio.sleep(2.0)
        note("main")

    little.run(main())
    assert seen == {
        "timer of one": "on one",
        "task of one": "on one",
        "timer of other": "on other",
        "task of other": "on other",
        "main": "nobody",
    }


def test_who_is_killed_in_the_middle_of_a_step_does_nothing_more_to_the_world() -> None:
    little = Little()
    machine = little.machine("one")
    after: list[str | None] = []
    running: list[Process] = []

    async def program() -> None:
        disk = disk_of_this_process(machine)
        file = disk.open("a", create=True)
        assert await outcome(lambda done: file.commit(0, (b"before",), True, done)) is None
        machine.disk.on_step = lambda what, name: running[0].kill() if what == "truncate" else None
        try:
            file.truncate(3)
        except OSError as error:
            after.append(error.strerror)
        try:
            disk.remove("a")
        except OSError as error:
            after.append(error.strerror)

    async def main() -> None:
        running.append(little.program(machine, program))
        await running[0]

    little.run(main())
    assert after == ["this process is gone", "this process is gone"]
    assert machine.disk.files() == {"a": b"before"}


def test_what_a_program_raises_is_told() -> None:
    little = Little()
    machine = little.machine("one")

    async def program() -> None:
        raise ValueError("planted")

    async def main() -> None:
        await little.program(machine, program)

    with pytest.raises(ValueError, match="planted"):
        little.run(main())


def test_a_machine_without_power_runs_nothing() -> None:
    little = Little()
    machine = little.machine("one")

    async def main() -> None:
        process = little.program(machine, for_ever)
        machine.power_off()
        assert process.done()
        assert process.was_killed
        with pytest.raises(AssertionError, match="no power"):
            little.program(machine, for_ever)
        machine.power_on()
        assert not little.program(machine, for_ever).done()

    little.run(main())
