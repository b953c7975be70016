"""Brokers by name and cluster: the answers to 106 and 901.

Source: RocketMQ 5.3 ClusterInfo, GetBrokerMemberGroupResponseBody.
"""

from __future__ import annotations

import msgspec

from posthouse.codec.remoting.bodies.routes import BrokerShape, broker_members
from posthouse.codec.remoting.bodies.shape import BodyType, ids_of
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.route import BrokerMemberGroup, ClusterInfo


class _ClusterShape(msgspec.Struct, rename="camel"):
    broker_addr_table: dict[str, BrokerShape] | None = None
    cluster_addr_table: dict[str, list[str]] | None = None


class _GroupShape(msgspec.Struct, rename="camel"):
    cluster: str | None = None
    broker_name: str | None = None
    broker_addrs: dict[str, str] | None = None


class _MemberGroupShape(msgspec.Struct, rename="camel"):
    broker_member_group: _GroupShape | None = None


_CLUSTER = BodyType(_ClusterShape, "a cluster")
_MEMBER_GROUP = BodyType(_MemberGroupShape, "a broker member group")


def encode_cluster_info(info: ClusterInfo, *, standard_json: bool = True) -> bytes:
    return write_json(
        {
            "brokerAddrTable": {name: broker_members(broker) for name, broker in info.brokers.items()},
            "clusterAddrTable": info.clusters,
        },
        bare_numbers=not standard_json,
    )


def decode_cluster_info(data: bytes) -> ClusterInfo:
    """From either dialect. Raises WireError."""
    found = _CLUSTER.decode(data)
    return ClusterInfo(
        {name: broker.value() for name, broker in (found.broker_addr_table or {}).items()},
        {name: tuple(brokers) for name, brokers in (found.cluster_addr_table or {}).items()},
    )


def encode_broker_member_group(group: BrokerMemberGroup, *, standard_json: bool = True) -> bytes:
    members = {
        "brokerAddrs": dict(sorted(group.addresses.items())),
        "brokerName": group.broker_name,
        "cluster": group.cluster,
    }
    return write_json({"brokerMemberGroup": members}, bare_numbers=not standard_json)


def decode_broker_member_group(data: bytes) -> BrokerMemberGroup | None:
    """None if the NameServer knows no such name. Raises WireError."""
    found = _MEMBER_GROUP.decode(data).broker_member_group
    if found is None:
        return None
    return BrokerMemberGroup(found.cluster or "", found.broker_name or "", ids_of(found.broker_addrs))
