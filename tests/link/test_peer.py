from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from posthouse.codec.remoting.command import Command, decode_command, encode_command, request, response
from posthouse.codec.remoting.frame import FrameReader
from posthouse.host.net import Address
from posthouse.link import peer as peer_module
from posthouse.link.errors import ConnectionLost, LinkError, RequestTimeout, TooManyInFlight
from posthouse.link.peer import RemotingPeer
from posthouse.model.limits import OUTBOX_BYTES_HIGH, REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX
from posthouse.model.message import Endpoint
from tests.link.conftest import Ends, Recorder, echo, until

pytestmark = pytest.mark.asyncio

LOOPBACK = Endpoint(bytes((127, 0, 0, 1)), 0)


async def read_answers(reader: asyncio.StreamReader, count: int) -> list[Command]:
    frames = FrameReader()
    found: list[Command] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            data = await reader.read(65536)
            assert data, "closed too early"
            found += [decode_command(frame) for frame in frames.receive_data(data)]
    return found


async def test_a_request_is_answered(ends: Ends) -> None:
    peer = await ends.dial()
    answer = await peer.ask(105, {"topic": "T"}, b"body")
    assert (answer.code, answer.ext_map(), answer.body) == (0, {"code": "105"}, b"body")
    assert ends.server.requests[0].ext_map() == {"topic": "T"}
    peer.close("done")
    await peer.wait_closed()


async def test_both_ends_know_both_addresses(ends: Ends) -> None:
    peer = await ends.dial()
    await peer.ask(1)
    other = ends.server.peers[0]
    assert peer.remote == other.local == ends.address
    assert peer.local == other.remote
    assert peer.remote_endpoint == LOOPBACK._replace(port=ends.address.port)
    assert other.remote_endpoint == LOOPBACK._replace(port=peer.local.port)
    peer.close("done")


async def test_ipv4_in_ipv6_clothes_becomes_ipv4() -> None:
    place = peer_module._place
    assert place(("::ffff:10.0.0.9", 7, 0, 0)) == (Address("10.0.0.9", 7), Endpoint(bytes((10, 0, 0, 9)), 7))
    address, endpoint = place(("::1", 8, 0, 0))
    assert str(address) == "[::1]:8"
    assert endpoint == Endpoint(bytes(15) + b"\x01", 8)
    assert place(None) == (Address("", 0), Endpoint(bytes(4), 0))
    assert place(("broker-a", 5)) == (Address("broker-a", 5), Endpoint(bytes(4), 5))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 8, 9, 50, 100_000])
async def test_any_split_of_the_stream_gives_the_same_requests(ends: Ends, step: int) -> None:
    stream = b"".join(encode_command(request(10 + n, n, {"n": str(n)}, b"x" * n)) for n in range(3))
    reader, writer = await asyncio.open_connection(*ends.address)
    for at in range(0, len(stream), step):
        writer.write(stream[at : at + step])
        if step < 100:
            await asyncio.sleep(0)
    answers = await read_answers(reader, 3)
    assert [(a.request_id, a.ext_map(), a.body) for a in answers] == [
        (n, {"code": str(10 + n)}, b"x" * n) for n in range(3)
    ]
    writer.close()
    await writer.wait_closed()


async def test_answers_are_matched_in_any_order(ends: Ends) -> None:
    parked: list[Command] = []

    def backwards(peer: RemotingPeer, command: Command) -> None:
        parked.append(command)
        if len(parked) == 100:
            for one in reversed(parked):
                peer.answer(response(one.code, one.request_id, None, one.body))

    ends.server.on_request = backwards
    peer = await ends.dial()
    answers = await asyncio.gather(*(peer.ask(n, None, b"%d" % n) for n in range(100)))
    assert [(a.code, a.body) for a in answers] == [(n, b"%d" % n) for n in range(100)]
    assert peer.in_flight == 0
    peer.close("done")


async def test_the_server_can_ask_the_client(ends: Ends) -> None:
    client = Recorder(on_request=echo)
    peer = await ends.dial(client)
    await peer.ask(1)
    answer = await ends.server.peers[0].ask(40, {"consumerGroup": "g"})
    assert answer.ext_map() == {"code": "40"}
    peer.close("done")


async def test_one_way_requests_carry_the_flag(ends: Ends) -> None:
    peer = await ends.dial()
    peer.tell(15, {"topic": "T"})
    await peer.ask(1)
    assert [(c.code, c.is_one_way) for c in ends.server.requests] == [(15, True), (1, False)]
    peer.close("done")


