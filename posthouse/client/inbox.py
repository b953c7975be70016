"""What a consumer holds of one queue: messages pulled and not yet done, and what may be committed.

The offset to commit is the smallest that is not done, so a crash repeats messages and never skips one. Messages
come in the order of the queue and are done in any order. An inbox that has been dropped (the queue went to another
member, or was moved to another offset) takes no part any more: its messages belong to whoever reads the queue now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.model.message import MessageQueue, StoredMessage
from posthouse.model.offsets import QueueOffset

INBOX_MESSAGES_MAX = 1000
"""Messages of one queue pulled and not done, above which pulling rests. RocketMQ: pullThresholdForQueue."""

INBOX_BYTES_MAX = 100 * 1024 * 1024
"""Bytes of bodies likewise. RocketMQ: pullThresholdSizeForQueue."""

INBOX_SPAN_MAX = 2000
"""Offsets between the oldest not done and the next to pull. RocketMQ: consumeConcurrentlyMaxSpan."""


class InboxLimits(NamedTuple):
    """Of one queue; a pull may go over each by what it brings."""

    messages: int = INBOX_MESSAGES_MAX
    bytes: int = INBOX_BYTES_MAX
    span: int = INBOX_SPAN_MAX


PLAIN_LIMITS = InboxLimits()


class Held:
    """What all inboxes of one consumer hold together."""

    __slots__ = ("bytes", "bytes_max", "messages", "messages_max")

    def __init__(self, messages_max: int | None = None, bytes_max: int | None = None) -> None:
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.messages = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        return (self.messages_max is not None and self.messages > self.messages_max) or (
            self.bytes_max is not None and self.bytes > self.bytes_max
        )


class QueueInbox:
    __slots__ = ("_bytes", "_dropped", "_held", "_limits", "_sizes", "next_offset", "queue")

    def __init__(
        self,
        queue: MessageQueue,
        next_offset: QueueOffset,
        limits: InboxLimits = PLAIN_LIMITS,
        held: Held | None = None,
    ) -> None:
        self.queue = queue
        self.next_offset = next_offset  # the next to be pulled
        self._dropped = False
        self._limits = limits
        self._held = held or Held()
        self._sizes: dict[QueueOffset, int] = {}  # offset to bytes, in the order of offsets
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def dropped(self) -> bool:
        return self._dropped

    def drop(self) -> None:
        """Twice is fine."""
        if not self._dropped:
            self._dropped = True
            self._held.messages -= len(self._sizes)
            self._held.bytes -= self._bytes

    def pulled(self, messages: Sequence[StoredMessage], next_offset: QueueOffset) -> None:
        """`messages` are those that will be handled; offsets between them that are missing need no handling."""
        sizes, added = self._sizes, 0
        for message in messages:
            size = len(message.body)
            sizes[message.queue_offset] = size
            added += size
        self._bytes += added
        self.next_offset = next_offset
        self._held.messages += len(messages)
        self._held.bytes += added

    def done(self, offset: QueueOffset) -> None:
        size = self._sizes.pop(offset, None)
        if size is not None:
            self._bytes -= size
            if not self._dropped:
                self._held.messages -= 1
                self._held.bytes -= size

    @property
    def commit_offset(self) -> QueueOffset:
        """Everything before it is done."""
        return next(iter(self._sizes), self.next_offset)

    @property
    def last_offset(self) -> QueueOffset:
        """The newest that is not done; 0 if there is none."""
        return next(reversed(self._sizes), QueueOffset(0))

    @property
    def full(self) -> bool:
        """Whether pulling should rest."""
        if self._held.full:
            return True
        if not self._sizes:
            return False
        limits = self._limits
        return (
            len(self._sizes) > limits.messages
            or self._bytes > limits.bytes
            or self.next_offset - next(iter(self._sizes)) > limits.span
        )
