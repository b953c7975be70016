"""Whatever a client sends, by mistake or on purpose: it gets an answer or loses its connection; nobody else notices.

Against the real server in a process of its own. After each test another client still gets its messages through, the
server has written at most one line for each connection that behaved badly, and it has not grown.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from posthouse.codec.remoting.batch import BatchEntry, encode_batch
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, encode_command, request, response
from posthouse.codec.remoting.frame import FrameReader
from posthouse.host.net import Address
from posthouse.model.limits import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX
from tests.crash.server import ServerProcess
from tests.crash.wire import Wire, commit_ext, dial, frame, max_offset, pull_all, pull_ext, send, send_ext

MIB = 1024 * 1024
GOOD = {"code": RequestCode.GET_BROKER_CONFIG, "opaque": 1, "flag": 0, "language": "JAVA", "version": 479}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    found = ServerProcess(tmp_path_factory.mktemp("bad") / "data").start()
    yield found
    assert found.is_alive, f"the server is dead: {found.log}"
    assert found.stop() == 0


class Guard:
    """Counts the connections that are going to behave badly, for the lines that the server may write about them."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.bad_connections = 0

    async def dial(self) -> Wire:
        self.bad_connections += 1
        return await dial(self.server.broker)


@pytest_asyncio.fixture
async def guard(server: ServerProcess) -> AsyncIterator[Guard]:
    lines, resident = len(server.log.splitlines()), server.resident_bytes()
    found = Guard(server)
    yield found
    await prove_that_it_serves(server.broker)
    written = server.log.splitlines()[lines:]
    assert len(written) <= found.bad_connections, "\n".join(written)
    assert server.resident_bytes() - resident < 128 * MIB


async def prove_that_it_serves(address: Address) -> None:
    wire = await dial(address)
    body = b"still here %d" % time.monotonic_ns()
    begin = time.monotonic()
    answer = await send(wire, "proof", 0, body)
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    offset = int(answer.ext_map()["queueOffset"])
    found = await pull_all(wire, "proof", "proof", 0, offset)
    assert [message.body for message in found] == [body]
    assert time.monotonic() - begin < 2.0
    wire.close()


async def is_closed(wire: Wire, seconds: float = 5.0) -> bool:
    done, _ = await asyncio.wait((wire.lost,), timeout=seconds)
    return bool(done)


def json_frame(header: object, body: bytes = b"") -> bytes:
    return frame(json.dumps(header).encode(), body)


# Bytes that are not the protocol


@pytest.mark.asyncio
@pytest.mark.parametrize("port", ["broker", "nameserver"])
async def test_random_bytes_lose_the_connection_and_cost_one_line(guard: Guard, port: str) -> None:
    rng = random.Random(7)
    address = getattr(guard.server, port)
    for _ in range(40):
        guard.bad_connections += 1
        wire = await dial(address)
        # The first word is the length of a frame; a random one is nearly always over the limit.
        wire.transport.write(bytes((rng.randint(1, 255),)) + rng.randbytes(rng.randint(8, 3000)))
        assert await is_closed(wire)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", 2 * 1024**3 - 1, 0),
        struct.pack(">II", FRAME_BYTES_MAX + 1, 0),
        struct.pack(">II", 0xFFFFFFFF, 0),
        struct.pack(">II", 0, 0),
        struct.pack(">II", 3, 0),
        struct.pack(">II", 20, 17) + bytes(16),
        struct.pack(">II", 20, 0xFFFFFF) + bytes(16),
        frame(b"{not json"),
        frame(b""),
        frame(b"\xff\xfe\x00"),
        frame(b"[" * 100_000),
        frame(b"[]"),
        frame(b"null"),
        frame(b'"text"'),
        frame(b"{}"),
        json_frame({"opaque": 1}),
        json_frame(GOOD | {"code": "310"}),
        json_frame(GOOD | {"code": 1.5}),
        json_frame(GOOD | {"opaque": None}),
        json_frame(GOOD | {"flag": []}),
        frame(json.dumps(GOOD).encode(), serialize_type=7),
        frame(b"\x00\x0a", serialize_type=1),
        frame(struct.pack(">hBhiii", 10, 0, 0, 1, 0, 1 << 30), serialize_type=1),
        frame(struct.pack(">hBhiiii", 10, 0, 0, 1, 0, 0, 9) + b"\xff\xff", serialize_type=1),
    ],
    ids=lambda data: f"{data[:24]!r}",
)
async def test_a_frame_that_is_none_loses_the_connection(guard: Guard, data: bytes) -> None:
    wire = await guard.dial()
    wire.transport.write(data)
    assert await is_closed(wire)