async def test_what_one_turn_queues_leaves_in_one_write(ends: Ends) -> None:
    peer = await ends.dial()
    await peer.ask(1)
    writes: list[int] = []

    class Counting:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            writes.append(1)
            self._transport.write(data)

        def writelines(self, data: list[bytes]) -> None:
            writes.append(len(data))
            self._transport.writelines(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self._transport, name)

    peer._transport = Counting(peer._transport)  # type: ignore[assignment]
    await asyncio.gather(*(peer.ask(n) for n in range(50)))
    assert len(writes) == 1
    peer.close("done")


async def test_a_request_without_an_answer_ends_with_its_timeout(ends: Ends) -> None:
    ends.server.on_request = lambda peer, command: None
    peer = await ends.dial()
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    with pytest.raises(RequestTimeout, match=r"no answer from 127.0.0.1:\d+ to request 11 after 0.2 s"):
        await peer.ask(11, timeout_s=0.2)
    assert 0.19 <= loop.time() - begun_at < 0.6
    assert peer.in_flight == 0
    assert not peer.closed
    peer.close("done")


async def test_deadlines_end_in_their_own_order(ends: Ends) -> None:
    ends.server.on_request = lambda peer, command: None
    peer = await ends.dial()
    ended: list[float] = []
    for seconds in (0.6, 0.1, 0.35):
        peer.request(1, None, b"", seconds, lambda result, seconds=seconds: ended.append(seconds))  # type: ignore[misc]
    await until(lambda: len(ended) == 3)
    assert ended == [0.1, 0.35, 0.6]
    peer.close("done")


async def test_a_late_answer_is_dropped(ends: Ends) -> None:
    late: list[Command] = []
    ends.server.on_request = lambda peer, command: late.append(command)
    peer = await ends.dial()
    results: list[Command | LinkError] = []
    peer.request(1, None, b"", 0.05, results.append)
    await until(lambda: len(results) == 1)
    ends.server.on_request = echo
    ends.server.peers[0].answer(response(0, late[0].request_id))
    assert (await peer.ask(2)).code == 0
    assert len(results) == 1
    assert isinstance(results[0], RequestTimeout)
    peer.close("done")


async def test_a_lost_connection_ends_all_requests_in_flight_once(ends: Ends) -> None:
    ends.server.on_request = lambda peer, command: peer.close("enough") if command.code == 99 else None
    client = Recorder()
    peer = await ends.dial(client)
    results: list[Command | LinkError] = []
    for _ in range(20):
        peer.request(1, None, b"", 5.0, results.append)
    peer.request(99, None, b"", 5.0, results.append)
    await until(lambda: len(client.gone) == 1)
    assert len(results) == 21
    assert all(isinstance(result, ConnectionLost) for result in results)
    assert peer.closed
    peer.request(1, None, b"", 5.0, results.append)
    assert isinstance(results[21], ConnectionLost)
    peer.tell(1)
    peer.write(b"dropped")
    peer.close("again")


async def test_close_ends_requests_and_hands_over_what_is_queued(ends: Ends) -> None:
    peer = await ends.dial()
    results: list[Command | LinkError] = []
    peer.request(7, None, b"last words", 5.0, results.append)
    peer.close("shutting down")
    peer.close("twice")
    assert isinstance(results[0], ConnectionLost)
    assert "shutting down" in str(results[0])
    await peer.wait_closed()
    await until(lambda: len(ends.server.gone) == 1)
    assert [command.body for command in ends.server.requests] == [b"last words"]


async def test_too_many_in_flight_is_refused_at_once(ends: Ends) -> None:
    ends.server.on_request = lambda peer, command: None
    peer = await ends.dial()
    results: list[Command | LinkError] = []
    for _ in range(REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX):
        peer.request(1, None, b"", 60.0, results.append)
    assert results == []
    peer.request(1, None, b"", 60.0, results.append)
    assert isinstance(results[0], TooManyInFlight)
    peer.close("done")
    assert len(results) == REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX + 1


async def test_request_ids_wrap_and_skip_those_in_flight(ends: Ends) -> None:
    ends.server.on_request = lambda peer, command: None if command.code == 5 else echo(peer, command)
    peer = await ends.dial()
    peer.request(5, None, b"", 60.0, lambda result: None)
    peer._last_id = 0x7FFF_FFFF - 1
    for _ in range(4):
        assert (await peer.ask(6)).code == 0
    ids = [command.request_id for command in ends.server.requests]
    assert ids == [1, 0x7FFF_FFFF, 0, 2, 3]
    peer.close("done")


