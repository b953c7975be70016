"""Handlers of sending: 10, 310, 320. The answer is written when the message is as safe as it must be, and says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from posthouse.broker.delays import Delay, recall_handle
from posthouse.codec.remoting.batch import decode_batch
from posthouse.codec.remoting.codes import ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.send import SendMessage, encode_send_reply
from posthouse.endpoint.remoting.dispatcher import Reply
from posthouse.model.ids import offset_message_id
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.names import RETRY_PREFIX, WHEEL_TIMER_TOPIC
from posthouse.model.refusal import Reason, Refused

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.link.peer import RemotingPeer
    from posthouse.store.message_store import LogError, Put


def send(broker: Broker, header: SendMessage, command: Command, peer: RemotingPeer) -> Reply | None:
    """10, 310, 320: one message, or a batch if the header says so (the code does not decide)."""
    message = NewMessage(
        header.topic,
        header.queue_id,
        command.body,
        header.properties or "",
        header.flag,
        header.sys_flag,
        header.born_at_ms,  # type: ignore[arg-type]
        peer.remote_endpoint,
        header.reconsume_times or 0,
    )
    store_host = broker.store_host(peer.local_endpoint)
    if header.batch:
        _send_batch(broker, header, message, command, peer, store_host)
        return None
    answer = _Answer(command, peer, header.queue_id, store_host, broker.bug)
    accepted = broker.send.send(
        message,
        header.default_topic,
        header.default_topic_queues,
        store_host,
        answer.sent,
        header.reconsume_times_max,
    )
    answer.unique_id = accepted.unique_id
    if accepted.delay is not None:
        answer.delayed(accepted.message, accepted.delay, broker.config.name)
    return None


class _Answer:
    """What is known of a send until its receipt comes. Nothing comes out of `sent`: others' receipts follow."""

    __slots__ = ("command", "on_bug", "peer", "queue_id", "recall_handle", "store_host", "unique_id")

    def __init__(
        self,
        command: Command,
        peer: RemotingPeer,
        queue_id: int,
        store_host: Endpoint,
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self.command = command
        self.peer = peer
        self.queue_id = queue_id
        self.store_host = store_host
        self.on_bug = on_bug
        self.unique_id = ""
        self.recall_handle = ""

    def delayed(self, message: NewMessage, delay: Delay, broker_name: str) -> None:
        """The message goes to a timer topic first; what is answered is about its own queue."""
        self.queue_id = message.queue_id
        if delay.topic == WHEEL_TIMER_TOPIC and not message.topic.startswith(RETRY_PREFIX):
            self.recall_handle = recall_handle(message.topic, broker_name, delay.due_ms, self.unique_id)

    def sent(self, put: Put, error: LogError | None) -> None:
        command = self.command
        if command.flag & 2:
            return
        try:
            if error is not None:
                _refuse(command, self.peer, error)
                return
            queue_id = self.queue_id if self.queue_id >= 0 else put.queue.queue_id
            message_id = offset_message_id(self.store_host, put.log_offset)
            self.peer.write(
                encode_send_reply(
                    command.request_id,
                    message_id,
                    queue_id,
                    put.queue_offset,
                    self.unique_id,
                    put.synced,
                    recall_handle=self.recall_handle,
                )
            )
        except Exception as mistake:
            self.on_bug(mistake)


def _refuse(command: Command, peer: RemotingPeer, error: LogError) -> None:
    remark = f"{error}; whether this message was stored is not known"
    peer.answer(response(ResponseCode.SERVICE_NOT_AVAILABLE, command.request_id, remark=remark))


def _send_batch(
    broker: Broker,
    header: SendMessage,
    message: NewMessage,
    command: Command,
    peer: RemotingPeer,
    store_host: Endpoint,
) -> None:
    try:
        entries = [(entry.body, entry.properties, entry.flag) for entry in decode_batch(command.body)]
    except WireError as error:
        raise Refused(Reason.MESSAGE_ILLEGAL, str(error)) from None
    puts: list[Put] = []
    done = partial(_batch_sent, puts, command, peer, store_host, broker.bug)
    puts += broker.send.send_many(message, entries, header.default_topic, header.default_topic_queues, store_host, done)


def _batch_sent(
    puts: list[Put],
    command: Command,
    peer: RemotingPeer,
    store_host: Endpoint,
    on_bug: Callable[[BaseException], None],
    last: Put,
    error: LogError | None,
) -> None:
    if command.is_one_way:
        return
    try:
        if error is not None:
            _refuse(command, peer, error)
            return
        ids = ",".join(offset_message_id(store_host, put.log_offset) for put in puts)
        queue_id, first = last.queue.queue_id, puts[0].queue_offset
        peer.write(encode_send_reply(command.request_id, ids, queue_id, first, "", last.synced))
    except Exception as mistake:
        on_bug(mistake)
