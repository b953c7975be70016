"""Whom a tool asks: masters, one broker by name or address; and what it says when nobody can be asked."""

from __future__ import annotations

import pytest

from posthouse.client.asking import Asking, brokers_of, checked, read_answer
from posthouse.client.errors import BadAnswer, BrokerRefused, NoBroker, NoRoute
from posthouse.codec.remoting.bodies.cluster import decode_cluster_info, encode_cluster_info
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import response
from posthouse.host.net import Address
from posthouse.model.route import BrokerData, ClusterInfo
from tests.client.conftest import FakeCluster

INFO = ClusterInfo(
    {"a": BrokerData("c1", "a", {0: "127.0.0.1:1", 1: "127.0.0.1:2"}), "b": BrokerData("c2", "b", {1: "127.0.0.1:3"})},
    {"c1": ("a",), "c2": ("b", "gone")},
)


def know(cluster: FakeCluster, info: ClusterInfo) -> None:
    body = encode_cluster_info(info)
    cluster.nameserver.answers[RequestCode.GET_BROKER_CLUSTER_INFO] = lambda command: response(
        0, command.request_id, None, body
    )


@pytest.mark.asyncio
async def test_masters_take_orders_and_a_cluster_without_one_says_so(cluster: FakeCluster) -> None:
    know(cluster, INFO)
    async with Asking(cluster.address) as asking:
        assert await asking.cluster_info() == INFO
        assert await asking._masters(None) == [Address("127.0.0.1", 1)]
        assert await asking._broker_address("a") == Address("127.0.0.1", 1)
        assert await asking._broker_address(Address("127.0.0.1", 9)) == Address("127.0.0.1", 9)
        with pytest.raises(NoBroker, match="is one running and registered"):
            await asking._masters("c2")
        with pytest.raises(NoBroker, match="no broker b with a master is registered; known are: a, b"):
            await asking._broker_address("b")
        with pytest.raises(NoRoute):
            await asking.topic_route("t")


def test_brokers_of_a_cluster_are_those_that_are_registered() -> None:
    assert [each.broker_name for each in brokers_of(INFO, None)] == ["a", "b"]
    assert [each.broker_name for each in brokers_of(INFO, "c2")] == ["b"]
    with pytest.raises(NoBroker, match="there is no cluster x; known are: c1, c2"):
        brokers_of(INFO, "x")


def test_answers_are_looked_at_before_they_are_believed() -> None:
    assert checked("it", response(0, 1), "do it").code == 0
    with pytest.raises(BrokerRefused, match="it refused to do it with 29 INVALID_PARAMETER: no"):
        checked("it", response(ResponseCode.INVALID_PARAMETER, 1, remark="no"), "do it")
    assert read_answer("it", decode_cluster_info, response(0, 1, None, encode_cluster_info(INFO))) == INFO
    with pytest.raises(BadAnswer, match="it cannot be read"):
        read_answer("it", decode_cluster_info, response(0, 1, None, b"{"))
