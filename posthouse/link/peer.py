"""One live connection that speaks remoting. Both sides may ask, so one class plays both roles.

Owns: the frame reader, the requests of ours that wait for an answer, what is queued to be written, and when a
silent or stuck connection ends. Decides nothing: requests of the other side go to a `Dispatcher`, answers to the
callback that was given with the request.

What must stay true
- `done` of every request is called exactly once, whatever happens to the connection.
- All frames of one `data_received` are handled in one go, and what they cause to be written leaves in one write.
- Memory is bounded: when the other side does not take our answers we stop serving its requests and stop reading,
  until it does. Only answers count for that. A side that stops reading because its *requests* are not taken could
  wait for ever for a peer that does the same; who sends requests bounds them itself.
- Nothing here costs a task, a future or a timer per message: one timer ends idle connections, one finds requests
  that are overdue.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias, cast

from posthouse.codec.remoting.command import Command, decode_command, encode_command
from posthouse.codec.remoting.command import request as new_request
from posthouse.codec.remoting.frame import Frame, FrameReader, WireError
from posthouse.host.net import Address
from posthouse.link.errors import ConnectionLost, LinkError, RequestTimeout, TooManyInFlight
from posthouse.model.limits import (
    FIRST_FRAME_SECONDS_MAX,
    IDLE_SECONDS_MAX,
    OUTBOX_BYTES_HIGH,
    OUTBOX_BYTES_LOW,
    REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX,
)
from posthouse.model.message import Endpoint

log = logging.getLogger(__name__)

Done: TypeAlias = Callable[["Command | LinkError"], None]

_SWEEP_SECONDS_MIN = 0.05
"""Overdue requests are found with this precision."""

_JOIN_BYTES_MAX = 128 * 1024
"""Up to here one joined write is cheaper than a vector of pieces (64 of 1300 bytes: 24 us to 37 us)."""

_LINGER_SECONDS = 5.0
"""How long a closed connection may still hand over what is queued before it is cut."""

_NOWHERE = Endpoint(b"\0\0\0\0", 0)


class Dispatcher(Protocol):
    """Who serves the other side's requests. None of these may raise; a raise ends the connection."""

    def connected(self, peer: RemotingPeer) -> None: ...

    def disconnected(self, peer: RemotingPeer) -> None: ...

    def request(self, peer: RemotingPeer, command: Command) -> None:
        """Answers with `peer.write` or `peer.answer`, now or later, unless the command is one-way."""


class Turn:
    """The peers of a server that have something to write: one callback of the loop for all of them."""

    __slots__ = ("_peers",)

    def __init__(self) -> None:
        self._peers: list[RemotingPeer] = []

    def add(self, peer: RemotingPeer, loop: asyncio.AbstractEventLoop) -> None:
        if not self._peers:
            loop.call_soon(self._end)
        self._peers.append(peer)

    def _end(self) -> None:
        peers, self._peers = self._peers, []
        for peer in peers:
            try:
                peer._flush_turn()
            except Exception:
                log.exception("%s: writing an answer failed", peer.remote)
                peer.close("an error of ours")


