"""Liveness and membership over the wire: 34, 35, 38, 46, 203, 204, and 40 to the members."""

from __future__ import annotations

import asyncio
import json

import pytest

from posthouse.codec.remoting.bodies.consumers import (
    decode_consumer_connections,
    decode_consumer_list,
    decode_producer_connections,
)
from posthouse.codec.remoting.bodies.heartbeat import encode_client_check, encode_heartbeat
from posthouse.model.filter import Subscription, parse_subscription
from posthouse.model.group import GroupConfig
from posthouse.model.heartbeat import ClientCheck, HeartbeatData
from posthouse.model.refusal import Refused
from tests.broker.brokers import member, until
from tests.endpoint.clients import C, Client, R, client, house
from tests.endpoint.remoting.test_broker import broker_of

pytestmark = pytest.mark.asyncio


async def members(asking: Client, group: str = "G") -> tuple[str, ...]:
    answer = await asking.ok(C.GET_CONSUMER_LIST_BY_GROUP, {"consumerGroup": group})
    return decode_consumer_list(answer.body)


async def test_heartbeat_counts_before_the_next_request_of_its_connection() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        body = encode_heartbeat(HeartbeatData("me", ("P",), (member("G", "T"),)))
        consumer.tell(C.HEART_BEAT, body=body)
        assert await members(consumer) == ("me",)


async def test_answer_to_a_heartbeat_promises_no_short_form() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        body = encode_heartbeat(HeartbeatData("me", (), (member("G", "T"),), fingerprint=77))
        answer = await consumer.ok(C.HEART_BEAT, body=body)
        assert answer.ext_map() == {}
        assert answer.version >= 232, "clients refuse SQL92 below, and others read features from it"


async def test_heartbeat_of_cpp_and_go_is_understood() -> None:
    subscription = {
        "topic": "T",
        "subString": "A",
        "tagsSet": ["A"],
        "codeSet": ["65"],
        "subVersion": 1_700_000_000 * 10**9,
    }
    consumer = {
        "groupName": "G",
        "consumeType": 1,
        "messageModel": 1,
        "consumeFromWhere": 4,
        "subscriptionDataSet": [subscription],
    }
    said = {"clientID": "cpp", "consumerDataSet": [consumer], "producerDataSet": [{"groupName": "P"}]}
    async with house() as found, client(found.broker_address) as asking:
        await asking.ok(C.HEART_BEAT, body=json.dumps(said).encode())
        answer = await asking.ok(C.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "G"})
        connections = decode_consumer_connections(answer.body)
        assert connections.subscriptions["T"].tag_hashes == {65}
        assert connections.consume_from.name == "CONSUME_FROM_FIRST_OFFSET"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"{", b'{"clientID":[]}', b'{"clientID":"x","consumerDataSet":[{}]}']
)
async def test_heartbeat_that_cannot_be_read_is_refused(body: bytes) -> None:
    async with house() as found, client(found.broker_address) as consumer:
        answer = await consumer.ask(C.HEART_BEAT, body=body)
        assert answer.code == R.SYSTEM_ERROR
        assert "HEART_BEAT" in (answer.remark or "")
        assert not found.failed.done()


async def test_members_are_told_at_once_when_one_joins_leaves_or_is_cut_off() -> None:
    async with house() as found, client(found.broker_address) as stays:
        await stays.beat(member("G", "T"), client_id="1")
        async with client(found.broker_address) as other:
            await other.beat(member("G", "T"), client_id="2")
            assert await members(stays) == ("1", "2")
            assert notified(stays) == 2
            assert notified(other) == 1
            await other.ok(C.UNREGISTER_CLIENT, {"clientID": "2", "consumerGroup": "G"})
            assert await members(stays) == ("1",)
            assert notified(stays) == 3
            await other.beat(member("G", "T"), client_id="2")
            other.peer._transport.abort()
        await until(lambda: notified(stays) == 5)
        assert await members(stays) == ("1",)
        for command in stays.told:
            assert command.is_one_way
            assert command.ext_map() == {"consumerGroup": "G"}


