"""Who is asked, and what is said when somebody refuses; what servers really do is in tests/behaviour."""

from __future__ import annotations

import pytest

from posthouse.client import asking as asking_module
from posthouse.client.admin import Admin
from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker, PosthouseError, Unreachable
from posthouse.codec.record import encode_record
from posthouse.codec.remoting.bodies.cluster import encode_cluster_info
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.topics import CREATE_TOPIC
from posthouse.host.clock import EpochMs
from posthouse.model.ids import offset_message_id
from posthouse.model.message import Endpoint, NewMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.properties import encode_properties
from posthouse.model.route import BrokerData, ClusterInfo
from tests.client.conftest import FakeBroker, FakeCluster

pytestmark = pytest.mark.asyncio

CREATE, DELETE = RequestCode.UPDATE_AND_CREATE_TOPIC, RequestCode.DELETE_TOPIC_IN_BROKER
FORGET = RequestCode.DELETE_TOPIC_IN_NAMESRV


async def fill(cluster: FakeCluster) -> None:
    """Two clusters of one broker each, which do as they are told."""
    for _ in range(2):
        broker = await cluster.add_broker()

        def create(command: Command) -> Command:
            cluster.add_topic(CREATE_TOPIC.decode(command.ext).topic)
            return response(0, command.request_id)

        broker.answers[CREATE] = create
        broker.answers[DELETE] = lambda command: response(0, command.request_id)

    def forget(command: Command) -> Command:
        cluster.routes.pop(command.ext_map()["topic"], None)
        return response(0, command.request_id)

    cluster.nameserver.answers[FORGET] = forget
    brokers = {b.name: BrokerData(f"c-{b.name}", b.name, {0: str(b.address)}) for b in cluster.brokers}
    body = encode_cluster_info(ClusterInfo(brokers, {f"c-{name}": (name,) for name in brokers}))
    cluster.nameserver.answers[RequestCode.GET_BROKER_CLUSTER_INFO] = lambda command: response(
        0, command.request_id, None, body
    )


async def test_a_topic_is_created_on_all_masters_or_those_of_one_cluster(cluster: FakeCluster) -> None:
    await fill(cluster)
    one, two = cluster.brokers
    async with Admin(cluster.address) as admin:
        await admin.create_topic("t", queues=3, order=True, attributes="+message.type=NORMAL")
        assert (one.count(CREATE), two.count(CREATE)) == (1, 1)
        header = CREATE_TOPIC.decode(one.seen[-1].ext)
        assert (header.topic, header.read_queues, header.write_queues, header.perm) == ("t", 3, 3, 6)
        assert (header.order, header.attributes) == (True, "+message.type=NORMAL")
        await admin.create_topic("u", cluster=f"c-{two.name}")
        assert (one.count(CREATE), two.count(CREATE)) == (1, 2)


async def test_a_topic_is_deleted_from_brokers_and_nameservers(cluster: FakeCluster) -> None:
    await fill(cluster)
    cluster.add_topic("t")
    async with Admin(cluster.address) as admin:
        await admin.delete_topic("t")
    assert [broker.count(DELETE) for broker in cluster.brokers] == [1, 1]
    assert cluster.nameserver.count(FORGET) == 1


async def test_refusals_say_who_would_not_do_what(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "VISIBLE_SECONDS", 0.1)
    await fill(cluster)
    one, two = cluster.brokers
    async with Admin(cluster.address) as admin:
        one.refuse(CREATE, ResponseCode.INVALID_PARAMETER, "a bad name")
        with pytest.raises(BrokerRefused, match=rf"{one.address} refused to create topic t with 29 .*: a bad name"):
            await admin.create_topic("t")
        one.answers[CREATE] = two.answers[CREATE] = lambda command: response(0, command.request_id)
        with pytest.raises(PosthouseError, match="does not know topic t: are the brokers registered"):
            await admin.create_topic("t")
        one.answers[RequestCode.GET_BROKER_RUNTIME_INFO] = lambda command: response(0, command.request_id, None, b"{")
        with pytest.raises(BadAnswer, match=r"the figures of .* cannot be read"):
            await admin.broker_runtime_info(one.name)
        await one.vanish()
        with pytest.raises(Unreachable, match="a broker was asked to tell its figures"):
            await admin.broker_runtime_info(one.address)


async def test_an_empty_cluster_takes_no_orders(cluster: FakeCluster) -> None:
    cluster.nameserver.answers[RequestCode.GET_BROKER_CLUSTER_INFO] = lambda command: response(
        0, command.request_id, None, encode_cluster_info(ClusterInfo({}, {}))
    )
    async with Admin(cluster.address) as admin:
        with pytest.raises(NoBroker, match="is one running and registered"):
            await admin.create_topic("t")


# Messages

QUERY, VIEW = RequestCode.QUERY_MESSAGE, RequestCode.VIEW_MESSAGE_BY_ID


