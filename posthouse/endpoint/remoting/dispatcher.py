"""From a request to its handler: one row per request code, admission, refusals.

A handler is a plain function. It gives a Reply; or None, when it keeps the peer and answers later by itself
(sends and held pulls: no task, no future); or an awaitable Reply, which costs a task and is for cold requests
only. `Refused` becomes the code of its reason. A wrong header is answered with its error. A broken assertion is
our own mistake: it stops the process through `on_bug`, because going on would make it worse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from posthouse.codec.remoting.codes import RESPONSE_CODE_OF, RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, HeaderType, response
from posthouse.codec.remoting.frame import WireError
from posthouse.endpoint.remoting.refusals import why_not
from posthouse.model.limits import REMARK_CHARS_MAX
from posthouse.model.refusal import Refused

if TYPE_CHECKING:
    from posthouse.link.peer import RemotingPeer

log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """An answer in the making; the dispatcher adds the request's id."""

    code: int = 0
    ext: dict[str, str] | None = None
    body: bytes = b""
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """How many requests of a kind may be under way as tasks; past it the answer is SYSTEM_BUSY."""

    name: str
    tasks_max: int


HOT = Lane("hot", 0)
"""Plain functions only; their limits are bytes waiting for the disk and pulls held, kept by their services."""
COLD = Lane("cold", 1000)

Handler = Callable[..., "Reply | Awaitable[Reply] | None"]


@dataclass(frozen=True, slots=True)
class Route:
    """One request code. `handle(service, header, command, peer)`; `header` is None where `header` here is None."""

    code: RequestCode
    header: HeaderType[Any] | None
    handle: Handler
    lane: Lane = COLD
    doc: str = ""


class Dispatcher:
    """Serves tables of routes, each with its service object; see the module's text for what a handler may do."""

    def __init__(
        self,
        tables: Mapping[Any, Iterable[Route]],
        *,
        what: str,
        on_bug: Callable[[BaseException], None],
        on_connected: Callable[[RemotingPeer], None] | None = None,
        on_disconnected: Callable[[RemotingPeer], None] | None = None,
    ) -> None:
        self._what = what
        self._on_bug = on_bug
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._rows: dict[int, tuple[Any, Route]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._tasks_of: dict[str, int] = {}
        for service, routes in tables.items():
            for route in routes:
                assert route.code not in self._rows, f"{route.code.name} has two rows"
                self._rows[int(route.code)] = (service, route)

    def connected(self, peer: RemotingPeer) -> None:
        if self._on_connected is not None:
            self._on_connected(peer)

    def disconnected(self, peer: RemotingPeer) -> None:
        if self._on_disconnected is not None:
            self._on_disconnected(peer)

    def request(self, peer: RemotingPeer, command: Command) -> None:
        """Handles one request. Never raises."""
        found = self._rows.get(command.code)
        if found is None:
            self._reply(peer, command, self._not_served(command.code))
            return
        service, row = found
        try:
            header = None if row.header is None else row.header.decode(command.ext)
            outcome = row.handle(service, header, command, peer)
            if outcome is None:
                return
            if not isinstance(outcome, Reply):
                outcome = self._start(row, peer, command, outcome)
        except Exception as error:
            outcome = self._explain(row, error)
        if outcome is not None:
            self._reply(peer, command, outcome)

    def _start(self, row: Route, peer: RemotingPeer, command: Command, work: Awaitable[Reply]) -> Reply | None:
        under_way = self._tasks_of.get(row.lane.name, 0)
        if under_way >= row.lane.tasks_max:
            if asyncio.iscoroutine(work):
                work.close()
            limit = f"the limit of {row.lane.tasks_max} {row.lane.name} requests under way is reached; try again"
            return Reply(ResponseCode.SYSTEM_BUSY, remark=f"[OVERLOAD] {limit}")
        self._tasks_of[row.lane.name] = under_way + 1
        task = asyncio.get_running_loop().create_task(self._run(row, peer, command, work))
        self._tasks[task] = None
        task.add_done_callback(partial(self._ended, row.lane, work))
        return None

    def _ended(self, lane: Lane, work: Awaitable[Reply], task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._tasks_of[lane.name] -= 1
        if asyncio.iscoroutine(work):
            work.close()  # it never began if its task was cancelled first

    async def _run(self, row: Route, peer: RemotingPeer, command: Command, work: Awaitable[Reply]) -> None:
        try:
            outcome = await work
        except Exception as error:
            outcome = self._explain(row, error)
        self._reply(peer, command, outcome)

    def _explain(self, row: Route, error: Exception) -> Reply:
        if isinstance(error, Refused):
            return Reply(RESPONSE_CODE_OF[error.reason], remark=error.remark)
        if isinstance(error, WireError):
            return Reply(ResponseCode.SYSTEM_ERROR, remark=f"{row.code.name}: {error}")
        log.error("%s failed in %s", row.code.name, self._what, exc_info=error)
        if isinstance(error, AssertionError):
            self._on_bug(error)
        return Reply(ResponseCode.SYSTEM_ERROR, remark=f"{row.code.name} failed in the {self._what}; see its log")

    def _not_served(self, code: int) -> Reply:
        try:
            known = RequestCode(code)
            remark = f"request code {code} ({known.name}) is not served by this {self._what}"
            remark += why_not(self._what, known)
        except ValueError:
            remark = f" request type {code} not supported"
        return Reply(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark=remark)

    def _reply(self, peer: RemotingPeer, command: Command, reply: Reply) -> None:
        if command.is_one_way:
            return
        remark = reply.remark
        if remark is not None and len(remark) > REMARK_CHARS_MAX:
            remark = remark[:REMARK_CHARS_MAX] + "..."
        try:
            peer.answer(response(int(reply.code), command.request_id, reply.ext, reply.body, remark))
        except ValueError as error:  # over what a frame may hold
            remark = f"the answer cannot be sent: {error}; ask for less at a time"
            peer.answer(response(ResponseCode.SYSTEM_ERROR, command.request_id, remark=remark))

    async def close(self) -> None:
        """Cancels the tasks under way and waits for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
