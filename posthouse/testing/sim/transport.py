"""One end of a simulated connection, and the stream that goes out of it.

A stream holds what was written and has not left (the transport's buffer), and what is on its way: at most a window of
bytes that have left and that the other side has not taken. The end of a stream is a piece of it too, so it comes after
the bytes; a reset comes at once.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from posthouse.host.net import Address
from posthouse.testing.sim.errors import system_error

if TYPE_CHECKING:
    from posthouse.testing.sim.network import SimNetwork
    from posthouse.testing.sim.process import Process

_WINDOW_BYTES: Final = 256 * 1024
_PIECE_BYTES_MAX: Final = 64 * 1024
_END: Final = b""
"""The piece with which a stream ends in good order."""


class Outgoing:
    """The stream out of one end."""

    def __init__(self, end: SimTransport) -> None:
        self._end = end
        self.buffer: deque[bytes] = deque()
        self.buffered = 0
        self.under_way = 0
        self.arrives_at = 0.0  # the last piece that has left
        self.is_broken = False

    def put(self, data: bytes) -> None:
        self.buffer.append(data)
        self.buffered += len(data)

    def go_on(self) -> None:
        """Sends what may leave now. To who is gone it is sent as well, and a reset comes back."""
        end, network = self._end, self._end.network
        other = end.other
        if other is None or self.is_broken or not (self.buffer or self.under_way):
            return
        way = (end.machine.name, other.machine.name)
        if way in network.cut or not other.machine.is_up:
            return
        if other.process.frozen:
            if way[::-1] not in network.cut:
                delay = network.delay_s(*way, 0) + network.delay_s(*way[::-1], 0)
                network.loop.call_later(delay, end.reset, context=end.process.context)
            return
        while self.buffer and self.under_way < _WINDOW_BYTES:
            piece = self._next_piece()
            at = network.loop.time() + network.delay_s(*way, len(piece))
            if at < self.arrives_at:
                at = self.arrives_at
            self.arrives_at = at
            self.under_way += len(piece)
            network.loop.call_at(at, other.arrive, piece, context=other.process.context)
        end.left()

    def _next_piece(self) -> bytes:
        piece = self.buffer.popleft()
        size = len(piece)
        network = self._end.network
        if size > 1:
            cut = 0
            if size > _PIECE_BYTES_MAX:
                cut = _PIECE_BYTES_MAX
            elif network.stream.random() < network.weather.chunking:
                cut = network.stream.randrange(1, size)
            if cut:
                self.buffer.appendleft(piece[cut:])
                piece = piece[:cut]
        self.buffered -= len(piece)
        return piece

    def drop(self) -> None:
        """What has not left never will; what is under way does not arrive either."""
        self.buffer.clear()
        self.buffered = 0
        self.is_broken = True


class SimTransport(asyncio.Transport):
    """What asyncio promises of a TCP transport, and no more."""

    def __init__(self, network: SimNetwork, process: Process, sockname: Address, peername: Address) -> None:
        super().__init__()
        self.network, self.process, self.machine = network, process, process.machine
        self.sockname, self.peername = sockname, peername
        self.other: SimTransport | None = None
        self.out = Outgoing(self)
        self.is_lost = False  # nothing arrives or leaves any more
        self._protocol: asyncio.Protocol | None = None
        self._closing = False
        self._told = False  # of connection_lost
        self._reading_paused = False
        self._writing_paused = False
        self._unread: deque[bytes] = deque()
        self._high, self._low = 64 * 1024, 16 * 1024
        self._reset_early = False  # before the protocol was there

    # Coming into being

    def meet(self, other: SimTransport) -> None:
        self.other = other
        self.network.transports[self] = None
        self.process.on_kill[self.process_gone] = None

    def expects_after(self, when: float) -> None:
        """Nothing arrives here before then."""
        assert self.other is not None
        self.other.out.arrives_at = when

    def begin(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        protocol = factory()
        self._protocol = protocol
        protocol.connection_made(self)
        if self._reset_early:
            self._lose(_reset_error())
        elif self._unread:
            self.network.loop.call_soon(self._read_on)
        return protocol

    # What asyncio programs call

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": tuple(self.peername), "sockname": tuple(self.sockname)}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.network.loop.call_soon(self._read_on)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self.out.buffered

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or self.is_lost or not data:
            return
        network = self.network
        if network.weather.reset and network.stream.random() < network.weather.reset:
            network.reset(self)
            return
        self.out.put(bytes(data))
        self.out.go_on()
        if self.out.buffered > self._high and not self._writing_paused:
            self._writing_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._unread.clear()
        self.out.put(_END)
        self.out.go_on()

    def abort(self) -> None:
        if not self.is_lost:
            self.lose_unsaid(None)
            self._say_reset()

    # What the network does

    def left(self) -> None:
        """Something has left the buffer."""
        if self._writing_paused and self.out.buffered <= self._low and not self.is_lost:
            self._writing_paused = False
            self.network.loop.call_soon(self._tell_resume, context=self.process.context)
        if self._closing and not self.out.buffer and not self.is_lost:
            self.lose_unsaid(None)

    def _tell_resume(self) -> None:
        if self._protocol is not None and not self._told:
            self._protocol.resume_writing()

    def arrive(self, piece: bytes) -> None:
        other = self.other
        assert other is not None
        if other.out.is_broken:
            return  # lost on the way: the connection was reset
        if self.is_lost or self._closing:
            other.out.under_way -= len(piece)  # nobody reads it
            other.out.go_on()
            return
        if self._reading_paused or self._unread or self._protocol is None:
            self._unread.append(piece)
        else:
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        other, protocol = self.other, self._protocol
        assert other is not None and protocol is not None  # noqa: PT018
        if piece is _END:
            self._unread.clear()
            if not protocol.eof_received():
                self.close()
            return
        other.out.under_way -= len(piece)
        if other.out.buffer:
            other.out.go_on()
        protocol.data_received(piece)

    def _read_on(self) -> None:
        while self._unread and not self._reading_paused and not self._closing and not self.is_lost:
            self._take(self._unread.popleft())

    # Losing it

    def reset(self) -> None:
        """The connection breaks; this end hears of it in a moment."""
        if not self.is_lost:
            self.lose_unsaid(_reset_error())

    def lose_unsaid(self, error: OSError | None) -> None:
        """From now on nothing arrives or leaves here; the protocol is told, the other side is not."""
        self.is_lost = self._closing = True
        graceful = error is None and not self.out.buffer
        if not graceful:
            self.out.drop()
        self._forget()
        if self._protocol is None:
            self._reset_early = True
        else:
            self.network.loop.call_soon(self._lose, error, context=self.process.context)

    def _lose(self, error: OSError | None) -> None:
        if not self._told and self._protocol is not None:
            self._told = True
            self._unread.clear()
            self._protocol.connection_lost(error)

    def process_gone(self) -> None:
        """The process was killed or has ended, or its machine has lost its power. What is on its way may yet arrive."""
        if self.is_lost:
            return
        self.is_lost = self._closing = True
        self.out.buffer.clear()
        self.out.buffered = 0
        if self.network.stream.random() < 0.5:
            self.out.drop()
        self._forget()
        if self.machine.is_up:
            self._say_reset()

    def _forget(self) -> None:
        self.network.transports.pop(self, None)
        self.process.on_kill.pop(self.process_gone, None)

    def _say_reset(self) -> None:
        """Tells the other side, after what is on its way there; not if nothing gets there."""
        other, network = self.other, self.network
        if other is None or other.is_lost:
            return
        way = (self.machine.name, other.machine.name)
        if way in network.cut:
            network.unsaid.append(self._say_reset)
        elif other.machine.is_up:
            at = max(network.loop.time() + network.delay_s(*way, 0), self.out.arrives_at)
            network.loop.call_at(at, other.reset, context=other.process.context)


def _reset_error() -> OSError:
    return system_error(errno.ECONNRESET)
