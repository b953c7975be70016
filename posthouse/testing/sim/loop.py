"""The event loop of a simulated world: asyncio on a virtual clock, where waiting costs nothing.

Time stands still while anything is ready to run and jumps to the next timer when nothing is. What is ready runs
first-in first-out, and so do timers of the same instant: the loop draws nothing, so all chance is in the world around
it. It has no threads, no sockets and no signals; whoever asks for them gets an error, as this would end determinism.

Every callback belongs to the process in whose context it was made. A frozen process never runs again: its callbacks
are dropped, and what it was in the middle of stays as it is, with no `finally` block run, as after kill -9.

A world that waits with no timer set would wait for ever. That is an error, which names the tasks that wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TASKS_LISTED_MIN = 64
_BLOCKS_MAX = 20
"""`finally` blocks of one coroutine that wait for something when the world ends."""


class WaitsForEver(RuntimeError):
    """Nothing is ready and no timer is set, yet the run is not over; the text names what waits."""


class NotSimulated(RuntimeError):
    """The program asked the loop for something of the real world."""


class _WorldEnds(BaseException):
    """What coroutines meet that are left at the end."""


class Owner(Protocol):
    """What callbacks belong to: a process."""

    name: str
    frozen: bool
    tasks: list[asyncio.Task[Any]]


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("posthouse-sim-owner", default=None)
"""Whose callback is running. Tasks and callbacks inherit it, as they do every context variable."""

_TimerEntry = tuple[float, int, asyncio.TimerHandle]


class SimLoop(asyncio.BaseEventLoop):
    """See the module's text. `on_error` gets (who, the exception) of callbacks that raise."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[_TimerEntry] = []
        self._cancelled_timers = 0
        self._order = itertools.count()
        self._stopping = self._running = self._closed = False
        self._tasks: list[asyncio.Task[Any]] = []  # of nobody's process
        self._tasks_checked: dict[str, int] = {}
        self.turns = 0
        self.on_error: Callable[[str, BaseException], None] | None = None
        self.errors: list[BaseException] = []
        """Exceptions of callbacks that raised while nobody listened on `on_error`: `run_until_complete` raises them."""
        self.never_retrieved: list[str] = []
        """What the interpreter said of tasks and futures when it collected them."""

    # Running

    def time(self) -> float:
        return self._now

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Runs the world until `future` is done. Raises WaitsForEver, and what `future` raises."""
        self._check_closed()
        assert not self._running, "this loop is running"
        main: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        main.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if not main.done():
            raise RuntimeError("the loop was stopped before the run was over")
        return main.result()

    def run_forever(self) -> None:
        self._check_closed()
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._running, self._stopping = True, False
        try:
            while not self._stopping:
                self._run_once()
                if self.errors:
                    raise self.errors[0]
        finally:
            self._running = False
            asyncio._set_running_loop(before)

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            self._jump()
        now = self._now
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            handle._scheduled = False  # type: ignore[attr-defined]  # as every event loop does
            if handle._cancelled:
                self._cancelled_timers -= 1
            else:
                ready.append(handle)
        owner_of = OWNER
        for _ in range(len(ready)):
            handle_ready = ready.popleft()
            if handle_ready._cancelled:
                continue
            owner = handle_ready._context.get(owner_of)  # type: ignore[attr-defined]
            if owner is None or not owner.frozen:
                handle_ready._run()
        self.turns += 1

    def _jump(self) -> None:
        """Moves the clock to the next timer that still matters."""
        timers = self._timers
        while timers:
            when, _, handle = timers[0]
            if handle._cancelled:
                self._cancelled_timers -= 1
            else:
                owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
                if owner is None or not owner.frozen:
                    self._now = max(self._now, when)
                    return
            handle._scheduled = False  # type: ignore[attr-defined]
            heapq.heappop(timers)
        waiting = [task for task in asyncio.all_tasks(self) if not _is_frozen(task)]
        names = sorted(f"{task.get_name()} at {_place(task)}" for task in waiting)
        raise WaitsForEver(f"at {self._now:.3f} s nothing is ready and no timer is set; waiting: {'; '.join(names)}")

    def stop(self) -> None:
        self._stopping = True

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Ends the world: coroutines that are left are closed quietly, and nothing runs any more. Twice is fine."""
        assert not self._running, "this loop is running"
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        self.abandon(self._tasks)
        self._tasks = []

    def abandon(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Closes coroutines that will never run again, so that the interpreter says nothing of them later."""
        for task in tasks:
            if task.done():
                continue
            forget(task)
            coroutine = task.get_coro()
            for _ in range(_BLOCKS_MAX if coroutine is not None else 0):
                try:
                    coroutine.throw(_WorldEnds())  # not `close`, which a `finally` block that waits makes into an error
                except BaseException:
                    break

    async def shutdown_asyncgens(self) -> None:
        pass

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        pass

    def _check_closed(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")

    # Callbacks

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:  # else an abandoned coroutine: nobody is left to be called
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # nobody else has a thread

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._closed:
            heapq.heappush(self._timers, (when, next(self._order), handle))
            handle._scheduled = True  # type: ignore[attr-defined]
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if not handle._scheduled:  # type: ignore[attr-defined]
            return
        self._cancelled_timers += 1
        if self._cancelled_timers > 256 and self._cancelled_timers * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if not entry[2]._cancelled]
            heapq.heapify(self._timers)  # the order of those of one instant is in the entries
            self._cancelled_timers = 0

    # Tasks and futures

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        context: contextvars.Context | None = options.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        # Whoever keeps no reference to a task may lose it to the garbage collector, at a moment that nobody can
        # foretell. So they are all kept, and looked through when they have doubled.
        kept, key = (self._tasks, "") if owner is None else (owner.tasks, owner.name)
        kept.append(task)
        if len(kept) > self._tasks_checked.get(key, _TASKS_LISTED_MIN):
            kept[:] = [each for each in kept if not each.done()]
            self._tasks_checked[key] = max(_TASKS_LISTED_MIN, 2 * len(kept))
        return task

    def set_task_factory(self, factory: Any) -> None:
        assert factory is None, "tasks of a simulated world are made by its loop"

    def get_task_factory(self) -> None:
        return None

    # What went wrong

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        pass

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def set_exception_handler(self, handler: Any) -> None:
        assert handler is None, "use on_error"

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A callback raised; or the interpreter collected a task or future whose outcome nobody had looked at."""
        error = context.get("exception")
        if "handle" not in context:
            if not self._closed:
                self.never_retrieved.append(f"{context.get('message')}: {error!r}")
            return
        assert isinstance(error, BaseException)
        owner: Owner | None = context["handle"]._context.get(OWNER)
        if self.on_error is not None:
            self.on_error("" if owner is None else owner.name, error)
        else:
            self.errors.append(error)

    # What a simulated world does not have

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        raise NotSimulated(f"a thread for {func!r}: the world of a simulation has none; go through the Host")

    async def create_server(self, *args: Any, **options: Any) -> NoReturn:
        raise NotSimulated("a socket to listen on: go through host.net")

    async def create_connection(self, *args: Any, **options: Any) -> NoReturn:
        raise NotSimulated("a socket to connect with: go through host.net")

    async def getaddrinfo(self, *args: Any, **options: Any) -> NoReturn:
        raise NotSimulated("a look-up of names: use addresses")

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        raise NotSimulated("a signal handler")


def forget(task: asyncio.Task[Any]) -> None:
    """Nobody will be told that this task, which is to stay pending, was collected."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _is_frozen(task: asyncio.Task[Any]) -> bool:
    return not task._log_destroy_pending  # type: ignore[attr-defined]


def _place(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the innermost line of its own coroutines."""
    frames = task.get_stack(limit=8)
    if not frames:
        return "its beginning"
    frame = frames[-1]
    return f"{frame.f_code.co_name} line {frame.f_lineno}"


def run_simulated(main: Coroutine[Any, Any, T]) -> T:
    """Runs one coroutine in a world of its own; for tests of single parts."""
    loop = SimLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
