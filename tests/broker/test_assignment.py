"""Queues that a broker assigns to members, by pull and by pop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from posthouse.broker.assignment import Assigned, Assignments
from posthouse.broker.broker import Broker
from posthouse.model.group import GroupRule, MessageModel, RequestMode
from posthouse.model.message import MessageQueue
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import FakeChannel, beat, host_on, member, running, settled
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio

POP, PULL = RequestMode.POP, RequestMode.PULL


class Cluster:
    """Two brokers with two queues each."""

    async def read_queues(self, topic: str) -> Sequence[MessageQueue]:
        if topic == "NoSuchTopic":
            return ()
        return [MessageQueue(topic, broker, queue_id) for broker in ("b", "a") for queue_id in (1, 0)]


@asynccontextmanager
async def members(*client_ids: str) -> AsyncIterator[tuple[Broker, Assignments]]:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        for client_id in client_ids:
            beat(broker, FakeChannel(), member("G", "T"), client_id=client_id)
        await settled(broker)
        yield broker, Assignments(broker.topics, broker.groups, broker.clients, Cluster())


def places(found: Assigned) -> list[str]:
    assert found.queues is not None
    return [f"{queue.broker_name}{queue.queue_id}" for queue in found.queues]


async def assigned(
    assignments: Assignments, client_id: str, strategy: str = "AVG", model: MessageModel = MessageModel.CLUSTERING
) -> Assigned:
    return await assignments.assign("G", "T", client_id, strategy, model)


async def test_members_share_all_queues_of_the_cluster() -> None:
    async with members("one", "two", "one-more") as (_, assignments):
        assert places(await assigned(assignments, "one")) == ["a0", "a1"]
        assert places(await assigned(assignments, "one-more")) == ["b0"]
        assert places(await assigned(assignments, "two")) == ["b1"]
        assert places(await assigned(assignments, "two", "AVG_BY_CIRCLE")) == ["b0"]
        assert (await assigned(assignments, "two")).mode is PULL
        by_ring = [places(await assigned(assignments, each, "CONSISTENT_HASH")) for each in ("one", "one-more", "two")]
        assert sorted(place for share in by_ring for place in share) == ["a0", "a1", "b0", "b1"]


async def test_broadcast_members_have_all_queues() -> None:
    async with members("one", "two") as (_, assignments):
        found = await assigned(assignments, "one", model=MessageModel.BROADCASTING)
        assert places(found) == ["a0", "a1", "b0", "b1"]


async def test_what_cannot_be_said_changes_nothing_and_a_stranger_has_nothing() -> None:
    async with members("one") as (_, assignments):
        assert (await assigned(assignments, "one", "MACHINE_ROOM")).queues is None
        assert (await assignments.assign("H", "T", "one", "AVG", MessageModel.CLUSTERING)).queues is None
        assert (await assignments.assign("G", "NoSuchTopic", "one", "AVG", MessageModel.CLUSTERING)).queues is None
        assert places(await assigned(assignments, "stranger")) == []
        with pytest.raises(Refused):
            await assignments.assign("G", "T" * 1000, "one", "AVG", MessageModel.CLUSTERING)


async def test_with_pop_every_member_has_every_broker() -> None:
    async with members("one", "two", "three") as (_, assignments):
        await assignments.set_mode("T", "G", POP, 0)
        found = await assigned(assignments, "one")
        assert (places(found), found.mode) == (["a-1", "b-1"], POP)
        await assignments.set_mode("T", "G", POP, 2)
        assert places(await assigned(assignments, "one")) == ["a-1", "b-1"], "as many as there are others"


async def test_with_pop_members_may_share_with_the_next_ones() -> None:
    async with members("m1", "m2", "m3", "m4") as (_, assignments):
        await assignments.set_mode("T", "G", POP, 1)
        shares = [places(await assigned(assignments, each)) for each in ("m1", "m2", "m3", "m4")]
        assert shares == [["a0", "a1"], ["a1", "b0"], ["b0", "b1"], ["b1", "a0"]]


async def test_with_pop_no_member_stays_without_a_queue() -> None:
    async with members(*(f"m{number}" for number in range(6))) as (_, assignments):
        await assignments.set_mode("T", "G", POP, 1)
        found = [places(await assigned(assignments, f"m{number}")) for number in range(6)]
        assert found == [["a0"], ["a1"], ["b0"], ["b1"], ["a0"], ["a1"]]


async def test_mode_survives_a_restart_and_retry_topics_are_pulled() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await broker.topics.set(TopicConfig("T"))
        broker.groups.require("G")
        await broker.assignment.set_mode("T", "G", POP, 3)
        killed = FaultyDisk(disk.files())
    rule = GroupRule("G", "T", POP, 3)
    async with running(host=host_on(killed)) as broker:
        assert broker.assignment.modes() == [rule]
        assert broker.assignment.mode("T", "G") == rule
        assert broker.assignment.mode("%RETRY%G", "G").mode is PULL
        assert broker.assignment.mode("U", "G").mode is PULL
        await broker.assignment.set_mode("T", "G", PULL, 0)
    async with running(host=host_on(killed)) as broker:
        assert broker.assignment.mode("T", "G").mode is PULL
        await broker.topics.delete("T")
        assert broker.assignment.modes() == []


@pytest.mark.parametrize(
    ("topic", "group", "reason"),
    [
        ("%RETRY%G", "G", Reason.NO_PERMISSION),
        ("NoSuchTopic", "G", Reason.TOPIC_NOT_EXIST),
        ("T", "H", Reason.GROUP_NOT_EXIST),
    ],
)
async def test_mode_that_cannot_be_set_is_refused(topic: str, group: str, reason: Reason) -> None:
    async with members("one") as (broker, assignments):
        with pytest.raises(Refused) as refused:
            await assignments.set_mode(topic, group, POP, 0)
        assert refused.value.reason is reason
        assert broker.groups.rules() == []
