"""Sends under way: each from its first try to its receipt, by plain callbacks; no task and no timer for each.

    waiting for room -> trying -> trying again -> ... -> ended: a receipt, or why not

A try needs a route and an open connection; if one of them is missing a task makes it, as that is rare, and tries on.
A send may go to another broker only if nobody chose its queue, and only while tries and time are left. That nothing
could be sent at all (no connection) does not count as a try: it is tried until the time is over. An answer that
never came may belong to a message that was stored, and then the error says so.
Source: RocketMQ 5.3 DefaultMQProducerImpl.sendDefaultImpl; 9.7 of MQFaultStrategy for the brokers that are spared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from posthouse.client.errors import (
    ClientClosed,
    NoBroker,
    PosthouseError,
    SendFailed,
    SendTimeout,
    TooManySends,
    explain,
)
from posthouse.client.faults import BrokerFaults
from posthouse.client.outbox import aim
from posthouse.client.receipt import SendReceipt, SendStatus
from posthouse.client.routing import TopicQueues
from posthouse.client.session import Session
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_REPLY, SendMessageReply
from posthouse.host.net import Address
from posthouse.link.errors import CannotConnect, LinkError, RequestTimeout, TooManyInFlight
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from posthouse.model.properties import DEFAULT_REGION
from posthouse.model.route import MASTER_ID

IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024
"""Bodies of sends in flight, above which more wait. RocketMQ: backPressureForAsyncSendSize, 100 MiB."""

WAITING_SENDS_MAX = 65_536
"""Sends that wait for room; above it a send fails at once."""

RETRYABLE = frozenset(
    {
        ResponseCode.SYSTEM_ERROR,
        ResponseCode.SYSTEM_BUSY,
        ResponseCode.SERVICE_NOT_AVAILABLE,
        ResponseCode.NO_PERMISSION,
        ResponseCode.TOPIC_NOT_EXIST,
        ResponseCode.NO_BUYER_ID,
        ResponseCode.NOT_IN_CURRENT_UNIT,
        ResponseCode.GO_AWAY,
    }
)
"""Answers after which another broker may do better. Source: RocketMQ 5.3 DefaultMQProducer.retryResponseCodes."""

_DOUBTFUL = frozenset({ResponseCode.SERVICE_NOT_AVAILABLE})
"""Answers of a broker that may have written the message all the same: its log failed, or has no room now."""

_OF_THE_TOPIC = frozenset({ResponseCode.NO_PERMISSION, ResponseCode.TOPIC_NOT_EXIST})
"""Of these, the ones that the same broker will only repeat."""

_STATUS_OF: dict[int, SendStatus] = {status.value: status for status in SendStatus}

_PAUSE_SECONDS = 0.05
"""Before the same broker is tried again; doubles."""

Pick = Callable[[TopicQueues], MessageQueue]


class Sending:
    """One send. `ids` is a list for a batch; then the result is a list of receipts."""

    __slots__ = (
        "avoid", "begun_at", "body", "code", "deadline", "ext", "future", "ids", "maybe_stored", "pick", "queue",
        "sender", "timeout_s", "topic", "tries", "why",
    )  # fmt: skip

    def __init__(
        self,
        sender: Sender,
        future: asyncio.Future[Any],
        topic: str,
        code: int,
        ext: dict[str, str],
        body: bytes,
        ids: str | list[str],
        timeout_s: float,
        pick: Pick | None,
    ) -> None:
        self.sender = sender
        self.future = future
        self.topic = topic
        self.code = code
        self.ext = ext
        self.body = body
        self.ids = ids
        self.timeout_s = timeout_s
        self.pick = pick
        self.queue: MessageQueue | None = None
        self.tries = 0
        self.avoid = ""  # the broker that failed last
        self.why = ""
        self.maybe_stored = False
        self.begun_at = 0.0
        self.deadline = 0.0

    def answered(self, result: Command | LinkError) -> None:
        self.sender.answered(self, result)


class Sender:
    """All sends of one producer."""

    def __init__(
        self, session: Session, *, template: str | None, retries: int, in_flight_max: int, faults: BrokerFaults
    ) -> None:
        self._session = session
        self._template = template
        self._retries = retries
        self._in_flight_max = in_flight_max
        self._faults = faults
        self._in_flight: dict[Sending, None] = {}  # in the order in which they were begun
        self._in_flight_bytes = 0
        self._waiting: deque[Sending] = deque()
        self._waiting_timer: asyncio.TimerHandle | None = None
        self._filling = False
        self._ways: dict[asyncio.Task[None], None] = {}
        self._turns: dict[str, int] = {}  # topic to its last turn
        self._idle: asyncio.Event | None = None  # while somebody waits for the end

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def begin(self, sending: Sending) -> None:
        """Tries it now, or when there is room. Its future gets the outcome, always."""
        loop = asyncio.get_running_loop()
        sending.deadline = loop.time() + sending.timeout_s
        if self._waiting or not self._has_room(len(sending.body)):
            if len(self._waiting) >= WAITING_SENDS_MAX:
                self._give(sending, TooManySends(f"{WAITING_SENDS_MAX} sends wait already: await some of them first"))
                return
            self._waiting.append(sending)
            if self._waiting_timer is None:
                self._waiting_timer = loop.call_at(sending.deadline, self._end_waiting)
            return
        self._launch(sending)

    async def close(self, patience_s: float) -> None:
        """Waits for what is in flight, then ends what is left."""
        if self._in_flight or self._waiting:
            self._idle = asyncio.Event()
            try:
                async with asyncio.timeout(patience_s):
                    await self._idle.wait()
            except TimeoutError:
                pass  # what is left gets its error below
        for way in self._ways:
            way.cancel()
        if self._waiting_timer is not None:
            self._waiting_timer.cancel()
        error = ClientClosed("producer", "was closed before the answer came")
        left = [*self._in_flight, *self._waiting]
        self._waiting.clear()
        self._in_flight.clear()
        for sending in left:
            self._give(sending, error)

    # Room

    def _has_room(self, size: int) -> bool:
        count = len(self._in_flight)
        return not count or (count < self._in_flight_max and self._in_flight_bytes + size <= IN_FLIGHT_BYTES_MAX)

    def _launch(self, sending: Sending) -> None:
        self._in_flight[sending] = None
        self._in_flight_bytes += len(sending.body)
        self._try(sending)

    def _end(self, sending: Sending, outcome: SendReceipt | list[SendReceipt] | PosthouseError) -> None:
        if sending not in self._in_flight:
            return  # ended by `close`
        if sending.maybe_stored and isinstance(outcome, PosthouseError):
            outcome = _doubted(outcome)
        del self._in_flight[sending]
        self._in_flight_bytes -= len(sending.body)
        self._give(sending, outcome)
        if not self._filling:
            self._fill()
        if self._idle is not None and not self._in_flight and not self._waiting:
            self._idle.set()

    def _fill(self) -> None:
        """Begins those that wait, while there is room. One that ends at once makes room for the next round only."""
        self._filling = True
        try:
            while self._waiting and self._has_room(len(self._waiting[0].body)):
                following = self._waiting.popleft()
                if not following.future.done():
                    self._launch(following)
        finally:
            self._filling = False

    def _give(self, sending: Sending, outcome: SendReceipt | list[SendReceipt] | PosthouseError) -> None:
        future = sending.future
        if future.done():
            return  # cancelled by who sent it
        if isinstance(outcome, PosthouseError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _end_waiting(self) -> None:
        """Ends those whose time passed while they waited; the line is in the order of time, nearly."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting and self._waiting[0].deadline <= now:
            late = self._waiting.popleft()
            self._give(
                late,
                TooManySends(
                    f"not begun within {late.timeout_s * 1000:.0f} ms, as {len(self._in_flight)} sends are in flight: "
                    "await sends before you begin more, or give the producer a larger in_flight_max"
                ),
            )
        self._waiting_timer = loop.call_at(self._waiting[0].deadline, self._end_waiting) if self._waiting else None

    # Tries

    def _try(self, sending: Sending, queue: MessageQueue | None = None) -> None:
        """With a queue if that is decided and the way to it just opened."""
        now = asyncio.get_running_loop().time()
        left_s = sending.deadline - now
        if left_s <= 0 or sending.future.done():
            self._end(sending, self._too_late(sending))
            return
        queues = self._session.queues_if_known(sending.topic)
        if queues is not None:
            try:
                queue = queue or self._aim(sending, queues, now)
                address = _master(queues, queue)
            except PosthouseError as error:
                self._end(sending, error)
                return
            peer = self._session.pool.peer_if_open(address)
            if peer is not None:
                sending.begun_at = now
                peer.request(sending.code, sending.ext, sending.body, left_s, sending.answered)
                return
        way = asyncio.create_task(self._open_way(sending, queue), name="a way for a send")
        self._ways[way] = None
        way.add_done_callback(self._ways.pop)

    def _aim(self, sending: Sending, queues: TopicQueues, now: float) -> MessageQueue:
        """The queue for this try. Raises SendFailed."""
        queue = sending.queue
        if queue is None or sending.pick is None:
            if not queues.write_queues:
                raise _no_queue(sending.topic)
            queue = self._next_queue(queues, sending.avoid, now) if sending.pick is None else sending.pick(queues)
            sending.queue = queue
        aim(sending.ext, queue.broker_name, queue.queue_id)
        return queue

    def _next_queue(self, queues: TopicQueues, avoid: str, now: float) -> MessageQueue:
        """In turn, over brokers that are neither spared nor the one that just failed, as far as there are such."""
        choice = queues.write_queues
        count = len(choice)
        turn = self._turns.get(queues.topic)
        turn = self._session.host.random.below(count) if turn is None else turn + 1
        self._turns[queues.topic] = turn
        if queues.one_broker or not (avoid or self._faults.any()):
            return choice[turn % count]
        second: MessageQueue | None = None
        for step in range(count):
            queue = choice[(turn + step) % count]
            if queue.broker_name != avoid:
                if self._faults.good(queue.broker_name, now):
                    self._turns[queues.topic] = turn + step
                    return queue
                second = second or queue
        return second or choice[turn % count]

    def aim(self, topic: str, ext: dict[str, str], queues: TopicQueues, pick: Pick | None) -> Address:
        """Chooses the queue of a message that is sent once and not followed. Raises SendFailed, NoBroker."""
        if not queues.write_queues:
            raise _no_queue(topic)
        now = asyncio.get_running_loop().time()
        queue = self._next_queue(queues, "", now) if pick is None else pick(queues)
        aim(ext, queue.broker_name, queue.queue_id)
        return _master(queues, queue)

    async def _open_way(self, sending: Sending, queue: MessageQueue | None) -> None:
        """Gets the route and a connection, then tries on. `queue` is chosen already if there was a route."""
        loop = asyncio.get_running_loop()
        failed: set[str] = set()
        try:
            async with asyncio.timeout_at(sending.deadline):
                while not sending.future.done():
                    queues = await self._session.queues(sending.topic, self._template)
                    queue = queue or self._aim(sending, queues, loop.time())
                    masters = {each.broker_name for each in queues.write_queues}
                    patient = sending.pick is not None or masters <= failed | {queue.broker_name}
                    left_s = sending.deadline - loop.time()
                    try:
                        address = _master(queues, queue)
                        await self._session.broker_peer(address, patience_s=left_s if patient else 0.0)
                        break
                    except CannotConnect as error:
                        sending.why, sending.avoid = str(error), queue.broker_name
                        self._faults.failed(queue.broker_name, loop.time())
                        if patient and error.retry_after_s > left_s:
                            raise TimeoutError from None
                        failed.add(queue.broker_name)
                        queue = None
        except TimeoutError:
            self._end(sending, self._too_late(sending))
        except PosthouseError as error:
            self._end(sending, error)
        else:
            self._try(sending, sending.queue)

    def answered(self, sending: Sending, result: Command | LinkError) -> None:
        queue = sending.queue
        assert queue is not None
        loop = asyncio.get_running_loop()
        now = loop.time()
        if isinstance(result, Command):
            status = _STATUS_OF.get(result.code)
            if status is not None:
                self._faults.answered(queue.broker_name, (now - sending.begun_at) * 1000, now)
                self._end(sending, _receipts(sending, queue, status, result))
                return
            meaning, remedy = explain(result.code)
            sending.maybe_stored = sending.maybe_stored or result.code in _DOUBTFUL
            sending.why = f"{queue.broker_name} refused with {result.code} {meaning}: {result.remark or ''}; {remedy}"
            again = result.code in RETRYABLE and not (self._one_broker(sending) and result.code in _OF_THE_TOPIC)
        else:
            sending.why = str(result)
            sending.maybe_stored = sending.maybe_stored or not isinstance(result, TooManyInFlight)
            again = not isinstance(result, TooManyInFlight | RequestTimeout)
        self._faults.failed(queue.broker_name, now)
        sending.avoid = queue.broker_name
        if not again or sending.pick is not None or sending.tries >= self._retries:
            code = result.code if isinstance(result, Command) else None
            self._end(sending, self._failed(sending, result, code))
            return
        sending.tries += 1
        if self._one_broker(sending):
            loop.call_later(_PAUSE_SECONDS * 2 ** (sending.tries - 1), self._try, sending)
        else:
            self._try(sending)

    def _one_broker(self, sending: Sending) -> bool:
        queues = self._session.queues_if_known(sending.topic)
        return queues is None or queues.one_broker

    def _failed(self, sending: Sending, result: Command | LinkError, code: int | None) -> SendFailed:
        if isinstance(result, RequestTimeout):
            return self._too_late(sending)
        if isinstance(result, TooManyInFlight):
            return TooManySends(str(result))
        tries = f" after {sending.tries + 1} tries" if sending.tries else ""
        return SendFailed(
            f"sending to topic {sending.topic} failed{tries}: {sending.why}{_doubt(sending)}",
            code=code,
            remark=result.remark or "" if isinstance(result, Command) else "",
            maybe_stored=sending.maybe_stored,
        )

    def _too_late(self, sending: Sending) -> SendTimeout:
        why = sending.why or "the NameServer or the broker did not answer"
        return SendTimeout(
            f"sending to topic {sending.topic} was not acknowledged within {sending.timeout_s * 1000:.0f} ms: "
            f"{why}{_doubt(sending)}",
            maybe_stored=sending.maybe_stored,
        )


