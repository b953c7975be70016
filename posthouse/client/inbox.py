"""What a consumer holds of one queue: messages pulled and not yet done, and what may be committed.

The offset to commit is the smallest that is not done, so a crash repeats messages and never skips one. Messages
come in the order of the queue and are done in any order. An inbox that has been dropped (the queue went to another
member, or was moved to another offset) takes no part any more: its messages belong to whoever reads the queue now.
"""

from __future__ import annotations

from collections.abc import Sequence

from posthouse.model.message import MessageQueue, StoredMessage
from posthouse.model.offsets import QueueOffset

INBOX_MESSAGES_MAX = 1000
"""Messages of one queue pulled and not done, above which pulling rests. RocketMQ: pullThresholdForQueue."""

INBOX_BYTES_MAX = 100 * 1024 * 1024
"""Bytes of bodies likewise. RocketMQ: pullThresholdSizeForQueue."""

INBOX_SPAN_MAX = 2000
"""Offsets between the oldest not done and the next to pull. RocketMQ: consumeConcurrentlyMaxSpan."""


class QueueInbox:
    __slots__ = ("_bytes", "_sizes", "dropped", "next_offset", "queue")

    def __init__(self, queue: MessageQueue, next_offset: QueueOffset) -> None:
        self.queue = queue
        self.next_offset = next_offset  # the next to be pulled
        self.dropped = False
        self._sizes: dict[QueueOffset, int] = {}  # offset to bytes, in the order of offsets
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def pulled(self, messages: Sequence[StoredMessage], next_offset: QueueOffset) -> None:
        """`messages` are those that will be handled; offsets between them that are missing need no handling."""
        for message in messages:
            size = len(message.body)
            self._sizes[message.queue_offset] = size
            self._bytes += size
        self.next_offset = next_offset

    def done(self, offset: QueueOffset) -> None:
        self._bytes -= self._sizes.pop(offset, 0)

    @property
    def commit_offset(self) -> QueueOffset:
        """Everything before it is done."""
        return next(iter(self._sizes), self.next_offset)

    @property
    def full(self) -> bool:
        """Whether pulling should rest."""
        if not self._sizes:
            return False
        return (
            len(self._sizes) > INBOX_MESSAGES_MAX
            or self._bytes > INBOX_BYTES_MAX
            or self.next_offset - next(iter(self._sizes)) > INBOX_SPAN_MAX
        )
