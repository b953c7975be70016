"""The defaults are RocketMQ's where clients can notice them, and safe where they cannot."""

from __future__ import annotations

from posthouse.broker.config import BrokerConfig


def test_defaults_are_those_that_clients_know() -> None:
    config = BrokerConfig()
    assert (config.cluster, config.name, config.broker_id) == ("DefaultCluster", "broker-a", 0)
    assert config.listen.port == 10911
    assert config.default_topic_queues == 8
    assert config.auto_create_topics
    assert config.auto_create_groups
    assert config.long_polling
    assert config.register_period_s == 30


def test_nobody_elsewhere_can_connect_unless_that_is_asked_for() -> None:
    assert BrokerConfig().listen.host == "127.0.0.1"
    assert BrokerConfig().advertise is None
