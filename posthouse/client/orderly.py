"""One queue, one message at a time, in the queue's order; different queues side by side.

A queue is read only while its lock is ours. After it was taken the offset is asked for again, since another member may
have been at work. A message whose handler fails stays at the head and is tried again after a pause; the queue waits.
After `attempts_max` attempts (never, if that is None) it becomes a dead letter, and the queue goes on.

Offsets are committed by requests of their own, with an answer and one after the other for a queue; never on the way of
a pull, which a broker may serve after a commit that was sent later, and so set the next member back.

A queue that is left is given back in the right order: no further message begins, the running one ends (the lock is
kept and renewed meanwhile), the offset is committed, then the lock is released. The next member follows at once, and
sees nothing twice. A member that was killed or cut off keeps its queues for up to a minute, as nobody can know whether
it is still at work. Source: RocketMQ 5.3 ConsumeMessageOrderlyService, RebalancePushImpl.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from posthouse.client.duty import begin_duty
from posthouse.client.errors import PosthouseError
from posthouse.client.handling import Handling
from posthouse.client.inbox import QueueInbox
from posthouse.client.locks import QueueLocks
from posthouse.client.reading import QueueReader, Reading
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import DEAD, LEVEL_SECONDS
from posthouse.model.client_status import QueueStatus
from posthouse.model.filter import Subscription
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)

Bury = Callable[[ReceivedMessage], Awaitable[None]]
"""Makes a dead letter of a message; raises if it could not."""


class Orderly:
    """The queues that one member reads in order; at most `concurrency` of them are handled at once."""

    def __init__(
        self,
        reading: Reading,
        handling: Handling,
        locks: QueueLocks,
        bury: Bury,
        *,
        concurrency: int,
        attempts_max: int | None,
        pause_s: float,
    ) -> None:
        self.reading = reading
        self.handling = handling
        self.locks = locks
        self.bury = bury
        self.attempts_max = attempts_max
        self.pause_s = pause_s
        self.room = asyncio.Semaphore(concurrency)
        self._tasks: dict[asyncio.Task[None], None] = {}

    def begin(self) -> None:
        """Nothing to begin: each queue has a task of its own."""

    def take(
        self, queue: MessageQueue, subscription: Subscription, at: QueueOffset | None, is_new: bool
    ) -> OrderedQueue:
        """Begins to read a queue as soon as its lock is ours."""
        found = OrderedQueue(self, queue, subscription, at, is_new)
        self._tasks[found.task] = None
        found.task.add_done_callback(self._tasks.pop)
        return found

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Where handlers run."""
        return tuple(self._tasks)

    async def close(self, patience_s: float) -> None:
        """Waits for running handlers. The queues have been stopped before, or are being left."""
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class OrderedQueue:
    """A queue that is read now, or as soon as its lock is ours."""

    def __init__(
        self, orderly: Orderly, queue: MessageQueue, subscription: Subscription, at: QueueOffset | None, is_new: bool
    ) -> None:
        self._orderly = orderly
        self._queue = queue
        self._reader = QueueReader(
            orderly.reading,
            queue,
            subscription,
            self._deliver,
            is_new=is_new,
            may_commit=lambda: False,
        )
        self._line: deque[tuple[QueueInbox, ReceivedMessage]] = deque()
        self._arrived = asyncio.Event()
        self._stopping = False
        self._busy = False  # a handler runs, or a dead letter is being made
        self._committing = asyncio.Lock()
        self._committed: QueueOffset | None = None
        self.task = begin_duty(self._run(at), f"the reader of {queue}")

    @property
    def inbox(self) -> QueueInbox | None:
        return self._reader.inbox

    @property
    def ended(self) -> bool:
        """By a mistake of ours, which is in the log."""
        return self.task.done()

    @property
    def commit_offset(self) -> QueueOffset | None:
        """None while there is nothing that we may tell: only who holds the lock knows how far the group is."""
        inbox = self._reader.inbox
        return inbox.commit_offset if inbox is not None and self._orderly.locks.holds(self._queue) else None

    def look(self) -> None:
        """The lock may be lost."""
        self._arrived.set()

    def stop(self) -> None:
        """No further message begins."""
        self._stopping = True
        self._arrived.set()
        if not self._busy:
            self.task.cancel()

    async def commit(self) -> None:
        """What is done by now is stored on return, if it is ours to say; else it is logged."""
        async with self._committing:
            offset = self.commit_offset
            if offset is None or offset == self._committed:
                return
            try:
                await self._orderly.reading.offsets.commit(self._queue, offset)
            except PosthouseError as error:
                log.warning("%s: %s; messages from offset %d on may come again", self._queue, error, offset)
            else:
                self._committed = offset

    async def leave(self) -> None:
        """Gives the queue to another member, as the module says. Ends when its handler has ended."""
        self.stop()
        await asyncio.wait((self.task,))
        await self.commit()
        self._reader.drop()
        await self._orderly.locks.release((self._queue,))

    def status(self) -> QueueStatus:
        locks = self._orderly.locks
        return self._reader.status(locks.holds(self._queue), locks.locked_at_ms(self._queue))

    # Reading and handling

    async def _run(self, at: QueueOffset | None) -> None:
        locks = self._orderly.locks
        while not self._stopping:
            await locks.take(self._queue)
            self._line.clear()
            self._committed = None
            await self._reader.open(at)
            at = None
            pulling = begin_duty(self._reader.pull_on(), f"the pulls of {self._queue}")
            try:
                await self._handle_on()
            finally:
                pulling.cancel()
                await asyncio.gather(pulling, return_exceptions=True)

    def _deliver(self, inbox: QueueInbox, messages: list[ReceivedMessage]) -> None:
        self._line.extend((inbox, message) for message in messages)
        self._arrived.set()

    async def _handle_on(self) -> None:
        """Handles what arrives until the lock is not ours any more, or the queue is left."""
        orderly = self._orderly
        while orderly.locks.holds(self._queue) and not self._stopping:
            self._arrived.clear()
            self._forget_dropped()
            if not self._line:
                await self._arrived.wait()
                continue
            await orderly.reading.resumed.wait()
            async with orderly.room:
                pause_s = await self._handle_head()
            await asyncio.sleep(pause_s)  # also when it is 0: handlers that never wait must not stop the loop

    def _forget_dropped(self) -> None:
        while self._line and self._line[0][0].dropped:
            self._line.popleft()

    async def _handle_head(self) -> float:
        """One call of the handler. How long to wait before the next, in seconds."""
        orderly = self._orderly
        self._forget_dropped()
        if not self._line or self._stopping or not orderly.locks.holds(self._queue):
            return 0.0
        inbox = self._line[0][0]
        batch: list[ReceivedMessage] = []
        for owner, message in self._line:
            if owner is not inbox or len(batch) == orderly.handling.batch_max:
                break
            batch.append(message)
        self._busy = True
        try:
            delay_level = await orderly.handling.run(batch)
            self._reader.handled_at_ms = orderly.reading.clock.now_ms()
            if delay_level is not None and not await self._give_up(batch, delay_level):
                for message in batch:
                    message.reconsume_times += 1
                return LEVEL_SECONDS[delay_level - 1] if 0 < delay_level <= len(LEVEL_SECONDS) else orderly.pause_s
        finally:
            self._busy = False
        for message in batch:
            inbox.done(message.queue_offset)
            if self._line and self._line[0][1] is message:
                self._line.popleft()
        return 0.0

    async def _give_up(self, batch: list[ReceivedMessage], delay_level: int) -> bool:
        """Whether the messages are dead letters now, so that the queue may go on."""
        most = self._orderly.attempts_max
        if delay_level != DEAD and (most is None or batch[0].attempt < most):
            return False
        try:
            for message in batch:
                await self._orderly.bury(message)
        except PosthouseError as error:
            log.warning("%s: no dead letter could be made (%s); it is tried here again", batch[0].message_id, error)
            return False
        return True
