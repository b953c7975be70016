"""Who is asked, and what is said when somebody refuses; what servers really do is in tests/behaviour."""

from __future__ import annotations

import pytest

from posthouse.client import admin as admin_module
from posthouse.client.admin import Admin
from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker, PosthouseError, Unreachable
from posthouse.codec.remoting.bodies.cluster import encode_cluster_info
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command, response
from posthouse.codec.remoting.headers.topics import CREATE_TOPIC
from posthouse.model.route import BrokerData, ClusterInfo
from tests.client.conftest import FakeCluster

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
    monkeypatch.setattr(admin_module, "VISIBLE_SECONDS", 0.1)
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
