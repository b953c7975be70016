"""Which topics exist: made by sends, set and deleted by admins, kept over restarts, told when committed."""

from __future__ import annotations

import pytest

from posthouse.broker.config import BrokerConfig
from posthouse.broker.topics import Topics
from posthouse.model.limits import QUEUES_PER_TOPIC_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import Perm, TopicConfig
from tests.broker.brokers import host_on, message, pull, request, running, send, settled, some_turns
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio

NO_AUTO_CREATION = BrokerConfig(auto_create_topics=False)


def names(topics: Topics) -> set[str]:
    return {config.name for config in topics.configs()}


@pytest.mark.parametrize("asked, made", [(4, 4), (8, 8), (100, 8), (2**31 - 1, 8), (1, 1), (0, 1), (-3, 1)])
async def test_first_send_makes_a_topic_with_the_smaller_number_of_queues(asked: int, made: int) -> None:
    async with running() as broker:
        await send(broker, message("T"), queues=asked)
        assert broker.topics.require("T").config == TopicConfig("T", made, made, Perm.READ_WRITE)


async def test_template_has_as_many_queues_as_the_configuration_says() -> None:
    async with running(BrokerConfig(default_topic_queues=2)) as broker:
        await send(broker, message("T"), queues=4)
        assert broker.topics.require("T").config.write_queues == 2


async def test_names_of_cluster_and_broker_are_templates_too() -> None:
    async with running(BrokerConfig(cluster="C", name="b")) as broker:
        await send(broker, message("T16"), template="C", queues=100)
        await send(broker, message("T1"), template="b", queues=100)
        assert broker.topics.require("T16").config.queues == 16
        assert broker.topics.require("T1").config.queues == 1


@pytest.mark.parametrize("template", ["", "NoSuchTopic", "Plain"])
async def test_topic_is_not_made_from_a_template_that_does_not_let_it(template: str) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("Plain"))
        with pytest.raises(Refused) as refused:
            await send(broker, message("T"), template=template)
        assert refused.value.reason is Reason.TOPIC_NOT_EXIST
        assert broker.topics.find("T") is None


async def test_every_broker_has_its_system_topics() -> None:
    async with running(BrokerConfig(cluster="C", name="b")) as broker:
        inherits = Perm.READ_WRITE | Perm.INHERIT
        assert broker.topics.require("TBW102").config == TopicConfig("TBW102", 8, 8, inherits)
        assert broker.topics.require("C").config == TopicConfig("C", 16, 16, inherits)
        assert broker.topics.require("b").config == TopicConfig("b", 1, 1, inherits)
        await send(broker, message("T"))
        own = {"TBW102", "C", "b", "C_REPLY_TOPIC", "RMQ_SYS_TRACE_TOPIC"}
        assert set(broker.topics.names_of_system()) == own


async def test_without_auto_creation_an_unknown_topic_is_refused_with_what_to_do() -> None:
    async with running(NO_AUTO_CREATION) as broker:
        with pytest.raises(Refused, match="posthouse topic create") as refused:
            await send(broker, message("T"))
        assert refused.value.reason is Reason.TOPIC_NOT_EXIST
        assert "'T'" in refused.value.remark
        assert "broker-a" in refused.value.remark
        own = {"DefaultCluster", "broker-a", "DefaultCluster_REPLY_TOPIC", "RMQ_SYS_TRACE_TOPIC"}
        assert names(broker.topics) == own


async def test_switching_auto_creation_off_hides_the_template_that_is_there() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        assert "TBW102" in names(broker.topics)
    async with running(NO_AUTO_CREATION, host) as broker:
        assert "TBW102" not in names(broker.topics)
        with pytest.raises(Refused) as refused:
            await send(broker, message("T"))
        assert refused.value.reason is Reason.TOPIC_NOT_EXIST
    async with running(host=host) as broker:
        await send(broker, message("T"))


async def test_retry_topics_are_made_even_without_auto_creation() -> None:
    async with running(NO_AUTO_CREATION) as broker:
        broker.groups.require("G")
        await send(broker, message("%RETRY%G"))
        assert broker.topics.require("%RETRY%G").config == TopicConfig("%RETRY%G", 1, 1)


async def test_admin_makes_and_changes_a_topic() -> None:
    async with running() as broker:
        made = TopicConfig("T", 3, 2, Perm.READ, "MULTI_TAG", 1, True, {"message.type": "FIFO"})
        await broker.topics.set(made)
        assert broker.topics.require("T").config == made
        changed = TopicConfig("T", 5, 5)
        await broker.topics.set(changed)
        assert broker.topics.require("T").config == changed


