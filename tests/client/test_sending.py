"""Tries, retries, room and time of sends, against brokers that misbehave."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from posthouse.client.errors import ClientClosed, NoBroker, SendFailed, SendTimeout, TooManySends
from posthouse.client.producer import Producer
from posthouse.client.receipt import SendReceipt, SendStatus
from posthouse.client.sending import WAITING_SENDS_MAX
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_V2, encode_send_reply
from posthouse.model.message import MessageQueue
from posthouse.model.topic import Perm
from tests.client.conftest import FakeBroker, FakeCluster, until

pytestmark = pytest.mark.asyncio

SEND = RequestCode.SEND_MESSAGE_V2


async def two_brokers(cluster: FakeCluster) -> tuple[FakeBroker, FakeBroker]:
    one, two = await cluster.add_broker(), await cluster.add_broker()
    cluster.add_topic("t", queues=2)
    return one, two


def keys_of(broker: FakeBroker) -> list[str]:
    return [SEND_MESSAGE_V2.decode(command.ext).properties or "" for command in broker.seen if command.code == SEND]


async def test_sends_go_over_all_queues_of_all_brokers_in_turn(cluster: FakeCluster) -> None:
    await two_brokers(cluster)
    async with Producer(cluster.address) as producer:
        receipts = [await producer.send("t", b"x") for _ in range(40)]
    assert set(Counter(receipt.queue for receipt in receipts).values()) == {10}
    assert len({receipt.queue for receipt in receipts}) == 4


async def test_topics_have_turns_of_their_own(cluster: FakeCluster) -> None:
    await two_brokers(cluster)
    cluster.add_topic("u", queues=1)
    async with Producer(cluster.address) as producer:
        queues = [((await producer.send("t", b"x")).queue, (await producer.send("u", b"x")).queue) for _ in range(8)]
    assert set(Counter(first for first, _ in queues).values()) == {2}
    assert set(Counter(second for _, second in queues).values()) == {4}


@pytest.mark.parametrize(
    "code", [ResponseCode.SYSTEM_BUSY, ResponseCode.SYSTEM_ERROR, ResponseCode.TOPIC_NOT_EXIST, ResponseCode.GO_AWAY]
)
async def test_a_refusal_that_may_pass_goes_to_another_broker_with_the_same_id(
    cluster: FakeCluster, code: ResponseCode
) -> None:
    one, two = await two_brokers(cluster)
    one.refuse(SEND, code)
    async with Producer(cluster.address) as producer:
        receipts = [await producer.send("t", b"x") for _ in range(12)]
    assert {receipt.queue.broker_name for receipt in receipts} == {two.name}
    assert len(two.stored) == 12
    refused = keys_of(one)
    assert 1 <= len(refused) <= 2  # then it is spared
    assert set(refused) <= set(keys_of(two))


async def test_a_final_refusal_is_raised_at_once(cluster: FakeCluster) -> None:
    one, two = await two_brokers(cluster)
    for broker in (one, two):
        broker.refuse(SEND, ResponseCode.MESSAGE_ILLEGAL, "the body is odd")
    async with Producer(cluster.address) as producer:
        with pytest.raises(SendFailed, match=r"refused with 13 MESSAGE_ILLEGAL: the body is odd; check size") as failed:
            await producer.send("t", b"x")
    assert (failed.value.code, failed.value.remark, failed.value.maybe_stored) == (13, "the body is odd", False)
    assert one.count(SEND) + two.count(SEND) == 1


async def test_tries_are_counted(cluster: FakeCluster) -> None:
    one, two = await two_brokers(cluster)
    for broker in (one, two):
        broker.refuse(SEND, ResponseCode.SYSTEM_BUSY)
    async with Producer(cluster.address, retries=3) as producer:
        with pytest.raises(SendFailed, match=r"failed after 4 tries: .* 2 SYSTEM_BUSY.*send slower"):
            await producer.send("t", b"x")
    assert one.count(SEND) == two.count(SEND) == 2


@pytest.mark.parametrize("how", ["queue", "key", "function"])
async def test_a_chosen_queue_is_tried_once(cluster: FakeCluster, how: str) -> None:
    one, two = await two_brokers(cluster)
    for broker in (one, two):
        broker.refuse(SEND, ResponseCode.SYSTEM_BUSY)
    queue = MessageQueue("t", one.name, 1)
    async with Producer(cluster.address) as producer:
        sends: dict[str, Callable[[], Awaitable[SendReceipt]]] = {
            "queue": lambda: producer.send("t", b"x", queue=queue),
            "key": lambda: producer.send("t", b"x", sharding_key="k"),
            "function": lambda: producer.send("t", b"x", queue=lambda queues, message: queues[1]),
        }
        with pytest.raises(SendFailed, match="SYSTEM_BUSY"):
            await sends[how]()
    assert one.count(SEND) + two.count(SEND) == 1
    if how != "key":
        (command,) = (command for command in one.seen if command.code == SEND)
        header = SEND_MESSAGE_V2.decode(command.ext)
        assert (header.queue_id, header.broker_name) == (1, one.name)


async def test_the_only_broker_is_tried_again_after_a_pause(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    answers = iter([ResponseCode.SYSTEM_BUSY, ResponseCode.SYSTEM_BUSY])

    def busy_twice(command: Command) -> Command | bytes:
        code = next(answers, None)
        return broker.store(command) if code is None else response(code, command.request_id)

    broker.answers[SEND] = busy_twice
    async with Producer(cluster.address) as producer:
        begun_at = time.monotonic()
        assert (await producer.send("t", b"x")).status is SendStatus.SEND_OK
        assert time.monotonic() - begun_at >= 0.14
    assert broker.count(SEND) == 3


async def test_the_only_broker_is_not_asked_twice_for_a_topic_that_it_does_not_have(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.refuse(SEND, ResponseCode.TOPIC_NOT_EXIST)
    async with Producer(cluster.address) as producer:
        with pytest.raises(SendFailed, match="create the topic with"):
            await producer.send("t", b"x")
    assert broker.count(SEND) == 1


@pytest.mark.parametrize("status", list(SendStatus))
async def test_stored_but_not_quite_as_promised_is_a_receipt(cluster: FakeCluster, status: SendStatus) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.answers[SEND] = lambda command: encode_send_reply(command.request_id, "0" * 32, 1, 5, "", True, status)
    async with Producer(cluster.address) as producer:
        receipt = await producer.send("t", b"x")
    assert (receipt.status, receipt.queue_offset) == (status, 5)


async def test_receipt_says_how_safe_the_message_is_if_the_broker_does(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    place = {"msgId": "0" * 32, "queueId": "1", "queueOffset": "5"}
    told = iter([{"durability": "disk"}, {"durability": "os"}, {}])  # the last one as Apache's brokers answer
    broker.answers[SEND] = lambda command: response(0, command.request_id, place | next(told))
    async with Producer(cluster.address) as producer:
        found = [(await producer.send("t", b"x")).durability for _ in range(3)]
    assert found == ["disk", "os", None]


async def test_without_an_answer_the_budget_ends_the_send_and_says_that_it_may_be_stored(cluster: FakeCluster) -> None:
    one, two = await two_brokers(cluster)
    one.answers.pop(SEND)
    two.answers.pop(SEND)
    async with Producer(cluster.address, send_timeout_ms=300) as producer:
        begun_at = time.monotonic()
        with pytest.raises(SendTimeout, match=r"not acknowledged within 300 ms.*may be stored all the same") as late:
            await producer.send("t", b"x")
        assert 0.28 < time.monotonic() - begun_at < 0.8
        assert late.value.maybe_stored
        assert isinstance(late.value, TimeoutError)


async def test_a_connection_lost_in_flight_is_a_try(cluster: FakeCluster) -> None:
    one, two = await two_brokers(cluster)

    def cut(broker: FakeBroker) -> Callable[[Command], None]:
        def answer(command: Command) -> None:
            for peer in broker.peers:
                peer.close("cut")
            broker.peers.clear()

        return answer

    one.answers[SEND] = cut(one)
    async with Producer(cluster.address) as producer:
        receipts = [await producer.send("t", b"x") for _ in range(4)]
        assert {receipt.queue.broker_name for receipt in receipts} == {two.name}
        two.answers[SEND] = cut(two)
        with pytest.raises(SendFailed, match="ended") as failed:
            await producer.send("t", b"x", queue=receipts[0].queue)
        assert failed.value.maybe_stored


async def test_a_dead_broker_is_passed_over_in_no_time(cluster: FakeCluster) -> None:
    one, two = await two_brokers(cluster)
    await one.vanish()
    async with Producer(cluster.address) as producer:
        begun_at = time.monotonic()
        receipts = await asyncio.gather(*(producer.send("t", b"x") for _ in range(200)))
        assert time.monotonic() - begun_at < 1
    assert {receipt.queue.broker_name for receipt in receipts} == {two.name}


async def test_the_only_broker_may_come_back_within_the_budget(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address, send_timeout_ms=5000) as producer:
        await producer.send("t", b"x")
        await broker.vanish()
        sends = [producer.send("t", b"x") for _ in range(50)]
        await asyncio.sleep(0.6)
        assert not any(send.done() for send in sends)
        await broker.listen()
        await asyncio.gather(*sends)
    assert len(broker.stored) == 51


async def test_dead_brokers_cost_the_budget_and_no_more(cluster: FakeCluster) -> None:
    one, two = await two_brokers(cluster)
    await one.vanish()
    await two.vanish()
    async with Producer(cluster.address, send_timeout_ms=500) as producer:
        begun_at = time.monotonic()
        sends = [producer.send("t", b"x") for _ in range(20)]
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert time.monotonic() - begun_at < 1.2
    for result in results:
        assert isinstance(result, SendTimeout)
        assert "cannot connect to 127.0.0.1" in str(result)
        assert not result.maybe_stored


async def test_a_topic_that_takes_no_messages_says_so(cluster: FakeCluster) -> None:
    await cluster.add_broker()
    cluster.add_topic("t", perm=Perm.READ)
    async with Producer(cluster.address) as producer:
        with pytest.raises(SendFailed, match="has no queue that takes messages: look at its permission"):
            await producer.send("t", b"x")
        cluster.add_topic("u")
        with pytest.raises(NoBroker, match="no broker nobody that takes messages now; it has broker-a"):
            await producer.send("u", b"x", queue=MessageQueue("u", "nobody", 0))


async def test_past_the_limit_sends_wait_and_then_fail_in_time(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    async with Producer(cluster.address, in_flight_max=5, send_timeout_ms=2000) as producer:
        await producer.send("t", b"warm")
        parked: list[Command] = []
        broker.answers[SEND] = parked.append
        first = [producer.send("t", b"%d" % n) for n in range(5)]
        waiting = [producer.send("t", b"x", timeout_ms=200) for _ in range(3)]
        begun_at = time.monotonic()
        await asyncio.wait(waiting)
        assert 0.15 < time.monotonic() - begun_at < 0.6
        for send in waiting:
            assert isinstance(send.exception(), TooManySends)
            assert "not begun within 200 ms, as 5 sends are in flight: await sends" in str(send.exception())
        later = [producer.send("t", b"x") for _ in range(7)]
        broker.answers[SEND] = broker.store
        for command in parked:
            broker.peers[0].write(broker.store(command))
        await asyncio.gather(*first, *later)
        assert producer.in_flight == 0


async def test_the_line_of_waiting_sends_has_an_end(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.answers.pop(SEND)
    async with Producer(cluster.address, in_flight_max=1, send_timeout_ms=500) as producer:
        sends = [producer.send("t", b"x") for _ in range(WAITING_SENDS_MAX + 1)]
        assert not sends[-1].done()
        over = producer.send("t", b"x")
        assert isinstance(over.exception(), TooManySends)
        assert str(WAITING_SENDS_MAX) in str(over.exception())
        await asyncio.wait(sends)
        assert all(send.exception() is not None for send in sends)


async def test_bytes_in_flight_are_limited_too(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.answers.pop(SEND)
    async with Producer(cluster.address, compress_over_bytes=None, send_timeout_ms=800) as producer:
        sends = [producer.send("t", bytes(4 * 1024 * 1024)) for _ in range(20)]
        assert producer.in_flight == 16
        await asyncio.wait(sends)
        assert all(isinstance(send.exception(), SendFailed) for send in sends)


async def test_closing_ends_what_gets_no_answer(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.answers.pop(SEND)
    async with Producer(cluster.address, send_timeout_ms=60_000) as producer:
        producer._timeout_s = 0.2  # how long closing is patient
        sends = [producer.send("t", b"x", timeout_ms=60_000) for _ in range(3)]
        await until(lambda: broker.count(SEND) == 3)
    for send in sends:
        with pytest.raises(ClientClosed, match="before the answer came"):
            await send


async def test_a_send_cancelled_between_tries_is_not_tried_again(cluster: FakeCluster) -> None:
    broker = await cluster.add_broker()
    cluster.add_topic("t")
    broker.refuse(SEND, ResponseCode.SYSTEM_BUSY)
    async with Producer(cluster.address) as producer:
        send = producer.send("t", b"x")
        await until(lambda: broker.count(SEND) == 1)
        send.cancel()
        await asyncio.sleep(0.2)
        assert broker.count(SEND) == 1
        assert producer.in_flight == 0
