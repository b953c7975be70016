"""The broker's locks on the queues that an ordered member reads. Only who holds a queue's lock may read and handle it.

A broker gives a lock for 60 s; we renew it every 20 s and count on it for 30 s after the request that got it, so that
between us and the next holder there is half a minute for clocks and answers that were slow. A queue that is wanted is
asked for again and again, twice a second in the end, so that a member who gives it back is followed at once.

One duty for each broker asks for what is wanted and due in one request; requests to one broker never overlap, so
that no renewal overtakes an unlock. Source: RocketMQ 5.3 RebalanceImpl.lock, unlock; RebalanceLockManager.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from posthouse.client.duty import begin_duty
from posthouse.client.errors import BadAnswer, BrokerRefused, PosthouseError
from posthouse.client.session import Session
from posthouse.codec.remoting.bodies.locks import LockRequest, decode_locked, encode_lock_request
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model.client_status import NEVER
from posthouse.model.message import MessageQueue

log = logging.getLogger(__name__)

RENEW_SECONDS = 20.0
"""RocketMQ: rocketmq.client.rebalance.lockInterval."""

VALID_SECONDS = 30.0
"""RocketMQ: rocketmq.client.rebalance.lockMaxLiveTime. The broker's lease is 60 s."""

WANT_SECONDS_MIN = 0.1
WANT_SECONDS_MAX = 0.5
"""Between two requests for a queue that somebody else holds; grows from the first to the second."""

TROUBLE_SECONDS = 1.0
"""After a request without a good answer."""


class QueueLocks:
    """All locks of one member. `lost` is told of a queue that turned out to be somebody else's."""

    def __init__(self, session: Session, group: str, lost: Callable[[MessageQueue], None]) -> None:
        self._session = session
        self._group = group
        self._lost = lost
        self._brokers: dict[str, _BrokerLocks] = {}

    async def take(self, queue: MessageQueue) -> None:
        """Returns when the lock is ours. Cancel it to want it no more."""
        await self._of(queue).take(queue)

    def holds(self, queue: MessageQueue) -> bool:
        """Whether a message of it may be handled now."""
        return self._of(queue).holds(queue)

    def locked_at_ms(self, queue: MessageQueue) -> EpochMs:
        return self._of(queue).locked_at_ms.get(queue, NEVER)

    async def release(self, queues: Iterable[MessageQueue]) -> None:
        """Gives them back; when a broker does not answer, its leases end by themselves within a minute."""
        by_broker: dict[str, list[MessageQueue]] = {}
        for queue in queues:
            by_broker.setdefault(queue.broker_name, []).append(queue)
        await asyncio.gather(*(self._of(some[0]).release(some) for some in by_broker.values()))

    async def close(self) -> None:
        """Gives all back and asks no more."""
        await self.release([queue for locks in self._brokers.values() for queue in locks.held])
        for locks in self._brokers.values():
            locks.duty.cancel()
        await asyncio.gather(*(locks.duty for locks in self._brokers.values()), return_exceptions=True)
        self._brokers.clear()

    def _of(self, queue: MessageQueue) -> _BrokerLocks:
        found = self._brokers.get(queue.broker_name)
        if found is None:
            found = self._brokers[queue.broker_name] = _BrokerLocks(
                self._session, self._group, queue.broker_name, self._lost
            )
        return found


