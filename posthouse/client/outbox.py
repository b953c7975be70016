"""A message on its way out: checks, compression and the header of a send, for every part of the client that sends.

The header goes out with one letter for each field (request 310; 320 for batches). It is built as a plain map, as
it is the most frequent thing that a producer makes; `SEND_MESSAGE_V2` reads it back in the tests.
Source: RocketMQ 5.3 DefaultMQProducerImpl.sendKernelImpl, SendMessageRequestHeaderV2.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from posthouse.client.errors import MessageIllegal, MessageTooLarge
from posthouse.codec.remoting.batch import ENTRY_BYTES_MIN, BatchEntry, encode_batch
from posthouse.host.clock import EpochMs
from posthouse.model import properties as names
from posthouse.model.limits import MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX
from posthouse.model.message import Message, SysFlag
from posthouse.model.names import AUTO_CREATE_TOPIC, RETRY_PREFIX, check_group, check_topic
from posthouse.model.properties import encode_properties
from posthouse.model.refusal import Refused

COMPRESSION_LEVEL = 1
"""zlib's; a higher one stops the loop for longer than it saves on the wire. RocketMQ's default is 5."""

SINGLE_ONLY = frozenset({names.DELAY, "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS", names.TRAN_MSG})
"""Messages with one of these properties cannot be part of a batch."""


class Parcel(NamedTuple):
    """One message as it goes on the wire. `properties` is the encoded text."""

    topic: str
    message_id: str
    body: bytes
    properties: str
    flag: int
    sys_flag: int


def check_topic_name(topic: str) -> None:
    """Raises MessageIllegal."""
    try:
        check_topic(topic)
    except Refused as refused:
        raise MessageIllegal(refused.remark) from None


def check_group_name(group: str) -> None:
    """Raises ValueError."""
    try:
        check_group(group)
    except Refused as refused:
        raise ValueError(refused.remark) from None


def pack(message: Message, message_id: str, compress_over_bytes: int | None = None) -> Parcel:
    """Checked and encoded; the body is compressed if it is large and that makes it smaller.

    A message that carries an id already keeps it. Raises MessageIllegal, MessageTooLarge.
    """
    body = message.body
    given: object = body
    if isinstance(given, str):
        raise MessageIllegal("the body is text; send bytes, for example text.encode()")
    size = len(body)
    if not size:
        raise MessageIllegal("the body is empty, which brokers refuse: send at least one byte")
    if size > MESSAGE_BYTES_MAX:
        raise MessageTooLarge(size)
    properties = message.all_properties()
    message_id = properties.setdefault(names.UNIQ_KEY, message_id)
    properties.setdefault(names.WAIT, "true")
    try:
        text = encode_properties(properties)
    except ValueError as error:
        raise MessageIllegal(str(error)) from None
    if len(text) > PROPERTIES_BYTES_MAX // 4 and len(text.encode()) > PROPERTIES_BYTES_MAX:
        raise MessageIllegal(
            f"the properties have {len(text.encode())} bytes; the limit is {PROPERTIES_BYTES_MAX}: "
            "put large values into the body"
        )
    sys_flag = 0
    if compress_over_bytes is not None and size >= compress_over_bytes:
        packed = zlib.compress(body, COMPRESSION_LEVEL)
        if len(packed) < size:
            body, sys_flag = packed, SysFlag.COMPRESSED
    return Parcel(message.topic, message_id, bytes(body), text, message.flag, sys_flag)


def send_ext(
    group: str,
    parcel: Parcel,
    now_ms: EpochMs,
    *,
    reconsume_times: int = 0,
    reconsume_times_max: int | None = None,
    template: str = AUTO_CREATE_TOPIC,
    template_queues: int = 4,
    batch: bool = False,
) -> dict[str, str]:
    """The header, but for the queue: `aim` adds that for each try."""
    ext = {
        "a": group,
        "b": parcel.topic,
        "c": template,
        "d": str(template_queues),
        "f": str(parcel.sys_flag),
        "g": str(now_ms),
        "h": str(parcel.flag),
        "i": parcel.properties,
        "j": str(reconsume_times),
        "k": "false",
        "m": "true" if batch else "false",
    }
    if reconsume_times_max is not None:
        ext["l"] = str(reconsume_times_max)
    return ext


def aim(ext: dict[str, str], broker_name: str, queue_id: int) -> None:
    """Sets the queue that this try goes to."""
    ext["e"] = str(queue_id)
    ext["n"] = broker_name


def fits_batch(message: Message) -> bool:
    """Whether it may travel with others."""
    return not SINGLE_ONLY.intersection(message.properties) and not message.topic.startswith(RETRY_PREFIX)


def split_batch(parcels: Sequence[Parcel], bytes_max: int = MESSAGE_BYTES_MAX) -> list[list[Parcel]]:
    """Runs of messages, in order, none over `bytes_max` when encoded (but a message is never cut)."""
    chunks: list[list[Parcel]] = []
    room = 0
    for parcel in parcels:
        size = ENTRY_BYTES_MIN + len(parcel.body) + len(parcel.properties.encode())
        if not chunks or size > room:
            chunks.append([])
            room = bytes_max
        chunks[-1].append(parcel)
        room -= size
    return chunks


def pack_batch(parcels: Sequence[Parcel]) -> Parcel:
    """The batch as one message. Raises MessageTooLarge.

    Its own properties hold no id: brokers of the 5.x line append them to those of each message, and the last wins.
    """
    properties = encode_properties({names.WAIT: "true"})
    try:
        body = encode_batch(BatchEntry(each.body, each.properties, each.flag) for each in parcels)
    except ValueError:
        raise MessageTooLarge(sum(len(each.body) for each in parcels), "the batch") from None
    return Parcel(parcels[0].topic, "", body, properties, 0, 0)
