"""Pulling: what a consumer is answered, now or later, and what it is refused."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from posthouse.broker.broker import Broker
from posthouse.broker.config import BrokerConfig
from posthouse.codec.record import decode_records
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.group import GroupConfig, MessageModel
from posthouse.model.limits import PULL_BYTES_MAX, PULL_MESSAGES_MAX, PULL_SCAN_MAX, PULL_SUSPEND_MS_MAX
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import encode_properties
from posthouse.model.pull import Forbidden, Forbids, PullRequest, PullResult, PullStatus
from posthouse.model.refusal import Reason, Refused
from posthouse.model.sql92 import compile_sql92
from posthouse.model.topic import Perm, TopicConfig
from posthouse.store.consume_queue import ConsumeQueue
from tests.broker.brokers import (
    HERE,
    FakeChannel,
    beat,
    host_on,
    member,
    message,
    pull,
    request,
    running,
    send,
    settled,
    some_turns,
    until,
)
from tests.store.disks import FaultyDisk

pytestmark = pytest.mark.asyncio

LONG_MS = 60_000


async def fill(broker: Broker, *bodies: bytes, tag: str = "") -> None:
    for body in bodies:
        await send(broker, message("T", body, tag=tag))


def numbers(result: PullResult) -> tuple[PullStatus, int, int, int]:
    return result.status, result.next_offset, result.min_offset, result.max_offset


# The table of results


async def test_found_messages_come_as_they_are_in_the_log() -> None:
    async with running() as broker:
        await fill(broker, b"one", b"two", b"three")
        asked = pull(broker, request("T", 1))
        result = await asked.result()
        assert numbers(result) == (PullStatus.FOUND, 3, 0, 3)
        assert result.size == sum(map(len, result.buffers))
        assert [(each.body, each.queue_offset) for each in await asked.messages()] == [(b"two", 1), (b"three", 2)]
        assert broker.pull.given_messages == 2


async def test_messages_that_the_filter_takes_out_are_skipped() -> None:
    async with running() as broker:
        for tag in ("A", "B", "A", "", "B"):
            await fill(broker, tag.encode(), tag=tag)
        asked = pull(broker, request("T", expression="A || C"))
        assert numbers(await asked.result()) == (PullStatus.FOUND, 5, 0, 5)
        assert [each.queue_offset for each in await asked.messages()] == [0, 2]


async def test_when_no_message_passes_the_client_is_told_where_to_go_on() -> None:
    async with running() as broker:
        await fill(broker, b"1", b"2", tag="A")
        result = await pull(broker, request("T", expression="B", suspend_ms=LONG_MS)).result()
        assert numbers(result) == (PullStatus.NOTHING_MATCHED, 2, 0, 2)
        assert result.size == 0


async def test_filter_looks_at_a_limited_number_of_messages_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.store.reading.PULL_SCAN_MAX", 10)
    assert PULL_SCAN_MAX == 800
    async with running() as broker:
        await fill(broker, *(b"x" for _ in range(15)), tag="A")
        result = await pull(broker, request("T", expression="B")).result()
        assert numbers(result) == (PullStatus.NOTHING_MATCHED, 10, 0, 15)


async def test_at_the_end_of_the_queue_there_is_nothing_new() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        assert numbers(await pull(broker, request("T", 1)).result()) == (PullStatus.NOTHING_NEW, 1, 0, 1)


async def test_on_a_queue_without_messages_offset_0_is_its_end() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        assert numbers(await pull(broker, request("T", 0)).result()) == (PullStatus.NOTHING_NEW, 0, 0, 0)
        assert numbers(await pull(broker, request("T", 1)).result()) == (PullStatus.OFFSET_MOVED, 0, 0, 0)


@pytest.mark.parametrize("offset, corrected", [(4, 3), (2**63 - 1, 3), (0, 1), (-1, 1), (-(2**63), 1)])
async def test_offset_outside_the_queue_is_corrected_at_once(offset: int, corrected: int) -> None:
    async with running() as broker:
        await fill(broker, b"1", b"2", b"3")
        broker.topics.require("T").queues[0].min_offset = QueueOffset(1)  # as retention does
        result = await pull(broker, request("T", offset, suspend_ms=LONG_MS)).result()
        assert numbers(result) == (PullStatus.OFFSET_MOVED, corrected, 1, 3)


# Holding


async def test_pull_at_the_end_is_held_until_a_message_comes() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        held = pull(broker, request("T", suspend_ms=LONG_MS))
        await some_turns()
        assert held.outcomes == []
        await send(broker, message("T", queue_id=1))
        assert held.outcomes == []
        await send(broker, message("T", b"came"))
        assert numbers(await held.result()) == (PullStatus.FOUND, 1, 0, 1)
        assert [each.body for each in await held.messages()] == [b"came"]
        await fill(broker, b"more")
        assert len(held.outcomes) == 1


async def test_held_pull_sees_a_message_only_when_it_is_committed() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await broker.topics.set(TopicConfig("T"))
        held = pull(broker, request("T", suspend_ms=LONG_MS))
        disk.hold()
        sending = asyncio.ensure_future(send(broker, message("T")))
        await some_turns()
        assert held.outcomes == []
        disk.release()
        await sending
        assert (await held.result()).status is PullStatus.FOUND


async def test_consumers_have_a_message_before_its_producer_is_answered() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        order: list[str] = []
        asked = request("T", suspend_ms=LONG_MS)
        broker.pull.pull(asked, "holder", lambda outcome: order.append("pulled"))
        broker.send.send(
            message("T"), "TBW102", 4, message("T").born_host, lambda put, error: order.append("acknowledged")
        )
        await until(lambda: len(order) == 2)
        assert order == ["pulled", "acknowledged"]


async def test_held_pull_with_a_filter_waits_for_a_message_that_passes() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        held = pull(broker, request("T", suspend_ms=LONG_MS, expression="A"))
        await fill(broker, b"no", tag="B")
        await fill(broker, b"no")
        assert held.outcomes == []
        await fill(broker, b"yes", tag="A")
        assert numbers(await held.result()) == (PullStatus.FOUND, 3, 0, 3)
        assert [each.body for each in await held.messages()] == [b"yes"]


async def test_held_pull_ends_with_its_time_and_says_where_to_go_on() -> None:
    async with running() as broker:
        await fill(broker, b"1", tag="A")
        held = pull(broker, request("T", 1, suspend_ms=30))
        filtered = pull(broker, request("T", 1, suspend_ms=30, expression="B"))
        assert numbers(await held.result()) == (PullStatus.NOTHING_NEW, 1, 0, 1)
        again = pull(broker, request("T", 1, suspend_ms=30, expression="B"))
        await fill(broker, b"2", tag="A")
        assert (await filtered.result()).status is PullStatus.NOTHING_NEW
        assert numbers(await again.result()) == (PullStatus.NOTHING_MATCHED, 2, 0, 2)


@pytest.mark.parametrize("suspend_ms", [0, -1, -(2**63)])
async def test_pull_that_may_not_be_held_is_answered_at_once(suspend_ms: int) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        asked = pull(broker, request("T", suspend_ms=suspend_ms))
        assert [type(each) for each in asked.outcomes] == [PullResult]


@pytest.mark.parametrize("asked_ms, held_s", [(2**63 - 1, PULL_SUSPEND_MS_MAX / 1000), (20_000, 20.0), (1, 0.001)])
async def test_nobody_is_held_for_longer_than_clients_wait(
    asked_ms: int, held_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        assert await held_for(broker, asked_ms, monkeypatch) == held_s


async def test_without_long_polling_nobody_is_held_for_longer_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(BrokerConfig(long_polling=False)) as broker:
        await broker.topics.set(TopicConfig("T"))
        assert await held_for(broker, LONG_MS, monkeypatch) == 1.0


async def held_for(broker: Broker, asked_ms: int, monkeypatch: pytest.MonkeyPatch) -> float:
    times: list[float] = []

    def wait(
        queue: ConsumeQueue, holder: object, wants: object, timeout_s: float, wake: object, wants_properties: object
    ) -> None:
        times.append(timeout_s)

    monkeypatch.setattr(broker.arrivals, "wait", wait)
    pull(broker, request("T", suspend_ms=asked_ms))
    (held_s,) = times
    return held_s


async def test_when_too_many_are_held_the_next_is_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.arrivals.WAITING_PULLS_MAX", 1)
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        held = pull(broker, request("T", suspend_ms=LONG_MS))
        outcome = await pull(broker, request("T", suspend_ms=LONG_MS)).outcome()
        assert isinstance(outcome, Refused), "nothing new, said at once, makes a client spin"
        assert outcome.reason is Reason.BUSY
        assert (await pull(broker, request("T")).result()).status is PullStatus.NOTHING_NEW
        await fill(broker, b"1")
        assert (await held.result()).status is PullStatus.FOUND


async def test_pull_of_a_client_that_is_gone_is_never_answered() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        gone, stays = (pull(broker, request("T", suspend_ms=LONG_MS), holder) for holder in ("gone", "stays"))
        broker.arrivals.gone("gone")
        await fill(broker, b"1")
        assert (await stays.result()).status is PullStatus.FOUND
        assert gone.outcomes == []


async def test_deleted_topic_ends_the_pulls_that_are_held_on_it() -> None:
    async with running() as broker:
        for topic in ("T", "Other"):
            await broker.topics.set(TopicConfig(topic))
        held = [pull(broker, request("T", queue_id=number, suspend_ms=LONG_MS)) for number in range(2)]
        other = pull(broker, request("Other", suspend_ms=LONG_MS))
        await broker.topics.delete("T")
        for each in held:
            outcome = await each.outcome()
            assert isinstance(outcome, Refused)
            assert outcome.reason is Reason.TOPIC_NOT_EXIST
        assert other.outcomes == []


async def test_pull_held_on_a_deleted_topic_gets_nothing_of_the_old_messages() -> None:
    """The last message of the old topic is committed together with its deletion and with the new topic."""
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await broker.topics.set(TopicConfig("T"))
        held = pull(broker, request("T", suspend_ms=LONG_MS))
        disk.hold()
        tasks = [
            asyncio.ensure_future(send(broker, message("T", b"old"))),
            asyncio.ensure_future(broker.topics.delete("T")),
        ]
        await some_turns()
        tasks.append(asyncio.ensure_future(send(broker, message("T", b"new"))))
        await some_turns()
        disk.release()
        await asyncio.gather(*tasks)
        outcome = await held.outcome()
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.TOPIC_NOT_EXIST
        assert [each.body for each in await pull(broker, request("T")).messages()] == [b"new"]


async def test_stop_answers_all_who_are_held() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        held = [pull(broker, request("T", suspend_ms=LONG_MS)) for _ in range(100)]
        await broker.pull.close()
        assert all([(await each.result()).status is PullStatus.NOTHING_NEW for each in held])


# Filters

PRICES = (5, 500, 7, 5000)


def sql(expression: str, offset: int = 0, *, suspend_ms: int = 0) -> PullRequest:
    asked = request("T", offset, expression=expression, suspend_ms=suspend_ms)
    return asked._replace(expression_type="SQL92")


async def fill_priced(broker: Broker, *prices: int, topic: str = "T") -> None:
    for price in prices:
        await send(broker, message(topic, b"%d" % price, properties=encode_properties({"price": str(price)})))


async def test_sql92_passes_what_its_expression_says() -> None:
    async with running() as broker:
        await fill_priced(broker, *PRICES)
        asked = pull(broker, sql("price > 100"))
        assert numbers(await asked.result()) == (PullStatus.FOUND, 4, 0, 4)
        assert [each.body for each in await asked.messages()] == [b"500", b"5000"]
        assert numbers(await pull(broker, sql("price > 9999")).result()) == (PullStatus.NOTHING_MATCHED, 4, 0, 4)


async def test_sql92_of_the_heartbeat_counts_and_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_and_note(expression: str) -> Callable[[bytes], bool]:
        compiled.append(expression)
        return compile_sql92(expression)

    monkeypatch.setattr("posthouse.model.filter.compile_sql92", compile_and_note)
    async with running() as broker:
        await fill_priced(broker, *PRICES)
        channel = FakeChannel()
        for _ in range(3):
            beat(broker, channel, member("G", Subscription("T", "price > 100", "SQL92", 5)))
            assert [each.body for each in await pull(broker, request("T", expression=None)).messages()] == [
                b"500",
                b"5000",
            ]
        assert compiled == ["price > 100"]
        beat(broker, channel, member("G", Subscription("T", "price < 6", "SQL92", 6)))
        newer = request("T", expression=None, version=6)
        assert [each.body for each in await pull(broker, newer).messages()] == [b"5"]
        assert refused(broker, newer._replace(subscription_version=7)).reason is Reason.SUBSCRIPTION_NOT_LATEST


@pytest.mark.parametrize("tagged", [True, False])
async def test_held_pull_is_woken_by_what_it_wants_only(tagged: bool) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))
        asked = request("T", expression="A", suspend_ms=LONG_MS) if tagged else sql("price > 100", suspend_ms=LONG_MS)
        held = pull(broker, asked)
        for _ in range(PULL_SCAN_MAX + 100):
            other = message("T", tag="B") if tagged else message("T", properties="price\x015\x02")
            broker.send.send(other, "TBW102", 4, HERE, lambda put, error: None)
        await settled(broker)
        assert held.outcomes == []
        await send(broker, message("T", b"wanted", tag="A", properties="price\x01500\x02"))
        at = PULL_SCAN_MAX + 100
        assert numbers(await held.result()) == (PullStatus.FOUND, at + 1, 0, at + 1)
        assert [(each.body, each.queue_offset) for each in await held.messages()] == [(b"wanted", at)]


@pytest.mark.parametrize("tagged", [True, False])
async def test_end_of_a_filtered_wait_tells_the_client_to_go_on_behind_what_came(tagged: bool) -> None:
    async with running() as broker:
        await fill(broker, b"0", tag="A")
        asked = request("T", 1, expression="A", suspend_ms=60) if tagged else sql("price > 100", 1, suspend_ms=60)
        held = pull(broker, asked)
        await fill(broker, b"1", b"2", tag="B")
        assert held.outcomes == []
        assert numbers(await held.result()) == (PullStatus.NOTHING_MATCHED, 3, 0, 3)
        assert numbers(await pull(broker, asked._replace(queue_offset=QueueOffset(3))).result()) == (
            PullStatus.NOTHING_NEW, 3, 0, 3,
        )  # fmt: skip


async def test_pull_for_tags_reads_nothing_of_the_log_but_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as broker:
        for number in range(50):
            await fill(broker, b"%d" % number, tag="A" if number == 30 else "B")
        log, reads = broker.store.log, []
        read = log.read

        def note(offset: LogOffset, size: int) -> bytes | None:
            reads.append(offset)
            return read(offset, size)

        monkeypatch.setattr(log, "read", note)
        assert [each.body for each in await pull(broker, request("T", expression="A")).messages()] == [b"30"]
        assert len(reads) == 1
        assert (await pull(broker, request("T", expression="C")).result()).status is PullStatus.NOTHING_MATCHED
        assert len(reads) == 1


@pytest.mark.parametrize("topic", ["%RETRY%G", "%RETRY%G_T"])
async def test_what_a_group_has_to_consume_again_is_not_filtered(topic: str) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig(topic))
        broker.send.forward(message(topic, b"again", tag="B"), HERE, None)
        await settled(broker)
        for asked in (request(topic, expression="A"), sql("price > 100")._replace(topic=topic)):
            assert [each.body for each in await pull(broker, asked).messages()] == [b"again"]
        other = request(topic, expression="A", group="H")
        assert (await pull(broker, other).result()).status is PullStatus.NOTHING_MATCHED


# Refusals


def forbidden_by(broker: Broker, asked: PullRequest) -> Forbids:
    found = refused(broker, asked)
    assert isinstance(found, Forbidden)
    assert found.reason is Reason.NO_PERMISSION
    return found.by


async def test_who_forbids_a_pull_is_told() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        await broker.topics.set(TopicConfig("Closed", perm=Perm.WRITE))
        await broker.groups.set(GroupConfig("Off", consume_enable=False))
        assert forbidden_by(broker, request("T", group="Off")) is Forbids.GROUP
        assert forbidden_by(broker, request("Closed")) is Forbids.TOPIC
        await broker.groups.set_readable("G", "T", False)
        assert forbidden_by(broker, request("T")) is Forbids.SUBSCRIPTION
        assert (await pull(broker, request("T", group="H")).result()).status is PullStatus.FOUND
        await broker.groups.set_readable("G", "T", True)
        assert (await pull(broker, request("T")).result()).status is PullStatus.FOUND


async def test_group_that_may_not_broadcast_is_refused_when_it_does() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        await broker.groups.set(GroupConfig("G", consume_broadcast_enable=False))
        channel, asked = FakeChannel(), request("T", expression=None)
        beat(broker, channel, member("G", "T", model=MessageModel.BROADCASTING))
        assert forbidden_by(broker, asked) is Forbids.BROADCAST
        assert (await pull(broker, request("T")).result()).status is PullStatus.FOUND  # with its own subscription
        beat(broker, channel, member("G", "T", model=MessageModel.CLUSTERING))
        assert (await pull(broker, asked).result()).status is PullStatus.FOUND


async def test_pending_reset_is_told_to_the_next_pull_and_to_one_that_is_held() -> None:
    async with running() as broker:
        await fill(broker, b"1", b"2", b"3")
        held = pull(broker, request("T", 3, commit=3, suspend_ms=LONG_MS))
        broker.offsets.commit("G", "T", 0, QueueOffset(3))
        await broker.resets.reset("G", "T", {0: QueueOffset(1)})
        assert numbers(await held.result()) == (PullStatus.OFFSET_MOVED, 1, 0, 3)
        assert numbers(await pull(broker, request("T", 2)).result()) == (PullStatus.OFFSET_MOVED, 1, 0, 3)
        assert [each.body for each in await pull(broker, request("T", 1)).messages()] == [b"2", b"3"]
        assert (await pull(broker, request("T", 3)).result()).status is PullStatus.NOTHING_NEW


async def test_switched_off_group_is_refused() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        await broker.groups.set(GroupConfig("G", consume_enable=False))
        assert refused(broker, request("T")).reason is Reason.NO_PERMISSION


async def test_unknown_group_is_made_or_refused_as_the_broker_is_configured() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        await pull(broker, request("T", group="New")).result()
        assert broker.groups.find("New") == GroupConfig("New")
        assert refused(broker, request("T", group="not legal")).reason is Reason.INVALID_PARAMETER
    async with running(BrokerConfig(auto_create_groups=False)) as broker:
        assert refused(broker, request("T")).reason is Reason.GROUP_NOT_EXIST


async def test_unknown_topic_is_refused_and_not_made() -> None:
    async with running() as broker:
        assert refused(broker, request("T")).reason is Reason.TOPIC_NOT_EXIST
        assert broker.topics.find("T") is None


async def test_topic_that_may_not_be_read_is_refused() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", perm=Perm.WRITE))
        assert refused(broker, request("T")).reason is Reason.NO_PERMISSION


@pytest.mark.parametrize("queue_id", [-1, 2, 3, 2**31 - 1, -(2**31)])
async def test_queue_that_is_not_for_reading_is_refused(queue_id: int) -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T", read_queues=2, write_queues=4))
        assert refused(broker, request("T", queue_id=queue_id)).reason is Reason.INVALID_PARAMETER
        assert not broker.topics.require("T").queues


@pytest.mark.parametrize("expression", ["", "*", " * "])
async def test_expression_for_everything(expression: str) -> None:
    async with running() as broker:
        await fill(broker, b"1", tag="A")
        assert (await pull(broker, request("T", expression=expression)).result()).status is PullStatus.FOUND


async def test_bad_expression_is_refused() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        assert refused(broker, request("T", expression="|| ||")).reason is Reason.SUBSCRIPTION_ILLEGAL
        found = refused(broker, sql("a > "))
        assert found.reason is Reason.SUBSCRIPTION_ILLEGAL
        assert "column 5" in found.remark
        assert refused(broker, request("T", expression="a")._replace(expression_type="XPATH")).remark


async def test_without_an_expression_the_one_of_the_heartbeat_counts() -> None:
    async with running() as broker:
        await fill(broker, b"a", tag="A")
        await fill(broker, b"b", tag="B")
        asked = request("T", expression=None)
        assert refused(broker, asked).reason is Reason.SUBSCRIPTION_NOT_EXIST
        beat(broker, FakeChannel(), member("G", parse_subscription("U", "*")))
        assert refused(broker, asked).reason is Reason.SUBSCRIPTION_NOT_EXIST
        beat(broker, FakeChannel(), member("G", parse_subscription("T", "B", version=5)))
        assert [each.body for each in await pull(broker, asked).messages()] == [b"b"]
        assert [each.body for each in await pull(broker, asked._replace(subscription_version=5)).messages()] == [b"b"]
        newer = asked._replace(subscription_version=6)
        assert refused(broker, newer).reason is Reason.SUBSCRIPTION_NOT_LATEST


async def test_heartbeat_with_an_expression_that_is_not_served_gets_nothing_instead_of_everything() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        for wrong, words in ((Subscription("T", "a >", "SQL92"), "column 4"), (Subscription("T", "a", "JS"), "'JS'")):
            channel = FakeChannel()
            beat(broker, channel, member("G", wrong))
            found = refused(broker, request("T", expression=None))
            assert found.reason is Reason.SUBSCRIPTION_ILLEGAL
            assert words in found.remark
            broker.clients.unregister(channel, None, "G")


# The piggybacked commit


async def test_offset_that_a_pull_brings_is_stored_once() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        held = pull(broker, request("T", 1, commit=1, suspend_ms=LONG_MS))
        assert broker.offsets.stored("G", "T", 0) == 1
        broker.offsets.commit("G", "T", 0, QueueOffset(0))
        await fill(broker, b"2")
        await held.result()
        assert broker.offsets.stored("G", "T", 0) == 0, "the wake-up stored it a second time"


@pytest.mark.parametrize("commit", [None, -1])
async def test_pull_without_an_offset_stores_none(commit: int | None) -> None:
    async with running() as broker:
        await fill(broker, b"1")
        await pull(broker, request("T", commit=commit)).result()
        assert broker.offsets.stored("G", "T", 0) is None


async def test_refused_pull_stores_no_offset() -> None:
    async with running() as broker:
        await fill(broker, b"1")
        refused(broker, request("T", commit=1, expression=None))
        assert broker.offsets.stored("G", "T", 0) is None


# Limits


@pytest.mark.parametrize("asked, given", [(3, 3), (32, 32), (33, 32), (2**31 - 1, 32), (1, 1), (0, 1), (-(2**31), 1)])
async def test_number_of_messages_is_limited_and_never_zero(asked: int, given: int) -> None:
    async with running() as broker:
        await fill(broker, *(b"x" for _ in range(PULL_MESSAGES_MAX + 2)), tag="A")
        for expression in ("*", "A"):
            result = await pull(broker, request("T", messages_max=asked, expression=expression)).result()
            assert len(decode_records(b"".join(result.buffers))) == given
            assert result.next_offset == given


async def test_bytes_are_limited_but_one_message_is_always_given() -> None:
    async with running() as broker:
        await fill(broker, *(bytes(100_000) for _ in range(4)), bytes(PULL_BYTES_MAX + 1), b"small")
        sizes, offset = [], 0
        while offset < 6:
            result = await pull(broker, request("T", offset)).result()
            assert result.size <= PULL_BYTES_MAX or len(decode_records(b"".join(result.buffers))) == 1
            sizes.append(result.next_offset - offset)
            offset = result.next_offset
        assert sizes == [2, 2, 1, 1]


# Disks that make one wait, or fail


async def test_old_messages_are_given_when_the_device_has_given_them() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        for number in range(100):
            await fill(broker, b"%d" % number, tag="rare" if number == 77 else "common")
        disk.is_cold = True
        asked = pull(broker, request("T", 10, messages_max=2))
        assert asked.outcomes == []
        assert [each.body for each in await asked.messages()] == [b"10", b"11"]
        rare = pull(broker, request("T", expression="rare"))
        assert [each.body for each in await rare.messages()] == [b"77"]
        assert disk.later_reads > 0


async def test_only_so_many_pulls_may_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.pull.COLD_READS_MAX", 2)
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await fill(broker, b"1")
        disk.is_cold = True
        waiting = [pull(broker, request("T")) for _ in range(2)]
        with pytest.raises(Refused, match="2 pulls wait for old messages, which is the limit") as refused:
            pull(broker, request("T"))
        assert refused.value.reason is Reason.BUSY
        for each in waiting:
            assert [message.body for message in await each.messages()] == [b"1"]
        assert [message.body for message in await pull(broker, request("T")).messages()] == [b"1"]


async def test_held_pull_that_is_woken_by_messages_which_are_not_in_memory_is_answered() -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await broker.topics.set(TopicConfig("T"))
        held = pull(broker, request("T", suspend_ms=LONG_MS))
        disk.is_cold = True
        await fill(broker, b"1")
        assert [each.body for each in await held.messages()] == [b"1"]


async def test_reads_that_fail_are_refused_and_harm_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    async with running(host=host_on(disk)) as broker:
        await fill(broker, b"1")
        disk.is_cold = True
        disk.read_error = OSError(errno.EIO, "Input/output error")
        outcome = await pull(broker, request("T")).outcome()
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.FAILED

        def broken(*args: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        held = [pull(broker, request("T", 1, suspend_ms=LONG_MS)) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(broker.store.log, "read", broken)
            with pytest.raises(Refused) as at_once:
                pull(broker, request("T"))
            assert at_once.value.reason is Reason.FAILED
            sent = await send(broker, message("T", b"2"))
        assert sent.error is None, "a reader's trouble is not the producer's"
        for each in held:
            outcome = await each.outcome()
            assert isinstance(outcome, Refused)
            assert outcome.reason is Reason.FAILED
        assert not broker.failed.done()


async def test_mistake_while_a_held_pull_is_answered_harms_nobody_else_and_is_told() -> None:
    async with running() as broker:
        await broker.topics.set(TopicConfig("T"))

        def mistaken(outcome: PullResult | Refused) -> None:
            raise ZeroDivisionError("ours")

        broker.pull.pull(request("T", suspend_ms=LONG_MS), "first", mistaken)
        second = pull(broker, request("T", suspend_ms=LONG_MS))
        sent = await send(broker, message("T"))
        assert sent.error is None
        assert (await second.result()).status is PullStatus.FOUND
        assert isinstance(broker.failed.exception(), ZeroDivisionError)


async def test_device_that_stays_slow_is_told_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as broker:
        await fill(broker, b"1")
        monkeypatch.setattr(broker.store, "get", lambda *args: None)
        outcome = await pull(broker, request("T")).outcome()
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.BUSY
        await settled(broker)


def refused(broker: Broker, asked: PullRequest) -> Refused:
    with pytest.raises(Refused) as found:
        pull(broker, asked)
    assert broker.arrivals.waiting == 0
    return found.value