@pytest.mark.asyncio
async def test_half_a_frame_and_silence_harms_nobody(guard: Guard) -> None:
    """It stays open until its time is up (the limit itself is a test of the peer); others are served meanwhile."""
    whole = encode_command(request(RequestCode.SEND_MESSAGE_V2, 1, send_ext("half", 0), b"x" * 100_000))
    wires = [await guard.dial() for _ in range(10)]
    for number, wire in enumerate(wires):
        wire.transport.write(whole[: (number + 1) * len(whole) // 11])
    guard.bad_connections = 0  # nothing is wrong with them yet
    for _ in range(4):
        await asyncio.sleep(0.5)
        await prove_that_it_serves(guard.server.broker)
    assert not any(wire.lost.done() for wire in wires)
    done: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
    wires[0]._waiting[1] = done.set_result
    wires[0].transport.write(whole[len(whole) // 11 :])
    assert (await asyncio.wait_for(done, 10)).code == ResponseCode.SUCCESS
    for wire in wires:
        wire.close()


@pytest.mark.asyncio
async def test_one_byte_at_a_time_is_a_frame_like_any_other(guard: Guard) -> None:
    wire = await guard.dial()
    done: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
    wire._waiting[9] = done.set_result
    for byte in encode_command(request(RequestCode.SEND_MESSAGE_V2, 9, send_ext("slow", 0), b"slowly")):
        wire.transport.write(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(done, 10)).code == ResponseCode.SUCCESS
    guard.bad_connections = 0
    wire.close()


# Requests that are well formed and wrong


async def answered(guard: Guard, code: int, ext: dict[str, str] | None, body: bytes = b"") -> Command:
    """The answer to a bad request; the connection stays open and is of use afterwards."""
    wire = await dial(guard.server.broker)
    answer = await wire.ask(code, ext, body)
    assert (await send(wire, "proof", 1, b"the same connection")).code == ResponseCode.SUCCESS
    wire.close()
    return answer


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [99999, 0, -1, 2**31 - 1, 10**30])
async def test_an_unknown_code_is_answered_3_with_its_number(guard: Guard, code: int) -> None:
    answer = await answered(guard, code, {"a": "b"}, b"body")
    assert answer.code == 3
    assert answer.remark == f" request type {code} not supported"


@pytest.mark.asyncio
async def test_a_known_code_that_is_not_served_is_answered_3_with_its_name(guard: Guard) -> None:
    answer = await answered(guard, RequestCode.RECALL_MESSAGE, {})
    assert answer.code == 3
    assert answer.remark is not None
    assert "370" in answer.remark
    assert "RECALL_MESSAGE" in answer.remark


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "ext", "words"),
    [
        (RequestCode.SEND_MESSAGE_V2, None, "SEND_MESSAGE_V2"),
        (RequestCode.SEND_MESSAGE_V2, {}, "SEND_MESSAGE_V2"),
        (RequestCode.SEND_MESSAGE_V2, send_ext("t", 0) | {"e": "many"}, "e"),
        (RequestCode.SEND_MESSAGE_V2, send_ext("t", 0) | {"e": str(2**31)}, "e"),
        (RequestCode.SEND_MESSAGE_V2, send_ext("t", 0) | {"g": str(2**63)}, "g"),
        (RequestCode.PULL_MESSAGE, pull_ext("g", "t", 0, 0) | {"queueOffset": "first"}, "queueOffset"),
        (RequestCode.UPDATE_CONSUMER_OFFSET, {"consumerGroup": "g"}, "topic"),
    ],
)
async def test_a_header_with_a_field_missing_or_wrong_is_named_in_the_answer(
    guard: Guard, code: int, ext: dict[str, str] | None, words: str
) -> None:
    answer = await answered(guard, code, ext)
    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert answer.remark is not None
    assert words in answer.remark


@pytest.mark.asyncio
@pytest.mark.parametrize("ext", ["[]", '"text"', "7", '{"a": {}}', '{"a": [1]}', "true"])
async def test_ext_fields_of_the_wrong_type_are_answered_or_lose_the_connection(guard: Guard, ext: str) -> None:
    wire = await guard.dial()
    done: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
    wire._waiting[1] = done.set_result
    header = f'{{"code": {RequestCode.SEND_MESSAGE_V2}, "opaque": 1, "flag": 0, "extFields": {ext}}}'
    wire.transport.write(frame(header.encode()))
    await asyncio.wait((done, wire.lost), timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert wire.lost.done() or done.result().code == ResponseCode.SYSTEM_ERROR
    wire.close()


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "topic", ["../../x", "/etc/x", "a/b", "..", "a\0b", "x" * 128, "", "topic with blanks", "中文"]
)
async def test_a_name_that_is_not_legal_is_answered_29_and_makes_nothing(guard: Guard, topic: str) -> None:
    around = guard.server.data.parent
    before = tree(around)
    for code, ext in (
        (RequestCode.SEND_MESSAGE_V2, send_ext(topic, 0)),
        (RequestCode.PULL_MESSAGE, pull_ext("g", topic, 0, 0)),
        (RequestCode.UPDATE_CONSUMER_OFFSET, commit_ext("g", topic, 0, 1)),
    ):
        answer = await answered(guard, code, ext, b"body")
        if code == RequestCode.SEND_MESSAGE_V2:
            assert answer.code == 29
        assert answer.code != ResponseCode.SUCCESS
        assert answer.remark
    assert {name for name in tree(around) - before if not name.startswith("data/log/")} == set()


@pytest.mark.asyncio
@pytest.mark.parametrize("group", ["../../x", "", "g" * 121, "a b"])
async def test_a_group_that_is_not_legal_is_refused(guard: Guard, group: str) -> None:
    assert (await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("proof", 0), b"x")).code == 0
    for code, ext in (
        (RequestCode.PULL_MESSAGE, pull_ext(group, "proof", 0, 0)),
        (RequestCode.UPDATE_CONSUMER_OFFSET, commit_ext(group, "proof", 0, 1)),
    ):
        answer = await answered(guard, code, ext)
        assert answer.code not in (ResponseCode.SUCCESS, ResponseCode.SYSTEM_ERROR)
        assert answer.remark


