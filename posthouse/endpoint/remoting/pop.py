"""Handlers of popping: 200050 to 200055 and 200151.

What a pop answers is slices of the log; only messages of retry topics are written anew, with their receipt in them.
A receipt's revive queue has no meaning here but one: 999 says that its pop was ordered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from posthouse.codec.record import RecordError
from posthouse.codec.remoting import receipts
from posthouse.codec.remoting.bodies.pop import BatchAck, decode_batch_ack
from posthouse.codec.remoting.codes import RESPONSE_CODE_OF, RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers import pop as headers
from posthouse.codec.remoting.receipts import ORDERED_REVIVE_QUEUE, REVIVE_QUEUES, Receipt, decode_receipt
from posthouse.endpoint.remoting.dispatcher import HOT, Reply, Route
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import (
    NotificationRequest,
    PopPart,
    PopReceipt,
    PopRequest,
    PopResult,
    PopStatus,
    Source,
    source_topic,
)
from posthouse.model.refusal import Reason, Refused

if TYPE_CHECKING:
    from posthouse.broker.broker import Broker
    from posthouse.broker.pop_acks import Renewed
    from posthouse.link.peer import RemotingPeer

_FROM_MAX = 1
_CODES = {
    PopStatus.FOUND: (ResponseCode.SUCCESS, "FOUND"),
    PopStatus.NOTHING: (ResponseCode.POLLING_TIMEOUT, "no message within the time of the poll"),
    PopStatus.FULL: (ResponseCode.POLLING_FULL, "too many pops are held for this group and queue, or in all"),
}


def pop(broker: Broker, header: headers.PopMessage, command: Command, peer: RemotingPeer) -> Reply | None:
    """200050."""
    request = PopRequest(
        header.consumer_group,
        header.topic,
        header.queue_id,
        header.messages_max,
        header.invisible_ms,
        0 if command.is_one_way else header.poll_ms,
        header.init_mode == _FROM_MAX,
        header.expression or None,
        header.expression_type or None,
        bool(header.order),
        header.attempt_id or "",
    )
    request_id = command.request_id

    def done(result: PopResult | Refused) -> None:
        if command.is_one_way:
            return
        if isinstance(result, Refused):
            peer.answer(response(RESPONSE_CODE_OF[result.reason], request_id, remark=result.remark))
        else:
            peer.answer(_answer(broker, request, result, request_id))

    broker.pop.pop(request, peer, done)
    return None


def _answer(broker: Broker, request: PopRequest, result: PopResult, request_id: int) -> Command:
    code, remark = _CODES[result.status]
    parts = result.parts
    head = headers.PopMessageReply(
        at_ms=result.at_ms,
        invisible_ms=result.invisible_ms,
        revive_queue_id=ORDERED_REVIVE_QUEUE if request.ordered else request_id % REVIVE_QUEUES,
        rest=result.rest,
    )
    if parts:
        head.start_offset_info = receipts.start_offset_info(parts)
        head.offset_info = receipts.offset_info(parts)
        if request.ordered:
            head.order_count_info = receipts.order_count_info(parts) or None
    buffers: list[bytes | bytearray | memoryview] = []
    for part in parts:
        if part.source is Source.NORMAL:
            buffers += part.buffers
        else:
            buffers += _retries(broker.config.name, request.topic, head, part)
    ext = headers.POP_MESSAGE_REPLY.encode(head)
    return response(code, request_id, ext, b"".join(buffers), remark)


def _retries(
    broker_name: str, topic: str, head: headers.PopMessageReply, part: PopPart
) -> Iterator[bytes | bytearray | memoryview]:
    """Messages of a retry topic under the topic that was asked for."""
    data = part.buffers[0] if len(part.buffers) == 1 else b"".join(part.buffers)
    at = 0
    for offset in part.offsets:
        size = int.from_bytes(data[at : at + 4], "big")
        record = data[at : at + size]
        at += size
        receipt = Receipt(
            part.offsets[0],
            EpochMs(head.at_ms),
            head.invisible_ms,
            head.revive_queue_id,
            part.source,
            broker_name,
            part.queue_id,
            offset,
        )
        try:
            yield receipts.retry_record(record, topic, receipt)
        except RecordError:  # its body is damaged: the client sees that, and makes its receipt of the topic's name
            yield record


def ack(broker: Broker, header: headers.AckMessage, command: Command, peer: RemotingPeer) -> Reply:
    """200051."""
    broker.pop.acks.ack(_receipt(header))
    return Reply()


def batch_ack(broker: Broker, header: None, command: Command, peer: RemotingPeer) -> Reply:
    """200151."""
    acks = decode_batch_ack(command.body) if command.body else []
    if not acks:
        raise Refused(Reason.NO_MESSAGE, "a batch of acknowledgements with nothing in it")
    broker.pop.acks.ack_many(receipt for each in acks for receipt in _receipts(each))
    return Reply()


def change_invisible_time(
    broker: Broker, header: headers.ChangeInvisibleTime, command: Command, peer: RemotingPeer
) -> Reply | None:
    """200053."""
    receipt = _receipt(header)
    request_id = command.request_id

    def done(renewed: Renewed | Refused) -> None:
        if command.is_one_way:
            return
        if isinstance(renewed, Refused):
            peer.answer(response(RESPONSE_CODE_OF[renewed.reason], request_id, remark=renewed.remark))
            return
        reply = headers.ChangeInvisibleTimeReply(
            at_ms=renewed.at_ms,
            invisible_ms=renewed.invisible_ms,
            revive_queue_id=ORDERED_REVIVE_QUEUE if receipt.ordered else request_id % REVIVE_QUEUES,
        )
        peer.answer(response(0, request_id, headers.CHANGE_INVISIBLE_TIME_REPLY.encode(reply)))

    broker.pop.acks.renew(receipt, header.invisible_ms, done)
    return None


def _receipt(header: headers.AckMessage | headers.ChangeInvisibleTime) -> PopReceipt:
    """The header says the topic that was really read. Raises WireError."""
    said = decode_receipt(header.receipt)
    return PopReceipt(
        header.consumer_group,
        header.topic,
        header.queue_id,
        QueueOffset(header.offset),
        said.at_ms,
        said.invisible_ms,
        said.revive_queue_id == ORDERED_REVIVE_QUEUE,
    )


def _receipts(ack: BatchAck) -> Iterator[PopReceipt]:
    topic = source_topic(ack.source, ack.group, ack.topic)
    ordered = ack.revive_queue_id == ORDERED_REVIVE_QUEUE
    for offset in ack.offsets:
        yield PopReceipt(ack.group, topic, ack.queue_id, offset, ack.at_ms, ack.invisible_ms, ordered)


async def peek(broker: Broker, header: headers.PeekMessage, command: Command, peer: RemotingPeer) -> Reply:
    """200052."""
    result = await broker.pop.peek(header.consumer_group, header.topic, header.queue_id, header.messages_max)
    head = headers.PopMessageReply(at_ms=result.at_ms, invisible_ms=0, revive_queue_id=0, rest=result.rest)
    ext = headers.POP_MESSAGE_REPLY.encode(head)
    if result.status is not PopStatus.FOUND:
        return Reply(ResponseCode.PULL_NOT_FOUND, ext, remark="there is no message")
    return Reply(ext=ext, body=b"".join(buffer for part in result.parts for buffer in part.buffers))


def notification(broker: Broker, header: headers.Notification, command: Command, peer: RemotingPeer) -> Reply | None:
    """200054."""
    request = NotificationRequest(
        header.consumer_group,
        header.topic,
        header.queue_id,
        0 if command.is_one_way else header.poll_ms,
        header.expression or None,
        header.expression_type or None,
        bool(header.order),
        header.attempt_id or "",
    )

    def done(has_message: bool, polling_full: bool) -> None:
        if not command.is_one_way:
            reply = headers.NotificationReply(has_message=has_message, polling_full=polling_full)
            peer.answer(response(0, command.request_id, headers.NOTIFICATION_REPLY.encode(reply)))

    broker.pop.notify(request, peer, done)
    return None


def polling_info(broker: Broker, header: headers.PollingInfo, command: Command, peer: RemotingPeer) -> Reply:
    """200055."""
    waiting = broker.pop.polling(header.consumer_group, header.topic, header.queue_id)
    return Reply(ext=headers.POLLING_INFO_REPLY.encode(headers.PollingInfoReply(waiting=waiting)))


POP_ROUTES = (
    Route(RequestCode.POP_MESSAGE, headers.POP_MESSAGE, pop, HOT),
    Route(RequestCode.ACK_MESSAGE, headers.ACK_MESSAGE, ack, HOT),
    Route(RequestCode.BATCH_ACK_MESSAGE, None, batch_ack, HOT),
    Route(RequestCode.CHANGE_MESSAGE_INVISIBLETIME, headers.CHANGE_INVISIBLE_TIME, change_invisible_time, HOT),
    Route(RequestCode.PEEK_MESSAGE, headers.PEEK_MESSAGE, peek),
    Route(RequestCode.NOTIFICATION, headers.NOTIFICATION, notification, HOT),
    Route(RequestCode.POLLING_INFO, headers.POLLING_INFO, polling_info, HOT),
)
