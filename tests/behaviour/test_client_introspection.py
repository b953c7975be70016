"""What operators can ask of our consumer through a broker, and do to it: Apache's tools send the same requests."""

from __future__ import annotations

import asyncio
import time

import pytest

from posthouse import Producer, PushConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import BrokerRefused
from posthouse.client.received import ReceivedMessage
from posthouse.client.retries import RetryLater
from posthouse.codec.remoting.bodies.client_status import decode_direct_result, decode_running_info
from posthouse.codec.remoting.codes import RequestCode
from posthouse.codec.remoting.json_dialect import queue_of, read_json
from posthouse.host.net import Address
from posthouse.model.client_status import DirectOutcome, DirectResult, RunningInfo
from posthouse.model.group import GroupConfig
from tests.behaviour.conftest import Server, until
from tests.behaviour.test_client_push import FIRST, Got, make_topic, of_topic, send_numbers

pytestmark = pytest.mark.asyncio


async def ask(admin: Admin, topic: str, code: int, ext: dict[str, str]) -> bytes:
    route = await admin.topic_route(topic)
    address = Address.parse(next(iter(route.brokers[0].addresses.values())))
    return (await admin._ask_broker(address, code, ext, b"", "ask a client")).body


async def running_info(admin: Admin, consumer: PushConsumer, topic: str, stacks: bool = False) -> RunningInfo:
    ext = {
        "consumerGroup": consumer.group,
        "clientId": consumer.client_id,
        "jstackEnable": "true" if stacks else "false",
    }
    return decode_running_info(await ask(admin, topic, RequestCode.GET_CONSUMER_RUNNING_INFO, ext))


async def test_a_consumer_tells_what_it_reads_and_how_fast(server: Server, name: str) -> None:
    await make_topic(server, name, 2)
    got = Got()
    async with (
        Admin(server.nameserver) as admin,
        PushConsumer(
            f"g-{name}", server.nameserver, subscribe={name: "*"}, handler=got, from_where=FIRST, concurrency=7
        ) as consumer,
    ):
        await send_numbers(server, name, range(60))
        await until(lambda: len(got.messages) == 60 and len(of_topic(consumer, name)) == 2)
        info = await running_info(admin, consumer, name)
        offsets = read_json(
            await ask(
                admin, name, RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, {"topic": name, "group": consumer.group}
            )
        )
    assert info.properties["PROP_THREADPOOL_CORE_SIZE"] == "7"
    assert info.properties["PROP_CONSUMEORDERLY"] == "false"
    assert info.properties["PROP_CONSUME_TYPE"] == "CONSUME_PASSIVELY"
    assert abs(int(info.properties["PROP_CONSUMER_START_TIMESTAMP"]) - time.time() * 1000) < 60_000
    assert {each.topic: each.expression for each in info.subscriptions} == {name: "*", f"%RETRY%g-{name}": "*"}
    mine = {queue.queue_id: status for queue, status in info.queues.items() if queue.topic == name}
    assert set(mine) == {0, 1}
    assert sum(status.commit_offset for status in mine.values()) == 60
    assert all(status.held == 0 and not status.locked and status.pulled_at_ms for status in mine.values())
    rates = info.rates[name]
    assert rates.consumed_per_second == pytest.approx(1.0)
    assert rates.failed_in_hour == 0
    table = offsets["consumerTable"][consumer.client_id]
    assert sum(offset for queue, offset in table.items() if queue_of(queue).topic == name) == 60