@pytest.mark.asyncio
async def test_sizes_at_the_limit_are_taken_and_over_it_are_answered_13(guard: Guard) -> None:
    for size, code in ((MESSAGE_BYTES_MAX, 0), (MESSAGE_BYTES_MAX + 1, 13), (5 * MIB, 13), (15 * MIB, 13)):
        answer = await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("large", 0), bytes(size))
        assert answer.code == code, answer.remark
        if code:
            assert answer.remark is not None
            assert str(MESSAGE_BYTES_MAX) in answer.remark
    wire = await dial(guard.server.broker)
    assert await max_offset(wire, "large", 0) == 1
    wire.close()


@pytest.mark.asyncio
async def test_properties_over_their_limit_are_answered_13(guard: Guard) -> None:
    for value in ("x" * PROPERTIES_BYTES_MAX, "中" * (PROPERTIES_BYTES_MAX // 3)):
        answer = await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("t", 0, f"k\x01{value}\x02"), b"x")
        assert answer.code == 13
        assert answer.remark is not None
        assert str(PROPERTIES_BYTES_MAX) in answer.remark


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "properties", ["\x01\x02\x01\x02", "no separators", "\x02" * 1000, "TAGS\x01", "a\x01\x02\x01b", "UNIQ_KEY\x01\x02"]
)
async def test_odd_properties_are_stored_and_hide_no_neighbour(guard: Guard, properties: str) -> None:
    wire = await dial(guard.server.broker)
    first = await wire.ask(RequestCode.SEND_MESSAGE_V2, send_ext("odd", 0, properties), b"odd")
    assert first.code in (ResponseCode.SUCCESS, ResponseCode.MESSAGE_ILLEGAL)
    second = await send(wire, "odd", 0, b"neighbour")
    assert second.code == ResponseCode.SUCCESS
    begin = int((first if first.code == 0 else second).ext_map()["queueOffset"])
    found = await pull_all(wire, "g", "odd", 0, begin)
    assert [each.body for each in found] == ([b"odd"] if first.code == 0 else []) + [b"neighbour"]
    wire.close()


