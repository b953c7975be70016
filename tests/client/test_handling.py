from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from posthouse.client.figures import Figures
from posthouse.client.handling import BatchHandler, DamagedBody, Handler, HandlerCancelled, Handling
from posthouse.client.received import ReceivedMessage, open_records
from posthouse.client.requests import Replies, Reply
from posthouse.client.retries import DEAD, RetryLater
from posthouse.model.message import MessageQueue, SysFlag
from posthouse.model.properties import CORRELATION_ID, REPLY_TO_CLIENT
from tests.client.records import record

pytestmark = pytest.mark.asyncio


class Told:
    """Takes the answers of handlers."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    async def send(self, request: ReceivedMessage, reply: Reply) -> None:
        self.replies.append(reply)


def messages(count: int = 1, **more: Any) -> list[ReceivedMessage]:
    body = b"".join(record(n, **more) for n in range(count))
    return open_records(body, MessageQueue("t", "b", 0))


def handling(
    handler: Handler | None = None,
    batch_handler: BatchHandler | None = None,
    *,
    timeout_s: float | None = 1.0,
    figures: Figures | None = None,
    told: Told | None = None,
) -> Handling:
    replies = cast(Replies, told or Told())
    return Handling(handler, batch_handler, 5, timeout_s, figures or Figures(), replies)


async def test_functions_and_coroutine_functions_will_do() -> None:
    seen: list[int] = []

    async def slowly(message: ReceivedMessage) -> None:
        await asyncio.sleep(0)
        seen.append(message.queue_offset)

    assert await handling(lambda message: seen.append(message.queue_offset)).run(messages()) is None
    assert await handling(slowly).run(messages()) is None
    assert await handling(None, lambda batch: seen.extend(each.queue_offset for each in batch)).run(messages(3)) is None
    assert seen == [0, 0, 0, 1, 2]


async def test_what_a_handler_raises_says_when_the_message_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> Handler:
        def handler(message: ReceivedMessage) -> None:
            raise error

        return handler

    with caplog.at_level(logging.WARNING):
        assert await handling(fail(RuntimeError("no luck"))).run(messages()) == 0
    assert "the handler failed on ID0, attempt 1: no luck" in caplog.text
    assert "Traceback" in caplog.text
    assert await handling(fail(RetryLater(4))).run(messages()) == 4
    assert await handling(fail(RetryLater(DEAD))).run(messages()) == DEAD


async def test_the_stack_is_logged_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    with_stack = []
    for times in range(16):
        caplog.clear()
        await handling(lambda message: 1 / 0).run(messages(reconsume_times=times))
        assert f"attempt {times + 1}: division by zero" in caplog.text
        if "Traceback" in caplog.text:
            with_stack.append(times + 1)
    assert with_stack == [1, 2, 4, 8, 16]


async def test_a_handler_has_its_time(caplog: pytest.LogCaptureFixture) -> None:
    assert await handling(lambda message: asyncio.sleep(5), timeout_s=0.02).run(messages()) == 0
    assert "the 0.02 s that handler_timeout_s allows" in caplog.text


async def test_a_cancelled_wait_inside_is_a_failure_but_closing_is_not() -> None:
    async def wait_for_nobody(message: ReceivedMessage) -> None:
        task = asyncio.ensure_future(asyncio.sleep(5))
        task.cancel()
        await task

    assert await handling(wait_for_nobody).run(messages()) == 0
    with pytest.raises(HandlerCancelled):
        await handling(wait_for_nobody).call(messages())
    running = asyncio.create_task(handling(lambda message: asyncio.sleep(5), timeout_s=None).run(messages()))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_damaged_body_never_reaches_the_handler() -> None:
    seen: list[ReceivedMessage] = []
    broken = messages(body=b"junk", sys_flag=SysFlag.COMPRESSED)
    assert await handling(seen.append).run(broken) == 0
    with pytest.raises(DamagedBody, match="cannot be opened"):
        await handling(seen.append).call(broken)
    assert seen == []


async def test_calls_are_counted_by_topic() -> None:
    figures = Figures()
    await handling(lambda message: None, figures=figures).run(messages())
    await handling(lambda message: 1 / 0, figures=figures).run(messages())
    rates = figures.rates(asyncio.get_running_loop().time())["t"]
    assert (rates.consumed_per_second, rates.failed_in_hour) == (1 / 60, 1)


async def test_only_a_request_gets_what_the_handler_returns() -> None:
    told = Told()
    asks: dict[str, Any] = {"properties": {CORRELATION_ID: "7", REPLY_TO_CLIENT: "me"}}
    await handling(lambda message: b"answer", told=told).run(messages())
    assert told.replies == []
    await handling(lambda message: b"answer", told=told).run(messages(**asks))
    await handling(lambda message: bytearray(b"more"), told=told).run(messages(**asks))
    await handling(lambda message: Reply(b"rich", {"a": "b"}), told=told).run(messages(**asks))
    await handling(lambda message: "text is no answer", told=told).run(messages(**asks))
    await handling(lambda message: None, told=told).run(messages(**asks))
    assert told.replies == [Reply(b"answer"), Reply(b"more"), Reply(b"rich", {"a": "b"})]
