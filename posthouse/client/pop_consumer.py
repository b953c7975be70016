"""Takes messages one by one, each for a time, and says of each what became of it. No queue is anybody's own.

    async with SimpleConsumer("group") as consumer:
        for message in await consumer.receive("orders", invisible_s=30):
            ...
            await consumer.ack(message)

A message that is not acknowledged in its time comes again, to whoever receives next; `change_invisible_time` gives it
more time, or gives it back at once. Any number of consumers can share one queue. What an answer brought that was
lost, or that nobody waited for any more, comes again as well.

With several brokers each is asked in turn, and each holds the request only for a part of the time.
Source: RocketMQ 5.3 DefaultMQPushConsumerImpl.popMessage, MQClientAPIImpl.processPopResponse.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from posthouse.client.client import Client
from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker
from posthouse.client.outbox import check_group_name, check_topic_name
from posthouse.client.received import ReceivedMessage, open_record
from posthouse.client.session import Session
from posthouse.codec.record import RecordError, decode_records
from posthouse.codec.remoting.bodies.pop import BatchAck, encode_batch_ack
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.pop import CHANGE_INVISIBLE_TIME_REPLY, POP_MESSAGE_REPLY, PopMessageReply
from posthouse.codec.remoting.receipts import (
    Receipt,
    decode_offset_info,
    decode_order_count_info,
    decode_receipt,
    decode_start_offset_info,
    encode_receipt,
)
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.filter import ALL, TAG, Subscription, parse_subscription
from posthouse.model.limits import POP_INVISIBLE_MS_MAX, POP_MESSAGES_MAX, POP_POLL_MS_MAX
from posthouse.model.message import MessageQueue, StoredMessage
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import ANY_QUEUE, Source, source_topic
from posthouse.model.refusal import Refused

INVISIBLE_SECONDS = 60.0
"""RocketMQ: popInvisibleTime."""

WAIT_SECONDS = 15.0
"""RocketMQ: the pollTime of its client."""

ANSWER_SECONDS = 10.0
"""What an answer may take beyond the time for which the broker holds the request."""

TURN_SECONDS = 1.0
"""For which each of several brokers holds the request before the next is asked."""


@dataclass(slots=True)
class PoppedMessage(ReceivedMessage):
    """A message for a time. `receipt` names this delivery of it; a change of its time gives it a new one."""

    receipt: str = ""

    @property
    def invisible_until_ms(self) -> EpochMs:
        """When others may get it, by the broker's clock."""
        receipt = decode_receipt(self.receipt)
        return EpochMs(receipt.at_ms + receipt.invisible_ms)


