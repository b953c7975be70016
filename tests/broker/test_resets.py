"""Moving groups: by time, by offset, to the end; clones and corrections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.resets import NOBODY_HAS_MORE
from posthouse.host.clock import EpochMs
from posthouse.model.group import GroupConfig
from posthouse.model.limits import RESET_TELLS_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pull import PullStatus
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import FakeChannel, beat, host_on, member, message, pull, request, running, send, settled
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio


def at(offset: int) -> QueueOffset:
    return QueueOffset(offset)


@asynccontextmanager
async def broker_with_five() -> AsyncIterator[Broker]:
    """Queue 0 of T has a message stored at 1000, 2000, 3000, 4000, 5000; queue 1 is empty. G has consumed three."""
    clock = ManualClock(1000)
    async with running(host=host_on(FaultyDisk(), clock)) as broker:
        await broker.topics.set(TopicConfig("T", 2, 2))
        await broker.groups.set(GroupConfig("G"))
        for at_ms in range(1000, 6000, 1000):
            clock.at_ms = at_ms
            await send(broker, message("T", b"%d" % at_ms))
        broker.offsets.commit("G", "T", 0, at(3))
        yield broker


async def test_targets_are_found_by_time_by_offset_and_at_the_end() -> None:
    async with broker_with_five() as broker:
        targets = broker.resets.targets
        assert await targets("G", "T") == {0: 5, 1: 0}
        assert await targets("G", "T", at_ms=EpochMs(2500)) == {0: 2, 1: 0}
        assert await targets("G", "T", at_ms=EpochMs(0)) == {0: 0, 1: 0}
        assert await targets("G", "T", at_ms=EpochMs(9999), queue_id=0) == {0: 5}
        assert await targets("G", "T", queue_id=0, offset=at(1)) == {0: 1}
        assert await targets("G", "T", queue_id=0, offset=at(6)) == {0: 5}, "one more than there are is let pass"
        assert await targets("G", "T", force=False) == {0: 3, 1: 0}, "never forward"
        assert await targets("G", "T", at_ms=EpochMs(0), force=False) == {0: 0, 1: 0}
        assert broker.offsets.stored("G", "T", 0) == 3, "nothing was moved"


@pytest.mark.parametrize(
    ("group", "topic", "queue_id", "offset", "reason"),
    [
        ("H", "T", None, None, Reason.GROUP_NOT_EXIST),
        ("G", "U", None, None, Reason.TOPIC_NOT_EXIST),
        ("G", "T", 2, None, Reason.INVALID_PARAMETER),
        ("G", "T", 0, 7, Reason.INVALID_PARAMETER),
    ],
)
async def test_reset_that_cannot_be_is_refused(
    group: str, topic: str, queue_id: int | None, offset: int | None, reason: Reason
) -> None:
    async with broker_with_five() as broker:
        with pytest.raises(Refused) as refused:
            await broker.resets.targets(
                group, topic, queue_id=queue_id, offset=None if offset is None else QueueOffset(offset)
            )
        assert refused.value.reason is reason


async def test_next_pull_is_told_where_to_go_until_one_starts_there() -> None:
    async with broker_with_five() as broker:
        await broker.resets.reset("G", "T", {0: at(1)})
        assert await broker.offsets.query("G", "T", 0) == 1
        for _ in range(2):
            told = await pull(broker, request("T", 3)).result()
            assert (told.status, told.next_offset) == (PullStatus.OFFSET_MOVED, 1)
            broker.offsets.commit("G", "T", 0, at(4))
            assert broker.offsets.stored("G", "T", 0) == 1, "a commit from before the reset does not count"
        assert len(await pull(broker, request("T", 1, commit=4)).messages()) == 4
        assert broker.offsets.stored("G", "T", 0) == 1
        broker.offsets.commit("G", "T", 0, at(5))
        assert broker.offsets.stored("G", "T", 0) == 5
        assert (await pull(broker, request("T", 5)).result()).status is PullStatus.NOTHING_NEW


async def test_held_pull_hears_of_a_reset_at_once() -> None:
    async with broker_with_five() as broker:
        held = pull(broker, request("T", 5, suspend_ms=10_000))
        await broker.resets.reset("G", "T", {0: at(0)})
        told = await held.result()
        assert (told.status, told.next_offset) == (PullStatus.OFFSET_MOVED, 0)


async def test_other_groups_and_queues_are_not_moved() -> None:
    async with broker_with_five() as broker:
        broker.groups.require("H")
        await broker.resets.reset("G", "T", {0: at(0)})
        assert len(await pull(broker, request("T", 2, group="H")).messages()) == 3
        assert (await pull(broker, request("T", 0, queue_id=1)).result()).status is PullStatus.NOTHING_NEW


async def test_client_that_follows_nobody_is_let_go_on_in_the_end() -> None:
    async with broker_with_five() as broker:
        await broker.resets.reset("G", "T", {0: at(0)})
        statuses = [(await pull(broker, request("T", 4)).result()).status for _ in range(RESET_TELLS_MAX + 1)]
        assert statuses == [PullStatus.OFFSET_MOVED] * RESET_TELLS_MAX + [PullStatus.FOUND]


async def test_reset_that_nobody_followed_survives_and_one_that_was_followed_does_not() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await broker.topics.set(TopicConfig("T", 2, 2))
        broker.groups.require("G")
        for queue_id in (0, 1):
            for _ in range(3):
                await send(broker, message("T", queue_id=queue_id))
        await broker.resets.reset("G", "T", {0: at(1), 1: at(2)})
        killed = FaultyDisk(disk.files())  # what a kill leaves
        assert len(await pull(broker, request("T", 2, queue_id=1)).messages()) == 1
        broker.offsets.commit("G", "T", 1, at(3))
    async with running(host=host_on(killed)) as broker:
        for queue_id, offset in ((0, 1), (1, 2)):
            assert (await pull(broker, request("T", 3, queue_id=queue_id)).result()).next_offset == offset
    for _ in range(2):
        async with running(host=host_on(disk)) as broker:
            assert (await pull(broker, request("T", 3)).result()).next_offset == 1
            assert broker.offsets.stored("G", "T", 1) == 3
            done = await pull(broker, request("T", 3, queue_id=1)).result()
            assert done.status is PullStatus.NOTHING_NEW


async def test_clone_gives_the_offsets_of_one_group_to_another() -> None:
    async with broker_with_five() as broker:
        await broker.topics.set(TopicConfig("U", 1, 1))
        broker.offsets.commit("G", "U", 0, at(0))
        assert await broker.resets.clone("G", "H", "T", offline=True) == ["T"]
        assert broker.offsets.stored("H", "T", 0) == 3
        assert broker.offsets.stored("H", "U", 0) is None
        assert await broker.resets.clone("G", "I", None, offline=True) == ["T", "U"]
        assert broker.offsets.topics_of("I") == ["T", "U"]
        broker.offsets.commit("H", "T", 0, at(4))
        assert broker.offsets.stored("G", "T", 0) == 3, "they are two groups"


async def test_clone_passes_over_what_the_members_do_not_want_unless_it_is_offline() -> None:
    async with broker_with_five() as broker:
        await broker.topics.set(TopicConfig("U", 1, 1))
        broker.offsets.commit("G", "U", 0, at(0))
        beat(broker, FakeChannel(), member("G", "U"))
        await settled(broker)
        assert await broker.resets.clone("G", "H", None, offline=False) == ["U"]
        assert await broker.resets.clone("G", "H", None, offline=True) == ["T", "U"]
        with pytest.raises(Refused) as refused:
            await broker.resets.clone("nobody", "H", None, offline=True)
        assert refused.value.reason is Reason.GROUP_NOT_EXIST


async def test_correction_is_the_smallest_offset_of_the_others() -> None:
    async with broker_with_five() as broker:
        for group, offset in (("H", 2), ("I", 4)):
            broker.groups.require(group)
            broker.offsets.commit(group, "T", 0, at(offset))
        assert broker.resets.correction("T", "I") == {0: 2}
        assert broker.resets.correction("T", "I", ["H"]) == {0: 3}
        assert broker.resets.correction("T", "H", ["H", "I"]) == {0: NOBODY_HAS_MORE}
        assert broker.resets.correction("T", "H") == {0: 2}
        assert broker.offsets.stored("H", "T", 0) == 2, "asking forgets nothing"


async def test_times_tell_how_long_the_first_unconsumed_message_waits() -> None:
    async with broker_with_five() as broker:  # it is 5000 now
        times = await broker.offsets.times("G", "T", 0)
        assert (times.first_at_ms, times.last_at_ms, times.consumed_at_ms, times.lag_ms) == (1000, 5000, 3000, 1000)
        broker.offsets.commit("G", "T", 0, at(5))
        assert (await broker.offsets.times("G", "T", 0)).lag_ms == 0
        assert (await broker.offsets.times("new", "T", 0)).lag_ms == 4000, "it is before all that is kept"
        empty = await broker.offsets.times("G", "T", 1)
        assert (empty.first_at_ms, empty.last_at_ms, empty.lag_ms) == (-1, -1, 0)
