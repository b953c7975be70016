"""Which member of an ordered group may consume a queue now: leases of LOCK_LEASE_MS.

A lease is renewed by asking again, given back by its holder, and free for anybody when its time is over. A holder whose
connection is lost keeps its leases until they end: it may still be at work on what it has.

That a queue changes hands is recorded, without a sync, before it is answered: so a broker that was killed does not
give a queue to another member while the one that had it is still at work, which RocketMQ does. After a start a member
that is not heard of keeps its queues for LOCK_KEPT_MS. A power cut may cost the last of these records.
Source: RocketMQ 5.3 RebalanceLockManager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from posthouse.model.limits import LOCK_KEPT_MS, LOCK_LEASE_MS, LOCKED_NAME_CHARS_MAX, LOCKS_MAX, QUEUES_PER_TOPIC_MAX
from posthouse.model.message import MessageQueue
from posthouse.model.refusal import Reason, Refused
from posthouse.store.queue_locks import Holders

Note = Callable[[str, str, list[MessageQueue]], None]


class _Lease(NamedTuple):
    client_id: str
    until_s: float


class Locks:
    """`note(group, client id, queues)` is told when queues change hands; an empty id means that nobody has them."""

    def __init__(self, monotonic_s: Callable[[], float], note: Note = lambda group, client_id, queues: None) -> None:
        self._now_s = monotonic_s
        self._note = note
        self._leases: dict[str, dict[tuple[str, int], _Lease]] = {}
        self._count = 0
        self.handed_over = 0
        """How often queues have changed hands. Who sees it grow waits for the commit before it answers."""

    def restore(self, holders: Holders) -> None:
        """What was so when the broker stopped, for the start. A holder that hears nothing will stop by itself."""
        until_s = self._now_s() + LOCK_KEPT_MS / 1000
        for group, queues in holders.items():
            self._leases[group] = {key: _Lease(client_id, until_s) for key, client_id in queues.items()}
            self._count += len(queues)

    def lock(self, group: str, client_id: str, queues: Iterable[MessageQueue]) -> list[MessageQueue]:
        """Those of `queues` that the client holds now: free ones, and its own, whose lease begins anew.

        Raises Refused: BUSY at LOCKS_MAX, INVALID_PARAMETER for what is no name or queue.
        """
        queues = list(queues)
        _check(group, client_id, queues)
        now_s = self._now_s()
        lease = _Lease(client_id, now_s + LOCK_LEASE_MS / 1000)
        held: list[MessageQueue] = []
        taken: list[MessageQueue] = []
        try:
            for queue in queues:
                key = queue.topic, queue.queue_id
                leases = self._leases.get(group)
                found = None if leases is None else leases.get(key)
                if found is not None and found.client_id != client_id and found.until_s > now_s:
                    continue
                if found is None:
                    self._check_room()
                    self._count += 1
                    leases = self._leases.setdefault(group, {})
                assert leases is not None
                if found is None or found.client_id != client_id:
                    taken.append(queue)
                leases[key] = lease
                held.append(queue)
        finally:
            self._changed(group, client_id, taken)
        return held

    def _changed(self, group: str, client_id: str, queues: list[MessageQueue]) -> None:
        if queues:
            self.handed_over += 1
            self._note(group, client_id, queues)

    def _check_room(self) -> None:
        if self._count >= LOCKS_MAX:
            self.expire()
        if self._count >= LOCKS_MAX:
            raise Refused(Reason.BUSY, f"{LOCKS_MAX} queues are locked, which is the limit; try again later")

    def unlock(self, group: str, client_id: str, queues: Iterable[MessageQueue]) -> None:
        """Only what the client holds is given back; the rest of `queues` is passed over."""
        leases = self._leases.get(group)
        if leases is None:
            return
        given: list[MessageQueue] = []
        for queue in queues:
            key = queue.topic, queue.queue_id
            found = leases.get(key)
            if found is not None and found.client_id == client_id:
                del leases[key]
                self._count -= 1
                given.append(queue)
        if not leases:
            del self._leases[group]
        self._changed(group, "", given)

    def holds(self, group: str) -> bool:
        """Whether a member of the group holds any queue now: then the group consumes in order."""
        leases = self._leases.get(group)
        if leases is None:
            return False
        now_s = self._now_s()
        return any(lease.until_s > now_s for lease in leases.values())

    def holder(self, group: str, topic: str, queue_id: int) -> str | None:
        """The client id of who holds a queue now."""
        lease = self._leases.get(group, {}).get((topic, queue_id))
        return lease.client_id if lease is not None and lease.until_s > self._now_s() else None

    def expire(self) -> None:
        """Forgets the leases whose time is over, for the sake of memory."""
        now_s = self._now_s()
        for group, leases in list(self._leases.items()):
            over = [key for key, lease in leases.items() if lease.until_s <= now_s]
            for key in over:
                del leases[key]
                self._count -= 1
            if not leases:
                del self._leases[group]
            self._changed(group, "", [MessageQueue(topic, "", queue_id) for topic, queue_id in over])

    def drop_group(self, group: str) -> None:
        """The group is deleted."""
        self._count -= len(self._leases.pop(group, ()))


def _check(group: str, client_id: str, queues: list[MessageQueue]) -> None:
    """Raises Refused(INVALID_PARAMETER): LOCKS_MAX bounds memory and records only if each lock is bounded."""
    for name in (group, client_id, *(queue.topic for queue in queues)):
        if len(name) > LOCKED_NAME_CHARS_MAX:
            raise Refused(
                Reason.INVALID_PARAMETER,
                f"{name[:60]!r}... has {len(name)} characters; a group, client or topic that locks has at most "
                f"{LOCKED_NAME_CHARS_MAX}",
            )
    for queue in queues:
        if not 0 <= queue.queue_id < QUEUES_PER_TOPIC_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"queue ids are 0 to {QUEUES_PER_TOPIC_MAX - 1}")