class SimpleConsumer(Client):
    """Use it inside `async with`."""

    def __init__(
        self, group: str, nameservers: str | Iterable[str] = "127.0.0.1:9876", *, host: Host | None = None
    ) -> None:
        check_group_name(group)
        self.group = group
        super().__init__(Session(nameservers, host=host, kind="simple consumer"))
        self._turn = 0

    async def receive(
        self,
        topic: str,
        max_messages: int = 16,
        *,
        invisible_s: float = INVISIBLE_SECONDS,
        wait_s: float = WAIT_SECONDS,
        expression: str = ALL,
        expression_type: str = TAG,
        ordered: bool = False,
        start: Literal["begin", "end"] = "begin",
    ) -> list[PoppedMessage]:
        """Up to `max_messages` (at most 32) that nobody else gets for `invisible_s`; none if none came in `wait_s`.

        `ordered`: in the order of their queues, of which each gives nothing more until what it gave is acknowledged.
        `start`: where a group begins that is new to the topic. Raises PosthouseError; ValueError for what cannot be.
        """
        if not 1 <= max_messages <= POP_MESSAGES_MAX:
            raise ValueError(f"max_messages={max_messages}; 1 to {POP_MESSAGES_MAX} are possible")
        if not 0 < invisible_s * 1000 <= POP_INVISIBLE_MS_MAX:
            raise ValueError(f"invisible_s={invisible_s:g}; up to {POP_INVISIBLE_MS_MAX // 1000} s are possible")
        subscription = _subscription(topic, expression, expression_type)
        ext = {
            "consumerGroup": self.group,
            "topic": topic,
            "queueId": str(ANY_QUEUE),
            "maxMsgNums": str(max_messages),
            "invisibleTime": str(max(1, round(invisible_s * 1000))),
            "initMode": "1" if start == "end" else "0",
            "expType": subscription.expression_type,
            "exp": subscription.expression,
            "order": "true" if ordered else "false",
        }
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        is_first_round = True
        while True:
            brokers = await self._brokers(topic)
            for broker_name in brokers:
                left_s = max(0.0, deadline - loop.time())
                held_s = left_s if len(brokers) == 1 else 0.0 if is_first_round else min(TURN_SECONDS, left_s)
                messages = await self._pop(broker_name, topic, ext, held_s, subscription)
                if messages:
                    return messages
            is_first_round = False
            if loop.time() >= deadline:
                return []

    async def _brokers(self, topic: str) -> list[str]:
        """Whom to ask, each time with another one first."""
        queues = (await self._session.queues(topic)).read_queues
        found = sorted({queue.broker_name for queue in queues})
        if not found:
            raise NoBroker(f"no broker has a queue of {topic} that can be read")
        self._turn += 1
        first = self._turn % len(found)
        return found[first:] + found[:first]

    async def _pop(
        self, broker_name: str, topic: str, ext: dict[str, str], held_s: float, subscription: Subscription
    ) -> list[PoppedMessage]:
        poll_ms = min(round(held_s * 1000), POP_POLL_MS_MAX)
        answer = await self._session.ask_broker(
            self._session.address_of(broker_name),
            RequestCode.POP_MESSAGE,
            ext | {"pollTime": str(poll_ms), "bornTime": "0", "bname": broker_name},
            doing=f"give messages of {topic}",
            timeout_s=poll_ms / 1000 + ANSWER_SECONDS,
        )
        if answer.code in (ResponseCode.POLLING_TIMEOUT, ResponseCode.PULL_NOT_FOUND):
            return []
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(broker_name, answer.code, answer.remark, f"give messages of {topic}")
        try:
            found = _open(answer, broker_name, topic)
        except (WireError, RecordError, KeyError, IndexError) as error:
            raise BadAnswer(f"what {broker_name} gave of {topic} cannot be read: {error!r}") from None
        wanted = [message for message in found if subscription.matches_tag(message.tag)]
        if len(wanted) < len(found):  # the broker compares hashes of tags
            await self.ack_all([message for message in found if not subscription.matches_tag(message.tag)])
        return wanted

    async def ack(self, message: PoppedMessage) -> None:
        """The message is done. If its time is over already it comes again, and this changes nothing.

        Raises PosthouseError; then it may come again.
        """
        await self._about(message, RequestCode.ACK_MESSAGE, {}, "take an acknowledgement")

    async def ack_all(self, messages: Iterable[PoppedMessage]) -> None:
        """The same for several at once: one request for each broker."""
        by_broker: dict[str, dict[tuple[object, ...], BatchAck]] = {}
        for message in messages:
            receipt = decode_receipt(message.receipt)
            key = (message.topic, *receipt[:7])
            acks = by_broker.setdefault(receipt.broker_name, {})
            before = acks.get(key)
            offsets = (receipt.offset,) if before is None else (*before.offsets, receipt.offset)
            acks[key] = self._batch_ack(message.topic, receipt, offsets)
        for broker_name, acks in by_broker.items():
            answer = await self._session.ask_broker(
                self._session.address_of(broker_name),
                RequestCode.BATCH_ACK_MESSAGE,
                {"bname": broker_name},
                encode_batch_ack(broker_name, acks.values()),
                doing="take acknowledgements",
            )
            if answer.code != ResponseCode.SUCCESS:
                raise BrokerRefused(broker_name, answer.code, answer.remark, "take acknowledgements")

    def _batch_ack(self, topic: str, receipt: Receipt, offsets: tuple[QueueOffset, ...]) -> BatchAck:
        return BatchAck(
            self.group,
            topic,
            receipt.source,
            min(receipt.start, *offsets),
            receipt.queue_id,
            receipt.revive_queue_id,
            receipt.at_ms,
            receipt.invisible_ms,
            offsets,
        )

    async def change_invisible_time(self, message: PoppedMessage, invisible_s: float) -> None:
        """Nobody else gets the message for so long from now on; 0 gives it back. It has a new receipt then.

        Raises BrokerRefused (208) when its time was over already: others may have it. Raises PosthouseError.
        """
        if not 0 <= invisible_s * 1000 <= POP_INVISIBLE_MS_MAX:
            raise ValueError(f"invisible_s={invisible_s:g}; 0 to {POP_INVISIBLE_MS_MAX // 1000} s are possible")
        ext = {"invisibleTime": str(round(invisible_s * 1000))}
        answer = await self._about(message, RequestCode.CHANGE_MESSAGE_INVISIBLETIME, ext, "change a message's time")
        try:
            reply = CHANGE_INVISIBLE_TIME_REPLY.decode(answer.ext)
        except WireError as error:
            raise BadAnswer(f"the answer of {message.broker_name} cannot be read: {error}") from None
        before = decode_receipt(message.receipt)
        message.receipt = encode_receipt(
            before._replace(
                start=before.offset,
                at_ms=EpochMs(reply.at_ms),
                invisible_ms=reply.invisible_ms,
                revive_queue_id=reply.revive_queue_id,
            )
        )

    async def _about(self, message: PoppedMessage, code: RequestCode, ext: dict[str, str], doing: str) -> Command:
        receipt = decode_receipt(message.receipt)
        answer = await self._session.ask_broker(
            self._session.address_of(receipt.broker_name),
            code,
            {
                "consumerGroup": self.group,
                "topic": source_topic(receipt.source, self.group, message.topic),
                "queueId": str(receipt.queue_id),
                "offset": str(receipt.offset),
                "extraInfo": message.receipt,
                "bname": receipt.broker_name,
                **ext,
            },
            doing=doing,
        )
        if answer.code != ResponseCode.SUCCESS:
            raise BrokerRefused(receipt.broker_name, answer.code, answer.remark, doing)
        return answer