class _BrokerLocks:
    """The locks at one broker. `held` is queue to the loop's time until which we count on it."""

    def __init__(self, session: Session, group: str, broker_name: str, lost: Callable[[MessageQueue], None]) -> None:
        self.held: dict[MessageQueue, float] = {}
        self.locked_at_ms: dict[MessageQueue, EpochMs] = {}
        self.duty = begin_duty(self._keep(), f"group {group}: locks at {broker_name}")
        self._session = session
        self._group = group
        self._broker_name = broker_name
        self._lost = lost
        self._wanted: dict[MessageQueue, asyncio.Future[None]] = {}
        self._poked = asyncio.Event()
        self._asking = asyncio.Lock()
        self._trouble = ""

    async def take(self, queue: MessageQueue) -> None:
        if self.holds(queue):
            return
        got = self._wanted[queue] = asyncio.get_running_loop().create_future()
        self._poked.set()
        try:
            await got
        finally:
            if self._wanted.get(queue) is got:
                del self._wanted[queue]

    def holds(self, queue: MessageQueue) -> bool:
        return self.held.get(queue, 0.0) > asyncio.get_running_loop().time()

    async def release(self, queues: list[MessageQueue]) -> None:
        for queue in queues:
            self.locked_at_ms.pop(queue, None)
        async with self._asking:  # after a request that is under way, which might take the lock again
            held = [queue for queue in queues if self.held.pop(queue, None) is not None]
            if not held:
                return
            try:
                await self._ask(RequestCode.UNLOCK_BATCH_MQ, held, "unlock queues")
            except PosthouseError as error:
                log.info("group %s: %s; the locks end by themselves", self._group, error)

    async def _keep(self) -> None:
        """Asks for what is wanted, and for what is held when it is time."""
        loop = asyncio.get_running_loop()
        pause = WANT_SECONDS_MIN
        while True:
            self._poked.clear()
            now = loop.time()
            self._end_expired(now)
            due = [queue for queue, until in self.held.items() if until - now <= VALID_SECONDS - RENEW_SECONDS]
            new = any(not got.done() for got in self._wanted.values())
            fine = await self._lock(due) if due or new else True
            if not fine:
                pause = TROUBLE_SECONDS
            elif self._wanted:
                pause = min(pause * 2, WANT_SECONDS_MAX)
            else:
                pause = WANT_SECONDS_MIN
            try:
                async with asyncio.timeout(self._rest_s(pause, fine)):
                    await self._poked.wait()
                    pause = WANT_SECONDS_MIN
            except TimeoutError:
                pass  # time to ask again

    def _rest_s(self, pause: float, fine: bool) -> float:
        if self._wanted or not fine:
            return pause
        if not self.held:
            return RENEW_SECONDS
        now = asyncio.get_running_loop().time()
        return max(min(self.held.values()) - now - (VALID_SECONDS - RENEW_SECONDS), WANT_SECONDS_MIN)

    async def _lock(self, due: list[MessageQueue]) -> bool:
        """One request for all that is due or wanted. False if there was no good answer."""
        async with self._asking:
            asked_at = asyncio.get_running_loop().time()
            self._end_expired(asked_at)
            due = [queue for queue in due if queue in self.held]
            wanted = [queue for queue, got in self._wanted.items() if not got.done()]
            queues = [*due, *wanted]
            if not queues:
                return True
            try:
                answer = await self._ask(RequestCode.LOCK_BATCH_MQ, queues, "lock queues")
                ours = frozenset(decode_locked(answer.body))
            except WireError as error:
                return self._failed(BadAnswer(f"the locks of {self._broker_name}: {error}"))
            except PosthouseError as error:
                return self._failed(error)
            self._trouble = ""
            now_ms = self._session.host.clock.now_ms()
            lost = []
            for queue in queues:
                if queue in ours:
                    self.held[queue] = asked_at + VALID_SECONDS
                    self.locked_at_ms[queue] = now_ms
                elif self.held.pop(queue, None) is not None:
                    lost.append(queue)
        unwanted = []
        for queue in wanted:
            got = self._wanted.get(queue)
            if queue in ours and got is None:
                unwanted.append(queue)
            elif queue in ours and got is not None and not got.done():
                got.set_result(None)
        if unwanted:
            await self.release(unwanted)
        for queue in lost:
            log.warning("group %s: the lock of %s went to another member", self._group, queue)
            self._lost(queue)
        return True

    def _end_expired(self, now: float) -> None:
        """A lock that we could not renew in time is nobody's any more for us, even if the broker gives it again at
        once: another member may have had it in between."""
        for queue in [queue for queue, until in self.held.items() if until <= now]:
            del self.held[queue]
            log.warning("group %s: the lock of %s could not be renewed in time", self._group, queue)
            self._lost(queue)

    def _failed(self, error: PosthouseError) -> bool:
        kind = type(error).__name__
        log.log(logging.DEBUG if kind == self._trouble else logging.WARNING, "group %s: %s", self._group, error)
        self._trouble = kind
        return False

    async def _ask(self, code: int, queues: list[MessageQueue], doing: str) -> Command:
        body = encode_lock_request(LockRequest(self._group, self._session.client_id, tuple(queues)))
        address = self._session.address_of(self._broker_name)
        answer = await self._session.ask_broker(address, code, None, body, doing=doing)
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(self._broker_name, answer.code, answer.remark, doing)
        return answer