@pytest.mark.asyncio
async def test_text_that_is_not_unicode_is_refused_or_kept_but_breaks_nothing(guard: Guard) -> None:
    r"""Half a surrogate pair, which JSON can say as \ud800 and UTF-8 cannot."""
    for where in ("b", "i"):
        wire = await guard.dial()
        ext = json.dumps(send_ext("t", 0) | {where: "PLACE"}).replace("PLACE", "x\\ud800y")
        header = f'{{"code": {RequestCode.SEND_MESSAGE_V2}, "opaque": 1, "flag": 0, "extFields": {ext}}}'
        done: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
        wire._waiting[1] = done.set_result
        wire.transport.write(frame(header.encode(), b"body"))
        await asyncio.wait((done, wire.lost), timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert wire.lost.done() or done.result().code != ResponseCode.SUCCESS
        wire.close()


@pytest.mark.asyncio
async def test_a_batch_that_is_none_is_answered_13_and_stores_nothing(guard: Guard) -> None:
    rng = random.Random(3)
    good = encode_batch([BatchEntry(b"one", ""), BatchEntry(b"two", "")])
    bodies = [b"", b"\0", good[:-1], good + b"\0", bytes(100), rng.randbytes(1000), b"\xff" * 100]
    bodies += [good[:4] + rng.randbytes(len(good) - 4) for _ in range(5)]
    bodies.append(struct.pack(">i", -5) + good[4:])
    bodies.append(encode_batch([BatchEntry(b"one", "x" * PROPERTIES_BYTES_MAX)]))  # no room for the broker's own
    for body in bodies:
        answer = await answered(guard, RequestCode.SEND_BATCH_MESSAGE, send_ext("batch", 0, batch=True), body)
        assert answer.code == ResponseCode.MESSAGE_ILLEGAL, (body[:20], answer.code, answer.remark)
    wire = await dial(guard.server.broker)
    assert await max_offset(wire, "batch", 0) == 0
    wire.close()


@pytest.mark.asyncio
async def test_queues_that_are_not_there(guard: Guard) -> None:
    for queue_id in (4, 1000, 2**31 - 1):
        answer = await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("queues", queue_id), b"x")
        assert answer.code == ResponseCode.INVALID_PARAMETER
    answer = await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("queues", -1), b"any queue")
    assert answer.code == ResponseCode.SUCCESS
    answer = await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("queues", -(2**31)), b"any queue")
    assert answer.code == ResponseCode.SUCCESS
    for queue_id in (-1, -(2**31), 4, 2**31 - 1):
        for code, ext in (
            (RequestCode.PULL_MESSAGE, pull_ext("g", "queues", queue_id, 0)),
            (RequestCode.UPDATE_CONSUMER_OFFSET, commit_ext("g", "queues", queue_id, 0)),
        ):
            answer = await answered(guard, code, ext)
            assert answer.code == ResponseCode.INVALID_PARAMETER, (queue_id, answer.remark)


@pytest.mark.asyncio
@pytest.mark.parametrize("offset", [-1, -(2**63), 1000, 2**63 - 1])
async def test_offsets_outside_the_queue_are_answered_with_where_to_go_on(guard: Guard, offset: int) -> None:
    assert (await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("outside", 0), b"x")).code == 0
    answer = await answered(guard, RequestCode.PULL_MESSAGE, pull_ext("g", "outside", 0, offset))
    assert answer.code == ResponseCode.PULL_OFFSET_MOVED
    ext = answer.ext_map()
    assert ext["nextBeginOffset"] == (ext["maxOffset"] if offset > 0 else ext["minOffset"])


@pytest.mark.asyncio
async def test_a_committed_offset_below_zero_is_refused(guard: Guard) -> None:
    assert (await answered(guard, RequestCode.SEND_MESSAGE_V2, send_ext("outside", 0), b"x")).code == 0
    assert (await answered(guard, RequestCode.PULL_MESSAGE, pull_ext("g", "outside", 0, 0))).code == 0
    answer = await answered(guard, RequestCode.UPDATE_CONSUMER_OFFSET, commit_ext("g", "outside", 0, -1))
    assert answer.code == ResponseCode.INVALID_PARAMETER


@pytest.mark.asyncio
async def test_an_answer_that_nobody_asked_for_is_dropped(guard: Guard) -> None:
    wire = await dial(guard.server.broker)
    for code in (0, 3, 310, 99999):
        wire.transport.write(encode_command(response(code, 77, {"a": "b"}, b"body")))
    assert (await send(wire, "proof", 0, b"after it")).code == ResponseCode.SUCCESS
    wire.close()


@pytest.mark.asyncio
async def test_a_one_way_request_is_never_answered_even_if_it_is_wrong(guard: Guard) -> None:
    wire = await dial(guard.server.broker)
    answers: list[Command] = []
    for code, ext in (
        (99999, None),
        (RequestCode.SEND_MESSAGE_V2, None),
        (RequestCode.SEND_MESSAGE_V2, send_ext("../x", 0)),
        (RequestCode.SEND_MESSAGE_V2, send_ext("one-way", 0)),
        (RequestCode.PULL_MESSAGE, pull_ext("g", "nowhere", 0, 0)),
        (RequestCode.PULL_MESSAGE, pull_ext("g", "one-way", 0, 0, suspend_ms=20_000)),
    ):
        wire.give(code, ext, b"x", None)
        wire._waiting[wire._last_id] = answers.append
    assert (await send(wire, "one-way", 0, b"asked")).ext_map()["queueOffset"] == "1"
    await asyncio.sleep(0.2)
    assert answers == []
    wire.close()