def _subscription(topic: str, expression: str, expression_type: str) -> Subscription:
    """Raises ValueError."""
    check_topic_name(topic)
    try:
        return parse_subscription(topic, expression, expression_type)
    except Refused as refused:
        raise ValueError(f"the expression for {topic}: {refused.remark}") from None


def _open(answer: Command, broker_name: str, topic: str) -> list[PoppedMessage]:
    """The messages of an answer with their receipts. Raises WireError, RecordError, KeyError, IndexError."""
    head = POP_MESSAGE_REPLY.decode(answer.ext)
    starts = decode_start_offset_info(head.start_offset_info or "")
    offsets = decode_offset_info(head.offset_info or "")
    counts = decode_order_count_info(head.order_count_info or "")
    seen: dict[tuple[Source, int], int] = {}
    found: list[PoppedMessage] = []
    for stored in decode_records(answer.body):
        text = stored.properties.get(names.POP_CK)
        if text is None:
            key = _source(stored), stored.queue_id
            index = seen.get(key, 0)
            seen[key] = index + 1
            offset = offsets[key][index]
            text = _receipt(head, broker_name, key, starts[key], offset)
            times = counts.get((*key, offset), counts.get((*key, None), 0))
            stored.reconsume_times = max(stored.reconsume_times, times)
        queue = MessageQueue(stored.topic, broker_name, stored.queue_id)
        stored.topic = topic
        for message in open_record(stored, queue):
            fields = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
            found.append(PoppedMessage(**fields, receipt=text))
    return found


def _source(stored: StoredMessage) -> Source:
    """Of a message that has no receipt in it: its topic tells."""
    if not stored.topic.startswith("%RETRY%"):
        return Source.NORMAL
    return Source.RETRY_V2 if "+" in stored.topic else Source.RETRY


def _receipt(
    head: PopMessageReply, broker_name: str, key: tuple[Source, int], start: QueueOffset, offset: QueueOffset
) -> str:
    source, queue_id = key
    at_ms = EpochMs(head.at_ms)
    return encode_receipt(
        Receipt(start, at_ms, head.invisible_ms, head.revive_queue_id, source, broker_name, queue_id, offset)
    )
