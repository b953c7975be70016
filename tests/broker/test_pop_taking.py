"""What a pop takes: from which queues, from where on, and what passes its filter."""

from __future__ import annotations

import pytest

from posthouse.model.limits import PULL_SCAN_MAX
from posthouse.model.offsets import QueueOffset
from posthouse.model.pop import (
    PopStatus,
    Source,
    pop_retry_topic,
    pop_retry_topic_v2,
)
from posthouse.model.topic import TopicConfig
from tests.broker.brokers import message, running, send
from tests.broker.pops import fill, in_flight, pop, popped

pytestmark = pytest.mark.asyncio


async def test_queues_take_turns_to_be_first() -> None:
    async with running() as broker:
        await fill(broker, 40, queues=4)
        first = {(await pop(broker, messages_max=1).result()).parts[0].queue_id for _ in range(8)}
        assert first == {0, 1, 2, 3}


async def test_one_queue_alone_can_be_asked() -> None:
    async with running() as broker:
        await fill(broker, 8, queues=4)
        assert await popped(broker, queue_id=2) == [b"2", b"6"]
        assert (await pop(broker, queue_id=2).result()).status is PopStatus.NOTHING


# Filters


async def test_what_does_not_pass_the_filter_is_passed_over_for_good() -> None:
    async with running() as broker:
        for number in range(6):
            await send(broker, message("T", b"%d" % number, tag="AB"[number % 2]))
        asked = pop(broker, expression="A")
        assert await asked.bodies() == [b"0", b"2", b"4"]
        assert [receipt.offset for receipt in await asked.receipts()] == [0, 2, 4]
        assert (await pop(broker, expression="B").result()).status is PopStatus.NOTHING
        assert broker.store.offsets.find("G", "T", 0) == 6


async def test_a_filter_of_properties_is_asked() -> None:
    async with running() as broker:
        for number in range(6):
            await send(broker, message("T", b"%d" % number, properties=f"n\x01{number}\x02"))
        assert await popped(broker, expression="n > 3", expression_type="SQL92") == [b"4", b"5"]


async def test_one_that_passes_is_found_behind_many_that_do_not() -> None:
    async with running() as broker:
        await fill(broker, 0)
        entries = [(b"x", "TAGS\x01No\x02", 0)] * (PULL_SCAN_MAX * 9)
        broker.send.send_many(message("T"), entries, "TBW102", 1, message("T").born_host, lambda put, error: None)
        await send(broker, message("T", b"found", tag="Yes"))
        assert await popped(broker, expression="Yes") == [b"found"]


# Where a group begins


@pytest.mark.parametrize("from_latest", [False, True])
async def test_a_new_group_gets_what_is_there_of_a_young_queue(from_latest: bool) -> None:
    async with running() as broker:
        await fill(broker, 2)
        assert await popped(broker, from_latest=from_latest) == [b"0", b"1"]


async def test_a_new_group_that_wants_the_latest_of_an_old_queue_begins_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("posthouse.broker.pop_taking.YOUNG_QUEUE_BYTES", 0)
    async with running() as broker:
        await fill(broker, 2)
        assert (await pop(broker, from_latest=True).result()).status is PopStatus.NOTHING
        await send(broker, message("T", b"new"))
        assert await popped(broker, from_latest=True) == [b"new"]
        assert await popped(broker, group="H") == [b"0", b"1", b"new"]


async def test_an_offset_outside_of_the_queue_is_put_right() -> None:
    async with running() as broker:
        await fill(broker, 4)
        broker.store.topics.live["T"].queue(0).trim(QueueOffset(2))
        broker.store.offsets.commit("G", "T", 0, QueueOffset(0))
        assert await popped(broker) == [b"2", b"3"]
        broker.store.offsets.commit("G", "T", 0, QueueOffset(99))
        assert (await pop(broker).result()).status is PopStatus.NOTHING
        await send(broker, message("T", b"next"))
        assert await popped(broker) == [b"next"]


# Resets


async def test_a_reset_backwards_gives_everything_again_once() -> None:
    async with running() as broker:
        await fill(broker, 4)
        old = await pop(broker, invisible_ms=400).receipts()
        await broker.resets.reset("G", "T", {0: QueueOffset(1)})
        assert await popped(broker) == [b"1", b"2", b"3"]
        for receipt in old:
            broker.pop.acks.ack(receipt)
        assert in_flight(broker) == 3, "old receipts are not those of the new deliveries"


# Retry topics


async def test_both_names_of_a_retry_topic_are_read() -> None:
    async with running() as broker:
        await fill(broker, 1)
        assert await popped(broker) == [b"0"]
        for source, name in (
            (Source.RETRY, pop_retry_topic("G", "T")),
            (Source.RETRY_V2, pop_retry_topic_v2("G", "T")),
        ):
            broker.topics.ensure(TopicConfig(name, 1, 1))
            broker.send.forward(message(name, b"retry"), message("T").born_host, None)
            asked = pop(broker, poll_ms=2000)
            assert await asked.bodies() == [b"retry"]
            assert [part.source for part in (await asked.result()).parts] == [source]
            (receipt,) = await asked.receipts()
            assert receipt.topic == name
            broker.pop.acks.ack(receipt)
        assert in_flight(broker) == 1
