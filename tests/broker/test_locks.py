"""Leases on queues of ordered groups."""

from __future__ import annotations

import pytest

from posthouse.broker import locks as locks_module
from posthouse.broker.locks import Locks
from posthouse.model.limits import LOCK_KEPT_MS, LOCK_LEASE_MS
from posthouse.model.message import MessageQueue
from posthouse.model.refusal import Reason, Refused
from tests.broker.brokers import host_on, running
from tests.store.disks import FaultyDisk

LEASE_S = LOCK_LEASE_MS / 1000
ONE, TWO, THREE = (MessageQueue("T", "broker-a", number) for number in range(3))


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_free_queue_is_locked_and_one_of_another_member_is_not() -> None:
    locks = Locks(Time())
    assert locks.lock("G", "a", [ONE, TWO]) == [ONE, TWO]
    assert locks.lock("G", "b", [ONE, THREE]) == [THREE]
    assert locks.lock("G", "a", [ONE]) == [ONE], "what it holds already is told again"
    assert locks.lock("H", "b", [ONE]) == [ONE], "another group has locks of its own"
    assert (locks.holder("G", "T", 0), locks.holder("G", "T", 2), locks.holder("G", "T", 9)) == ("a", "b", None)


def test_a_lease_ends_unless_it_is_renewed() -> None:
    time = Time()
    locks = Locks(time)
    locks.lock("G", "a", [ONE, TWO])
    time.now_s += LEASE_S - 1
    assert locks.lock("G", "b", [ONE]) == []
    locks.lock("G", "a", [ONE])
    time.now_s += 1
    assert locks.lock("G", "b", [ONE, TWO]) == [TWO]
    assert locks.lock("G", "a", [TWO]) == [], "it is the other's now"


def test_only_the_holder_can_give_a_queue_back() -> None:
    locks = Locks(Time())
    locks.lock("G", "a", [ONE])
    locks.unlock("G", "b", [ONE])
    locks.unlock("H", "a", [ONE])
    assert locks.lock("G", "b", [ONE]) == []
    locks.unlock("G", "a", [ONE, TWO])
    assert locks.lock("G", "b", [ONE]) == [ONE]


def test_a_group_holds_locks_as_long_as_a_lease_runs() -> None:
    time = Time()
    locks = Locks(time)
    assert not locks.holds("G")
    locks.lock("G", "a", [ONE])
    assert locks.holds("G")
    assert not locks.holds("H")
    time.now_s += LEASE_S
    assert not locks.holds("G")
    assert locks.holder("G", "T", 0) is None
    locks.lock("G", "a", [ONE])
    locks.unlock("G", "a", [ONE])
    assert not locks.holds("G")


def test_a_deleted_group_has_no_locks() -> None:
    locks = Locks(Time())
    locks.lock("G", "a", [ONE])
    locks.drop_group("G")
    assert not locks.holds("G")
    assert locks.lock("G", "b", [ONE]) == [ONE]


def test_locks_are_bounded_and_what_has_ended_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "LOCKS_MAX", 2)
    time = Time()
    locks = Locks(time)
    locks.lock("G", "a", [ONE])
    locks.lock("H", "a", [ONE])
    with pytest.raises(Refused, match="which is the limit") as refused:
        locks.lock("G", "a", [TWO])
    assert refused.value.reason is Reason.BUSY
    assert locks.lock("G", "a", [ONE]) == [ONE], "a renewal needs no room"
    time.now_s += LEASE_S
    assert locks.lock("G", "a", [TWO, THREE]) == [TWO, THREE]
    locks.unlock("G", "a", [TWO])
    locks.drop_group("G")
    assert locks.lock("I", "a", [ONE, TWO]) == [ONE, TWO]


# What is known after a start


def test_changes_of_hands_are_noted_and_renewals_are_not() -> None:
    time, noted = Time(), list[tuple[str, str, list[int]]]()
    locks = Locks(time, lambda group, client, queues: noted.append((group, client, [each.queue_id for each in queues])))
    locks.lock("G", "a", [ONE, TWO])
    locks.lock("G", "a", [ONE, TWO])
    locks.lock("G", "b", [ONE, THREE])
    locks.unlock("G", "a", [ONE, THREE])
    time.now_s += LEASE_S
    locks.lock("G", "c", [TWO])
    locks.expire()
    assert noted == [("G", "a", [0, 1]), ("G", "b", [2]), ("G", "", [0]), ("G", "c", [1]), ("G", "", [2])]
    assert locks.handed_over == len(noted)


def test_restored_holder_keeps_its_queue_for_as_long_as_it_may_be_at_work() -> None:
    time = Time()
    locks = Locks(time)
    locks.restore({"G": {("T", 0): "a", ("T", 1): "a"}})
    assert locks.lock("G", "b", [ONE, TWO, THREE]) == [THREE]
    assert locks.lock("G", "a", [ONE]) == [ONE]
    time.now_s += LOCK_KEPT_MS / 1000
    assert locks.lock("G", "b", [ONE, TWO]) == [TWO], "the one that was renewed has a whole lease"


@pytest.mark.asyncio
async def test_killed_broker_knows_after_its_restart_who_holds_what() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        broker.groups.require("G")
        broker.locks.lock("G", "a", [ONE, TWO])
        broker.locks.unlock("G", "a", [TWO])
        await broker.store.settled()
        killed = FaultyDisk(disk.files())  # what a kill leaves
    for _ in range(2):
        async with running(host=host_on(killed)) as broker:
            assert broker.locks.lock("G", "b", [ONE]) == []
            assert broker.locks.lock("G", "a", [ONE]) == [ONE]
    async with running(host=host_on(killed)) as broker:
        await broker.groups.delete("G", with_offsets=False)
    async with running(host=host_on(killed)) as broker:
        assert broker.locks.lock("G", "b", [ONE]) == [ONE]


@pytest.mark.parametrize(
    ("group", "client_id", "queue"),
    [
        ("G" * 256, "a", ONE),
        ("G", "a" * 256, ONE),
        ("G", "a", ONE._replace(topic="T" * 256)),
        ("G", "a", ONE._replace(queue_id=-1)),
        ("G", "a", ONE._replace(queue_id=10**30)),
    ],
)
def test_names_of_any_length_and_queues_that_cannot_be_are_refused(
    group: str, client_id: str, queue: MessageQueue
) -> None:
    locks = Locks(Time())
    with pytest.raises(Refused) as refused:
        locks.lock(group, client_id, [TWO, queue])
    assert refused.value.reason is Reason.INVALID_PARAMETER
    assert locks.holder("G", "T", 1) is None


@pytest.mark.asyncio
async def test_leases_that_end_together_are_written_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.broker._LOCKS_AT_ONCE", 2)
    async with running() as broker:
        before = broker.store.log.end_offset
        broker.locks.lock("G", "a", [ONE, TWO, THREE])
        assert broker.store.log.end_offset > before
        assert broker.store.folds.locks.live == {"G": {("T", number): "a" for number in range(3)}}
