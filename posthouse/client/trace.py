"""Tracing: a client says in the trace topic what it did with each message, so that anybody can look it up later.

Lines are noted by plain calls that never wait and never fail; a duty sends them, several to a message, a fraction of a
second later. What waits is bounded: past the bound a line is dropped and counted, and the program goes on as before.
Nothing of this is promised: a process that is killed takes its last lines along.
The messages have the ids and keys of those that they tell of as their KEYS, and that is how they are found.
Source: RocketMQ 5.3 AsyncTraceDispatcher, SendMessageTraceHookImpl, ConsumeMessageTraceHookImpl.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from posthouse.client.duty import begin_duty
from posthouse.client.errors import PosthouseError
from posthouse.client.faults import BrokerFaults
from posthouse.client.ids import MessageIds
from posthouse.client.outbox import SINGLE_ONLY, Parcel, check_topic_name, pack, send_ext
from posthouse.client.receipt import SendReceipt
from posthouse.client.received import ReceivedMessage
from posthouse.client.sending import Sender, Sending
from posthouse.client.session import Session
from posthouse.codec.remoting.bodies.trace import (
    ContextCode,
    Delivered,
    Handled,
    MessageType,
    Published,
    encode_trace,
)
from posthouse.codec.remoting.codes import RequestCode
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.message import Message
from posthouse.model.names import AUTO_CREATE_TOPIC, TRACE_TOPIC
from posthouse.model.properties import DEFAULT_REGION, find_property

log = logging.getLogger(__name__)

LINES_WAITING_MAX = 2048
"""Past it lines are dropped. RocketMQ: the queue of AsyncTraceDispatcher."""

LINES_PER_MESSAGE_MAX = 10
"""RocketMQ: traceMsgBatchNum."""

KEYS_CHARS_MAX = 8_000
"""Of one trace message; with the other properties they fit into a record."""

PAUSE_SECONDS = 0.2
"""Between a line and its sending, so that several share a message. RocketMQ: 0.5 s at most."""

SEND_SECONDS = 5.0
"""For a trace message to be acknowledged. RocketMQ: 5 s."""

GROUP_PREFIX = "_INNER_TRACE_PRODUCER-"


_Noted: TypeAlias = Published | Delivered | Handled


class Span(NamedTuple):
    """Messages that are being handled. `began_s` is loop time."""

    request_id: str
    messages: tuple[ReceivedMessage, ...]
    began_s: float


class Tracer:
    """Of one client, on its session. `start` and `close` with it."""

    def __init__(self, session: Session, group: str, topic: str = TRACE_TOPIC) -> None:
        """Raises MessageIllegal for a topic name that cannot be."""
        check_topic_name(topic)
        self.topic = topic
        self.group = group
        self.dropped = 0
        """Lines that had no room."""
        self.lost = 0
        """Lines whose message was not acknowledged."""
        self._session = session
        self._clock = session.host.clock
        self._ids = MessageIds(session.host)
        self._sender = Sender(session, template=AUTO_CREATE_TOPIC, retries=1, in_flight_max=256, faults=BrokerFaults())
        self._lines: deque[_Noted] = deque()
        self._under_way: dict[asyncio.Future[Any], int] = {}  # lines in each
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._duty: asyncio.Task[None] | None = None
        self._dropped_told = 0
        self._request_prefix = session.host.random.token_bytes(8).hex().upper()
        self._requests = itertools.count(1)

    @property
    def waiting(self) -> int:
        """Lines that are not sent yet."""
        return len(self._lines)

    def start(self) -> None:
        self._duty = begin_duty(self._send_lines(), f"trace of group {self.group}")

    async def close(self, patience_s: float = SEND_SECONDS) -> None:
        """Sends what waits, as long as the patience lasts; the session must still be open. Twice is fine."""
        if self._duty is None:
            return
        self._duty.cancel()
        await asyncio.gather(self._duty, return_exceptions=True)
        self._duty = None
        try:
            async with asyncio.timeout(patience_s):
                await self._send_all()
        except TimeoutError:
            log.debug("group %s: the last lines of trace are not acknowledged", self.group)
        await self._sender.close(0.0)

    # What a producer says

    def follow(self, parcels: Sequence[Parcel], sending: asyncio.Future[Any]) -> None:
        """Notes how the sending of these ends: one message with a receipt, or a batch with a list of them."""
        if parcels[0].topic != self.topic:
            began_s = asyncio.get_running_loop().time()
            sending.add_done_callback(partial(self._sent, tuple(parcels), began_s, self._clock.now_ms()))

    def _sent(
        self, parcels: tuple[Parcel, ...], began_s: float, began_ms: EpochMs, sending: asyncio.Future[Any]
    ) -> None:
        if sending.cancelled():
            return  # nobody waited for how it ended
        cost_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        failed = sending.exception() is not None
        found = None if failed else sending.result()
        receipts = found if isinstance(found, list) else [found] * len(parcels)
        for parcel, receipt in zip(parcels, receipts, strict=True):
            self._note(self._published(parcel, receipt, began_ms, cost_ms))

    def _published(self, parcel: Parcel, receipt: SendReceipt | None, began_ms: EpochMs, cost_ms: int) -> Published:
        address = None if receipt is None else self._session.master_of(receipt.queue.broker_name)
        return Published(
            began_ms,
            self.group,
            parcel.topic,
            parcel.message_id,
            find_property(parcel.properties, names.TAGS) or "",
            find_property(parcel.properties, names.KEYS) or "",
            "" if address is None else str(address),
            len(parcel.body),
            cost_ms,
            _message_type(parcel.properties),
            "" if receipt is None else receipt.offset_message_id,
            receipt is not None,
            "",
            DEFAULT_REGION if receipt is None else receipt.region,
        )

    # What a consumer says

    def begin(self, messages: Sequence[ReceivedMessage]) -> Span | None:
        """A handler is about to get these. None if their broker wants no trace of them."""
        wanted = tuple(each for each in messages if each.properties.get(names.TRACE_ON) != "false")
        if not wanted:
            return None
        span = Span(f"{self._request_prefix}{next(self._requests):08X}", wanted, asyncio.get_running_loop().time())
        now_ms = self._clock.now_ms()
        for each in wanted:
            keys = each.properties.get(names.KEYS, "")
            region = each.properties.get(names.MSG_REGION, DEFAULT_REGION)
            times = each.reconsume_times
            self._note(Delivered(now_ms, self.group, span.request_id, each.message_id, times, keys, region))
        return span

    def end(self, span: Span | None, error: BaseException | None = None) -> None:
        """The handler has ended, well if without an error."""
        if span is None:
            return
        cost_ms = round((asyncio.get_running_loop().time() - span.began_s) * 1000 / len(span.messages))
        code = ContextCode.SUCCESS
        if error is not None:
            code = ContextCode.TIMED_OUT if isinstance(error, TimeoutError) else ContextCode.EXCEPTION
        now_ms = self._clock.now_ms()
        for each in span.messages:
            keys = each.properties.get(names.KEYS, "")
            self._note(
                Handled(span.request_id, each.message_id, cost_ms, error is None, keys, code, now_ms, self.group)
            )

    # Sending

    def _note(self, line: _Noted) -> None:
        if len(self._lines) >= LINES_WAITING_MAX or self._duty is None:
            self.dropped += 1
            return
        self._lines.append(line)
        self._some.set()
        if len(self._lines) > LINES_WAITING_MAX // 4:
            self._many.set()

    async def _send_lines(self) -> None:
        while True:
            await self._some.wait()
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._many.wait()
            except TimeoutError:
                pass  # there are not many: they have waited for company long enough
            await self._send_all()
            if self.dropped > self._dropped_told:
                count, self._dropped_told = self.dropped - self._dropped_told, self.dropped
                log.warning("group %s: %d lines of trace were dropped, as too many wait", self.group, count)

    async def _send_all(self) -> None:
        """What waits now; when it returns, all of it is acknowledged or lost."""
        self._some.clear()
        self._many.clear()
        while self._lines:
            self._send(*self._take())
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _take(self) -> tuple[list[_Noted], str]:
        """Lines for one message, at least one, and its keys."""
        lines: list[_Noted] = []
        keys: dict[str, None] = {}
        chars = 0
        while self._lines and len(lines) < LINES_PER_MESSAGE_MAX:
            more = [key for key in (self._lines[0].message_id, *self._lines[0].keys.split()) if key not in keys]
            size = sum(map(len, more)) + len(more)
            if lines and chars + size > KEYS_CHARS_MAX:
                break
            lines.append(self._lines.popleft())
            for key in more:
                if chars + len(key) + 1 <= KEYS_CHARS_MAX and key not in keys:
                    keys[key] = None
                    chars += len(key) + 1
        return lines, " ".join(keys)

    def _send(self, lines: list[_Noted], keys: str) -> None:
        """Begins to; never raises."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._under_way[future] = len(lines)
        future.add_done_callback(self._ended)
        now_ms = self._clock.now_ms()
        try:
            parcel = pack(Message(self.topic, encode_trace(lines), keys=keys), self._ids.next(now_ms), 4096)
            self._session.check_open()
        except PosthouseError as error:
            future.set_exception(error)
            return
        ext = send_ext(GROUP_PREFIX + self.group, parcel, now_ms)
        code, message_id = RequestCode.SEND_MESSAGE_V2, parcel.message_id
        sending = Sending(self._sender, future, self.topic, code, ext, parcel.body, message_id, SEND_SECONDS, None)
        self._sender.begin(sending)

    def _ended(self, sending: asyncio.Future[Any]) -> None:
        count = self._under_way.pop(sending)
        if sending.cancelled() or sending.exception() is not None:
            self.lost += count
            log.debug("group %s: %d lines of trace are lost", self.group, count)


def tracer_of(trace: bool | str, session: Session, group: str) -> Tracer | None:
    """What the option `trace` of a client means: no, yes, or to that topic."""
    if not trace:
        return None
    return Tracer(session, group, TRACE_TOPIC if trace is True else trace)


def _message_type(properties: str) -> MessageType:
    if any(find_property(properties, name) for name in SINGLE_ONLY - {names.TRAN_MSG}):
        return MessageType.DELAY
    if (find_property(properties, names.TRAN_MSG) or "").lower() == "true":
        return MessageType.HALF
    return MessageType.ORDER if find_property(properties, names.SHARDING_KEY) else MessageType.NORMAL
