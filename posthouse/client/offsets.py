"""How far a group is, as its brokers know it: where to begin on a queue, and commits.

A commit says "everything before this offset is done". Brokers take what they are told, even a smaller number. Plain
commits are one-way and may be lost; pulls carry the offset too, and closing commits with an answer.
Source: RocketMQ 5.3 RemoteBrokerOffsetStore, RebalancePushImpl.computePullFromWhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from posthouse.client.errors import BadAnswer, BrokerRefused, PosthouseError
from posthouse.client.session import ASK_SECONDS, Session
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.offsets import OFFSET_REPLY
from posthouse.host.clock import EpochMs
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)


class QueueBounds:
    """Questions about a queue that have nothing to do with a group. All raise PosthouseError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def min_offset(self, queue: MessageQueue) -> QueueOffset:
        """The first message that is still there."""
        return await self._ask(queue, RequestCode.GET_MIN_OFFSET, {}, "say where the queue begins")

    async def max_offset(self, queue: MessageQueue) -> QueueOffset:
        """The offset that the next message will get."""
        return await self._ask(queue, RequestCode.GET_MAX_OFFSET, {"committed": "true"}, "say where the queue ends")

    async def search_offset(self, queue: MessageQueue, at_ms: EpochMs) -> QueueOffset:
        """The first message stored at or after that time; the end if there is none."""
        return await self._ask(
            queue,
            RequestCode.SEARCH_OFFSET_BY_TIMESTAMP,
            {"timestamp": str(at_ms), "boundaryType": "LOWER"},
            "find an offset by time",
        )

    async def begin(self, queue: MessageQueue, start: ConsumeFrom, at_ms: EpochMs) -> QueueOffset:
        """Where who has read nothing of it yet begins. An offset that is gone is corrected by the first pull."""
        if start == ConsumeFrom.CONSUME_FROM_FIRST_OFFSET or queue.topic.startswith(RETRY_PREFIX):
            return QueueOffset(0)
        if start == ConsumeFrom.CONSUME_FROM_TIMESTAMP:
            return await self.search_offset(queue, at_ms)
        return await self.max_offset(queue)

    async def _ask(self, queue: MessageQueue, code: int, more: dict[str, str], doing: str) -> QueueOffset:
        ext = {"topic": queue.topic, "queueId": str(queue.queue_id), "bname": queue.broker_name, **more}
        answer = await self._session.ask_queue(queue, code, ext, doing=doing)
        try:
            return QueueOffset(OFFSET_REPLY.decode(answer.ext).offset)
        except WireError as error:
            raise BadAnswer(f"the answer of {queue.broker_name} cannot be read: {error}") from None


class Offsets(Protocol):
    """Where a consumer's progress is kept: with the brokers, or for broadcast in a file."""

    async def begin(self, queue: MessageQueue, start: ConsumeFrom, at_ms: EpochMs) -> QueueOffset:
        """Where to read from: what is stored always wins over `start`. Raises PosthouseError."""

    def commit_soon(self, offsets: Mapping[MessageQueue, QueueOffset]) -> None:
        """Stores those that changed, when that is convenient."""

    async def commit(self, queue: MessageQueue, offset: QueueOffset) -> None:
        """It is stored on return. Raises PosthouseError."""

    async def commit_all(self, offsets: Mapping[MessageQueue, QueueOffset]) -> None:
        """Stored on return; what cannot be stored is logged, and will be delivered again."""

    def forget(self, queue: MessageQueue) -> None:
        """It is not ours any more."""


class GroupOffsets:
    """The progress of one group."""

    def __init__(self, session: Session, group: str) -> None:
        self._session = session
        self._group = group
        self._bounds = QueueBounds(session)
        self._told: dict[MessageQueue, QueueOffset] = {}  # what the broker was told last

    async def committed(self, queue: MessageQueue, *, young_is_zero: bool = True) -> QueueOffset | None:
        """What is stored, None if nothing is. Raises PosthouseError.

        With `young_is_zero` brokers say 0 for a group without an offset on a queue that is young. Brokers of the 4.x
        line always do.
        """
        ext = self._ext(queue)
        if not young_is_zero:
            ext["setZeroIfNotFound"] = "false"
        try:
            answer = await self._session.ask_queue(
                queue,
                RequestCode.QUERY_CONSUMER_OFFSET,
                ext,
                doing=f"say how far group {self._group} is",
                timeout_s=5.0,
            )
        except BrokerRefused as refused:
            if refused.code == ResponseCode.QUERY_NOT_FOUND:
                return None
            raise
        try:
            offset = OFFSET_REPLY.decode(answer.ext).offset
        except WireError as error:
            raise BadAnswer(f"the answer of {queue.broker_name} cannot be read: {error}") from None
        return QueueOffset(offset) if offset >= 0 else None

    async def begin(self, queue: MessageQueue, start: ConsumeFrom, at_ms: EpochMs) -> QueueOffset:
        """Where to read from: a stored offset always wins over `start`. Raises PosthouseError.

        Unlike Java, a start by time is asked for without the young queue's 0, which would make the time mean nothing;
        and a retry topic is always read from its begin, as all in it is what this group still has to do.
        """
        retries = queue.topic.startswith(RETRY_PREFIX)
        by_time = start == ConsumeFrom.CONSUME_FROM_TIMESTAMP and not retries
        stored = await self.committed(queue, young_is_zero=not by_time)
        if stored is not None:
            return stored
        return await self._bounds.begin(queue, start, at_ms)

    def commit_soon(self, offsets: Mapping[MessageQueue, QueueOffset]) -> None:
        """One-way, for those that changed since they were last told."""
        for queue, offset in offsets.items():
            if self._told.get(queue) == offset:
                continue
            address = self._session.master_of(queue.broker_name)
            peer = self._session.pool.peer_if_open(address) if address is not None else None
            if peer is not None:
                peer.tell(RequestCode.UPDATE_CONSUMER_OFFSET, self._ext(queue) | {"commitOffset": str(offset)})
                self._told[queue] = offset

    async def commit(self, queue: MessageQueue, offset: QueueOffset, timeout_s: float = ASK_SECONDS) -> None:
        """With an answer. Raises PosthouseError."""
        await self._session.ask_queue(
            queue,
            RequestCode.UPDATE_CONSUMER_OFFSET,
            self._ext(queue) | {"commitOffset": str(offset)},
            doing=f"store how far group {self._group} is",
            timeout_s=timeout_s,
        )
        self._told[queue] = offset

    async def commit_all(self, offsets: Mapping[MessageQueue, QueueOffset], timeout_s: float = ASK_SECONDS) -> None:
        """With answers; what cannot be stored is logged, and will be delivered again."""

        async def one(queue: MessageQueue, offset: QueueOffset) -> None:
            try:
                await self.commit(queue, offset, timeout_s)
            except PosthouseError as error:
                log.warning("%s: %s; messages from offset %d on will come again", queue, error, offset)

        await asyncio.gather(*(one(queue, offset) for queue, offset in offsets.items()))

    def told(self, queue: MessageQueue, offset: QueueOffset) -> None:
        """The broker learnt this with a pull."""
        self._told[queue] = offset

    def forget(self, queue: MessageQueue) -> None:
        self._told.pop(queue, None)

    def _ext(self, queue: MessageQueue) -> dict[str, str]:
        return {
            "consumerGroup": self._group,
            "topic": queue.topic,
            "queueId": str(queue.queue_id),
            "bname": queue.broker_name,
        }
