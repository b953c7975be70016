"""Sends over the wire: 10, 310 and 320, their answers, and what odd clients put into them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posthouse.codec.remoting.batch import BatchEntry, encode_batch
from posthouse.codec.remoting.command import Command
from posthouse.codec.remoting.headers.send import SEND_MESSAGE_REPLY, encode_send_reply
from posthouse.model.ids import offset_message_id, parse_offset_message_id
from posthouse.model.limits import BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX
from posthouse.model.message import Endpoint
from tests.broker.brokers import host_on, until
from tests.endpoint.clients import C, R, client, house, long_send_ext, send_ext, text
from tests.store.disks import FaultyDisk
from tests.store.test_retention import MeasuredDisk

pytestmark = pytest.mark.asyncio

TWO = encode_batch([BatchEntry(b"one", "UNIQ_KEY\x01id1\x02TAGS\x01A\x02"), BatchEntry(b"two", "UNIQ_KEY\x01id2\x02")])


@pytest.mark.parametrize("code", [C.SEND_MESSAGE, C.SEND_MESSAGE_V2])
async def test_message_is_acknowledged_with_its_place(code: int) -> None:
    async with house() as found, client(found.broker_address) as producer:
        ext = long_send_ext if code == C.SEND_MESSAGE else send_ext
        for offset in range(2):
            answer = await producer.ok(code, ext("T", queueId=3, properties="UNIQ_KEY\x01AC10\x02"), b"body")
            reply = SEND_MESSAGE_REPLY.decode(answer.ext)
            assert (reply.queue_id, reply.queue_offset, reply.transaction_id) == (3, offset, "AC10")
            assert (reply.region, reply.trace_on) == ("DefaultRegion", True)
            (stored,) = await producer.messages("T", offset, queueId=3)
            assert found.broker_address is not None
            store_host = Endpoint(bytes((127, 0, 0, 1)), found.broker_address.port)
            assert parse_offset_message_id(reply.msg_id) == (store_host, stored.log_offset)
            assert stored.store_host == store_host
            assert stored.born_host.ip == bytes((127, 0, 0, 1))
            assert stored.born_host.port == producer.peer.local.port


async def test_queue_that_the_broker_chose_is_told() -> None:
    async with house() as found, client(found.broker_address) as producer:
        replies = [await producer.send("T", queueId=-1) for _ in range(20)]
        assert {reply.queue_id for reply in replies} <= {0, 1, 2, 3}
        for reply in replies:
            assert reply.queue_offset < await max_offset(producer, "T", reply.queue_id)


async def test_unique_id_that_was_made_is_told() -> None:
    async with house() as found, client(found.broker_address) as producer:
        reply = await producer.send("T")
        (stored,) = await producer.messages("T")
        assert stored.message_id == reply.transaction_id


@pytest.mark.parametrize("unique_id", ['"', "\\", "\n", "驿\U0001f4ee", "x" * 30_000, " "])
async def test_unique_id_may_be_any_text(unique_id: str) -> None:
    async with house() as found, client(found.broker_address) as producer:
        reply = await producer.send("T", properties=f"UNIQ_KEY\x01{unique_id}\x02")
        assert reply.transaction_id == unique_id


async def test_answer_says_how_safe_the_message_is() -> None:
    async with house() as found, client(found.broker_address) as producer:
        assert (await producer.send("T")).durability == "disk"
        assert (await producer.send("T", properties="WAIT\x01false\x02")).durability == "os"
        for properties, durability in (("WAIT\x01true\x02", "disk"), ("WAIT\x01false\x02", "os")):
            ext = send_ext("T", batch=True, properties=properties)
            answer = await producer.ok(C.SEND_BATCH_MESSAGE, ext, TWO)
            assert SEND_MESSAGE_REPLY.decode(answer.ext).durability == durability


async def test_full_disk_is_a_refusal_that_clients_take_to_another_broker() -> None:
    disk = MeasuredDisk()
    async with house(host_on(disk)) as found, client(found.broker_address) as producer:
        assert found.broker is not None
        await producer.send("T")
        disk.used = 950
        found.broker.retention.measure()
        for code in (C.SEND_MESSAGE, C.SEND_MESSAGE_V2):
            ext = long_send_ext if code == C.SEND_MESSAGE else send_ext
            answer = await producer.ask(code, ext("T"), b"body")
            assert answer.code == R.SERVICE_NOT_AVAILABLE
            assert "95.0% used, and over 90% this broker takes no more messages" in (answer.remark or "")
        assert len(await producer.messages("T")) == 1
        disk.used = 100
        found.broker.retention.measure()
        await producer.send("T")


@pytest.mark.parametrize("code", [C.SEND_MESSAGE_V2, C.SEND_BATCH_MESSAGE])
async def test_header_decides_what_a_batch_is_and_not_the_code(code: int) -> None:
    async with house() as found, client(found.broker_address) as producer:
        reply = SEND_MESSAGE_REPLY.decode((await producer.ok(code, send_ext("T", batch=True, queueId=1), TWO)).ext)
        stored = await producer.messages("T", queueId=1)
        assert [(each.body, each.tag, each.message_id) for each in stored] == [
            (b"one", "A", "id1"),
            (b"two", "", "id2"),
        ]
        assert (reply.queue_id, reply.queue_offset) == (1, 0)
        assert reply.msg_id == ",".join(offset_message_id(each.store_host, each.log_offset) for each in stored)
        await producer.ok(code, send_ext("Single", batch=False), TWO)
        assert [each.body for each in await producer.messages("Single")] == [TWO]


@pytest.mark.parametrize("body", [b"", b"\0\0\0\x05", TWO[:-1], TWO + b"x", bytes(100), bytes(MESSAGE_BYTES_MAX + 1)])
async def test_body_that_is_no_batch_is_refused(body: bytes) -> None:
    async with house() as found, client(found.broker_address) as producer:
        answer = await producer.ask(C.SEND_BATCH_MESSAGE, send_ext("T", batch=True), body)
        assert answer.code == R.MESSAGE_ILLEGAL
        assert await max_offset(producer, "T") == 0


async def test_batch_of_too_many_messages_is_refused_and_the_broker_lives() -> None:
    body = encode_batch([BatchEntry(b"", "")] * (BATCH_MESSAGES_MAX + 1))
    async with house() as found, client(found.broker_address) as producer:
        answer = await producer.ask(C.SEND_BATCH_MESSAGE, send_ext("%DLQ%" + "x" * 250, batch=True), body)
        assert answer.code == R.MESSAGE_ILLEGAL
        assert not found.failed.done()


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"topic": "a b"}, R.INVALID_PARAMETER),
        ({"topic": "SCHEDULE_TOPIC_XXXX"}, R.NO_PERMISSION),
        ({"defaultTopic": "NoSuchTopic"}, R.TOPIC_NOT_EXIST),
        ({"queueId": 2**31 - 1}, R.INVALID_PARAMETER),
        ({"topic": "%RETRY%Unknown"}, R.SUBSCRIPTION_GROUP_NOT_EXIST),
        ({"properties": "DELAY\x01soon\x02"}, R.MESSAGE_ILLEGAL),
        ({"properties": "TRAN_MSG\x01true\x02"}, R.MESSAGE_ILLEGAL),
        ({"properties": "k\x01" + "x" * 40_000}, R.MESSAGE_ILLEGAL),
        ({"queueId": 2**31}, R.SYSTEM_ERROR),
        ({"bornTimestamp": "yesterday"}, R.SYSTEM_ERROR),
    ],
)
async def test_refused_send_is_answered_with_its_code(changes: dict[str, Any], code: R) -> None:
    async with house() as found, client(found.broker_address) as producer:
        answer = await producer.ask(C.SEND_MESSAGE_V2, send_ext(**({"topic": "T"} | changes)), b"body")
        assert answer.code == code
        assert answer.remark
        assert (await producer.send("Fine")).queue_offset == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"queueId": -(2**31)},
        {"defaultTopicQueueNums": -(2**31)},
        {"defaultTopicQueueNums": 2**31 - 1},
        {"bornTimestamp": -(2**63)},
        {"bornTimestamp": 2**63 - 1},
        {"flag": -(2**31), "sysFlag": ~0x4},
        {"reconsumeTimes": 2**31 - 1, "maxReconsumeTimes": -1},
        {"topic": "%"},
        {"topic": "%LMQ%123"},
        {"topic": "NS%T"},
        {"topic": "%DLQ%G"},
    ],
)
async def test_odd_values_are_stored_and_come_back(changes: dict[str, Any]) -> None:
    ext = {"topic": "T"} | changes
    async with house() as found, client(found.broker_address) as producer:
        reply = await producer.send(**ext)
        (stored,) = await producer.messages(ext["topic"], queueId=reply.queue_id)
        assert stored.born_at_ms == ext.get("bornTimestamp", 1_700_000_000_000)
        assert stored.flag == ext.get("flag", 0)
        assert stored.reconsume_times == ext.get("reconsumeTimes", 0)


async def test_one_way_sends_are_stored_and_not_answered() -> None:
    async with house() as found, client(found.broker_address) as producer:
        producer.tell(C.SEND_MESSAGE_V2, send_ext("T"), b"1")
        producer.tell(C.SEND_MESSAGE, long_send_ext("T"), b"2")
        producer.tell(C.SEND_BATCH_MESSAGE, send_ext("T", batch=True), TWO)
        producer.tell(C.SEND_BATCH_MESSAGE, send_ext("T", batch=True), b"no batch")
        producer.tell(C.SEND_MESSAGE_V2, send_ext("a b"), b"refused")
        producer.tell(C.SEND_MESSAGE_V2, {"a": "P"}, b"no header")
        await producer.quiet()
        assert [each.body for each in await producer.messages("T")] == [b"1", b"2", b"one", b"two"]
        assert producer.told == []


async def test_nothing_is_acknowledged_before_it_is_on_disk() -> None:
    disk = FaultyDisk()
    async with house(host_on(disk)) as found, client(found.broker_address) as producer:
        await producer.send("T")
        disk.hold()
        sends = [asyncio.ensure_future(producer.send("T")) for _ in range(3)]
        await producer.quiet()
        assert not any(each.done() for each in sends)
        disk.release()
        assert [reply.queue_offset for reply in await asyncio.gather(*sends)] == [1, 2, 3]


async def test_failed_disk_is_told_to_all_who_wait_and_the_house_fails() -> None:
    disk = FaultyDisk()
    async with house(host_on(disk)) as found, client(found.broker_address) as producer:
        await producer.send("T")
        disk.hold()
        asked = [asyncio.ensure_future(producer.ask(C.SEND_MESSAGE_V2, send_ext("T"), b"1")) for _ in range(2)]
        asked.append(asyncio.ensure_future(producer.ask(C.SEND_BATCH_MESSAGE, send_ext("T", batch=True), TWO)))
        producer.tell(C.SEND_MESSAGE_V2, send_ext("T"), b"one-way")
        await producer.quiet()
        disk.failing = lambda what: "log/" in what
        disk.release()
        for answer in await asyncio.gather(*asked):
            assert answer.code == R.SERVICE_NOT_AVAILABLE
            assert "not known" in (answer.remark or "")
        assert found.failed.done()
        disk.failing = lambda what: False
        answer = await producer.ask(C.SEND_MESSAGE_V2, send_ext("T"), b"2")
        assert answer.code == R.SERVICE_NOT_AVAILABLE
        assert await max_offset(producer, "T") == 1


async def test_mistake_while_one_answer_is_made_costs_nobody_else_an_acknowledgement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mistaken(request_id: int, *args: Any, **named: Any) -> bytes:
        if request_id == bad:
            raise ZeroDivisionError("ours")
        return encode_send_reply(request_id, *args, **named)

    async with house() as found, client(found.broker_address) as producer:
        await producer.send("T")
        monkeypatch.setattr("posthouse.endpoint.remoting.send.encode_send_reply", mistaken)
        bad = producer.peer._last_id + 1
        answers: list[object] = []
        for code, ext, body in (
            (C.SEND_MESSAGE_V2, send_ext("T"), b"1"),
            (C.SEND_BATCH_MESSAGE, send_ext("T", batch=True), TWO),
            (C.SEND_MESSAGE_V2, send_ext("T"), b"2"),
        ):
            producer.peer.request(code, text(ext), body, 60, answers.append)
        await until(lambda: len(answers) == 2)
        await until(found.failed.done)
        assert all(isinstance(answer, Command) and answer.code == 0 for answer in answers)


async def max_offset(asking: Any, topic: str, queue_id: int = 0) -> int:
    answer = await asking.ok(C.GET_MAX_OFFSET, {"topic": topic, "queueId": queue_id})
    return int(answer.ext_map()["offset"])
