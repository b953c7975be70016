"""A message as a handler gets it: the record opened. The body is inflated, a retried message has its topic back.

A message pulled from `%RETRY%group` is an earlier message that failed: `topic` is the one it was sent to, while
`queue` stays the queue that it was pulled from, to which offsets belong.
Source: RocketMQ 5.3 PullAPIWrapper.processPullResult, DefaultMQPushConsumerImpl.resetRetryAndNamespace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from posthouse.codec.compression import inflate_body
from posthouse.codec.record import RecordError, decode_records
from posthouse.codec.remoting.batch import decode_batch
from posthouse.codec.remoting.frame import WireError
from posthouse.model import properties as names
from posthouse.model.filter import Subscription
from posthouse.model.message import MessageQueue, StoredMessage, SysFlag
from posthouse.model.names import RETRY_PREFIX
from posthouse.model.offsets import QueueOffset
from posthouse.model.properties import decode_properties

_INNER_BASE = "INNER_BASE"
_NO_QUEUE = MessageQueue("", "", 0)


@dataclass(slots=True)
class ReceivedMessage(StoredMessage):
    """`damage` says why the body could not be opened (then it is as stored), and is empty otherwise."""

    queue: MessageQueue = _NO_QUEUE
    damage: str = ""

    @property
    def attempt(self) -> int:
        """1 for the first delivery to this group, 2 for its first retry, and so on."""
        return self.reconsume_times + 1

    @property
    def is_request(self) -> bool:
        """Whether its sender waits for an answer: what the handler returns, if that is bytes or a Reply."""
        return names.CORRELATION_ID in self.properties and names.REPLY_TO_CLIENT in self.properties

    @property
    def sharding_key(self) -> str:
        return self.properties.get(names.SHARDING_KEY, "")


def open_records(body: bytes, queue: MessageQueue) -> list[ReceivedMessage]:
    """The messages of a pull answer from that queue, in order. Raises RecordError."""
    return [message for stored in decode_records(body) for message in open_record(stored, queue)]


def wanted_from(
    messages: list[ReceivedMessage], subscription: Subscription, first: QueueOffset
) -> list[ReceivedMessage]:
    """What is left after the exact test of tags (the broker compared hashes), from the offset asked for on."""
    if not subscription.tags and (not messages or messages[0].queue_offset >= first):
        return messages
    return [each for each in messages if each.queue_offset >= first and subscription.matches_tag(each.tag)]


def open_record(stored: StoredMessage, queue: MessageQueue) -> list[ReceivedMessage]:
    """The message in a record, or the messages if it is a batch that brokers keep whole."""
    if stored.sys_flag & SysFlag.INNER_BATCH and stored.sys_flag & SysFlag.NEED_UNWRAP:
        try:
            return _unwrap(stored, queue)
        except (WireError, ValueError) as error:
            return [_received(stored, queue, stored.body, f"the batch in it cannot be read: {error}")]
    try:
        body, damage = inflate_body(stored), ""
    except RecordError as error:
        body, damage = stored.body, str(error)
    return [_received(stored, queue, body, damage)]


def _received(stored: StoredMessage, queue: MessageQueue, body: bytes, damage: str = "") -> ReceivedMessage:
    topic = stored.topic
    if topic.startswith(RETRY_PREFIX):
        topic = stored.properties.get(names.RETRY_TOPIC) or topic
    return ReceivedMessage(
        topic,
        stored.queue_id,
        stored.queue_offset,
        stored.log_offset,
        body,
        stored.properties,
        stored.flag,
        stored.sys_flag,
        stored.born_at_ms,
        stored.born_host,
        stored.stored_at_ms,
        stored.store_host,
        stored.reconsume_times,
        stored.prepared_transaction_offset,
        stored.store_size_bytes,
        stored.body_crc,
        queue.broker_name,
        queue,
        damage,
    )


def _unwrap(stored: StoredMessage, queue: MessageQueue) -> list[ReceivedMessage]:
    """One record that holds several messages (topics of type BatchCQ). Raises WireError, ValueError."""
    base = int(stored.properties.get(_INNER_BASE, stored.queue_offset))
    whole = _received(stored, queue, stored.body)
    return [
        replace(
            whole,
            body=entry.body,
            properties=stored.properties | decode_properties(entry.properties),
            flag=entry.flag,
            queue_offset=QueueOffset(base + at),
        )
        for at, entry in enumerate(decode_batch(stored.body))
    ]
