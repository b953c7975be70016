"""Reads one queue into its inbox: where to begin, pulling on and on, resting when the inbox is full or trouble comes.

A reader has one inbox at a time. When the broker says that the offset is outside of the queue, the old inbox is
dropped and a new one begins where the broker says. Nothing is handled here: `deliver` gets what was pulled.
Source: RocketMQ 5.3 DefaultMQPushConsumerImpl.pullMessage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.client.errors import BrokerRefused, PosthouseError
from posthouse.client.figures import Figures
from posthouse.client.inbox import Held, InboxLimits, QueueInbox
from posthouse.client.offsets import Offsets
from posthouse.client.pulling import Puller
from posthouse.client.received import ReceivedMessage
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.host.clock import Clock, EpochMs
from posthouse.model.client_status import NEVER, QueueStatus
from posthouse.model.filter import Subscription
from posthouse.model.group import ConsumeFrom
from posthouse.model.limits import PULL_MESSAGES_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)

PULL_WAIT_MS = 15_000
"""How long a broker holds a pull. RocketMQ: BROKER_SUSPEND_MAX_TIME_MILLIS."""

ERROR_PAUSE_SECONDS = 1.0
"""Before a queue is pulled again after an error. RocketMQ 5.x: pullTimeDelayMillsWhenException."""

FULL_PAUSE_SECONDS = 0.02
"""Before an inbox that was full is looked at again. RocketMQ: 50 ms."""

Deliver = Callable[[QueueInbox, list[ReceivedMessage]], None]


@dataclass(slots=True)
class Reading:
    """What all readers of one consumer share. `resumed` is set unless the consumer is paused."""

    group: str
    puller: Puller
    offsets: Offsets
    figures: Figures
    clock: Clock
    from_where: ConsumeFrom
    from_time_ms: EpochMs
    pull_messages: int = PULL_MESSAGES_MAX
    limits: InboxLimits = field(default_factory=InboxLimits)
    held: Held = field(default_factory=Held)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)


class QueueReader:
    """`inbox` is None until it is known where to begin. `is_new`: the queue came into being while the group was there,
    so that what is in it is read from its begin even by a group that begins at the end. `may_commit`: whether pulls
    may carry the offset now."""

    def __init__(
        self,
        reading: Reading,
        queue: MessageQueue,
        subscription: Subscription,
        deliver: Deliver,
        *,
        is_new: bool = False,
        may_commit: Callable[[], bool] = lambda: True,
    ) -> None:
        self.queue = queue
        self.inbox: QueueInbox | None = None
        self.pulled_at_ms = NEVER
        self.handled_at_ms = NEVER
        self._reading = reading
        self._subscription = subscription
        self._deliver = deliver
        self._may_commit = may_commit
        self._from_where = ConsumeFrom.CONSUME_FROM_FIRST_OFFSET if is_new and _at_end(reading) else reading.from_where
        self._trouble = ""

    async def open(self, at: QueueOffset | None = None) -> QueueInbox:
        """A new inbox that begins at `at`, or where the group is; asks until somebody says where that is."""
        self.drop()
        reading = self._reading
        while at is None:
            try:
                at = await reading.offsets.begin(self.queue, self._from_where, reading.from_time_ms)
            except PosthouseError as error:
                await self._rest(error)
        return self._new_inbox(at)

    def drop(self) -> None:
        """What was pulled and not handled belongs to whoever reads the queue next."""
        if self.inbox is not None:
            self.inbox.drop()

    async def pull_on(self) -> None:
        """Pulls into the inbox until it is cancelled."""
        reading, queue = self._reading, self.queue
        loop = asyncio.get_running_loop()
        while True:
            inbox = self.inbox
            assert inbox is not None
            if inbox.full:
                await asyncio.sleep(FULL_PAUSE_SECONDS)
                continue
            if not reading.resumed.is_set():
                await reading.resumed.wait()
            asked, asked_at = inbox.next_offset, loop.time()
            commit = inbox.commit_offset
            try:
                pulled = await reading.puller.pull(
                    queue,
                    asked,
                    self._subscription,
                    wait_ms=PULL_WAIT_MS,
                    commit_offset=commit if commit > 0 and self._may_commit() else None,
                    messages_max=reading.pull_messages,
                )
            except PosthouseError as error:
                await self._rest(error)
                continue
            self._trouble = ""
            self.pulled_at_ms = reading.clock.now_ms()
            if pulled.moved:
                log.info("%s: offset %d is outside of the queue; going on at %d", queue, asked, pulled.next_offset)
                self.drop()
                self._new_inbox(pulled.next_offset)
                reading.offsets.commit_soon({queue: pulled.next_offset})
                continue
            inbox.pulled(pulled.messages, pulled.next_offset)
            if pulled.messages:
                now = loop.time()
                reading.figures.pulled(queue.topic, len(pulled.messages), now - asked_at, now)
                self._deliver(inbox, pulled.messages)
            elif pulled.next_offset == asked and loop.time() - asked_at < ERROR_PAUSE_SECONDS / 10:
                await asyncio.sleep(ERROR_PAUSE_SECONDS / 10)  # a broker that does not hold pulls: do not spin

    def status(self, locked: bool = False, locked_at_ms: EpochMs = NEVER) -> QueueStatus:
        inbox = self.inbox
        if inbox is None:
            return QueueStatus(QueueOffset(0), locked=locked, locked_at_ms=locked_at_ms)
        commit = inbox.commit_offset
        return QueueStatus(
            commit,
            commit if len(inbox) else QueueOffset(0),
            inbox.last_offset,
            len(inbox),
            inbox.size_bytes,
            locked,
            locked_at_ms,
            inbox.dropped,
            self.pulled_at_ms,
            self.handled_at_ms,
        )

    def _new_inbox(self, at: QueueOffset) -> QueueInbox:
        self.inbox = QueueInbox(self.queue, at, self._reading.limits, self._reading.held)
        return self.inbox

    async def _rest(self, error: PosthouseError) -> None:
        """Waits a little after an error; the same trouble is logged once."""
        if isinstance(error, BrokerRefused) and error.code == ResponseCode.FLOW_CONTROL:
            await asyncio.sleep(FULL_PAUSE_SECONDS)
            return
        kind = type(error).__name__
        level = logging.DEBUG if kind == self._trouble else logging.WARNING
        log.log(level, "group %s: %s", self._reading.group, error)
        await asyncio.sleep(ERROR_PAUSE_SECONDS)
        self._trouble = kind


def _at_end(reading: Reading) -> bool:
    return reading.from_where not in (ConsumeFrom.CONSUME_FROM_FIRST_OFFSET, ConsumeFrom.CONSUME_FROM_TIMESTAMP)
