"""Many messages at once, in no order: readers fill one line of jobs, `concurrency` workers run the handler.

A message counts as done when the handler returned, or when it was safely put back after the handler failed; only then
may the offset move past it. What cannot be put back is tried here again.
Source: RocketMQ 5.3 ConsumeMessageConcurrentlyService.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from posthouse.client.duty import begin_duty
from posthouse.client.handling import Handling
from posthouse.client.inbox import QueueInbox
from posthouse.client.reading import QueueReader, Reading
from posthouse.client.received import ReceivedMessage
from posthouse.model.client_status import QueueStatus
from posthouse.model.filter import Subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)

LOCAL_RETRY_SECONDS = 5.0
"""Before a message that could not be put back is handled here again. RocketMQ: the same."""

PutBack = Callable[[ReceivedMessage, int], Awaitable[None]]
"""Returns when the message may count as done here; raises if it may not."""

_Job = tuple[QueueReader, QueueInbox, list[ReceivedMessage]]


class Concurrently:
    """The workers of one consumer, and the queues that it reads."""

    def __init__(
        self, reading: Reading, handling: Handling, put_back: PutBack, concurrency: int, commit_in_pulls: bool = True
    ) -> None:
        self._reading = reading
        self._handling = handling
        self._put_back = put_back
        self._concurrency = concurrency
        self._commit_in_pulls = commit_in_pulls
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._closing = False

    def begin(self) -> None:
        self._workers = [begin_duty(self._work(), f"worker {n}") for n in range(self._concurrency)]

    def take(
        self, queue: MessageQueue, subscription: Subscription, at: QueueOffset | None, is_new: bool
    ) -> ConcurrentQueue:
        """Begins to read a queue."""
        reader = QueueReader(
            self._reading,
            queue,
            subscription,
            lambda inbox, messages: self._deliver(reader, inbox, messages),
            is_new=is_new,
            may_commit=lambda: self._commit_in_pulls,
        )
        return ConcurrentQueue(self._reading, reader, at)

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Where handlers run."""
        return tuple(self._workers)

    async def close(self, patience_s: float) -> None:
        """Waits for running handlers; what was not begun stays undone. The readers have been stopped before."""
        self._closing = True
        self._reading.resumed.set()
        while not self._jobs.empty():
            self._jobs.get_nowait()
        for _ in self._workers:
            self._jobs.put_nowait(None)
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=patience_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _deliver(self, reader: QueueReader, inbox: QueueInbox, messages: list[ReceivedMessage]) -> None:
        step = self._handling.batch_max
        for at in range(0, len(messages), step):
            self._jobs.put_nowait((reader, inbox, messages[at : at + step]))

    async def _work(self) -> None:
        resumed = self._reading.resumed
        while (job := await self._jobs.get()) is not None:
            if not resumed.is_set():
                await resumed.wait()
            reader, inbox, messages = job
            if inbox.dropped or self._closing:
                continue
            delay_level = await self._handling.run(messages)
            reader.handled_at_ms = self._reading.clock.now_ms()
            for message in messages:
                if delay_level is None:
                    inbox.done(message.queue_offset)
                else:
                    await self._give_back(reader, inbox, message, delay_level)
            await asyncio.sleep(0)  # handlers that never wait must not stop the loop

    async def _give_back(
        self, reader: QueueReader, inbox: QueueInbox, message: ReceivedMessage, delay_level: int
    ) -> None:
        if inbox.dropped:
            return  # whoever reads the queue now gets the message again
        try:
            await self._put_back(message, delay_level)
        except Exception as error:  # whatever it was, the message must not be lost
            log.warning("%s could not be put back (%s); it is tried here again", message.message_id, error)
            asyncio.get_running_loop().call_later(LOCAL_RETRY_SECONDS, self._again, reader, inbox, message)
        else:
            inbox.done(message.queue_offset)

    def _again(self, reader: QueueReader, inbox: QueueInbox, message: ReceivedMessage) -> None:
        message.reconsume_times += 1
        self._jobs.put_nowait((reader, inbox, [message]))


class ConcurrentQueue:
    """A queue that is read now."""

    def __init__(self, reading: Reading, reader: QueueReader, at: QueueOffset | None) -> None:
        self._reading = reading
        self._reader = reader
        self._task = begin_duty(self._read(at), f"the reader of {reader.queue}")

    @property
    def inbox(self) -> QueueInbox | None:
        return self._reader.inbox

    @property
    def ended(self) -> bool:
        """By a mistake of ours, which is in the log."""
        return self._task.done()

    @property
    def commit_offset(self) -> QueueOffset | None:
        """None while there is nothing to be told."""
        return self._reader.inbox.commit_offset if self._reader.inbox is not None else None

    def stop(self) -> None:
        """Reads no more; what was read is still handled."""
        self._task.cancel()

    async def commit(self) -> None:
        """It is stored on return, or logged."""
        offset = self.commit_offset
        if offset is not None:
            await self._reading.offsets.commit_all({self._reader.queue: offset})

    async def leave(self) -> None:
        """Another member takes over from the offset committed here; what is not done comes to it again."""
        self.stop()
        offset = self.commit_offset
        self._reader.drop()
        if offset is not None:
            self._reading.offsets.commit_soon({self._reader.queue: offset})

    def status(self) -> QueueStatus:
        return self._reader.status()

    async def _read(self, at: QueueOffset | None) -> None:
        await self._reader.open(at)
        await self._reader.pull_on()
