from __future__ import annotations

from dataclasses import replace

from posthouse.model.route import BrokerData, DataVersion, TopicRoute

BROKER = BrokerData("c", "b", {0: "10.0.0.1:10911", 1: "10.0.0.2:10911"})


def test_master_is_the_broker_with_id_0() -> None:
    assert BROKER.master == "10.0.0.1:10911"
    assert replace(BROKER, addresses={1: "10.0.0.2:10911"}).master is None


def test_route_finds_a_broker_by_name() -> None:
    route = TopicRoute((), (replace(BROKER, broker_name="a"), BROKER))
    assert route.broker("b") is BROKER
    assert route.broker("c") is None


def test_versions_are_equal_only_in_all_three_numbers() -> None:
    assert DataVersion(1, 2, 3) == DataVersion(1, 2, 3)
    assert len({DataVersion(1, 2, 3), DataVersion(0, 2, 3), DataVersion(1, 0, 3), DataVersion(1, 2, 0)}) == 4
