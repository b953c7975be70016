"""What a broker is told when it is made. Everything has a default that is safe."""

from __future__ import annotations

from dataclasses import dataclass, field

from posthouse.host.net import Address
from posthouse.model.topic import Perm
from posthouse.store.config import StoreConfig


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """`advertise` is what clients are told to dial; None: the address of ours that they dialled themselves. Port 0 in
    it stands for the port that the endpoint has in the end.

    `listen` is where the broker's endpoint will be. `nameservers` are all registered with, each on its own.
    """

    cluster: str = "DefaultCluster"
    name: str = "broker-a"
    broker_id: int = 0
    listen: Address = field(default_factory=lambda: Address("127.0.0.1", 10911))
    advertise: Address | None = None
    nameservers: tuple[Address, ...] = ()
    auto_create_topics: bool = True
    auto_create_groups: bool = True
    default_topic_queues: int = 8
    """Queues of the template TBW102. RocketMQ: defaultTopicQueueNums."""
    register_period_s: float = 30.0
    permission: int = Perm.READ_WRITE
    """Without WRITE, NameServers are told that no topic here may be written to: producers go elsewhere."""
    long_polling: bool = True
    server_side_reset: bool = True
    """Resets move the group at the broker; else its members are asked to do so. RocketMQ: useServerSideResetOffset."""
    store: StoreConfig = field(default_factory=StoreConfig)
    """How safe, how long, how full."""
