"""What a broker asks its clients over their own connections, and what they say.

A question says nothing of how it travels: the endpoint knows its number. Source: RocketMQ 5.3 Broker2Client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


class Question(Enum):
    CONSUMER_STATUS = auto()  # how far a consumer is with each queue of a topic
    RUNNING_INFO = auto()  # what is going on inside a consumer
    CONSUME_DIRECTLY = auto()  # give this one record to your listener, now
    RESET_OFFSETS = auto()  # these are your offsets from here on; nobody answers
    REPLY = auto()  # here is the answer to a request of yours
    TRANSACTION = auto()  # how did the transaction of this half message end; the answer is a request of its own


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """`code` is the protocol's, 0 for success; `fields` and `body` are as the client wrote them."""

    code: int = 0
    remark: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
