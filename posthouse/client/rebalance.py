"""Who of a group reads which queues. Every member computes the same from the same two lists; nobody is asked.

Source: RocketMQ 5.3 AllocateMessageQueueAveragely, AllocateMessageQueueAveragelyByCircle. All members of a group
must use one strategy, clients in other languages included; `averagely` is the default everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from posthouse.model.message import MessageQueue

Strategy: TypeAlias = Callable[[str, Sequence[str], Sequence[MessageQueue]], list[MessageQueue]]
"""(own client id, ids of all members, queues of the topic) to own queues; both lists come sorted."""


def averagely(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
    """Contiguous shares; the first members get one more when it does not divide."""
    if client_id not in members:
        return []
    at, count = members.index(client_id), len(members)
    size, over = divmod(len(queues), count)
    start = at * size + min(at, over)
    return list(queues[start : start + size + (at < over)])


def by_circle(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
    """Every n-th queue."""
    if client_id not in members:
        return []
    return list(queues[members.index(client_id) :: len(members)])


def java_order(text: str) -> bytes:
    """Sort key for client ids: Java compares UTF-16 units."""
    return text.encode("utf-16-be", "surrogatepass")
