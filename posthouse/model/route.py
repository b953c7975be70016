"""Who serves which topic: what a NameServer knows and a client asks for.

Source: RocketMQ 5.3 TopicRouteData, QueueData, BrokerData, ClusterInfo, DataVersion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MASTER_ID = 0
"""Of the brokers with one name, the one that takes writes."""


@dataclass(frozen=True, slots=True)
class DataVersion:
    """The version of a table that is copied around; two are the same only if all three numbers are."""

    state_version: int = 0
    timestamp_ms: int = 0
    counter: int = 0


@dataclass(frozen=True, slots=True)
class QueueData:
    """How many queues of a topic a broker has, and what one may do with them (bits of model.topic.Perm)."""

    broker_name: str
    read_queues: int
    write_queues: int
    perm: int
    topic_sys_flag: int = 0


@dataclass(frozen=True, slots=True)
class BrokerData:
    """A broker's name with the addresses (`ip:port`) behind it, by broker id."""

    cluster: str
    broker_name: str
    addresses: Mapping[int, str]
    zone_name: str | None = None
    enable_acting_master: bool = False

    @property
    def master(self) -> str | None:
        return self.addresses.get(MASTER_ID)


@dataclass(frozen=True, slots=True)
class TopicRoute:
    """`order_conf` is `brokerA:4;brokerB:8` for a topic that is configured as ordered; it overrides the queues."""

    queues: tuple[QueueData, ...]
    brokers: tuple[BrokerData, ...]
    order_conf: str | None = None
    filter_servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def broker(self, name: str) -> BrokerData | None:
        return next((broker for broker in self.brokers if broker.broker_name == name), None)


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """All brokers by name, and the names of each cluster."""

    brokers: Mapping[str, BrokerData]
    clusters: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class BrokerMemberGroup:
    """The addresses behind one broker name, by broker id."""

    cluster: str
    broker_name: str
    addresses: Mapping[int, str]
