"""What becomes of what was popped: acknowledged, renewed, or too late for either."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.model.limits import POP_INVISIBLE_MS_MAX
from posthouse.model.pop import PopStatus
from posthouse.model.refusal import Reason, Refused
from tests.broker.brokers import host_on, running, until
from tests.broker.pops import LONG_MS, fill, in_flight, pop, popped, renewed
from tests.store.disks import FaultyDisk, ManualClock

pytestmark = pytest.mark.asyncio


async def test_what_is_acknowledged_does_not_come_again() -> None:
    async with running() as broker:
        await fill(broker, 2)
        asked = pop(broker, invisible_ms=50)
        first, second = await asked.receipts()
        broker.pop.acks.ack(first)
        await until(lambda: not in_flight(broker))
        assert await popped(broker, poll_ms=2000) == [b"1"]
        with pytest.raises(Refused):
            await renewed(broker, second, LONG_MS)


async def test_a_late_acknowledgement_changes_nothing() -> None:
    async with running() as broker:
        await fill(broker, 1)
        (old,) = await pop(broker, invisible_ms=50).receipts()
        await until(lambda: not in_flight(broker))
        (new,) = await pop(broker, poll_ms=2000).receipts()
        broker.pop.acks.ack(old)
        assert in_flight(broker) == 1
        broker.pop.acks.ack(new)
        assert in_flight(broker) == 0


async def test_many_are_acknowledged_at_once_and_what_is_wrong_is_passed_over() -> None:
    async with running() as broker:
        await fill(broker, 3)
        receipts = await pop(broker).receipts()
        wrong = [receipts[0]._replace(topic="NoSuchTopic"), receipts[0]._replace(queue_id=77)]
        broker.pop.acks.ack_many([*wrong, *receipts[:2]])
        assert in_flight(broker) == 1


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"topic": "NoSuchTopic"}, Reason.TOPIC_NOT_EXIST),
        ({"queue_id": 1}, Reason.MESSAGE_ILLEGAL),
        ({"queue_id": -1}, Reason.MESSAGE_ILLEGAL),
        ({"offset": 3}, Reason.NO_MESSAGE),
        ({"offset": -1}, Reason.NO_MESSAGE),
    ],
)
async def test_an_acknowledgement_of_nothing_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    async with running() as broker:
        await fill(broker, 2)
        receipt = (await pop(broker).receipts())[0]._replace(**changes)
        with pytest.raises(Refused) as refused:
            broker.pop.acks.ack(receipt)
        assert refused.value.reason is reason
        assert in_flight(broker) == 2


async def test_a_renewed_message_stays_invisible_and_has_a_new_receipt() -> None:
    async with running(host=host_on(FaultyDisk(), ManualClock())) as broker:
        await fill(broker, 1)
        (receipt,) = await pop(broker, invisible_ms=150).receipts()
        new = await renewed(broker, receipt, LONG_MS)
        assert new.at_ms != receipt.at_ms
        await asyncio.sleep(0.4)
        assert (await pop(broker).result()).status is PopStatus.NOTHING
        broker.pop.acks.ack(receipt)
        assert in_flight(broker) == 1, "the old receipt ended"
        broker.pop.acks.ack(receipt._replace(at_ms=new.at_ms))
        assert in_flight(broker) == 0


async def test_a_message_is_given_back_by_a_time_of_nothing() -> None:
    async with running() as broker:
        await fill(broker, 1)
        (receipt,) = await pop(broker).receipts()
        await renewed(broker, receipt, 0)
        assert await popped(broker, poll_ms=2000) == [b"0"]


async def test_a_receipt_that_ended_cannot_be_renewed() -> None:
    async with running() as broker:
        await fill(broker, 1)
        (receipt,) = await pop(broker).receipts()
        broker.pop.acks.ack(receipt)
        with pytest.raises(Refused, match="not valid any more") as refused:
            await renewed(broker, receipt, LONG_MS)
        assert refused.value.reason is Reason.NO_MESSAGE
        with pytest.raises(Refused, match="invisible for"):
            await renewed(broker, receipt, POP_INVISIBLE_MS_MAX + 1)
