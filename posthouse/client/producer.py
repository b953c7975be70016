"""Sends messages: `async with Producer("127.0.0.1:9876") as producer: receipt = await producer.send(...)`.

`send` is a plain function that gives a future, so thousands of sends are in flight over one connection without a
task for each. Without a chosen queue messages go over all queues in turn; messages of one sharding key go to one
queue. `send_timeout_ms` is the budget of a send for everything: waiting for room, connecting, and all tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from posthouse.client.client import Client
from posthouse.client.errors import BatchFailed, MessageIllegal, PosthouseError, SendFailed, Timeout, from_link
from posthouse.client.faults import BrokerFaults
from posthouse.client.ids import MessageIds
from posthouse.client.outbox import (
    Parcel,
    check_group_name,
    check_topic_name,
    fits_batch,
    pack,
    pack_batch,
    send_ext,
    split_batch,
)
from posthouse.client.receipt import SendReceipt
from posthouse.client.requests import Reply, Requests
from posthouse.client.routing import TopicQueues
from posthouse.client.sending import Pick, Sender, Sending
from posthouse.client.session import Session
from posthouse.client.trace import tracer_of
from posthouse.codec.remoting.codes import RequestCode
from posthouse.host import Host
from posthouse.link.errors import LinkError
from posthouse.model.message import Message, MessageQueue
from posthouse.model.names import AUTO_CREATE_TOPIC

QueueChooser: TypeAlias = Callable[[Sequence[MessageQueue], Message], MessageQueue]
"""Picks one of the queues of the message's topic; they come sorted."""

_CHECKED_TOPICS_MAX = 10_000


