from __future__ import annotations

import json

from posthouse.model.message import MessageQueue
from posthouse.model.offsets import LogOffset
from posthouse.store.queue_locks import QUEUES_PER_HELD, Held, Holders, QueueLocks
from posthouse.store.state_record import Kind

AT = LogOffset(0)


def queues(*places: tuple[str, int]) -> list[MessageQueue]:
    return [MessageQueue(topic, "broker-a", queue_id) for topic, queue_id in places]


def changed(locks: QueueLocks, group: str, client: str, *places: tuple[str, int], committed: bool = True) -> None:
    body = QueueLocks.body(group, client, queues(*places))
    locks.decide(Kind.LOCKS, body, AT)
    if committed:
        locks.apply(Kind.LOCKS, json.loads(json.dumps(body)), AT)


def restored(locks: QueueLocks) -> Holders:
    again = QueueLocks()
    again.restore(json.loads(json.dumps(locks.snapshot())))
    return again.live


def test_a_holder_is_known_when_decided_and_kept_when_committed() -> None:
    locks = QueueLocks()
    changed(locks, "g", "one", ("t", 0), ("t", 1), committed=False)
    assert locks.live == {"g": {("t", 0): "one", ("t", 1): "one"}}
    assert restored(locks) == {}
    changed(locks, "g", "one", ("t", 0), ("t", 1))
    changed(locks, "g", "two", ("t", 1), ("u", 0))
    assert restored(locks) == locks.live == {"g": {("t", 0): "one", ("t", 1): "two", ("u", 0): "two"}}
    assert locks.held() == [Held("g", "one", {"t": [0]}), Held("g", "two", {"t": [1], "u": [0]})]


def test_what_is_given_back_is_forgotten() -> None:
    locks = QueueLocks()
    changed(locks, "g", "one", ("t", 0), ("t", 1))
    changed(locks, "g", "", ("t", 1), ("t", 9))
    assert locks.live == {"g": {("t", 0): "one"}} == restored(locks)
    changed(locks, "g", "", ("t", 0))
    assert locks.live == {} == restored(locks)


def test_locks_go_with_their_group_and_their_topic() -> None:
    locks = QueueLocks()
    changed(locks, "g", "one", ("t", 0), ("u", 0))
    changed(locks, "h", "one", ("t", 0))
    for drop in (locks.drop_live, locks.drop_committed):
        drop(topic="t")
    assert locks.live == {"g": {("u", 0): "one"}} == restored(locks)
    for drop in (locks.drop_live, locks.drop_committed):
        drop(group="g")
    assert locks.live == {} == restored(locks)


def test_an_opening_fills_both_views() -> None:
    locks = QueueLocks()
    locks.fill(Held("g", "one", {"t": [0]}))
    assert locks.live == {"g": {("t", 0): "one"}} == restored(locks)


def test_the_queues_of_one_member_are_told_in_portions() -> None:
    locks = QueueLocks()
    changed(locks, "g", "one", *((f"t{at % 3}", at) for at in range(2 * QUEUES_PER_HELD + 1)))
    held = locks.held()
    assert [sum(map(len, each.queues.values())) for each in held] == [QUEUES_PER_HELD, QUEUES_PER_HELD, 1]
    assert restored(locks) == locks.live