@pytest.mark.parametrize(
    "config, said",
    [
        (TopicConfig(""), "empty"),
        (TopicConfig("a" * 128), "127"),
        (TopicConfig("%RETRY%" + "a" * 249), "255"),
        (TopicConfig("with blank"), "character"),
        (TopicConfig("T\n"), "character"),
        (TopicConfig("TBW102"), "system's own"),
        (TopicConfig("rmq_sys_mine"), "system's own"),
        (TopicConfig("SCHEDULE_TOPIC_XXXX"), "system's own"),
        (TopicConfig("DefaultCluster"), "system's own"),
        (TopicConfig("broker-a"), "system's own"),
        (TopicConfig("T", read_queues=0), "read queues"),
        (TopicConfig("T", write_queues=-1), "write queues"),
        (TopicConfig("T", read_queues=QUEUES_PER_TOPIC_MAX + 1), str(QUEUES_PER_TOPIC_MAX)),
        (TopicConfig("T", write_queues=2**31 - 1), str(QUEUES_PER_TOPIC_MAX)),
        (TopicConfig("T", perm=-1), "perm -1"),
        (TopicConfig("T", perm=16), "perm 16"),
        (TopicConfig("T", filter_type="A B"), "filter type"),
        (TopicConfig("T", attributes={"colour": "red"}), "colour"),
        (TopicConfig("T", attributes={"queue.type": "BatchCQ"}), "not served"),
        (TopicConfig("T", attributes={"cleanup.policy": "COMPACTION"}), "not served"),
        (TopicConfig("T", attributes={"message.type": "x" * 100_000}), "not served"),
        (TopicConfig("T", attributes={"durability": "tape"}), "not served by this version of Posthouse; disk, os"),
        (TopicConfig("T", attributes={"reserve.time": "0"}), "milliseconds, 1 to 9223372036854775807, or -1"),
        (TopicConfig("T", attributes={"reserve.time": "-2"}), "milliseconds"),
        (TopicConfig("T", attributes={"reserve.time": "1.5"}), "milliseconds"),
        (TopicConfig("T", attributes={"reserve.time": ""}), "milliseconds"),
        (TopicConfig("T", attributes={"reserve.time": "9223372036854775808"}), "milliseconds"),
        (TopicConfig("T", attributes={"reserve.time": "0" * 30 + "1"}), "milliseconds"),
        (TopicConfig("T", attributes={"reserve.time": "1" * 100_000}), "milliseconds"),
        (TopicConfig("T", attributes={"reserve.time": "٣"}), "milliseconds"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
async def test_topic_that_cannot_be_is_refused_and_changes_nothing(config: TopicConfig, said: str) -> None:
    async with running() as broker:
        before = broker.topics.configs(), broker.topics.version
        with pytest.raises(Refused, match=said) as refused:
            await broker.topics.set(config)
        assert refused.value.reason is Reason.INVALID_PARAMETER
        assert len(refused.value.remark) < 300
        assert (broker.topics.configs(), broker.topics.version) == before


@pytest.mark.parametrize("name", ["a" * 127, "%RETRY%" + "a" * 248, "%DLQ%x", "NS%T", "A|b_c-9", "%"])
async def test_odd_names_that_are_legal_make_topics(name: str) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig(name))
        assert broker.topics.require(name).config.name == name


async def test_deleted_topic_begins_anew_when_it_is_made_again() -> None:
    async with running() as broker:
        broker.groups.require("G")
        for topic in ("T", "Other"):
            await send(broker, message(topic))
            broker.offsets.commit("G", topic, 0, QueueOffset(1))
        await broker.topics.delete("T")
        assert broker.topics.find("T") is None
        assert broker.offsets.topics_of("G") == ["Other"]
        with pytest.raises(Refused) as refused:
            pull(broker, request("T"))
        assert refused.value.reason is Reason.TOPIC_NOT_EXIST
        again = await send(broker, message("T", b"anew"))
        assert again.put.queue_offset == 0
        assert [each.body for each in await pull(broker, request("T")).messages()] == [b"anew"]
        assert [each.body for each in await pull(broker, request("Other")).messages()] == [b"body"]


async def test_messages_of_a_deleted_topic_do_not_come_back_with_a_restart() -> None:
    host = host_on(FaultyDisk())
    async with running(host=host) as broker:
        await send(broker, message("T", b"old"))
        await broker.topics.delete("T")
        await send(broker, message("T", b"new"))
    async with running(host=host) as broker:
        assert [each.body for each in await pull(broker, request("T")).messages()] == [b"new"]


@pytest.mark.parametrize("name", ["", "TBW102", "DefaultCluster", "broker-a", "rmq_sys_x", "OFFSET_MOVED_EVENT"])
async def test_system_topics_cannot_be_deleted(name: str) -> None:
    async with running() as broker:
        with pytest.raises(Refused) as refused:
            await broker.topics.delete(name)
        assert refused.value.reason is Reason.INVALID_PARAMETER


@pytest.mark.parametrize(
    "attributes",
    [
        {"durability": "os"},
        {"durability": "disk", "reserve.time": "-1"},
        {"reserve.time": "1"},
        {"reserve.time": "9223372036854775807"},
    ],
)
async def test_topic_may_say_how_safe_and_how_long(attributes: dict[str, str]) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", attributes=attributes))
        assert broker.topics.require("T").config.attributes == attributes


async def test_deleting_an_unknown_topic_is_no_error_and_no_change() -> None:
    async with running() as broker:
        before = broker.topics.version
        await broker.topics.delete("NoSuchTopic")
        assert broker.topics.version == before


async def test_past_the_limit_new_topics_are_refused_and_old_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.topics.TOPICS_MAX", 6)
    async with running() as broker:
        await send(broker, message("T"))
        for attempt in (lambda: send(broker, message("U")), lambda: broker.topics.set(TopicConfig("U"))):
            with pytest.raises(Refused, match="6 topics") as refused:
                await attempt()
            assert refused.value.reason is Reason.BUSY
        await send(broker, message("T"))
        await broker.topics.set(TopicConfig("T", 9, 9))
        assert broker.topics.require("T").config.queues == 9
        await broker.topics.delete("T")
        await send(broker, message("U"))


async def test_broker_at_the_limit_can_start_again_with_another_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.topics.TOPICS_MAX", 3)
    host = host_on(FaultyDisk())
    async with running(host=host):
        pass
    async with running(BrokerConfig(name="renamed", default_topic_queues=4), host) as broker:
        assert broker.topics.require("TBW102").config.queues == 4
        assert broker.topics.require("renamed").config.queues == 1


async def test_change_is_told_with_a_new_version_when_it_is_committed() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        told: list[int] = []
        broker.topics.on_change = lambda: told.append(broker.topics.version.counter)
        before = broker.topics.version.counter
        disk.hold()
        broker.topics.for_send("T", "TBW102", 4)
        broker.topics.ensure(TopicConfig("U", 1, 1))
        assert broker.topics.require("T").config.queues == 4  # the next request sees it at once
        await some_turns()
        assert told == []
        disk.release()
        await settled(broker)
        assert told == [before + 1, before + 2]
        await broker.topics.set(TopicConfig("T", 9, 9))
        await broker.topics.set(TopicConfig("T", 9, 9))
        assert told == [before + 1, before + 2, before + 3], "what was so already is no change"
        await broker.topics.delete("U")
        assert told[-1] == before + 4


async def test_change_that_could_not_be_written_is_not_told() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        told: list[None] = []
        broker.topics.on_change = lambda: told.append(None)
        before = broker.topics.version
        disk.failing = lambda what: "log/" in what
        with pytest.raises(Refused) as refused:
            await broker.topics.set(TopicConfig("T"))
        assert refused.value.reason is Reason.NOT_WRITABLE
        assert told == []
        assert broker.topics.version == before


async def test_restart_keeps_topics_and_has_a_newer_version() -> None:
    clock = ManualClock()
    host = host_on(FaultyDisk(), clock)
    wanted = TopicConfig("T", 3, 2, Perm.READ, attributes={"message.type": "FIFO"})
    async with running(host=host) as broker:
        await broker.topics.set(wanted)
        before = broker.topics.version
    clock.at_ms += 1000
    async with running(host=host) as broker:
        assert broker.topics.require("T").config == wanted
        assert broker.topics.version.timestamp_ms > before.timestamp_ms


async def test_ensure_makes_a_topic_once_and_leaves_it_as_it_is() -> None:
    async with running() as broker:
        topic = broker.topics.ensure(TopicConfig("%RETRY%G", 2, 2))
        assert broker.topics.ensure(TopicConfig("%RETRY%G", 7, 7)) is topic
        assert topic.config.queues == 2


async def test_what_is_asked_of_a_long_unknown_name_is_cut_short() -> None:
    async with running(NO_AUTO_CREATION) as broker:
        with pytest.raises(Refused) as refused:
            broker.topics.require("x" * 100_000)
        assert len(refused.value.remark) < 500
