from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import nameserver
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (nameserver.PUT_KV, "namespace? key? value?"),
    (nameserver.KV_KEY, "namespace key"),
    (nameserver.GET_KV_REPLY, "value?"),
    (nameserver.GET_KV_LIST, "namespace"),
    (
        nameserver.REGISTER_BROKER,
        "brokerName brokerAddr clusterName haServerAddr? brokerId heartbeatTimeoutMillis? enableActingMaster? "
        "compressed? bodyCrc32? __ZONE_NAME?",
    ),
    (nameserver.REGISTER_BROKER_REPLY, "haServerAddr? masterAddr?"),
    (nameserver.UNREGISTER_BROKER, "brokerName brokerAddr clusterName brokerId"),
    (nameserver.GET_ROUTE, "topic acceptStandardJsonOnly? __ZONE_MODE? __ZONE_NAME?"),
    (nameserver.BROKER_NAME, "brokerName"),
    (nameserver.WIPE_WRITE_PERM_REPLY, "wipeTopicCount"),
    (nameserver.ADD_WRITE_PERM_REPLY, "addTopicCount"),
    (nameserver.DELETE_TOPIC_IN_NAME_SERVER, "topic clusterName?"),
    (nameserver.REGISTER_TOPIC, "topic"),
    (nameserver.CLUSTER_NAME, "cluster"),
    (nameserver.QUERY_DATA_VERSION, "brokerName brokerAddr clusterName brokerId"),
    (nameserver.QUERY_DATA_VERSION_REPLY, "changed"),
    (nameserver.GET_BROKER_MEMBER_GROUP, "clusterName brokerName"),
    (
        nameserver.BROKER_HEARTBEAT,
        "clusterName brokerAddr brokerName brokerId? epoch? maxOffset? confirmOffset? heartbeatTimeoutMills? "
        "electionPriority?",
    ),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(nameserver).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}