@pytest.mark.asyncio
async def test_the_same_request_id_twice_gets_two_answers(guard: Guard) -> None:
    wire = await dial(guard.server.broker)
    answers: list[Command] = []
    for _ in range(2):
        wire.transport.write(encode_command(request(RequestCode.SEND_MESSAGE_V2, 500, send_ext("twice", 0), b"x")))
        wire._waiting[500] = answers.append
        async with asyncio.timeout(10):
            while not answers or 500 in wire._waiting:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while len(answers) < 2:
            await asyncio.sleep(0.01)
    assert [answer.code for answer in answers] == [0, 0]
    wire.close()


# Clients that do not read


def push(address: Address, one: bytes) -> tuple[socket.socket, int]:
    """Writes the frame `one` again and again and reads nothing, until nothing is taken for a second; bytes taken."""
    data = memoryview(one * (65_536 // len(one) + 1))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.settimeout(1.0)
    sock.connect((address.host, address.port))
    sent, deadline = 0, time.monotonic() + 15
    try:
        while time.monotonic() < deadline:
            sent += sock.send(data[sent % len(data) :])
    except TimeoutError:
        return sock, sent
    raise AssertionError(f"the server still reads, after {sent} bytes whose answers nobody takes")


def read_answers(sock: socket.socket, count: int, bytes_max: int) -> int:
    """How many answers came, up to `count` of them or `bytes_max` bytes."""
    reader, answers, size = FrameReader(), 0, 0
    sock.settimeout(10.0)
    while answers < count and size < bytes_max:
        data = sock.recv(1 << 20)
        assert data, "the server closed the connection"
        size += len(data)
        answers += len(reader.receive_data(data))
    return answers


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["pulls", "sends", "unknown"])
async def test_a_client_that_never_reads_is_not_read_either(guard: Guard, what: str) -> None:
    wire = await dial(guard.server.broker)
    for number in range(8):
        assert (await send(wire, "unread", 0, b"%d" % number * 32_000)).code == ResponseCode.SUCCESS
    wire.close()
    body = b""
    if what == "pulls":
        code, ext = RequestCode.PULL_MESSAGE, pull_ext("g", "unread", 0, 0)
    elif what == "sends":
        code, ext, body = RequestCode.SEND_MESSAGE_V2, send_ext("unread-sends", 0), b"x"
    else:
        code, ext = RequestCode.POP_MESSAGE, {"a": "b" * 500}
    one = encode_command(request(code, 1, ext, body))
    resident = guard.server.resident_bytes()
    loop = asyncio.get_running_loop()
    pushed = [await asyncio.wait_for(loop.run_in_executor(None, push, guard.server.broker, one), 20) for _ in range(2)]
    await prove_that_it_serves(guard.server.broker)
    grown = guard.server.resident_bytes() - resident
    assert grown < 96 * MIB, f"{grown / MIB:.0f} MiB more for {[sent for _, sent in pushed]} bytes of requests"
    for sock, sent in pushed:  # now it reads, and everything goes on
        whole = sent // len(one)
        most = 30 * MIB if what == "pulls" else 400 * whole  # an answer to a send has some 300 bytes
        answers = await asyncio.wait_for(loop.run_in_executor(None, read_answers, sock, whole, most), 30)
        assert answers == whole or what == "pulls"
        sock.close()
    await asyncio.sleep(0.3)
    assert guard.server.resident_bytes() - resident < 96 * MIB


@pytest.mark.asyncio
async def test_a_client_that_goes_away_in_the_middle_of_everything(guard: Guard) -> None:
    """Sends and held pulls under way, then a reset of the connection."""
    for number in range(30):
        wire = await guard.dial()
        for queue_id in range(4):
            wire.give(RequestCode.PULL_MESSAGE, pull_ext("g", "gone", queue_id, 0, 20_000), b"", lambda answer: None)
            wire.give(RequestCode.SEND_MESSAGE_V2, send_ext("gone", queue_id), b"x" * 1000, lambda answer: None)
        sock = wire.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.002 * (number % 5))
        wire.transport.abort()
