"""From a request to its handler: what every kind of outcome becomes on the wire."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from posthouse.codec.remoting.codes import RESPONSE_CODE_OF, RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, HeaderType
from posthouse.codec.remoting.headers.numbers import Int32
from posthouse.endpoint.remoting.dispatcher import COLD, HOT, Dispatcher, Lane, Reply, Route
from posthouse.endpoint.remoting.server import RemotingServer
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.peer import RemotingPeer
from posthouse.model.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX, REMARK_CHARS_MAX
from posthouse.model.refusal import Reason, Refused
from tests.endpoint.clients import Client, client

pytestmark = pytest.mark.asyncio

CODE = RequestCode.GET_MAX_OFFSET
OTHER = RequestCode.GET_MIN_OFFSET


class Asked(msgspec.Struct, kw_only=True, rename="camel"):
    topic: str
    queue_id: Int32


@dataclass
class Served:
    """A dispatcher behind a port, and what it told."""

    dispatcher: Dispatcher
    client: Client
    bugs: list[BaseException]
    connected: list[RemotingPeer] = field(default_factory=list)
    disconnected: list[RemotingPeer] = field(default_factory=list)


Handler = Callable[[Any, Command], Reply | Awaitable[Reply] | None]


@asynccontextmanager
async def serving(
    handle: Handler, header: HeaderType[Any] | None = None, lane: Lane = COLD, other: Handler | None = None
) -> AsyncIterator[Served]:
    def row(code: RequestCode, handler: Handler, header: HeaderType[Any] | None) -> Route:
        return Route(code, header, lambda service, head, command, peer: handler(head, command), lane)

    bugs: list[BaseException] = []
    connected: list[RemotingPeer] = []
    disconnected: list[RemotingPeer] = []
    routes = [row(CODE, handle, header)] + ([row(OTHER, other, None)] if other else [])
    dispatcher = Dispatcher(
        {"service": routes},
        what="desk",
        on_bug=bugs.append,
        on_connected=connected.append,
        on_disconnected=disconnected.append,
    )
    server = RemotingServer(Host.real().net, dispatcher)
    address = await server.start(Address("127.0.0.1", 0))
    try:
        async with client(address) as asking:
            yield Served(dispatcher, asking, bugs, connected, disconnected)
    finally:
        await server.close()


def refuses(reason: Reason, remark: str = "because") -> Handler:
    def handle(header: object, command: Command) -> Reply:
        raise Refused(reason, remark)

    return handle


def raises(error: BaseException) -> Handler:
    def handle(header: object, command: Command) -> Reply:
        raise error

    return handle


# Replies


async def test_reply_has_the_id_of_its_request_and_all_that_the_handler_said() -> None:
    async with serving(lambda header, command: Reply(7, {"a": "b"}, b"body" + command.body, "said")) as served:
        for body in (b"1", b"2"):
            answer = await served.client.ask(CODE, body=body)
            assert (answer.code, answer.ext_map(), answer.body) == (7, {"a": "b"}, b"body" + body)
            assert answer.remark == "said"
            assert answer.is_response


async def test_reply_of_an_awaitable_comes_when_it_is_there_and_holds_up_nobody() -> None:
    gate = asyncio.Event()

    async def slow(header: object, command: Command) -> Reply:
        await gate.wait()
        return Reply(body=b"slow")

    async with serving(slow, other=lambda header, command: Reply(body=b"quick")) as served:
        waiting = asyncio.ensure_future(served.client.ok(CODE))
        assert (await served.client.ok(OTHER)).body == b"quick"
        assert not waiting.done()
        gate.set()
        assert (await waiting).body == b"slow"


async def test_handler_that_gives_nothing_answers_by_itself() -> None:
    async with serving(lambda header, command: None, other=lambda header, command: Reply()) as served:
        asked = asyncio.ensure_future(served.client.ask(CODE))
        await served.client.ok(OTHER)
        assert not asked.done()
        asked.cancel()


# Codes without a row


async def test_unknown_code_is_answered_in_rocketmqs_words() -> None:
    async with serving(lambda header, command: Reply()) as served:
        answer = await served.client.ask(99_999)
        assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        assert answer.remark == " request type 99999 not supported"


async def test_known_code_that_is_not_served_is_named() -> None:
    async with serving(lambda header, command: Reply()) as served:
        answer = await served.client.ask(RequestCode.POP_MESSAGE)
        assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        assert answer.remark == "request code 200050 (POP_MESSAGE) is not served by this desk"


async def test_two_rows_of_one_code_are_our_mistake() -> None:
    row = Route(CODE, None, lambda service, header, command, peer: Reply())
    with pytest.raises(AssertionError, match="GET_MAX_OFFSET"):
        Dispatcher({"a": [row], "b": [row]}, what="desk", on_bug=lambda error: None)


# Refusals and errors


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
async def test_every_reason_of_a_refusal_has_its_code(reason: Reason) -> None:
    async def late(header: object, command: Command) -> Reply:
        raise Refused(reason, "because later")

    async with serving(refuses(reason), other=late) as served:
        for code, remark in ((CODE, "because"), (OTHER, "because later")):
            answer = await served.client.ask(code)
            assert (answer.code, answer.remark) == (RESPONSE_CODE_OF[reason], remark)
        assert served.bugs == []


@pytest.mark.parametrize(
    "ext, named",
    [
        ({"topic": "T"}, "queueId"),
        ({"queueId": "1"}, "topic"),
        ({"topic": "T", "queueId": "one"}, "queueId"),
        ({"topic": "T", "queueId": "2147483648"}, "queueId"),
        ({"topic": "T", "queueId": ""}, "queueId"),
        ({}, "topic"),
        (None, "topic"),
    ],
)
async def test_wrong_header_is_answered_with_the_name_of_the_field(ext: dict[str, str] | None, named: str) -> None:
    async with serving(lambda header, command: Reply(), HeaderType(Asked)) as served:
        answer = await served.client.ask(CODE, ext)
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert answer.remark is not None
        assert named in answer.remark
        assert "GET_MAX_OFFSET" in answer.remark
        assert served.bugs == []


async def test_unexpected_error_is_logged_and_answered_without_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(raises(KeyError("a secret"))) as served:
        answer = await served.client.ask(CODE)
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert answer.remark == "GET_MAX_OFFSET failed in the desk; see its log"
        assert served.bugs == []
    assert "a secret" in caplog.text


@pytest.mark.parametrize("late", [False, True])
async def test_broken_assertion_is_told_as_our_mistake(late: bool, caplog: pytest.LogCaptureFixture) -> None:
    error = AssertionError("ours")

    async def fail(header: object, command: Command) -> Reply:
        raise error

    async with serving(fail if late else raises(error)) as served:
        assert (await served.client.ask(CODE)).code == ResponseCode.SYSTEM_ERROR
        assert served.bugs == [error]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_answer_that_does_not_fit_a_frame_becomes_an_error_that_says_so() -> None:
    async def late(header: object, command: Command) -> Reply:
        return Reply(body=bytes(FRAME_BYTES_MAX))

    async with serving(lambda header, command: Reply(ext={"a": "x" * HEADER_BYTES_MAX}), other=late) as served:
        for code in (CODE, OTHER):
            answer = await served.client.ask(code)
            assert answer.code == ResponseCode.SYSTEM_ERROR
            assert "cannot be sent" in (answer.remark or "")


async def test_remark_that_quotes_too_much_is_cut() -> None:
    async with serving(refuses(Reason.FAILED, "ü\0" * 200_000)) as served:
        answer = await served.client.ask(CODE)
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert answer.remark is not None
        assert len(answer.remark) == REMARK_CHARS_MAX + 3


# One-way requests


async def test_one_way_requests_are_done_and_never_answered() -> None:
    done: list[str] = []

    async def late(header: object, command: Command) -> Reply:
        done.append("late")
        raise Refused(Reason.FAILED, "because")

    outcomes: list[Handler] = [
        lambda header, command: Reply(),
        refuses(Reason.FAILED),
        raises(KeyError("x")),
        raises(AssertionError("x")),
        late,
        lambda header, command: Reply(body=bytes(FRAME_BYTES_MAX)),
    ]

    def handle(header: object, command: Command) -> Reply | Awaitable[Reply] | None:
        done.append("asked")
        return outcomes[int(command.body)](header, command)

    async with serving(handle, HeaderType(Asked), other=lambda header, command: Reply()) as served:
        answers: list[Command] = []
        served.client.peer._in_flight = Unexpected(answers)
        for number in range(len(outcomes)):
            served.client.tell(CODE, {"topic": "T", "queueId": 0}, str(number).encode())
        served.client.tell(CODE)  # a wrong header
        served.client.tell(12_345)
        await asyncio.sleep(0.05)
        assert done.count("asked") == len(outcomes)
        assert "late" in done
        assert answers == []
        assert len(served.bugs) == 1


class Unexpected(dict[int, Any]):
    """A table of requests under way that notes every answer."""

    def __init__(self, answers: list[Command]) -> None:
        super().__init__()
        self._answers = answers

    def pop(self, request_id: int, *default: Any) -> Any:
        return 0.0, 0.0, 0, self._answers.append


# Lanes


async def test_full_lane_is_answered_as_busy_and_has_room_again() -> None:
    gate = asyncio.Event()

    async def slow(header: object, command: Command) -> Reply:
        await gate.wait()
        if command.body == b"bad":
            raise Refused(Reason.FAILED, "because")
        return Reply()

    async with serving(slow, lane=Lane("narrow", 2)) as served:
        under_way = [asyncio.ensure_future(served.client.ask(CODE, body=body)) for body in (b"good", b"bad")]
        await asyncio.sleep(0)
        answer = await served.client.ask(CODE)
        assert answer.code == ResponseCode.SYSTEM_BUSY
        assert answer.remark is not None
        assert answer.remark.startswith("[OVERLOAD] the limit of 2 narrow requests")
        gate.set()
        assert [each.code for each in await asyncio.gather(*under_way)] == [0, ResponseCode.SYSTEM_ERROR]
        for _ in range(5):
            assert (await served.client.ask(CODE)).code == 0


async def test_hot_lane_starts_no_task() -> None:
    async def slow(header: object, command: Command) -> Reply:
        raise AssertionError("never begun")

    async with serving(slow, lane=HOT) as served:
        before = asyncio.all_tasks()
        assert (await served.client.ask(CODE)).code == ResponseCode.SYSTEM_BUSY
        assert asyncio.all_tasks() == before
        assert served.bugs == []


async def test_close_ends_the_work_under_way_also_what_has_just_begun() -> None:
    ended: list[str] = []

    async def slow(header: object, command: Command) -> Reply:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("ended")
        return Reply()

    works: list[Coroutine[Any, Any, Reply]] = []

    def handle(header: object, command: Command) -> Awaitable[Reply]:
        works.append(slow(header, command))
        return works[-1]

    async with serving(handle, lane=Lane("narrow", 1)) as served:
        asked = asyncio.ensure_future(served.client.ask(CODE))
        await asyncio.sleep(0.02)
        await served.dispatcher.close()
        assert ended == ["ended"]
        served.dispatcher.request(served.client.peer, Command(CODE, 99))
        await served.dispatcher.close()
        assert ended == ["ended"]
        assert [inspect.getcoroutinestate(each) for each in works] == [inspect.CORO_CLOSED] * 2
        assert served.dispatcher._tasks_of == {"narrow": 0}
        assert not served.dispatcher._tasks
        asked.cancel()


# Connections


async def test_connections_are_told_when_they_come_and_go() -> None:
    async with serving(lambda header, command: Reply()) as served:
        await served.client.ok(CODE)
        assert len(served.connected) == 1
        assert served.disconnected == []
        await served.client.close()
        await asyncio.sleep(0.02)
        assert served.disconnected == served.connected
