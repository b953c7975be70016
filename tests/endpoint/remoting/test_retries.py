"""36 and delayed sends on the wire, as Java's clients speak them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.model.group import GroupConfig
from tests.endpoint.clients import C, Client, R, client, house, send_ext

pytestmark = pytest.mark.asyncio


def back_ext(offset: int, **changes: Any) -> dict[str, Any]:
    return {
        "offset": offset,
        "group": "G",
        "delayLevel": 0,
        "originMsgId": "7F000001",
        "originTopic": "T",
        "unitMode": False,
        "maxReconsumeTimes": 16,
    } | changes


async def first(producer: Client) -> int:
    """The place of a message."""
    await producer.send("T", b"body")
    return (await producer.messages("T"))[0].log_offset


async def test_a_message_that_is_given_back_comes_again() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        assert found.broker is not None
        await found.broker.groups.set(GroupConfig("G"))
        offset = await first(consumer)
        answer = await consumer.ok(C.CONSUMER_SEND_MSG_BACK, back_ext(offset, delayLevel=1))
        assert (answer.body, answer.ext_map()) == (b"", {})
        await asyncio.sleep(1.3)
        (again,) = await consumer.messages("%RETRY%G")
        assert (again.reconsume_times, again.body, again.properties["RETRY_TOPIC"]) == (1, b"body", "T")


async def test_a_message_that_is_given_up_is_a_dead_letter_when_the_answer_comes() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        assert found.broker is not None
        await found.broker.groups.set(GroupConfig("G"))
        offset = await first(consumer)
        await consumer.ok(C.CONSUMER_SEND_MSG_BACK, back_ext(offset, delayLevel=-1))
        (dead,) = await consumer.messages("%DLQ%G")
        assert (dead.body, dead.properties["DLQ_REASON"]) == (b"body", "refused")


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"group": "a b"}, R.INVALID_PARAMETER),
        ({"offset": 3}, R.SYSTEM_ERROR),
        ({"offset": "x"}, R.SYSTEM_ERROR),
    ],
)
async def test_what_cannot_be_given_back_is_answered_with_its_code(changes: dict[str, Any], code: R) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        assert found.broker is not None
        await found.broker.groups.set(GroupConfig("G"))
        offset = await first(consumer)
        answer = await consumer.ask(C.CONSUMER_SEND_MSG_BACK, back_ext(offset) | changes)
        assert answer.code == code
        assert answer.remark


@pytest.mark.parametrize("queue_id", [2, -1])
async def test_the_answer_to_a_delayed_send_names_the_queue_that_was_asked_for(queue_id: int) -> None:
    async with house() as found, client(found.broker_address) as producer:
        reply = await producer.send("T", properties="DELAY\x0118\x02UNIQ_KEY\x01id1\x02", queueId=queue_id)
        assert reply.transaction_id == "id1"
        assert reply.recall_handle is None
        assert reply.queue_id == queue_id or (queue_id < 0 and 0 <= reply.queue_id < 4)
        assert reply.durability in ("disk", "os")


async def test_the_answer_to_a_timed_send_has_a_recall_handle() -> None:
    async with house() as found, client(found.broker_address) as producer:
        reply = await producer.send("T", properties="TIMER_DELAY_SEC\x0160\x02UNIQ_KEY\x01id1\x02")
        assert reply.recall_handle
        plain = await producer.send("T")
        assert plain.recall_handle is None


async def test_a_dead_letter_that_is_sent_to_the_retry_topic_uses_the_requests_limit() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        assert found.broker is not None
        await found.broker.groups.set(GroupConfig("G"))
        ext = send_ext("%RETRY%G", reconsumeTimes=3, maxReconsumeTimes=2, queueId=0)
        await consumer.ok(C.SEND_MESSAGE_V2, ext, b"body")
        (dead,) = await consumer.messages("%DLQ%G")
        assert (dead.body, dead.properties["DLQ_ATTEMPTS"]) == (b"body", "3")
