"""Who is connected: what heartbeats say, who is told of changes, and how clients go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.clients import Clients
from posthouse.broker.config import BrokerConfig
from posthouse.model.connection import ClientConnection
from posthouse.model.filter import parse_subscription
from posthouse.model.group import ConsumeFrom, ConsumeType, GroupConfig, MessageModel
from posthouse.model.heartbeat import HeartbeatData
from posthouse.model.limits import CLIENT_EXPIRY_MS
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import FakeChannel, beat, host_on, member, running, settled
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio


def versions(broker: Broker, group: str = "G") -> dict[str, int]:
    """Topics that the group wants, and the version of each."""
    found = broker.clients.consumer_group(group)
    assert found is not None
    return {topic: subscription.version for topic, subscription in found.subscriptions.items()}


# What heartbeats say


async def test_heartbeat_is_known_by_group_at_once() -> None:
    async with running() as broker:
        beat(broker, FakeChannel("10.0.0.1:5"), member("G", "T"), producers=("P", "CLIENT_INNER_PRODUCER"))
        known = (ClientConnection("client-1", "10.0.0.1:5", "JAVA", 479),)
        assert broker.clients.consumer_ids("G") == ["client-1"]
        assert broker.clients.producer_connections("P") == known
        assert broker.clients.producer_connections("CLIENT_INNER_PRODUCER") == known
        found = broker.clients.consumer_connections("G")
        assert found.connections == known
        assert found.subscriptions == {"T": parse_subscription("T", "*")}
        assert list(broker.clients.groups_on("T")) == ["G"]
        assert list(broker.clients.groups_on("U")) == []


async def test_last_heartbeat_of_any_member_decides_what_the_group_is() -> None:
    async with running() as broker:
        beat(broker, FakeChannel(), member("G", "T", "U"))
        beat(
            broker,
            FakeChannel(),
            member(
                "G",
                "T",
                model=MessageModel.BROADCASTING,
                consume_type=ConsumeType.CONSUME_ACTIVELY,
                consume_from=ConsumeFrom.CONSUME_FROM_FIRST_OFFSET,
            ),
            client_id="client-2",
        )
        found = broker.clients.consumer_connections("G")
        assert found.message_model is MessageModel.BROADCASTING
        assert found.consume_type is ConsumeType.CONSUME_ACTIVELY
        assert found.consume_from is ConsumeFrom.CONSUME_FROM_FIRST_OFFSET
        assert set(found.subscriptions) == {"T"}
        assert len(found.connections) == 2


async def test_newer_version_of_a_subscription_wins_whatever_its_unit() -> None:
    of_java, of_go = 1_700_000_000_000, 1_700_000_000_000_000_000  # milliseconds and nanoseconds
    async with running() as broker:
        channel = FakeChannel()
        beat(broker, channel, member("G", parse_subscription("T", "A", version=of_java)))
        beat(broker, channel, member("G", parse_subscription("T", "B", version=of_java - 1)))
        assert versions(broker) == {"T": of_java}
        beat(broker, channel, member("G", parse_subscription("T", "C", version=of_go)))
        beat(broker, channel, member("G", parse_subscription("T", "A", version=of_java + 1)))
        assert versions(broker) == {"T": of_go}
        group = broker.clients.consumer_group("G")
        assert group is not None
        assert group.subscriptions["T"].expression == "C"


async def test_short_heartbeat_without_subscriptions_leaves_them_as_they_are() -> None:
    async with running() as broker:
        channel = FakeChannel()
        beat(broker, channel, member("G", "T"))
        beat(broker, channel, member("G"), without_sub=True)
        assert set(versions(broker)) == {"T"}
        assert channel.told == ["G"]


async def test_first_heartbeat_makes_the_retry_topic_and_tells_it() -> None:
    async with running() as broker:
        changes: list[None] = []
        broker.topics.on_change = lambda: changes.append(None)
        channel = FakeChannel()
        beat(broker, channel, member("G", "T"))
        await settled(broker)
        assert broker.topics.require("%RETRY%G").config == TopicConfig("%RETRY%G", 1, 1, Perm.READ_WRITE)
        assert len(changes) == 1
        beat(broker, channel, member("G", "T"))
        await settled(broker)
        assert len(changes) == 1


@pytest.mark.parametrize("configured, made", [(3, 3), (0, 1)])
async def test_retry_topic_has_as_many_queues_as_the_group_says(configured: int, made: int) -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("G", retry_queues=configured))
        beat(broker, FakeChannel(), member("G", "T"))
        assert broker.topics.require("%RETRY%G").config.queues == made


async def test_group_that_may_not_be_made_is_left_out_and_the_others_are_taken() -> None:
    async with running(BrokerConfig(auto_create_groups=False)) as broker:
        await broker.groups.set(GroupConfig("G"))
        beat(broker, FakeChannel(), member("Unknown", "T"), member("not legal", "T"), member("G", "T"))
        assert broker.clients.consumer_ids("G") == ["client-1"]
        assert broker.clients.consumer_group("Unknown") is None
        assert broker.topics.find("%RETRY%Unknown") is None
        assert broker.clients.consumer_group("not legal") is None


async def test_member_of_a_known_group_is_taken_while_the_store_takes_no_writes() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        beat(broker, FakeChannel(), member("G", "T"))
        disk.failing = lambda what: "log/" in what
        with pytest.raises(Refused):
            await broker.topics.set(TopicConfig("T"))
        beat(broker, FakeChannel(), member("G", "T"), member("New", "T"), client_id="client-2")
        assert broker.clients.consumer_ids("G") == ["client-1", "client-2"]
        assert broker.clients.consumer_group("New") is None


async def test_producer_groups_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.clients.GROUPS_MAX", 2)
    async with running() as broker:
        channel = FakeChannel()
        beat(broker, channel, producers=("x" * 256, "P", "Q", "R"))
        for left_out in ("R", "x" * 256):
            with pytest.raises(Refused):
                broker.clients.producer_connections(left_out)
        beat(broker, channel, producers=("P",))
        assert broker.clients.producer_connections("P")


# Who is told


async def test_all_members_are_told_when_one_joins() -> None:
    async with running() as broker:
        first, second = FakeChannel(), FakeChannel()
        beat(broker, first, member("G", "T"))
        assert first.told == ["G"], "the newcomer too"
        beat(broker, second, member("G", "T"), client_id="client-2")
        assert first.told == ["G", "G"]
        assert second.told == ["G"]


async def test_all_members_are_told_when_a_topic_comes_or_goes() -> None:
    async with running() as broker:
        first, second = FakeChannel(), FakeChannel()
        beat(broker, first, member("G", "T"))
        beat(broker, second, member("G", "T"), client_id="client-2")
        first.told.clear()
        second.told.clear()
        beat(broker, second, member("G", "T", "U"), client_id="client-2")
        assert (first.told, second.told) == (["G"], ["G"])
        beat(broker, second, member("G", "U"), client_id="client-2")
        assert (first.told, second.told) == (["G", "G"], ["G", "G"])


async def test_nobody_is_told_of_a_heartbeat_that_says_the_same_or_only_a_newer_version() -> None:
    async with running() as broker:
        channel = FakeChannel()
        subscription = parse_subscription("T", "*", version=1)
        beat(broker, channel, member("G", subscription))
        beat(broker, channel, member("G", subscription))
        beat(broker, channel, member("G", replace(subscription, version=2)))
        assert channel.told == ["G"]
        assert versions(broker) == {"T": 2}


async def test_those_who_stay_are_told_when_one_leaves_in_good_order_or_is_cut_off() -> None:
    async with running() as broker:
        stays, leaves, is_cut_off = FakeChannel(), FakeChannel(), FakeChannel()
        for channel, client_id in ((stays, "1"), (leaves, "2"), (is_cut_off, "3")):
            beat(broker, channel, member("G", "T"), client_id=client_id)
        for channel in (stays, leaves, is_cut_off):
            channel.told.clear()
        broker.clients.unregister(leaves, None, "G")
        assert (stays.told, leaves.told) == (["G"], [])
        broker.clients.disconnected(is_cut_off)
        assert (stays.told, is_cut_off.told) == (["G", "G"], ["G"])
        assert broker.clients.consumer_ids("G") == ["1"]


async def test_nobody_is_told_in_a_broadcasting_group_or_one_that_wants_no_word() -> None:
    async with running() as broker:
        await broker.groups.set(GroupConfig("Quiet", notify_consumer_ids_changed_enable=False))
        first, second = FakeChannel(), FakeChannel()
        for channel, client_id in ((first, "1"), (second, "2")):
            everybody = member("All", "T", model=MessageModel.BROADCASTING)
            beat(broker, channel, everybody, member("Quiet", "T"), client_id=client_id)
        broker.clients.disconnected(first)
        assert (first.told, second.told) == ([], [])


# How clients go


async def test_disconnected_client_is_out_of_all_its_groups_and_others_are_not() -> None:
    async with running() as broker:
        gone, stays = FakeChannel(), FakeChannel()
        beat(broker, gone, member("G", "T"), member("H", "T"), producers=("P",))
        beat(broker, stays, member("H", "T"), client_id="client-2", producers=("Q",))
        broker.clients.disconnected(gone)
        assert broker.clients.consumer_group("G") is None
        assert broker.clients.consumer_ids("H") == ["client-2"]
        with pytest.raises(Refused):
            broker.clients.producer_connections("P")
        assert broker.clients.producer_connections("Q")
        broker.clients.disconnected(gone)
        broker.clients.disconnected(stays)
        assert is_empty(broker.clients)


async def test_one_client_on_two_connections_stays_until_both_are_gone() -> None:
    async with running() as broker:
        old, new = FakeChannel(), FakeChannel()
        beat(broker, old, member("G", "T"))
        beat(broker, new, member("G", "T"))
        assert broker.clients.consumer_ids("G") == ["client-1"]
        broker.clients.disconnected(old)
        assert broker.clients.consumer_ids("G") == ["client-1"]


async def test_leaving_a_group_that_one_is_not_in_is_no_error() -> None:
    async with running() as broker:
        channel = FakeChannel()
        broker.clients.unregister(channel, "P", "G")
        beat(broker, channel, member("G", "T"))
        broker.clients.unregister(channel, "P", "H")
        broker.clients.unregister(channel, "", "")
        assert broker.clients.consumer_ids("G") == ["client-1"]


async def test_silent_client_is_forgotten_and_its_connection_closed() -> None:
    async with running() as broker:
        now = Now()
        clients = Clients(broker.topics, broker.groups, now)
        silent, lively = FakeChannel(), FakeChannel()
        said = HeartbeatData("client-1", ("P",), (member("G", "T"),))
        for channel in (silent, lively):
            clients.heartbeat(channel, "JAVA", 479, said)
        now.s += CLIENT_EXPIRY_MS / 1000
        clients.heartbeat(lively, "JAVA", 479, said)
        clients.expire()
        assert len(clients.consumer_connections("G").connections) == 2, "not yet"
        now.s += 0.1
        clients.expire()
        assert silent.closed == ["no heartbeat"]
        assert lively.closed == []
        assert lively.told[-1] == "G"
        assert len(clients.consumer_connections("G").connections) == 1
        clients.disconnected(silent)
        now.s += 1000
        clients.expire()
        assert is_empty(clients)


async def test_group_that_heartbeats_no_longer_name_is_left_without_closing_the_client() -> None:
    async with running() as broker:
        now = Now()
        clients = Clients(broker.topics, broker.groups, now)
        channel = FakeChannel()
        clients.heartbeat(channel, "JAVA", 479, HeartbeatData("c", ("P",), (member("G", "T"), member("H", "T"))))
        now.s += 60
        clients.heartbeat(channel, "JAVA", 479, HeartbeatData("c", (), (member("H", "T"),)))
        now.s += 100
        clients.expire()
        assert channel.closed == []
        assert clients.consumer_group("G") is None
        assert clients.consumer_ids("H") == ["c"]
        with pytest.raises(Refused):
            clients.producer_connections("P")


# What others ask


async def test_client_ids_are_sorted_as_java_sorts_them() -> None:
    ids = ["z", "a", "\U0001f600", "\uff5e", "a\U0001f600", "A", ""]
    async with running() as broker:
        for each in ids:
            beat(broker, FakeChannel(), member("G", "T"), client_id=each)
        # Java compares UTF-16 units, in which the surrogates of U+1F600 come before U+FF5E.
        assert broker.clients.consumer_ids("G") == ["", "A", "a", "a\U0001f600", "z", "\U0001f600", "\uff5e"]


async def test_group_without_members_is_refused_in_the_words_that_tools_expect() -> None:
    async with running() as broker:
        for ask, reason in (
            (broker.clients.consumer_ids, Reason.FAILED),
            (broker.clients.consumer_connections, Reason.CONSUMER_NOT_ONLINE),
            (broker.clients.producer_connections, Reason.FAILED),
        ):
            with pytest.raises(Refused) as refused:
                ask("G")
            assert refused.value.reason is reason


class Now:
    """Monotonic time that moves when told."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def is_empty(clients: Clients) -> bool:
    return not (clients._producers or clients._consumers or clients._groups_of)


# Members that want different things


async def test_members_that_want_different_things_are_named_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as broker:
        one, two = FakeChannel(), FakeChannel()
        beat(broker, one, member("G", parse_subscription("T", "A", version=1)), client_id="one")
        beat(broker, two, member("G", parse_subscription("T", "B", version=2)), client_id="two")
        for _ in range(3):
            beat(broker, one, member("G", parse_subscription("T", "A", version=1)), client_id="one")
            beat(broker, two, member("G", parse_subscription("T", "B", version=2)), client_id="two")
        told = [each.getMessage() for each in caplog.records if "want different things" in each.getMessage()]
        assert len(told) == 1
        assert all(part in told[0] for part in ("group G", "T with 'A' by one", "T with 'B' by two"))
        found = broker.clients.consumer_connections("G").disagreements
        assert [(each.topic, each.expression, each.client_ids) for each in found] == [
            ("T", "A", ("one",)),
            ("T", "B", ("two",)),
        ]
        broker.clients.disconnected(one)
        assert broker.clients.consumer_connections("G").disagreements == ()
