"""Sending: what is stored of a message, in which queue, and what is refused in which order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.model import properties as names
from posthouse.model.filter import tag_hash
from posthouse.model.limits import BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX, PROPERTIES_BYTES_MAX
from posthouse.model.message import NewMessage, StoredMessage, SysFlag
from posthouse.model.names import CLOSED_TOPICS, DEAD_LETTER_PREFIX
from posthouse.model.properties import encode_properties
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import Perm, TopicConfig
from posthouse.store.config import Durability, StoreConfig
from posthouse.store.log.engine import LogFailed
from posthouse.store.message_store import LogError, Put
from tests.broker.brokers import HERE, THERE, host_on, message, pull, request, running, send, settled, some_turns, until
from tests.store.disks import FaultyDisk
from tests.store.test_retention import MeasuredDisk

pytestmark = pytest.mark.asyncio

Entry = tuple[bytes, str, int]


async def stored(broker: Broker, topic: str = "T", queue_id: int = 0, offset: int = 0) -> StoredMessage:
    found = await pull(broker, request(topic, offset, queue_id=queue_id, messages_max=1)).messages()
    return found[0]


async def refused(attempt: Coroutine[object, object, object]) -> Refused:
    with pytest.raises(Refused) as found:
        await attempt
    return found.value


async def send_many(
    broker: Broker, entries: list[Entry], topic: str = "T", queue_id: int = 0, queues: int = 4
) -> tuple[list[Put], LogError | None]:
    told: list[tuple[Put, LogError | None]] = []
    puts = broker.send.send_many(
        message(topic, queue_id=queue_id), entries, "TBW102", queues, HERE, lambda put, error: told.append((put, error))
    )
    await until(lambda: bool(told))
    ((last, error),) = told
    assert last is puts[-1]
    return puts, error


# What is stored


async def test_message_is_stored_as_it_was_sent() -> None:
    async with running() as broker:
        new = message("T", b"\0body\xff", tag="A", queue_id=3, sys_flag=SysFlag.COMPRESSED)
        sent = await send(broker, new._replace(flag=-5, reconsume_times=2))
        assert sent.error is None
        found = await stored(broker, queue_id=3)
        assert (found.topic, found.queue_id, found.queue_offset, found.body) == ("T", 3, 0, b"\0body\xff")
        assert (found.flag, found.sys_flag, found.reconsume_times) == (-5, SysFlag.COMPRESSED, 2)
        assert (found.born_at_ms, found.born_host, found.store_host) == (new.born_at_ms, THERE, HERE)
        assert found.log_offset == sent.put.log_offset
        assert found.tag == "A"
        assert sent.put.tag_hash == tag_hash("A")


async def test_empty_body_is_stored() -> None:
    async with running() as broker:
        await send(broker, message("T", b""))
        assert (await stored(broker)).body == b""


async def test_broker_adds_its_own_properties() -> None:
    async with running(BrokerConfig(cluster="C")) as broker:
        await send(broker, message("T", properties=encode_properties({"mine": "1", "UNIQ_KEY": "given"})))
        assert (await stored(broker)).properties == {
            "mine": "1",
            "UNIQ_KEY": "given",
            "CLUSTER": "C",
            "MSG_REGION": "DefaultRegion",
            "TRACE_ON": "true",
        }


async def test_properties_that_only_the_broker_may_set_are_replaced() -> None:
    forged = {"CLUSTER": "forged", "POP_CK": "forged", "TRACE_ON": "false", "MSG_REGION": "forged", "mine": "CLUSTER"}
    async with running() as broker:
        await send(broker, message("T", properties=encode_properties(forged)))
        found = (await stored(broker)).properties
        assert found.pop("UNIQ_KEY")
        assert found == {
            "mine": "CLUSTER",
            "CLUSTER": "DefaultCluster",
            "MSG_REGION": "DefaultRegion",
            "TRACE_ON": "true",
        }


async def test_unique_id_of_the_producer_is_kept_and_a_missing_one_is_made() -> None:
    async with running() as broker:
        given = await send(broker, message("T", properties="UNIQ_KEY\x01AC10\x02"))
        assert given.accepted.unique_id == "AC10"
        made = [(await send(broker, message("T"))).accepted.unique_id for _ in range(2)]
        assert all(re.fullmatch("[0-9A-F]{32}", each) for each in made)
        assert made[0] != made[1]
        assert [(await stored(broker, offset=at)).properties["UNIQ_KEY"] for at in range(3)] == ["AC10", *made]


@pytest.mark.parametrize("text", ["a\x01b", "a\x01b\x02", "a\x01b\x02\x02", "\x02a\x01b", "junk\x02a\x01b"])
async def test_properties_of_lax_clients_keep_what_they_hold(text: str) -> None:
    async with running() as broker:
        await send(broker, message("T", properties=text, tag=""))
        found = (await stored(broker)).properties
        assert found["a"] == "b"
        assert set(found) == {"a", "UNIQ_KEY", "CLUSTER", "MSG_REGION", "TRACE_ON"}


async def test_negative_queue_id_leaves_the_choice_among_the_write_queues_to_the_broker() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", read_queues=8, write_queues=3))
        used = {(await send(broker, message("T", queue_id=-1))).put.queue.queue_id for _ in range(60)}
        assert used == {0, 1, 2}
        assert (await send(broker, message("T", queue_id=-(2**31)))).put.queue.queue_id in used


async def test_messages_of_a_queue_are_numbered_without_a_gap() -> None:
    async with running() as broker:
        puts = [(await send(broker, message("T", queue_id=at % 2))).put for at in range(6)]
        assert [(put.queue.queue_id, put.queue_offset) for put in puts] == [(at % 2, at // 2) for at in range(6)]


async def test_topic_without_the_permission_to_write_takes_messages_as_in_rocketmq() -> None:
    """The route tells producers not to send; the broker itself has never checked."""
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", perm=Perm.READ))
        assert (await send(broker, message("T"))).error is None


async def test_figures_count_what_was_sent() -> None:
    async with running() as broker:
        await send(broker, message("T", b"12345"))
        await send_many(broker, [(b"123", "", 0), (b"12", "", 0)])
        assert (broker.send.sent_messages, broker.send.sent_bytes) == (3, 10)


# Batches


async def test_batch_is_stored_in_one_queue_with_consecutive_offsets() -> None:
    async with running() as broker:
        await send(broker, message("T", queue_id=2))
        entries = [(b"%d" % at, encode_properties({"TAGS": f"t{at}", "UNIQ_KEY": f"id{at}"}), at) for at in range(3)]
        puts, error = await send_many(broker, entries, queue_id=2)
        assert error is None
        assert [put.queue_offset for put in puts] == [1, 2, 3]
        found = await pull(broker, request("T", 1, queue_id=2)).messages()
        assert [(each.body, each.tag, each.flag, each.properties["UNIQ_KEY"]) for each in found] == [
            (b"%d" % at, f"t{at}", at, f"id{at}") for at in range(3)
        ]
        assert all(each.properties["CLUSTER"] == "DefaultCluster" for each in found)


async def test_batch_without_a_queue_goes_to_one_queue() -> None:
    async with running() as broker:
        puts, _ = await send_many(broker, [(b"x", "", 0)] * 5, queue_id=-1)
        assert len({put.queue.queue_id for put in puts}) == 1


async def test_one_bad_message_refuses_its_whole_batch() -> None:
    async with running() as broker:
        entries = [(b"1", "", 0), (b"2", encode_properties({"DELAY": "3"}), 0)]
        found = await refused(send_many(broker, entries))
        assert found.reason is Reason.MESSAGE_ILLEGAL
        assert broker.offsets.bounds("T", 0) == (0, 0)
        assert broker.send.sent_messages == 0


async def test_largest_batch_of_the_smallest_messages_is_stored_and_a_larger_one_refused() -> None:
    """What the broker adds to each of them is far more than what they bring."""
    topic = DEAD_LETTER_PREFIX + "x" * 250
    async with running() as broker:
        puts, error = await send_many(broker, [(b"", "", 0)] * BATCH_MESSAGES_MAX, topic)
        assert error is None
        assert puts[-1].queue_offset == BATCH_MESSAGES_MAX - 1
        found = await refused(send_many(broker, [(b"", "", 0)] * (BATCH_MESSAGES_MAX + 1), topic))
        assert found.reason is Reason.MESSAGE_ILLEGAL
        assert str(BATCH_MESSAGES_MAX) in found.remark


# How safe a message is before its answer


@pytest.mark.parametrize(
    ("broker_level", "topic_level", "wait", "synced"),
    [
        ("disk", None, None, True),
        ("disk", None, "true", True),
        ("disk", None, "TRUE", True),
        ("disk", None, "", True),
        ("disk", None, "false", False),
        ("disk", None, "no", False),
        ("disk", "os", None, False),
        ("disk", "os", "true", False),
        ("disk", "disk", "false", False),
        ("os", None, None, False),
        ("os", None, "true", False),
        ("os", "disk", None, True),
        ("os", "disk", "false", False),
    ],
)
async def test_topic_says_how_safe_else_the_broker_and_a_message_may_ask_for_less(
    broker_level: str, topic_level: str | None, wait: str | None, synced: bool
) -> None:
    config = BrokerConfig(store=StoreConfig(durability=Durability(broker_level)))
    async with running(config, host_on(FaultyDisk())) as broker:
        attributes = {} if topic_level is None else {"durability": topic_level}
        await broker.topics.set(TopicConfig("T", attributes=attributes))
        await settled(broker)
        properties = "NOWAIT\x01false\x02" if wait is None else f"WAIT\x01{wait}\x02"
        assert (await send(broker, message("T", properties=properties))).put.synced is synced
        new = message("T", properties="TAGS\x01a\x02" + properties + "AWAIT\x01true\x02")
        assert (await send(broker, new)).put.synced is synced


async def test_answer_without_the_disk_does_not_wait_for_its_sync() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await send(broker, message("T"))
        before = sum("write sync" in what for what in disk.changes)
        for _ in range(5):
            assert not (await send(broker, message("T", properties="WAIT\x01false\x02"))).put.synced
        assert sum("write sync" in what for what in disk.changes) == before
        assert (await stored(broker, offset=5)).properties["WAIT"] == "false"


@pytest.mark.parametrize(
    ("of_the_batch", "of_each", "synced"),
    [
        ("", ("", ""), True),
        ("true", ("true", "true"), True),
        ("false", ("true", "true"), False),
        ("true", ("false", "false"), False),
        ("true", ("false", "true"), True),
    ],
)
async def test_batch_waits_when_any_of_its_messages_does(
    of_the_batch: str, of_each: tuple[str, ...], synced: bool
) -> None:
    async with running(host=host_on(FaultyDisk())) as broker:
        await send(broker, message("T"))
        told: list[bool] = []
        broker.send.send_many(
            message("T", properties=f"WAIT\x01{of_the_batch}\x02"),
            [(b"x", f"WAIT\x01{wait}\x02", 0) for wait in of_each],
            "TBW102",
            4,
            HERE,
            lambda put, error: told.append(put.synced),
        )
        await until(lambda: bool(told))
        assert told == [synced]


# The order of checks: each message has every fault from its row on, and the first one is told

_TOO_LARGE = bytes(MESSAGE_BYTES_MAX + 1)
_DELAYED = "DELAY\x013\x02"


@pytest.mark.parametrize(
    "new, reason, said",
    [
        (message("", _TOO_LARGE, queue_id=99, properties=_DELAYED), Reason.INVALID_PARAMETER, "empty"),
        (message("a b", _TOO_LARGE, queue_id=99, properties=_DELAYED), Reason.INVALID_PARAMETER, "character"),
        (message("x" * 128, _TOO_LARGE, queue_id=99, properties=_DELAYED), Reason.INVALID_PARAMETER, "127"),
        (message("SELF_TEST_TOPIC", _TOO_LARGE, queue_id=99), Reason.NO_PERMISSION, "system"),
        (message("Unknown", _TOO_LARGE, queue_id=99), Reason.TOPIC_NOT_EXIST, "Unknown"),
        (message("T", _TOO_LARGE, queue_id=99, properties=_DELAYED), Reason.INVALID_PARAMETER, "queue 99"),
        (message("%RETRY%G", _TOO_LARGE, queue_id=1), Reason.INVALID_PARAMETER, "queue 1"),
        (message("%RETRY%G", _TOO_LARGE, properties=_DELAYED), Reason.GROUP_NOT_EXIST, "'G'"),
        (message("T", _TOO_LARGE, properties=_DELAYED), Reason.MESSAGE_ILLEGAL, str(MESSAGE_BYTES_MAX)),
        (message("T", properties="TRAN_MSG\x01true\x02DELAY\x01x\x02"), Reason.MESSAGE_ILLEGAL, "transactional"),
        (message("T", properties="DELAY\x01x\x02"), Reason.MESSAGE_ILLEGAL, "whole number"),
    ],
    ids=lambda value: "",
)
async def test_first_fault_in_rocketmqs_order_is_told(new: NewMessage, reason: Reason, said: str) -> None:
    async with running(BrokerConfig(auto_create_topics=False)) as broker:
        await broker.topics.set(TopicConfig("T", 4, 4))
        await broker.topics.set(TopicConfig("%RETRY%G", 1, 1))
        found = await refused(send(broker, new))
        assert found.reason is reason
        assert said in found.remark
        assert broker.send.sent_messages == 0


@pytest.mark.parametrize("topic", sorted(CLOSED_TOPICS))
async def test_topics_of_the_system_take_nothing_from_clients(topic: str) -> None:
    async with running() as broker:
        assert (await refused(send(broker, message(topic)))).reason is Reason.NO_PERMISSION
        assert broker.topics.find(topic) is None


@pytest.mark.parametrize("queue_id", [4, 2**31 - 1])
async def test_queue_that_is_in_neither_direction_is_refused(queue_id: int) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", read_queues=4, write_queues=2))
        assert (await send(broker, message("T", queue_id=3))).error is None
        found = await refused(send(broker, message("T", queue_id=queue_id)))
        assert found.reason is Reason.INVALID_PARAMETER


async def test_refused_retry_message_leaves_no_topic_behind() -> None:
    async with running() as broker:
        found = await refused(send(broker, message("%RETRY%Unknown")))
        assert found.reason is Reason.GROUP_NOT_EXIST
        assert broker.topics.find("%RETRY%Unknown") is None


async def test_body_of_the_largest_size_is_stored() -> None:
    async with running() as broker:
        assert (await send(broker, message("T", bytes(MESSAGE_BYTES_MAX)))).error is None
        assert len((await stored(broker)).body) == MESSAGE_BYTES_MAX


@pytest.mark.parametrize("letter", ["x", "ü", "驿", "\U0001f4ee"])
async def test_limit_of_properties_is_in_bytes_and_counts_the_brokers_own(letter: str) -> None:
    async with running() as broker:
        probe = await send(broker, message("T", properties="UNIQ_KEY\x01id\x02k\x01v\x02"))
        room = PROPERTIES_BYTES_MAX - len(probe.accepted.properties.encode()) + 1
        size = len(letter.encode())
        value = letter * (room // size) + "x" * (room % size)
        fits = await send(broker, message("T", properties=f"UNIQ_KEY\x01id\x02k\x01{value}\x02"))
        assert len(fits.accepted.properties.encode()) == PROPERTIES_BYTES_MAX
        assert (await stored(broker, offset=1)).properties["k"] == value
        found = await refused(send(broker, message("T", properties=f"UNIQ_KEY\x01id\x02k\x01{value}x\x02")))
        assert found.reason is Reason.MESSAGE_ILLEGAL
        assert str(PROPERTIES_BYTES_MAX) in found.remark


@pytest.mark.parametrize("name", [names.DELAY, names.TIMER_DELAY_SEC, names.TIMER_DELAY_MS, names.TIMER_DELIVER_MS])
async def test_no_delay_and_words_that_look_like_one_are_an_ordinary_message(name: str) -> None:
    async with running() as broker:
        await send(broker, message("T", properties=f"{name}\x010\x02MY_DELAY\x015\x02NOTE\x01TIMER_DELAY_SEC\x02"))
        assert (await stored(broker)).properties["NOTE"] == "TIMER_DELAY_SEC"


@pytest.mark.parametrize(
    "properties, sys_flag",
    [("TRAN_MSG\x01true\x02", 0), ("TRAN_MSG\x01TRUE\x02", 4), ("", SysFlag.PREPARED), ("", SysFlag.ROLLBACK)],
)
async def test_half_messages_are_refused_and_not_delivered_as_whole_ones(properties: str, sys_flag: int) -> None:
    async with running() as broker:
        found = await refused(send(broker, message("T", properties=properties, sys_flag=sys_flag)))
        assert found.reason is Reason.MESSAGE_ILLEGAL
        assert "transactional" in found.remark
        await send(broker, message("T", properties="TRAN_MSG\x01false\x02"))


# The store


async def test_sends_are_refused_as_busy_when_the_disk_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.store.message_store.UNSYNCED_BYTES_MAX", 1000)
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await send(broker, message("T"))
        disk.hold()
        sending = asyncio.ensure_future(send(broker, message("T", bytes(2000))))
        await some_turns()
        found = await refused(send(broker, message("T")))
        assert found.reason is Reason.BUSY
        disk.release()
        assert (await sending).error is None
        assert (await send(broker, message("T"))).error is None


async def test_failed_disk_acknowledges_nothing_from_then_on() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        before = await send(broker, message("T", b"before"))
        broker.groups.require("G")
        await settled(broker)
        disk.failing = lambda what: "log/" in what
        failed = await asyncio.gather(*(send(broker, message("T", b"lost")) for _ in range(3)))
        assert [type(each.error) for each in failed] == [LogFailed] * 3
        disk.failing = lambda what: False
        found = await refused(send(broker, message("T")))
        assert found.reason is Reason.NOT_WRITABLE
        assert "Input/output error" in found.remark
        assert (await refused(send_many(broker, [(b"x", "", 0)]))).reason is Reason.NOT_WRITABLE
        assert (await refused(send(broker, message("NewTopic")))).reason is Reason.NOT_WRITABLE
        assert isinstance(broker.failed.exception(), LogFailed)
        assert before.error is None
        assert [each.body for each in await pull(broker, request("T")).messages()] == [b"before"]


async def test_full_disk_refuses_sends_before_anything_is_made_of_them_and_gives_what_it_has() -> None:
    disk = MeasuredDisk()
    async with running(host=host_on(disk)) as broker:
        await send(broker, message("T", b"before"))
        disk.used = 901
        broker.retention.measure()
        for attempt in (
            send(broker, message("T")),
            send(broker, message("NewTopic")),
            send_many(broker, [(b"x", "", 0)]),
        ):
            found = await refused(attempt)
            assert found.reason is Reason.NOT_WRITABLE
            assert "90.1% used" in found.remark
        assert broker.topics.find("NewTopic") is None
        assert [each.body for each in await pull(broker, request("T")).messages()] == [b"before"]
        await broker.topics.set(TopicConfig("U"))
        disk.used = 900
        broker.retention.measure()
        assert (await send(broker, message("NewTopic"))).error is None


async def test_batch_is_refused_with_the_log() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await send(broker, message("T"))
        disk.failing = lambda what: "log/" in what
        _, error = await send_many(broker, [(b"1", "", 0), (b"2", "", 0)])
        assert isinstance(error, LogFailed)
        assert broker.offsets.bounds("T", 0) == (0, 1)


async def test_stopping_broker_takes_no_more_and_acknowledges_what_it_took() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await send(broker, message("T"))
        disk.hold()
        taken = asyncio.ensure_future(send(broker, message("T")))
        await some_turns()
        stopping = asyncio.ensure_future(broker.stop_serving())
        await asyncio.sleep(0.02)
        found = await refused(send(broker, message("T")))
        assert found.reason is Reason.NOT_WRITABLE
        assert "stopping" in found.remark
        assert not taken.done()
        disk.release()
        await stopping
        assert (await taken).error is None
