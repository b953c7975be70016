"""Answers to requests: a consumer's reply goes to the client that asked, over the connection of its heartbeats.

A request is an ordinary message with the id of the client that asks; the reply names it again. It is stored in the
cluster's reply topic like any other message, and at the same time pushed to that client. The answer to the one that
replies says whether the client has taken it; that a reply could not be stored is only logged, as nobody reads it there.
Nothing here survives a crash but the stored replies: whoever waits for one runs into its time-out and asks again.
Source: RocketMQ 5.3 ReplyMessageProcessor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from posthouse.broker.clients import Clients
from posthouse.broker.send import SendService
from posthouse.host.clock import Clock, EpochMs
from posthouse.model import properties as names
from posthouse.model.limits import REPLIES_BYTES_MAX
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.properties import NAME_END, PAIR_END, find_property, remove_property
from posthouse.model.question import Question
from posthouse.model.refusal import Reason, Refused
from posthouse.store.message_store import LogError, Put

log = logging.getLogger(__name__)

PUSH_SECONDS = 10.0
"""How long the client that asked may take to say that it has the reply. RocketMQ: the same."""

_STORE_REASONS = frozenset({Reason.NOT_WRITABLE, Reason.BUSY})
"""Refusals of the store, not of the message: the reply is pushed all the same."""

PushFields = Callable[[NewMessage, EpochMs], Mapping[str, str]]
"""What is told of a reply that is pushed at this time, in the words of the client's protocol."""


class Stored(NamedTuple):
    put: Put
    unique_id: str


class Replies:
    def __init__(self, send: SendService, clients: Clients, clock: Clock) -> None:
        self._send = send
        self._clients = clients
        self._clock = clock
        self._bytes_under_way = 0

    async def take(
        self, message: NewMessage, template: str, queues: int, store_host: Endpoint, fields: PushFields
    ) -> Stored | None:
        """Pushes a reply to the client that it names, and stores it; None if it could not be stored.

        Raises Refused: as for a send; FAILED when the client is not known here, is gone, is silent, or says no.
        """
        size = len(message.body)
        if self._bytes_under_way and self._bytes_under_way + size > REPLIES_BYTES_MAX:
            raise Refused(Reason.BUSY, f"replies of {self._bytes_under_way} bytes wait for clients; try again")
        self._bytes_under_way += size
        try:
            stored = self._store(message, template, queues, store_host)
            try:
                await self._push(message, fields)
            finally:
                kept = await stored
            return kept
        finally:
            self._bytes_under_way -= size

    def _store(
        self, message: NewMessage, template: str, queues: int, store_host: Endpoint
    ) -> asyncio.Future[Stored | None]:
        """Raises Refused when the message itself is wrong."""
        outcome: asyncio.Future[Stored | None] = asyncio.get_running_loop().create_future()
        unique_id = ""

        def done(put: Put, error: LogError | None) -> None:
            if error is not None:
                log.warning("a reply was not stored: %s", error)
            if not outcome.done():  # whoever waited may be gone
                outcome.set_result(None if error is not None else Stored(put, unique_id))

        try:
            unique_id = self._send.send(message, template, queues, store_host, done).unique_id
        except Refused as refused:
            if refused.reason not in _STORE_REASONS:
                raise
            log.warning("a reply is not stored: %s", refused)
            outcome.set_result(None)
        return outcome

    async def _push(self, message: NewMessage, fields: PushFields) -> None:
        """Raises Refused."""
        client_id = find_property(message.properties, names.REPLY_TO_CLIENT)
        if client_id is None:
            raise Refused(Reason.FAILED, f"reply message properties[{names.REPLY_TO_CLIENT}] is null")
        channel = self._clients.producer_channel(client_id)
        if channel is None:
            raise Refused(
                Reason.FAILED,
                f"push reply message fail, channel of <{client_id[:255]}> not found: it sends no heartbeats as a "
                "producer to this broker, or has ended",
            )
        now_ms = self._clock.now_ms()
        pushed = message._replace(properties=_with_push_time(message.properties, now_ms))
        question = channel.ask(Question.REPLY, fields(pushed, now_ms), bytes(message.body), timeout_s=PUSH_SECONDS)
        try:
            answer = await question
        except Refused as refused:
            raise Refused(Reason.FAILED, f"push reply message to {client_id[:255]} fail: {refused.remark}") from refused
        if answer.code:
            said = f"it said {answer.code} {answer.remark or ''}".rstrip()
            raise Refused(Reason.FAILED, f"push reply message to {client_id[:255]} fail: {said}")


def _with_push_time(properties: str, now_ms: EpochMs) -> str:
    text = remove_property(properties, names.PUSH_REPLY_TIME)
    if text and not text.endswith(PAIR_END):
        text += PAIR_END
    return f"{text}{names.PUSH_REPLY_TIME}{NAME_END}{now_ms}{PAIR_END}"
