"""What a broker tells a NameServer of itself: its topics and their version. Source: RocketMQ 5.3 RegisterBrokerBody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from posthouse.model.route import DataVersion
from posthouse.model.topic import TopicConfig


@dataclass(frozen=True, slots=True)
class Registration:
    """`topics` by name."""

    topics: Mapping[str, TopicConfig] = field(default_factory=dict)
    version: DataVersion = field(default_factory=DataVersion)
    filter_servers: tuple[str, ...] = ()