class Producer(Client):
    """Use it inside `async with`. Any number of producers, in any number of loops."""

    def __init__(
        self,
        nameservers: str | Iterable[str] = "127.0.0.1:9876",
        *,
        group: str = "posthouse-producer",
        host: Host | None = None,
        send_timeout_ms: int = 3000,
        retries: int = 2,
        create_topic: str | None = AUTO_CREATE_TOPIC,
        compress_over_bytes: int | None = 4096,
        in_flight_max: int = 8192,
        spare_slow_brokers: bool = True,
        trace: bool | str = False,
    ) -> None:
        """`create_topic` is the topic whose route unknown ones borrow; None: sending to an unknown topic is an error.

        `retries` counts further tries on another broker. `trace`: notes in the trace topic (or one of that name) what
        it sends; see docs/tracing.md. Raises ValueError for names that cannot be.
        """
        check_group_name(group)
        self.group = group
        super().__init__(Session(nameservers, host=host, kind="producer"))
        self._session.producer_groups = (group,)
        self._clock = self._session.host.clock
        self._ids = MessageIds(self._session.host)
        self._timeout_s = send_timeout_ms / 1000
        self._compress_over_bytes = compress_over_bytes
        self._template = create_topic
        self._checked: set[str] = set()  # topics whose name is good
        self._requests = Requests(self._session)
        self.tracer = tracer_of(trace, self._session, group)
        faults = BrokerFaults() if spare_slow_brokers else NoFaults()
        self._sender = Sender(
            self._session, template=create_topic, retries=retries, in_flight_max=in_flight_max, faults=faults
        )

    @property
    def in_flight(self) -> int:
        """Sends that are not acknowledged yet."""
        return self._sender.in_flight

    async def start(self) -> None:
        await super().start()
        if self.tracer is not None:
            self.tracer.start()

    async def close(self) -> None:
        """Waits for sends in flight, as long as their time lasts; then says goodbye. Twice is fine."""
        if self._session.is_open:
            self._requests.close()
            await self._sender.close(self._timeout_s)
            if self.tracer is not None:
                await self.tracer.close()
            await self._session.close()

    async def queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The queues that take messages of the topic, sorted. Raises NoRoute, NoNameServer."""
        return (await self._session.queues(topic, self._template)).write_queues

    def send(
        self,
        message: Message | str,
        body: bytes | None = None,
        *,
        tag: str = "",
        keys: str | tuple[str, ...] = (),
        sharding_key: str = "",
        properties: Mapping[str, str] | None = None,
        queue: MessageQueue | QueueChooser | None = None,
        timeout_ms: int | None = None,
    ) -> asyncio.Future[SendReceipt]:
        """Begins to send a Message, or a topic with a body; await the receipt now or later.

        The property WAIT="false" asks for an answer before the message is synced; the receipt's `durability` says what
        was reached.
        What is wrong with the message itself is raised here (MessageIllegal, ClientClosed); awaiting raises SendFailed
        and its kinds, NoRoute, NoNameServer. Cancelling is fine: the answer is dropped.
        """
        self._session.check_open()
        message = _as_message(message, body, tag, keys, sharding_key, properties)
        timeout_s = self._timeout_s if timeout_ms is None else timeout_ms / 1000
        return self._send_parcel(self._pack(message, self._compress_over_bytes), _pick(message, queue), timeout_s)

    async def send_many(
        self, messages: Iterable[Message], *, queue: MessageQueue | None = None, timeout_ms: int | None = None
    ) -> list[SendReceipt]:
        """Sends messages in few requests: one for each topic (and sharding key) and 4 MiB. Receipts in their order.

        Raises BatchFailed if any message was not acknowledged; its `outcomes` tell which.
        """
        self._session.check_open()
        wanted = list(messages)
        if not wanted:
            return []
        timeout_s = self._timeout_s if timeout_ms is None else timeout_ms / 1000
        runs: dict[tuple[str, str], list[int]] = {}
        alone: list[int] = []
        for at, message in enumerate(wanted):
            if fits_batch(message):
                runs.setdefault((message.topic, message.sharding_key), []).append(at)
            else:
                alone.append(at)
        parcels = [self._pack(message, None) for message in wanted]  # all are checked before the first one is sent
        places = [[at] for at in alone]
        results = [self._send_parcel(parcels[at], _pick(wanted[at], queue), timeout_s) for at in alone]
        for run in runs.values():
            begin = 0
            for chunk in split_batch([parcels[at] for at in run]):
                results.append(self._send_chunk(chunk, _pick(wanted[run[begin]], queue), timeout_s))
                places.append(run[begin : begin + len(chunk)])
                begin += len(chunk)
        await asyncio.wait(results)
        return _in_order(len(wanted), places, results)

    async def request(
        self,
        message: Message | str,
        body: bytes | None = None,
        *,
        tag: str = "",
        keys: str | tuple[str, ...] = (),
        sharding_key: str = "",
        properties: Mapping[str, str] | None = None,
        queue: MessageQueue | QueueChooser | None = None,
        timeout_s: float = 3.0,
    ) -> Reply:
        """Sends a message and waits for the answer of the consumer that handles it: what its handler returns.

        `timeout_s` is for everything. A group of consumers gives one answer; with several groups, or a handler that is
        called twice, the first answer counts. Raises ReplyTimeout when there is none, and what awaiting `send` raises.
        """
        self._session.check_open()
        message = _as_message(message, body, tag, keys, sharding_key, properties)
        message, number = self._requests.address(message, timeout_s)
        parcel = self._pack(message, self._compress_over_bytes)
        sending = self._send_parcel(parcel, _pick(message, queue), timeout_s)
        return await self._requests.wait(message.topic, number, sending, timeout_s)

    async def send_one_way(
        self,
        message: Message | str,
        body: bytes | None = None,
        *,
        tag: str = "",
        keys: str | tuple[str, ...] = (),
        sharding_key: str = "",
        properties: Mapping[str, str] | None = None,
        queue: MessageQueue | QueueChooser | None = None,
    ) -> None:
        """Sends without an answer: nobody will know whether it was stored.

        Raises what can be known: no route, no connection, an illegal message.
        """
        self._session.check_open()
        message = _as_message(message, body, tag, keys, sharding_key, properties)
        parcel = self._pack(message, self._compress_over_bytes)
        ext = send_ext(self.group, parcel, self._clock.now_ms(), template=self._template or AUTO_CREATE_TOPIC)
        try:
            async with asyncio.timeout(self._timeout_s):
                queues = await self._session.queues(message.topic, self._template)
                address = self._sender.aim(message.topic, ext, queues, _pick(message, queue))
                peer = self._session.pool.peer_if_open(address) or await self._session.broker_peer(address)
        except TimeoutError:
            raise Timeout(f"no connection for a message to {message.topic} within {self._timeout_s:g} s") from None
        except LinkError as error:
            raise from_link(error, f"sending to topic {message.topic}") from None
        peer.tell(RequestCode.SEND_MESSAGE_V2, ext, parcel.body)

    def _pack(self, message: Message, compress_over_bytes: int | None) -> Parcel:
        topic = message.topic
        if topic not in self._checked:
            check_topic_name(topic)
            if len(self._checked) >= _CHECKED_TOPICS_MAX:
                self._checked.clear()
            self._checked.add(topic)
        return pack(message, self._ids.next(self._clock.now_ms()), compress_over_bytes)

    def _send_parcel(self, parcel: Parcel, pick: Pick | None, timeout_s: float) -> asyncio.Future[Any]:
        ext = send_ext(self.group, parcel, self._clock.now_ms(), template=self._template or AUTO_CREATE_TOPIC)
        sending = self._begin(parcel, RequestCode.SEND_MESSAGE_V2, ext, parcel.message_id, pick, timeout_s)
        if self.tracer is not None:
            self.tracer.follow((parcel,), sending)
        return sending

    def _send_chunk(self, chunk: list[Parcel], pick: Pick | None, timeout_s: float) -> asyncio.Future[Any]:
        batch = pack_batch(chunk)
        ext = send_ext(
            self.group, batch, self._clock.now_ms(), template=self._template or AUTO_CREATE_TOPIC, batch=True
        )
        ids = [parcel.message_id for parcel in chunk]
        sending = self._begin(batch, RequestCode.SEND_BATCH_MESSAGE, ext, ids, pick, timeout_s)
        if self.tracer is not None:
            self.tracer.follow(chunk, sending)
        return sending

    def _begin(
        self,
        parcel: Parcel,
        code: int,
        ext: dict[str, str],
        ids: str | list[str],
        pick: Pick | None,
        timeout_s: float,
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sender = self._sender
        sender.begin(Sending(sender, future, parcel.topic, code, ext, parcel.body, ids, timeout_s, pick))
        return future


class NoFaults(BrokerFaults):
    """Spares no broker."""

    def answered(self, broker_name: str, latency_ms: float, now: float) -> None:
        pass


def _as_message(
    message: Message | str,
    body: bytes | None,
    tag: str,
    keys: str | tuple[str, ...],
    sharding_key: str,
    properties: Mapping[str, str] | None,
) -> Message:
    if isinstance(message, str):
        if body is None:
            raise MessageIllegal("send(topic, body) needs the body")
        return Message(message, body, tag, keys, dict(properties or {}), 0, sharding_key)
    if body is not None or tag or keys or sharding_key or properties:
        raise MessageIllegal("give either a Message, or a topic with body, tag, keys, properties and sharding_key")
    return message


def _pick(message: Message, queue: MessageQueue | QueueChooser | None) -> Pick | None:
    """How the queue is chosen, or None: any will do."""
    if queue is None:
        key = message.sharding_key
        return (lambda queues: queues.queue_of_key(key)) if key else None
    if isinstance(queue, MessageQueue):
        chosen = queue
        return lambda queues: chosen
    choose = queue

    def pick(queues: TopicQueues) -> MessageQueue:
        try:
            found = choose(queues.write_queues, message)
        except Exception as error:
            raise SendFailed(f"the function that chooses the queue failed: {error!r}") from error
        if found not in queues.write_queues:
            raise MessageIllegal(f"the chosen queue {found!r} is none of topic {message.topic}")
        return found

    return pick


def _in_order(count: int, places: list[list[int]], results: list[asyncio.Future[Any]]) -> list[SendReceipt]:
    outcomes: list[SendReceipt | PosthouseError | None] = [None] * count
    for run, result in zip(places, results, strict=True):
        error = result.exception()
        if error is not None and not isinstance(error, PosthouseError):
            raise error
        for at, place in enumerate(run):
            found = error if error is not None else result.result()
            outcomes[place] = found[at] if isinstance(found, list) else found
    found_all = [outcome for outcome in outcomes if outcome is not None]
    assert len(found_all) == count
    receipts = [outcome for outcome in found_all if not isinstance(outcome, PosthouseError)]
    if len(receipts) < count:
        raise BatchFailed(found_all)
    return receipts
