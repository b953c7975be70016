"""Request and reply: a message whose sender waits for the answer of one consumer.

The request is an ordinary message with a number (CORRELATION_ID) and the sender's client id. The consumer's answer goes
to `<cluster>_REPLY_TOPIC` of a broker, which hands it to the sender over the connection that the sender keeps there;
so the broker that had the request is asked first. Nothing of this is durable: who waits no more gets no answer.
Source: RocketMQ 5.3 RequestResponseFuture, MessageUtil.createReplyMessage, ClientRemotingProcessor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from posthouse.client.errors import BrokerRefused, ClientClosed, NoBroker, PosthouseError, ReplyTimeout
from posthouse.client.ids import MessageIds
from posthouse.client.outbox import aim, pack, send_ext
from posthouse.client.received import ReceivedMessage
from posthouse.client.session import ASK_SECONDS, Session
from posthouse.codec.compression import inflate_body
from posthouse.codec.record import RecordError
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.replies import PUSH_REPLY, PushReply
from posthouse.host.clock import EpochMs
from posthouse.link.peer import RemotingPeer
from posthouse.model import properties as names
from posthouse.model.client_status import NEVER
from posthouse.model.message import Endpoint, Message, MessageQueue, StoredMessage
from posthouse.model.names import reply_topic
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import decode_properties
from posthouse.model.route import MASTER_ID

log = logging.getLogger(__name__)

COMPRESS_OVER_BYTES = 4096

_REPLIED = frozenset(
    {
        ResponseCode.SUCCESS,
        ResponseCode.FLUSH_DISK_TIMEOUT,
        ResponseCode.SLAVE_NOT_AVAILABLE,
        ResponseCode.FLUSH_SLAVE_TIMEOUT,
    }
)
"""The sender has the answer; the rest says how well a copy was stored."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: what a handler returns, and what `Producer.request` gives. `replier` is `ip:port`, when it came."""

    body: bytes
    properties: Mapping[str, str] = field(default_factory=dict)
    replier: str = ""
    replied_at_ms: EpochMs = NEVER


class Requests:
    """The requests of one producer that wait for their answers."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        session.on_request[RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT] = self._replied

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def address(self, message: Message, timeout_s: float) -> tuple[Message, str]:
        """The message with what a replier must know, and its number."""
        number = self._session.host.random.token_bytes(16).hex()
        more = {
            names.CORRELATION_ID: number,
            names.REPLY_TO_CLIENT: self._session.client_id,
            names.TTL: str(max(int(timeout_s * 1000), 1)),
        }
        properties = {**message.properties, **more}
        return Message(
            message.topic, message.body, message.tag, message.keys, properties, message.flag, message.sharding_key
        ), number

    async def wait(self, topic: str, number: str, sending: asyncio.Future[object], timeout_s: float) -> Reply:
        """The answer, which may be there before the send is acknowledged.

        Raises ReplyTimeout, ClientClosed, and what `sending` raises.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait((answer, sending), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    sending.result()
                return await answer
        except TimeoutError as error:
            if isinstance(error, PosthouseError):
                raise  # of the send
            raise ReplyTimeout(topic, timeout_s, stored=sending.done()) from None
        finally:
            del self._waiting[number]
            if sending.done() and not sending.cancelled():
                sending.exception()  # seen: the answer counts, whatever became of the send's own
            sending.cancel()

    def close(self) -> None:
        error = ClientClosed("producer", "was closed before the reply came")
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)

    def _replied(self, peer: RemotingPeer, command: Command) -> None:
        header = PUSH_REPLY.decode(command.ext)
        properties = decode_properties(header.properties or "")
        answer = self._waiting.get(properties.get(names.CORRELATION_ID, ""))
        if answer is None or answer.done():
            log.debug("a reply of %s came too late, or for somebody else", header.born_host)
        else:
            try:
                body = inflate_body(_as_stored(header, command.body))
            except RecordError as error:
                answer.set_exception(PosthouseError(f"the body of the reply cannot be opened: {error}"))
            else:
                answer.set_result(Reply(body, properties, header.born_host, EpochMs(header.born_at_ms)))
        if not command.is_one_way:
            peer.answer(response(ResponseCode.SUCCESS, command.request_id))


class Replies:
    """Sends the answers of one consumer's handlers."""

    def __init__(self, session: Session, group: str) -> None:
        self._session = session
        self._group = group
        self._ids = MessageIds(session.host)

    async def send(self, request: ReceivedMessage, reply: Reply) -> None:
        """Failures are logged: the request was handled, and its sender will see that no answer came."""
        try:
            await self._send(request, reply)
        except PosthouseError as error:
            log.warning("the reply to %s could not be delivered: %s", request.message_id, error)

    async def _send(self, request: ReceivedMessage, reply: Reply) -> None:
        cluster = request.properties.get(names.CLUSTER)
        if not cluster:
            raise NoBroker("the request does not say of which cluster it is, so there is no reply topic")
        properties = dict(reply.properties)
        for name in (names.CORRELATION_ID, names.REPLY_TO_CLIENT, names.TTL):
            properties[name] = request.properties.get(name, "")
        properties = {name: value for name, value in properties.items() if value} | {names.MSG_TYPE: "reply"}
        topic = reply_topic(cluster)
        now_ms = self._session.host.clock.now_ms()
        parcel = pack(Message(topic, reply.body, properties=properties), self._ids.next(now_ms), COMPRESS_OVER_BYTES)
        ext = send_ext(self._group, parcel, now_ms)
        queues = await self._session.queues(topic)
        first: dict[str, MessageQueue] = {}
        for queue in queues.write_queues:
            first.setdefault(queue.broker_name, queue)
        order = sorted(first, key=lambda name: name != request.queue.broker_name)
        trouble: PosthouseError = NoBroker(f"topic {topic} has no queue that takes messages now")
        for name in order:
            aim(ext, name, first[name].queue_id)
            try:
                answer = await self._session.ask_broker(
                    queues.brokers[name][MASTER_ID],
                    RequestCode.SEND_REPLY_MESSAGE_V2,
                    ext,
                    parcel.body,
                    doing="hand over a reply",
                    timeout_s=ASK_SECONDS,
                )
            except PosthouseError as error:
                trouble = error
                continue
            if answer.code in _REPLIED:
                return
            trouble = BrokerRefused(name, answer.code, answer.remark, "hand over a reply")
        raise trouble


def _as_stored(header: PushReply, body: bytes) -> StoredMessage:
    """For the code that opens bodies."""
    nowhere = Endpoint(b"\0\0\0\0", 0)
    return StoredMessage(
        header.topic,
        header.queue_id,
        QueueOffset(0),
        LogOffset(0),
        body,
        {},
        header.flag,
        header.sys_flag,
        EpochMs(header.born_at_ms),
        nowhere,
        EpochMs(header.stored_at_ms),
        nowhere,
        0,
        LogOffset(0),
        0,
        0,
    )
