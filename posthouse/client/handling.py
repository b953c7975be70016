"""Calls the program's handler: with a time limit, counted, its errors turned into "again later", its answers sent.

All ways to consume go through `Handling.run`. A handler is a function or a coroutine function of one message, or of a
list of messages; what it returns is dropped, unless the message is a request: then bytes, or a Reply, are its answer.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from posthouse.client.figures import Figures
from posthouse.client.received import ReceivedMessage
from posthouse.client.requests import Replies, Reply
from posthouse.client.retries import RetryLater
from posthouse.client.trace import Tracer

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[ReceivedMessage], object]
"""A function, or a coroutine function, of one message."""

BatchHandler: TypeAlias = Callable[[list[ReceivedMessage]], object]
"""The same of several messages of one queue, in their order; an error means all of them."""


class HandlerCancelled(Exception):
    """The handler cancelled itself, or something that it waited for was cancelled."""


class Handling:
    """The handler of one consumer. `batch_max` is 1 for a handler of single messages."""

    def __init__(
        self,
        handler: Handler | None,
        batch_handler: BatchHandler | None,
        batch_max: int,
        timeout_s: float | None,
        figures: Figures,
        replies: Replies,
        tracer: Tracer | None = None,
    ) -> None:
        """Raises ValueError unless there is one handler."""
        if (handler is None) == (batch_handler is None):
            raise ValueError("give either handler, for one message at a time, or batch_handler, for a list of them")
        if not callable(handler or batch_handler):
            raise ValueError(f"the handler is {handler or batch_handler!r}; give a function, or a coroutine function")
        if batch_max < 1:
            raise ValueError(f"batch_max is {batch_max}; a batch has at least one message")
        self._handler = handler
        self._batch_handler = batch_handler
        self.batch_max = 1 if batch_handler is None else batch_max
        self._timeout_s = timeout_s
        self._figures = figures
        self._replies = replies
        self._tracer = tracer

    async def run(self, messages: Sequence[ReceivedMessage]) -> int | None:
        """None when it went well, else the delay level for the next attempt (0: by the number of attempts)."""
        first = messages[0]
        loop = asyncio.get_running_loop()
        began = loop.time()
        delay_level: int | None = None
        trouble: Exception | None = None
        span = self._tracer.begin(messages) if self._tracer is not None else None
        try:
            await self.call(messages)
        except RetryLater as later:
            delay_level, trouble = later.delay_level, later
        except Exception as error:
            delay_level, trouble = 0, error
            more = f" and {len(messages) - 1} more" if len(messages) > 1 else ""
            # The stack at attempts 1, 2, 4, 8, ...: an ordered message may be tried every second for days.
            quiet = isinstance(error, DamagedBody | HandlerCancelled) or first.attempt & (first.attempt - 1)
            log.warning(
                "the handler failed on %s%s, attempt %d: %s",
                first.message_id,
                more,
                first.attempt,
                error if str(error) else type(error).__name__,
                exc_info=None if quiet else error,
            )
        if self._tracer is not None:
            self._tracer.end(span, trouble)
        now = loop.time()
        self._figures.handled(first.queue.topic, len(messages), now - began, delay_level is None, now)
        return delay_level

    async def call(self, messages: Sequence[ReceivedMessage]) -> None:
        """The handler, once. Raises what it raises, TimeoutError after its time, DamagedBody, HandlerCancelled."""
        for message in messages:
            if message.damage:
                raise DamagedBody(f"the body cannot be opened: {message.damage}")
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._batch_handler is not None:
                    result = self._batch_handler(list(messages))
                else:
                    assert self._handler is not None
                    result = self._handler(messages[0])
                if inspect.isawaitable(result):
                    result = await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the consumer is being closed
            raise HandlerCancelled("something that the handler waited for was cancelled") from None
        except TimeoutError:
            if self._timeout_s is None:
                raise
            raise TimeoutError(
                f"a time-out, of its own or of the {self._timeout_s:g} s that handler_timeout_s allows"
            ) from None
        if result is not None and self._handler is not None and messages[0].is_request:
            await self._reply(messages[0], result)

    async def _reply(self, request: ReceivedMessage, result: object) -> None:
        if isinstance(result, bytes | bytearray):
            result = Reply(bytes(result))
        if isinstance(result, Reply):
            await self._replies.send(request, result)
        else:
            log.warning(
                "the handler answered the request %s with a %s, which cannot be sent: return bytes or a Reply",
                request.message_id,
                type(result).__name__,
            )


class DamagedBody(Exception):
    """The handler was not called, as there is nothing that it could be given."""
