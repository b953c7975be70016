"""Machines and the processes that run on them.

A machine has a name, an address, a wall clock and a disk, and may be without power. A process runs one coroutine, and
all that comes of it, in a context of its own; that is how the loop knows whose each callback is. `kill` freezes it for
good: nothing of it runs again and nothing is tidied up, as with kill -9. What it was in the middle of is kept until
the world ends, so that the garbage collector does not run its `finally` blocks at a moment of its own choosing.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from posthouse.testing.sim.clock import SimClock
from posthouse.testing.sim.disk import SimDisk
from posthouse.testing.sim.loop import OWNER, SimLoop, forget


class Machine:
    """A computer. `processes` are those that run on it now; of those that ended only `graves` knows."""

    def __init__(self, loop: SimLoop, name: str, ip: str, clock: SimClock, disk: SimDisk) -> None:
        self.loop, self.name, self.ip, self.clock, self.disk = loop, name, ip, clock, disk
        self.is_up = True
        self.processes: list[Process] = []
        self.graves: list[Process] = []
        self.processes_begun = 0
        self._system: Process | None = None

    def run(
        self,
        name: str,
        main: Callable[[], Coroutine[Any, Any, None]],
        *,
        on_error: Callable[[str, BaseException], None] | None = None,
    ) -> Process:
        """Begins a process. `main` is called in it; `on_error` hears what the coroutine raises."""
        assert self.is_up, f"{self.name} has no power"
        self.processes_begun += 1
        process = Process(self, name, 1000 + self.processes_begun, on_error)
        self.processes.append(process)
        process.begin(main)
        return process

    @property
    def system(self) -> Process:
        """To whom belongs what no program of this machine began: it runs as long as there is power."""
        if self._system is None or self._system.frozen:
            self._system = Process(self, f"{self.name} itself", 1, None)
            self.processes.append(self._system)
        return self._system

    def power_off(self) -> None:
        """All its processes are gone at once. What becomes of the disk's content is the disk's affair."""
        self.is_up = False
        for process in list(self.processes):
            process.kill()

    def power_on(self) -> None:
        self.is_up = True

    def bury(self) -> None:
        """At the end of the world: lets go of what frozen processes were in the middle of."""
        for process in (*self.processes, *self.graves):
            process.kill()
            self.loop.abandon(process.tasks)
            process.tasks = []


class Process:
    """One life of a program. Await it, or ask `done()`: it is over when its coroutine has ended or it was killed."""

    def __init__(
        self, machine: Machine, name: str, pid: int, on_error: Callable[[str, BaseException], None] | None
    ) -> None:
        self.machine, self.name, self.pid = machine, name, pid
        self.frozen = False
        self.was_killed = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.Context()
        self.context.run(OWNER.set, self)
        self.on_kill: dict[Callable[[], None], None] = {}
        """What the operating system does when the process is gone, killed or ended: connections, locks."""
        self._on_error = on_error
        self._ended: asyncio.Future[None] = machine.loop.create_future()

    def begin(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.machine.loop.call_soon(self._begin, main, context=self.context)

    def _begin(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self.machine.loop.create_task(main(), name=self.name)
        task.add_done_callback(self._main_ended)

    def _main_ended(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._end()
        if error is not None and self._on_error is not None:
            self._on_error(self.name, error)

    def kill(self) -> None:
        """From this very moment it does nothing more; what is on the stack goes on, but nothing hears of it."""
        if not self.frozen:
            self.was_killed = True
            self._end()

    def _end(self) -> None:
        self.frozen = True
        for task in self.tasks:
            forget(task)
        for clean_up in list(self.on_kill):
            clean_up()
        self.on_kill.clear()
        self.machine.processes.remove(self)
        self.machine.graves.append(self)
        if not self._ended.done() and not self.machine.loop.is_closed():
            self._ended.set_result(None)

    def done(self) -> bool:
        return self.frozen

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.shield(self._ended).__await__()