def _no_queue(topic: str) -> SendFailed:
    return SendFailed(
        f"topic {topic} has no queue that takes messages: look at its permission, and whether its brokers' masters run"
    )


def _doubted(error: PosthouseError) -> PosthouseError:
    """An error of a later try, when an earlier one may have stored the message all the same."""
    if isinstance(error, SendFailed | ClientClosed):
        return error
    return SendFailed(f"{error} (an earlier try may have stored the message all the same)", maybe_stored=True)


def _doubt(sending: Sending) -> str:
    return " (the message may be stored all the same)" if sending.maybe_stored else ""


def _master(queues: TopicQueues, queue: MessageQueue) -> Address:
    """Raises NoBroker."""
    try:
        return queues.brokers[queue.broker_name][MASTER_ID]
    except KeyError:
        raise NoBroker(
            f"topic {queue.topic} has no broker {queue.broker_name} that takes messages now; "
            f"it has {', '.join(sorted(queues.brokers)) or 'none'}"
        ) from None


def _receipts(
    sending: Sending, queue: MessageQueue, status: SendStatus, answer: Command
) -> SendReceipt | list[SendReceipt] | SendFailed:
    try:
        reply = SEND_MESSAGE_REPLY.decode(answer.ext)
    except WireError as error:
        return SendFailed(f"{queue.broker_name} stored the message, but its answer cannot be read: {error}")
    ids = sending.ids
    region = reply.region or DEFAULT_REGION
    if isinstance(ids, str):
        return SendReceipt(ids, reply.msg_id, queue, QueueOffset(reply.queue_offset), status, region, reply.durability)
    return _batch_receipts(ids, reply, queue, status, region)


def _batch_receipts(
    ids: list[str], reply: SendMessageReply, queue: MessageQueue, status: SendStatus, region: str
) -> list[SendReceipt]:
    """The messages of a batch got consecutive offsets; brokers that store it as one record name one place."""
    places = reply.msg_id.split(",")
    if len(places) != len(ids):
        places = [reply.msg_id] * len(ids)
    return [
        SendReceipt(message_id, place, queue, QueueOffset(reply.queue_offset + at), status, region, reply.durability)
        for at, (message_id, place) in enumerate(zip(ids, places, strict=True))
    ]
