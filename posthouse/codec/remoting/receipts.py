"""The texts that a pop's answer and its receipts are made of, exactly as clients take them apart.

A receipt is eight words with a blank between them:

    start offset, pop time, invisible time, revive queue, source, broker name, queue id, queue offset

Clients make it themselves of an answer's `startOffsetInfo` and `msgOffsetInfo`: for each (source, queue) one entry
of three words, the third of `msgOffsetInfo` being the offsets of its messages in the order of the body. A message of a
retry topic has the receipt in its property POP_CK already, as its topic is changed to the one that was asked for.
Source: RocketMQ 5.3 ExtraInfoUtil, MQClientAPIImpl.processPopResponse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from posthouse.codec.record import Bytes, encode_record, record_again
from posthouse.codec.remoting.frame import WireError
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.limits import PROPERTIES_BYTES_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import PopPart, Source
from posthouse.model.properties import set_property

REVIVE_QUEUES = 8
"""Revive queues that receipts may name; here a number without a meaning. RocketMQ: reviveQueueNum."""
ORDERED_REVIVE_QUEUE = 999
"""Says that the receipt is of an ordered pop."""

_WORDS = 8


class Receipt(NamedTuple):
    """A receipt as it is on the wire. `start` is the first offset of its pop in that queue."""

    start: QueueOffset
    at_ms: EpochMs
    invisible_ms: int
    revive_queue_id: int
    source: Source
    broker_name: str
    queue_id: int
    offset: QueueOffset


def encode_receipt(receipt: Receipt) -> str:
    assert " " not in receipt.broker_name, "a broker name with a blank would make receipts unreadable"
    return (
        f"{receipt.start} {receipt.at_ms} {receipt.invisible_ms} {receipt.revive_queue_id} {receipt.source:d} "
        f"{receipt.broker_name} {receipt.queue_id} {receipt.offset}"
    )


def decode_receipt(text: str) -> Receipt:
    """Raises WireError."""
    words = text.split(" ")
    if len(words) < _WORDS:
        raise WireError(f"the receipt {text[:120]!r} has {len(words)} parts; {_WORDS} are needed")
    try:
        start, at_ms, invisible_ms, revive_queue_id, source = map(_number, words[:5])
        queue_id, offset = map(_number, words[6:8])
        return Receipt(
            QueueOffset(start),
            EpochMs(at_ms),
            invisible_ms,
            revive_queue_id,
            Source(source),
            words[5],
            queue_id,
            QueueOffset(offset),
        )
    except ValueError:
        raise WireError(f"the receipt {text[:120]!r} cannot be read") from None


def _number(word: str) -> int:
    """As Java reads it. Raises ValueError."""
    if not word.removeprefix("-").isdecimal() or not word.isascii() or len(word) > 20:
        raise ValueError(word)
    return int(word)


# What an answer says of its messages


def start_offset_info(parts: Iterable[PopPart]) -> str:
    return ";".join(f"{part.source:d} {part.queue_id} {part.offsets[0]}" for part in parts)


def offset_info(parts: Iterable[PopPart]) -> str:
    return ";".join(f"{part.source:d} {part.queue_id} {','.join(map(str, part.offsets))}" for part in parts)


def order_count_info(parts: Iterable[PopPart]) -> str:
    """How often each message was given before, those that were; ordered pops only."""
    return ";".join(
        f"{part.source:d} qo{part.queue_id}%{offset} {times}"
        for part in parts
        for offset, times in zip(part.offsets, part.times, strict=True)
        if times
    )


PartKey = tuple[Source, int]
"""Source and queue id."""


def decode_start_offset_info(text: str) -> dict[PartKey, QueueOffset]:
    """Raises WireError."""
    return {key: QueueOffset(_offset(third)) for key, third in _entries(text)}


def decode_offset_info(text: str) -> dict[PartKey, list[QueueOffset]]:
    """Raises WireError."""
    return {key: [QueueOffset(_offset(word)) for word in third.split(",")] for key, third in _entries(text)}


def decode_order_count_info(text: str) -> Mapping[tuple[Source, int, QueueOffset | None], int]:
    """By source, queue and offset; offset None: of all of the queue. Raises WireError."""
    found: dict[tuple[Source, int, QueueOffset | None], int] = {}
    for source, queue, third in _words(text):
        queue_text, marked, offset_text = queue.removeprefix("qo").partition("%")
        offset = QueueOffset(_offset(offset_text)) if marked else None
        found[source, _offset(queue_text), offset] = _offset(third)
    return found


def _entries(text: str) -> list[tuple[PartKey, str]]:
    return [((source, _offset(queue)), third) for source, queue, third in _words(text)]


def _words(text: str) -> list[tuple[Source, str, str]]:
    found: list[tuple[Source, str, str]] = []
    for entry in text.split(";") if text else ():
        words = entry.split(" ")
        if len(words) != 3:
            raise WireError(f"{entry[:60]!r} in the answer to a pop has not three parts")
        try:
            found.append((Source(_number(words[0])), words[1], words[2]))
        except ValueError:
            raise WireError(f"{words[0][:60]!r} in the answer to a pop is no source of messages") from None
    return found


def _offset(word: str) -> int:
    try:
        return _number(word)
    except ValueError:
        raise WireError(f"{word[:60]!r} in the answer to a pop is no number") from None


def retry_record(data: Bytes, topic: str, receipt: Receipt) -> Bytes:
    """A record of a retry topic as it is given: under the topic that was asked for, with its receipt.

    Queue and queue offset stay the retry topic's own. One whose properties have no room for that is given as it is:
    clients then make the receipt by themselves, of the name of its topic. Raises RecordError.
    """
    again = record_again(data)
    properties = set_property(again.message.properties, names.POP_CK, encode_receipt(receipt)).encode()
    if len(properties) > PROPERTIES_BYTES_MAX:
        return data
    return encode_record(
        again.message,
        topic=topic.encode(),
        properties=properties,
        queue_offset=again.queue_offset,
        log_offset=again.log_offset,
        stored_at_ms=again.stored_at_ms,
        store_host=again.store_host,
        prepared_transaction_offset=again.replaces,
    )