def found(broker: FakeBroker, *messages: bytes) -> None:
    """That broker answers a query with these records."""
    broker.answers[QUERY] = lambda command: response(0, command.request_id, None, b"".join(messages))


def stored(log_offset: int, at_ms: int, keys: str = "k", unique: str = "U", topic: str = "t") -> bytes:
    text = encode_properties({"KEYS": keys, "UNIQ_KEY": unique})
    return encode_record(
        NewMessage(topic, 0, b"%d" % log_offset, text, 0, 0, EpochMs(5), Endpoint(bytes(4), 1)),
        topic=topic.encode(),
        properties=text.encode(),
        queue_offset=QueueOffset(1),
        log_offset=LogOffset(log_offset),
        stored_at_ms=EpochMs(at_ms),
        store_host=Endpoint(bytes(4), 2),
    )


async def test_all_brokers_of_a_topic_are_asked_for_a_key_and_the_newest_come_first(cluster: FakeCluster) -> None:
    await fill(cluster)
    one, two = cluster.brokers
    cluster.add_topic("t")
    found(one, stored(10, 100), stored(20, 300))
    found(two, stored(30, 200), stored(40, 400))
    async with Admin(cluster.address) as admin:
        messages = await admin.query_by_key("t", "k", 5, 900, limit=7)
        assert [(each.log_offset, each.broker_name) for each in messages] == [
            (40, two.name),
            (20, one.name),
            (30, two.name),
            (10, one.name),
        ]
        assert one.seen[-1].ext_map() == {
            "topic": "t",
            "key": "k",
            "maxNum": "7",
            "beginTimestamp": "5",
            "endTimestamp": "900",
        }
        assert [each.log_offset for each in await admin.query_by_key("t", "k", limit=3)] == [40, 20, 30]


async def test_what_has_the_hash_but_not_the_key_is_left_out(cluster: FakeCluster) -> None:
    """Apache compares hashes only."""
    await fill(cluster)
    one, two = cluster.brokers
    cluster.add_topic("t")
    found(one, stored(1, 1, "kk"), stored(2, 1, "a k"), stored(3, 1, "K"), stored(4, 1, topic="other"))
    found(two, stored(5, 1, unique="V"), stored(6, 1, "V", unique="k"))
    async with Admin(cluster.address) as admin:
        assert [each.log_offset for each in await admin.query_by_key("t", "k")] == [5, 2]
        assert [each.log_offset for each in await admin.query_by_unique_key("t", "V")] == [5]
        assert one.seen[-1].ext_map()["_UNIQUE_KEY_QUERY"] == "true"


async def test_a_broker_without_the_key_does_not_matter_and_one_that_fails_does(cluster: FakeCluster) -> None:
    await fill(cluster)
    one, two = cluster.brokers
    cluster.add_topic("t")
    found(one, stored(1, 1))
    two.refuse(QUERY, ResponseCode.QUERY_NOT_FOUND, "nothing")
    async with Admin(cluster.address) as admin:
        assert [each.log_offset for each in await admin.query_by_key("t", "k")] == [1]
        one.refuse(QUERY, ResponseCode.QUERY_NOT_FOUND, "nothing")
        assert await admin.query_by_key("t", "k") == ()
        two.refuse(QUERY, ResponseCode.SYSTEM_ERROR, "the disk")
        with pytest.raises(BrokerRefused, match=f"{two.address} refused to look for messages in topic t with 1"):
            await admin.query_by_key("t", "k")
        found(one, b"no record")
        two.refuse(QUERY, ResponseCode.QUERY_NOT_FOUND, "nothing")
        with pytest.raises(BadAnswer, match="the messages of t cannot be read"):
            await admin.query_by_key("t", "k")


async def test_a_message_is_asked_for_at_the_address_in_its_id(cluster: FakeCluster) -> None:
    await fill(cluster)
    one, _ = cluster.brokers
    here = Endpoint(bytes((127, 0, 0, 1)), one.address.port)
    one.answers[VIEW] = lambda command: response(0, command.request_id, None, stored(77, 1))
    async with Admin(cluster.address) as admin:
        message = await admin.message_by_id(offset_message_id(here, LogOffset(77)))
        assert message.log_offset == 77
        assert one.seen[-1].ext_map() == {"offset": "77"}
        one.answers[VIEW] = lambda command: response(0, command.request_id)
        with pytest.raises(BadAnswer, match="answered without a message"):
            await admin.message_by_id(offset_message_id(here, LogOffset(77)))
        one.refuse(VIEW, ResponseCode.SYSTEM_ERROR, "no message begins there")
        with pytest.raises(BrokerRefused, match="no message begins there"):
            await admin.message_by_id(offset_message_id(here, LogOffset(77)))
        for wrong in ("", "xyz", "00" * 15):
            with pytest.raises(ValueError):
                await admin.message_by_id(wrong)