class RemotingPeer(asyncio.Protocol):
    """The protocol of one connection; give it to the net as what a factory makes."""

    __slots__ = (
        "_answer_bytes", "_closed_why", "_dispatch", "_dispatcher", "_earliest_deadline", "_flush_scheduled",
        "_frame_begun_at", "_held", "_idle_seconds", "_idle_timer", "_in_flight", "_last_active_at", "_last_id",
        "_linger_timer", "_loop", "_lost", "_outbox", "_outbox_bytes", "_reader", "_reading_stopped", "_resume_later",
        "_sweep_timer", "_transport", "_turn", "_write_paused", "closed", "local", "local_endpoint", "remote",
        "remote_endpoint",
    )  # fmt: skip

    def __init__(
        self, dispatcher: Dispatcher, *, idle_seconds: float = IDLE_SECONDS_MAX, turn: Turn | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self._turn = turn or Turn()
        self._dispatch = dispatcher.request
        self._idle_seconds = idle_seconds
        self._reader = FrameReader()
        self._in_flight: dict[int, tuple[float, float, int, Done]] = {}  # id: deadline, timeout_s, code, done
        self._earliest_deadline = math.inf  # no deadline in _in_flight is before it
        self._last_id = 0
        self._outbox: list[bytes | memoryview] = []
        self._outbox_bytes = 0
        self._answer_bytes = 0  # answers queued since the transport last had nothing to write
        self._flush_scheduled = False
        self._write_paused = False
        self._reading_stopped = False
        self._resume_later: asyncio.Handle | None = None
        self._held: deque[Frame] = deque()  # frames that came before reading stopped
        self._frame_begun_at: float | None = None
        self._closed_why = ""
        self._lost: asyncio.Event | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self.closed = True  # until connected
        self.remote = self.local = Address("", 0)
        self.remote_endpoint = self.local_endpoint = _NOWHERE

    def __repr__(self) -> str:
        return f"<RemotingPeer {self.remote}{' closed' if self.closed else ''}>"

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self.remote, self.remote_endpoint = _place(transport.get_extra_info("peername"))
        self.local, self.local_endpoint = _place(transport.get_extra_info("sockname"))
        self._transport.set_write_buffer_limits(OUTBOX_BYTES_HIGH, OUTBOX_BYTES_LOW)
        self._last_active_at = self._loop.time()
        self.closed = False
        self._look_for_idleness()
        self._dispatcher.connected(self)

    def data_received(self, data: bytes) -> None:
        now = self._last_active_at = self._loop.time()
        if self.closed:
            return
        try:
            frames = self._reader.receive_data(data)
        except WireError as error:
            self._refuse(error)
            return
        if not self._reader.in_frame:
            self._frame_begun_at = None
        elif frames or self._frame_begun_at is None:
            self._frame_begun_at = now
        if self._held:
            self._held.extend(frames)
        else:
            self._handle(frames)

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._answer_bytes > OUTBOX_BYTES_LOW:
            self._stop_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._answer_bytes = self._outbox_bytes
        if self._reading_stopped and self._resume_later is None:
            self._resume_later = self._loop.call_soon(self._read_again)

    def eof_received(self) -> bool | None:
        return None  # the transport closes; nobody half-closes in this protocol

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else "closed by the other side")
        for handle in (self._idle_timer, self._linger_timer, self._resume_later):
            if handle is not None:
                handle.cancel()
        assert self._lost is not None
        self._lost.set()
        self._dispatcher.disconnected(self)

    # What the rest of the program calls

    def write(self, *buffers: bytes | memoryview) -> None:
        """Queues whole answers (frames). They leave at the end of the loop's turn; dropped when closed."""
        if self.closed:
            return
        size = 0
        for buffer in buffers:
            size += len(buffer)
        self._answer_bytes += size
        self._queue(buffers, size)
        if self._answer_bytes > OUTBOX_BYTES_LOW and (self._write_paused or self._outbox_bytes > OUTBOX_BYTES_HIGH):
            if self._outbox_bytes > OUTBOX_BYTES_HIGH:
                self._flush()  # the transport now says whether the other side takes it
            if self._write_paused:
                self._stop_reading()

    def answer(self, response: Command) -> None:
        self.write(encode_command(response))

    def request(self, code: int, ext: dict[str, str] | None, body: bytes, timeout_s: float, done: Done) -> None:
        """Asks the other side; `done` gets the answer or why there is none, exactly once.

        It may be called before this returns: ConnectionLost when closed, TooManyInFlight over the limit.
        """
        if self.closed:
            done(ConnectionLost(str(self.remote), self._closed_why or "it was not open"))
            return
        in_flight = self._in_flight
        if len(in_flight) >= REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX:
            done(TooManyInFlight(str(self.remote), REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX))
            return
        request_id = self._next_id()
        data = encode_command(new_request(code, request_id, ext, body))
        deadline = self._loop.time() + timeout_s
        in_flight[request_id] = (deadline, timeout_s, code, done)
        if deadline < self._earliest_deadline:
            self._sweep_at(deadline)
        self._queue((data,), len(data))

    async def ask(
        self, code: int, ext: dict[str, str] | None = None, body: bytes = b"", timeout_s: float = 3.0
    ) -> Command:
        """The answer, whatever its code. Raises LinkError. Cancelling is fine: the answer is dropped."""
        found: asyncio.Future[Command] = asyncio.get_running_loop().create_future()

        def done(result: Command | LinkError) -> None:
            if found.done():
                return
            if isinstance(result, Command):
                found.set_result(result)
            else:
                found.set_exception(result)

        self.request(code, ext, body, timeout_s, done)
        return await found

    def tell(self, code: int, ext: dict[str, str] | None = None, body: bytes = b"") -> None:
        """A request that nobody answers; dropped when closed."""
        if not self.closed:
            data = encode_command(new_request(code, self._next_id(), ext, body, one_way=True))
            self._queue((data,), len(data))

    def close(self, why: str) -> None:
        """Ends the connection after what is queued has left; requests in flight end now. Twice is fine."""
        if self.closed:
            return
        self._flush()
        self._end(why)
        self._linger_timer = self._loop.call_later(_LINGER_SECONDS, self._transport.abort)
        self._transport.close()

    async def wait_closed(self) -> None:
        """Until the connection is gone after `close`: at most a few seconds, as it is cut then."""
        if self._lost is not None:
            await self._lost.wait()

    @property
    def in_flight(self) -> int:
        """Requests of ours that wait for an answer."""
        return len(self._in_flight)

    # Reading

    def _handle(self, frames: list[Frame]) -> None:
        """Answers to their callbacks, requests to the dispatcher, in order."""
        in_flight, dispatch = self._in_flight, self._dispatch
        for at, frame in enumerate(frames):
            try:
                command = decode_command(frame)
            except WireError as error:
                self._refuse(error)
                return
            if command.flag & 1:
                waiting = in_flight.pop(command.request_id, None)
                if waiting is not None:
                    waiting[3](command)
                else:
                    log.debug("%s: an answer to %d, which nobody waits for", self.remote, command.request_id)
            else:
                dispatch(self, command)
                if self._reading_stopped:
                    self._held.extend(frames[at + 1 :])
                    return
            if self.closed:
                return

    def _stop_reading(self) -> None:
        if not self._reading_stopped and not self.closed:
            self._reading_stopped = True
            self._transport.pause_reading()
            log.debug("%s does not take its answers; reading stops until it does", self.remote)

    def _read_again(self) -> None:
        """First what was held back, which may stop reading once more; then the socket."""
        self._resume_later = None
        if self.closed or self._write_paused:
            return
        self._reading_stopped = False
        held = list(self._held)
        self._held.clear()
        try:
            self._handle(held)
        except Exception:
            log.exception("%s: serving a request failed", self.remote)
            self.close("an error of ours")
            return
        if not self._reading_stopped and not self.closed:
            self._transport.resume_reading()

    def _refuse(self, error: WireError) -> None:
        log.warning("%s: closed, as what it sent is not the protocol: %s", self.remote, error)
        self.close(f"not the protocol: {error}")

    # Writing

    def _queue(self, buffers: tuple[bytes | memoryview, ...], size: int) -> None:
        self._outbox.extend(buffers)
        self._outbox_bytes += size
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._turn.add(self, self._loop)

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        outbox, size = self._outbox, self._outbox_bytes
        if not outbox or self.closed:
            return
        if not self._transport.get_write_buffer_size():
            self._answer_bytes = min(self._answer_bytes, size)
        self._outbox = []
        self._outbox_bytes = 0
        if not self._write_paused:  # else nothing moves, and that is not traffic
            self._last_active_at = self._loop.time()
        if len(outbox) == 1:
            self._transport.write(outbox[0])
        elif size <= _JOIN_BYTES_MAX:
            self._transport.write(b"".join(outbox))
        else:
            self._transport.writelines(outbox)

    # Deadlines

    def _next_id(self) -> int:
        request_id = self._last_id
        while True:
            request_id = (request_id + 1) & 0x7FFF_FFFF
            if request_id not in self._in_flight:
                self._last_id = request_id
                return request_id

    def _sweep_at(self, deadline: float) -> None:
        self._earliest_deadline = deadline
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        when = max(deadline, self._loop.time() + _SWEEP_SECONDS_MIN)
        self._sweep_timer = self._loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Ends what is overdue and sleeps until the next request could be."""
        now = self._loop.time()
        self._sweep_timer = None
        overdue = [key for key, waiting in self._in_flight.items() if waiting[0] <= now]
        self._earliest_deadline = math.inf
        remaining = [self._in_flight.pop(key) for key in overdue]
        if self._in_flight:
            self._sweep_at(min(waiting[0] for waiting in self._in_flight.values()))
        for _, timeout_s, code, done in remaining:
            done(RequestTimeout(str(self.remote), code, timeout_s))

    def _look_for_idleness(self) -> None:
        """Closes a connection that is silent or stuck in a frame, else looks again when it could be."""
        if self.closed:
            return
        now = self._loop.time()
        idle_at = self._last_active_at + self._idle_seconds
        stuck_at = math.inf if self._frame_begun_at is None else self._frame_begun_at + FIRST_FRAME_SECONDS_MAX
        if self._reading_stopped:
            stuck_at = math.inf  # it is we who do not read
        if min(idle_at, stuck_at) <= now:
            why = "no traffic" if idle_at <= now else "a frame that never became complete"
            log.debug("%s: closed: %s", self.remote, why)
            self._end(why)
            self._transport.abort()
            return
        self._idle_timer = self._loop.call_at(
            min(idle_at, stuck_at, now + FIRST_FRAME_SECONDS_MAX / 4), self._look_for_idleness
        )

    # The end

    def _end(self, why: str) -> None:
        """From here on nothing is read or written, and no request waits."""
        if self.closed:
            return
        self.closed = True
        self._closed_why = why
        self._outbox.clear()
        self._held.clear()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        waiting = list(self._in_flight.values())
        self._in_flight.clear()
        for _, _, _, done in waiting:
            done(ConnectionLost(str(self.remote), why))


def _place(name: object) -> tuple[Address, Endpoint]:
    """A socket's name as text and as raw bytes; an IPv4 address in IPv6 clothes becomes IPv4."""
    if not isinstance(name, tuple) or len(name) < 2:
        return Address("", 0), _NOWHERE
    host, port = str(name[0]), int(name[1])
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:  # a simulated net may use names
        return Address(host, port), Endpoint(_NOWHERE.ip, port)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return Address(str(ip), port), Endpoint(ip.packed, port)