def notified(asking: Client) -> int:
    assert {command.code for command in asking.told} <= {C.NOTIFY_CONSUMER_IDS_CHANGED}
    return len(asking.told)


async def test_one_connection_carries_many_groups_and_may_leave_one() -> None:
    async with house() as found, client(found.broker_address) as both:
        await both.beat(member("G", "T"), member("H", "T"), producers=("P", "CLIENT_INNER_PRODUCER"))
        await both.ok(C.UNREGISTER_CLIENT, {"clientID": "client-1", "producerGroup": "P", "consumerGroup": "G"})
        assert (await both.ask(C.GET_CONSUMER_LIST_BY_GROUP, {"consumerGroup": "G"})).code == R.SYSTEM_ERROR
        assert await members(both, "H") == ("client-1",)
        assert (await both.ask(C.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "P"})).code == R.SYSTEM_ERROR
        await both.ok(C.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "CLIENT_INNER_PRODUCER"})
        await both.ok(C.UNREGISTER_CLIENT, {"clientID": "client-1"})


async def test_connections_of_groups_are_shown_to_tools() -> None:
    async with house() as found, client(found.broker_address) as asking:
        subscription = parse_subscription("T", "A || B", version=5)
        await asking.beat(member("G", subscription), producers=("P",))
        answer = await asking.ok(C.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "G"})
        connections = decode_consumer_connections(answer.body)
        (connection,) = connections.connections
        assert connection.client_id == "client-1"
        assert connection.address == str(asking.peer.local)
        assert (connection.language, connection.version) == ("JAVA", 479)
        assert connections.subscriptions == {"T": subscription}
        answer = await asking.ok(C.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "P"})
        assert decode_producer_connections(answer.body) == (connection,)


async def test_group_without_members_has_the_codes_that_clients_and_tools_know() -> None:
    async with house() as found, client(found.broker_address) as asking:
        assert (await asking.ask(C.GET_CONSUMER_LIST_BY_GROUP, {"consumerGroup": "G"})).code == R.SYSTEM_ERROR
        answer = await asking.ask(C.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "G"})
        assert answer.code == R.CONSUMER_NOT_ONLINE
        assert (await asking.ask(C.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "P"})).code == R.SYSTEM_ERROR


@pytest.mark.parametrize(
    "expression, kind, code",
    [
        ("*", "TAG", 0),
        ("A || B", "TAG", 0),
        ("||", "TAG", R.SUBSCRIPTION_PARSE_FAILED),
        ("a > 1", "SQL92", 0),
        ("a > ", "SQL92", R.SUBSCRIPTION_PARSE_FAILED),
        ("a > 1", "XPATH", R.SUBSCRIPTION_PARSE_FAILED),
    ],
)
async def test_subscription_is_checked_before_a_consumer_starts(expression: str, kind: str, code: int) -> None:
    async with house() as found, client(found.broker_address) as asking:
        check = ClientCheck("me", "G", "", Subscription("T", expression, kind))
        answer = await asking.ask(C.CHECK_CLIENT_CONFIG, body=encode_client_check(check))
        assert answer.code == code
        assert expression != "a > " or "column 5" in (answer.remark or "")


async def test_heartbeat_makes_the_group_and_its_retry_topic_with_a_route() -> None:
    async with house() as found, client(found.broker_address) as consumer:
        await consumer.beat(member("G", "T"))
        broker, nameserver = broker_of(found), found.nameserver
        assert nameserver is not None
        assert broker.groups.find("G") == GroupConfig("G")

        def is_routed() -> bool:
            try:
                return bool(nameserver.route("%RETRY%G", "127.0.0.1").queues)
            except Refused:
                return False

        await until(is_routed, 2)


async def test_silent_client_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.broker.broker.SAMPLE_PERIOD_S", 0.005)
    monkeypatch.setattr("posthouse.broker.clients.CLIENT_EXPIRY_MS", 250)
    async with house() as found, client(found.broker_address) as silent, client(found.broker_address) as lively:
        await silent.beat(member("G", "T"), client_id="silent")
        while not silent.is_gone:
            await lively.beat(member("G", "T"), client_id="lively")
            await asyncio.sleep(0.01)
        assert not lively.is_gone
