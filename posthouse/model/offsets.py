"""Numbers that must not be mixed up: where a byte is in the log, and which message of a queue is meant."""

from __future__ import annotations

from typing import NewType

LogOffset = NewType("LogOffset", int)
"""A byte position in the one log. RocketMQ: commit-log offset, physical offset."""

QueueOffset = NewType("QueueOffset", int)
"""The number of a message in its queue; starts at 0, dense. RocketMQ: queueOffset, logical offset."""
