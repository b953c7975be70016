"""The answer to 105, and the body of 217: where a topic's queues are.

Written in two dialects. Standard JSON quotes the broker ids; the fastjson dialect leaves them bare, which old Go
clients need and strict parsers refuse. `wants_standard_json` says who gets which. Both are read.
Source: RocketMQ 5.3 TopicRouteData, ClientRequestProcessor.getRouteInfoByTopic.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.codec.remoting.bodies.shape import BodyType, ids_of
from posthouse.codec.remoting.headers.numbers import Int32
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.route import BrokerData, QueueData, TopicRoute

STANDARD_JSON_VERSION_MIN = 401
"""V4_9_4."""


class QueueShape(msgspec.Struct, rename="camel"):
    broker_name: str
    read_queue_nums: Int32 = 0
    write_queue_nums: Int32 = 0
    perm: Int32 = 0
    topic_sys_flag: Int32 = 0


class BrokerShape(msgspec.Struct, rename="camel"):
    broker_name: str
    cluster: str | None = None
    broker_addrs: dict[str, str] | None = None
    zone_name: str | None = None
    enable_acting_master: bool | None = None

    def value(self) -> BrokerData:
        addresses = ids_of(self.broker_addrs)
        return BrokerData(
            self.cluster or "", self.broker_name, addresses, self.zone_name, bool(self.enable_acting_master)
        )


class _RouteShape(msgspec.Struct, rename="camel"):
    queue_datas: list[QueueShape] | None = None
    broker_datas: list[BrokerShape] | None = None
    order_topic_conf: str | None = None
    filter_server_table: dict[str, list[str]] | None = None


_ROUTE = BodyType(_RouteShape, "a route")


def wants_standard_json(version: int, accept_standard_json_only: bool | None) -> bool:
    """Whether the asker of a route gets standard JSON: by its version, or because it says so."""
    return version >= STANDARD_JSON_VERSION_MIN or bool(accept_standard_json_only)


def broker_members(broker: BrokerData) -> dict[str, Any]:
    """As members of a body; the ids are ints, for `write_json`."""
    return {
        "brokerAddrs": dict(sorted(broker.addresses.items())),
        "brokerName": broker.broker_name,
        "cluster": broker.cluster,
        "enableActingMaster": broker.enable_acting_master,
        "zoneName": broker.zone_name,
    }


def encode_route(route: TopicRoute, *, standard_json: bool) -> bytes:
    return write_json(
        {
            "brokerDatas": [broker_members(broker) for broker in route.brokers],
            "filterServerTable": route.filter_servers,
            "orderTopicConf": route.order_conf,
            "queueDatas": [
                {
                    "brokerName": queue.broker_name,
                    "perm": queue.perm,
                    "readQueueNums": queue.read_queues,
                    "topicSysFlag": queue.topic_sys_flag,
                    "writeQueueNums": queue.write_queues,
                }
                for queue in route.queues
            ],
        },
        bare_numbers=not standard_json,
    )


def decode_route(data: bytes) -> TopicRoute:
    """From either dialect. Raises WireError."""
    found = _ROUTE.decode(data)
    return TopicRoute(
        tuple(
            QueueData(each.broker_name, each.read_queue_nums, each.write_queue_nums, each.perm, each.topic_sys_flag)
            for each in found.queue_datas or ()
        ),
        tuple(each.value() for each in found.broker_datas or ()),
        found.order_topic_conf or None,
        {address: tuple(servers) for address, servers in (found.filter_server_table or {}).items()},
    )
