"""Who of a group reads which queues: pure functions, the same for a client that shares by itself and for a broker.

Every member computes the same from the same two lists; nobody is asked. All members of a group must use one
strategy, clients in other languages included; `averagely` is the default everywhere.
Source: RocketMQ 5.3 AllocateMessageQueueAveragely, AllocateMessageQueueAveragelyByCircle,
AllocateMessageQueueConsistentHash.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from hashlib import md5
from typing import TypeAlias

from posthouse.model.message import MessageQueue

Strategy: TypeAlias = Callable[[str, Sequence[str], Sequence[MessageQueue]], list[MessageQueue]]
"""(own client id, ids of all members, queues of the topic) to own queues; both lists come sorted."""

VIRTUAL_NODES = 10
"""Places of one member on the ring of `consistent_hash`. RocketMQ: the same."""


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


def consistent_hash(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
    """A member that comes or goes moves few queues; shares are less even."""
    if client_id not in members:
        return []
    ring = {_place(f"{member}-{node}"): member for member in members for node in range(VIRTUAL_NODES)}
    places = sorted(ring)

    def owner(queue: MessageQueue) -> str:
        text = f"MessageQueue [topic={queue.topic}, brokerName={queue.broker_name}, queueId={queue.queue_id}]"
        return ring[places[bisect.bisect_left(places, _place(text)) % len(places)]]

    return [queue for queue in queues if owner(queue) == client_id]


def _place(key: str) -> int:
    return int.from_bytes(md5(key.encode(errors="surrogatepass"), usedforsecurity=False).digest()[:4], "big")


STRATEGIES: dict[str, Strategy] = {
    "AVG": averagely,
    "AVG_BY_CIRCLE": by_circle,
    "CONSISTENT_HASH": consistent_hash,
}
"""By the names that clients use on the wire; the others need knowledge that only the client's program has."""


def java_order(text: str) -> bytes:
    """Sort key for client ids: Java compares UTF-16 units."""
    return text.encode("utf-16-be", "surrogatepass")