async def test_cancelling_a_wait_drops_the_answer(ends: Ends) -> None:
    parked: list[Command] = []
    ends.server.on_request = lambda peer, command: parked.append(command)
    peer = await ends.dial()
    waiting = asyncio.create_task(peer.ask(1))
    await until(lambda: len(parked) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    ends.server.peers[0].answer(response(0, parked[0].request_id))
    await until(lambda: peer.in_flight == 0)
    peer.close("done")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\0" * 64,
        b"\0\0\0\x06\0\0\0\x02{]",
        b"\0\0\0\x08\x07\0\0\x04abcd",
    ],
)
async def test_garbage_closes_the_connection_with_one_log_line(
    ends: Ends, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        reader, writer = await asyncio.open_connection(*ends.address)
        writer.write(garbage + garbage)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    lines = [record for record in caplog.records if record.name == "posthouse.link.peer"]
    assert len(lines) == 1
    assert lines[0].levelno == logging.WARNING
    assert str(ends.server.peers[0].remote) in lines[0].getMessage()
    await until(lambda: len(ends.server.gone) == 1)


async def test_an_idle_connection_is_closed(ends: Ends) -> None:
    ends.idle_seconds = 0.3
    peer = await ends.dial()
    for _ in range(6):  # traffic keeps it open well past its idle time
        await asyncio.sleep(0.1)
        assert (await peer.ask(1)).code == 0
    await until(lambda: len(ends.server.gone) == 1, 2)
    await until(lambda: peer.closed)


async def test_a_frame_that_never_ends_is_closed(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "FIRST_FRAME_SECONDS_MAX", 0.3)
    reader, writer = await asyncio.open_connection(*ends.address)
    data = encode_command(request(1, 1, None, b"x" * 1000))
    writer.write(data)
    assert len(await read_answers(reader, 1)) == 1
    for at in range(40):  # bytes keep coming, the frame does not end
        if reader.at_eof():
            break
        writer.write(data[at : at + 1])
        await asyncio.sleep(0.03)
    assert reader.at_eof()
    assert len(ends.server.requests) == 1
    writer.close()


async def test_a_peer_that_does_not_read_is_not_read_either_and_memory_stays_bounded(ends: Ends) -> None:
    big = b"z" * 256 * 1024
    written = 0
    queued_max = 0

    def flood(peer: RemotingPeer, command: Command) -> None:
        nonlocal written, queued_max
        written += 1
        peer.answer(response(0, command.request_id, None, big))
        queued_max = max(queued_max, peer._outbox_bytes + peer._transport.get_write_buffer_size())

    ends.server.on_request = flood
    sock = socket.create_connection(ends.address)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    asks = b"".join(encode_command(request(11, n)) for n in range(1000))  # 256 MB of answers are asked for
    await loop.sock_sendall(sock, asks)
    await until(lambda: written > 0)
    await asyncio.sleep(0.3)
    stalled_at = written
    await asyncio.sleep(0.3)
    assert written == stalled_at < 1000
    assert queued_max < OUTBOX_BYTES_HIGH + 2 * len(big)
    frames = FrameReader()
    got: list[int] = []
    async with asyncio.timeout(20):  # now it reads: every request is answered, in order
        while len(got) < 1000:
            got += [
                decode_command(frame).request_id for frame in frames.receive_data(await loop.sock_recv(sock, 1 << 20))
            ]
    assert got == list(range(1000))
    sock.close()


async def test_a_flood_of_requests_with_large_answers_does_not_block_itself(ends: Ends) -> None:
    """The server stops reading while its answers wait; the client must go on reading though its requests wait."""
    client = Recorder(on_request=echo)
    peer = await ends.dial(client)
    await peer.ask(1)
    other = ends.server.peers[0]
    body = b"q" * 100_000
    async with asyncio.timeout(30):
        answers = await asyncio.gather(
            *(peer.ask(1, None, body, 25.0) for _ in range(300)), *(other.ask(2, None, b"", 25.0) for _ in range(1000))
        )
    assert [len(answer.body) for answer in answers] == [len(body)] * 300 + [0] * 1000
    peer.close("done")


async def test_an_error_of_ours_ends_only_that_connection(ends: Ends) -> None:
    def broken(peer: RemotingPeer, command: Command) -> None:
        raise RuntimeError("a bug")

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    ends.server.on_request = broken
    peer = await ends.dial()
    with pytest.raises(ConnectionLost):
        await peer.ask(1)
    ends.server.on_request = echo
    second = await ends.dial()
    assert (await second.ask(1)).code == 0
    second.close("done")