async def test_an_ordered_consumer_tells_its_locks_and_where_a_handler_waits(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    gate = asyncio.Event()

    async def wait_at_the_gate(message: ReceivedMessage) -> None:
        await gate.wait()

    async with (
        Admin(server.nameserver) as admin,
        Producer(server.nameserver) as producer,
        PushConsumer(
            f"g-{name}", server.nameserver, subscribe=name, handler=wait_at_the_gate, ordered=True, from_where=FIRST
        ) as consumer,
    ):
        await asyncio.gather(*(producer.send(name, b"x" * 1000) for _ in range(5)))
        await until(lambda: any(own.inbox is not None and len(own.inbox) == 5 for own in consumer._own.values()))
        info = await running_info(admin, consumer, name, stacks=True)
        gate.set()
    status = next(status for queue, status in info.queues.items() if queue.topic == name)
    assert info.properties["PROP_CONSUMEORDERLY"] == "true"
    assert status.locked
    assert abs(status.locked_at_ms - time.time() * 1000) < 60_000
    assert (status.commit_offset, status.held, status.held_max_offset) == (0, 5, 4)
    assert "wait_at_the_gate" in info.stacks


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_operator_can_have_one_message_handled(server: Server, name: str, ordered: bool) -> None:
    await make_topic(server, name, 1)
    seen: list[bytes] = []

    async def handle(message: ReceivedMessage) -> None:
        seen.append(message.body)
        if message.body == b"bad" and seen.count(b"bad") > 1:
            raise RuntimeError("it is bad")
        if message.body == b"later" and seen.count(b"later") > 1:
            raise RetryLater(3)

    async with (
        Admin(server.nameserver) as admin,
        Producer(server.nameserver) as producer,
        PushConsumer(
            f"g-{name}", server.nameserver, subscribe=name, handler=handle, from_where=FIRST, ordered=ordered
        ) as consumer,
    ):
        receipts = {body: await producer.send(name, body) for body in (b"good", b"bad", b"later")}
        await until(lambda: len(seen) == 3)

        async def directly(body: bytes) -> DirectResult:
            ext = {
                "consumerGroup": consumer.group,
                "clientId": consumer.client_id,
                "msgId": receipts[body].offset_message_id,
                "brokerName": receipts[body].queue.broker_name,
                "topic": name,
            }
            return decode_direct_result(await ask(admin, name, RequestCode.CONSUME_MESSAGE_DIRECTLY, ext))

        good, bad, later = await directly(b"good"), await directly(b"bad"), await directly(b"later")
    assert (good.outcome, good.ordered) == (DirectOutcome.SUCCESS, ordered)
    assert (bad.outcome, bad.remark) == (DirectOutcome.THREW, "RuntimeError: it is bad")
    assert later.outcome == DirectOutcome.LATER
    assert seen == [b"good", b"bad", b"later", b"good", b"bad", b"later"]


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_operator_can_move_a_group_that_is_at_work(server: Server, name: str, ordered: bool) -> None:
    """The broker moves it and tells the members with the next pull; old brokers tell them by a request (220)."""
    await make_topic(server, name, 1)
    got = Got()
    async with (
        Admin(server.nameserver) as admin,
        PushConsumer(
            f"g-{name}", server.nameserver, subscribe=name, handler=got, from_where=FIRST, ordered=ordered
        ) as consumer,
    ):
        await admin.create_group(GroupConfig(consumer.group))
        await send_numbers(server, name, range(10))
        await until(lambda: len(got.messages) == 10)
        ext = {
            "topic": name,
            "group": consumer.group,
            "timestamp": "-1",
            "isForce": "true",
            "queueId": "0",
            "offset": "4",
        }
        await ask(admin, name, RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, ext)
        await until(lambda: len(got.messages) >= 16, 30)
        await asyncio.sleep(0.3)
    again = [message.queue_offset for message in got.messages[10:]]
    assert sorted(again) == [4, 5, 6, 7, 8, 9]
    if ordered:
        assert again == sorted(again)


async def test_a_question_for_another_group_is_refused(server: Server, name: str) -> None:
    await make_topic(server, name, 1)
    async with (
        Admin(server.nameserver) as admin,
        PushConsumer(f"g-{name}", server.nameserver, subscribe=name, handler=Got(), from_where=FIRST) as consumer,
    ):
        await until(lambda: bool(of_topic(consumer, name)))
        ext = {"consumerGroup": "other", "clientId": consumer.client_id, "jstackEnable": "false"}
        with pytest.raises(BrokerRefused):
            await ask(admin, name, RequestCode.GET_CONSUMER_RUNNING_INFO, ext)
