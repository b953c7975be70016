"""What a producer gets for a message: where it is, and how safe it is there."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from posthouse.codec.remoting.codes import ResponseCode
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset


class SendStatus(IntEnum):
    """The message is stored in all four cases; all but SEND_OK say that a promise of the broker was not met in time."""

    SEND_OK = ResponseCode.SUCCESS
    FLUSH_DISK_TIMEOUT = ResponseCode.FLUSH_DISK_TIMEOUT
    SLAVE_NOT_AVAILABLE = ResponseCode.SLAVE_NOT_AVAILABLE
    FLUSH_SLAVE_TIMEOUT = ResponseCode.FLUSH_SLAVE_TIMEOUT


class SendReceipt(NamedTuple):
    """`message_id` stays the same over retries of one send; `offset_message_id` is the place of the record.

    `durability`: "disk" when it was synced before the answer, so that it survives a power cut; "os" when the operating
    system has it, so that it survives the end of the broker's process; None when the broker does not say (Apache's).
    """

    message_id: str
    offset_message_id: str
    queue: MessageQueue
    queue_offset: QueueOffset
    status: SendStatus
    region: str
    durability: str | None = None
