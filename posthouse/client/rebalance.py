"""Who of a group reads which queues: the strategies. Those that a broker can compute too stand in model/allocation.py.

All members of a group must use one strategy with the same parameters, clients in other languages included;
`averagely` is the default everywhere. Source: RocketMQ 5.3 AllocateMessageQueueByConfig,
AllocateMessageQueueByMachineRoom, AllocateMachineRoomNearby.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from posthouse.model.allocation import (
    STRATEGIES,
    Strategy,
    averagely,
    by_circle,
    consistent_hash,
    java_order,
)
from posthouse.model.message import MessageQueue

__all__ = [
    "Strategy",
    "averagely",
    "by_circle",
    "by_config",
    "by_machine_room",
    "consistent_hash",
    "java_order",
    "machine_room_nearby",
    "wire_name",
]


def by_config(own: Iterable[MessageQueue]) -> Strategy:
    """The queues that this member is told to read, as far as they exist; others read the rest, or nobody."""
    wanted = frozenset(own)

    def allocate(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
        return [queue for queue in queues if queue in wanted]

    return allocate


def by_machine_room(rooms: Iterable[str]) -> Strategy:
    """Only queues of brokers named `room@name`, of the given rooms; contiguous shares, the rest one by one."""
    served = frozenset(rooms)

    def allocate(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
        if client_id not in members:
            return []
        ours = [queue for queue in queues if _room_in_name(queue.broker_name) in served]
        at, size = members.index(client_id), len(ours) // len(members)
        over = len(ours) % len(members)
        found = ours[at * size : (at + 1) * size]
        if at < over:
            found.append(ours[at + size * len(members)])
        return found

    return allocate


def _room_in_name(broker_name: str) -> str | None:
    """As Java splits: `a@b` and nothing else, where empty parts at the end do not count."""
    parts = broker_name.split("@")
    while parts and not parts[-1]:
        parts.pop()
    return parts[0] if len(parts) == 2 else None


def machine_room_nearby(
    room_of_queue: Callable[[MessageQueue], str],
    room_of_member: Callable[[str], str],
    inner: Strategy = averagely,
) -> Strategy:
    """Members share the queues of their own room by `inner`; rooms without a member are shared by all.

    The functions give the room of a queue's broker and of a client id; an empty room is a ValueError.
    """

    def allocate(client_id: str, members: Sequence[str], queues: Sequence[MessageQueue]) -> list[MessageQueue]:
        if client_id not in members:
            return []
        queues_of: dict[str, list[MessageQueue]] = {}
        for queue in queues:
            queues_of.setdefault(_room(room_of_queue(queue), queue), []).append(queue)
        members_of: dict[str, list[str]] = {}
        for member in members:
            members_of.setdefault(_room(room_of_member(member), member), []).append(member)
        own_room = room_of_member(client_id)
        found = []
        own_queues = queues_of.pop(own_room, None)
        if own_queues:
            found += inner(client_id, members_of[own_room], own_queues)
        for room in sorted(queues_of, key=java_order):
            if room not in members_of:
                found += inner(client_id, members, queues_of[room])
        return found

    return allocate


def _room(name: str, of: object) -> str:
    if not name:
        raise ValueError(f"no machine room is known for {of}")
    return name


def wire_name(strategy: Strategy) -> str:
    """What brokers call it, for an assignment by the broker. Raises ValueError if they do not know it."""
    for name, known in STRATEGIES.items():
        if known is strategy:
            return name
    raise ValueError(
        "with assigned_by_broker the strategy must be one that brokers know: averagely, by_circle or consistent_hash"
    )
