"""What can be set on a NameServer, and the words that RocketMQ's tools have for it.

Most settings may be changed while it runs (`changed_by`); such a change lasts until the process ends, because the
start's settings are the operator's. Source: RocketMQ 5.3 NamesrvConfig, DefaultRequestProcessor.updateConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from posthouse.model.refusal import Reason, Refused


@dataclass(frozen=True, slots=True)
class NameServerConfig:
    """The defaults are RocketMQ's own."""

    kv_file: str = "nameserver/kvConfig.json"
    """Under the root of the host's disk. RocketMQ: kvConfigPath."""

    order_message_enable: bool = False
    """Whether route answers carry the topic's entry of the KV namespace ORDER_TOPIC_CONFIG."""

    return_order_topic_config_to_broker: bool = True
    """Whether brokers are given that namespace when they register."""

    support_acting_master: bool = False
    """Whether the smallest id of a broker without a master is shown as id 0, if that broker agreed to it."""

    delete_topic_with_broker_registration: bool = False
    """Whether topics that a broker leaves out of its registration are forgotten. Not with split registrations."""

    enable_all_topic_list: bool = True
    """Whether the list of all topics is given out (206)."""

    enable_topic_list: bool = True
    """Whether the other lists of topics are given out (224, 311 to 313)."""

    need_wait_for_service: bool = False
    """Whether routes are refused for the first `wait_for_service_s` seconds, until the brokers have registered."""

    wait_for_service_s: int = 45

    scan_interval_ms: int = 5000
    """How often brokers are looked at for expiry. RocketMQ: scanNotActiveBrokerInterval."""

    def changed_by(self, properties: Mapping[str, str]) -> NameServerConfig:
        """The configuration after `properties`, which has RocketMQ's names.

        Raises Refused: NO_PERMISSION for a name that may not be changed by request, INVALID_PARAMETER for an
        unknown name or a value of the wrong kind. Then nothing is changed.
        """
        fields: dict[str, bool | int] = {}
        for name, text in properties.items():
            if name in NEVER_BY_REQUEST:
                raise Refused(Reason.NO_PERMISSION, f"{name} cannot be changed by request; set it and restart")
            if name not in PROPERTIES:
                known = ", ".join(sorted(PROPERTIES))
                raise Refused(Reason.INVALID_PARAMETER, f"{name} is not a setting of this NameServer; it has {known}")
            field = PROPERTIES[name]
            fields[field] = _parsed(name, text, getattr(self, field))
        return replace(self, **fields)  # type: ignore[arg-type]

    def properties(self) -> dict[str, str]:
        """All settings under RocketMQ's names."""
        found = {name: _text(getattr(self, field)) for name, field in PROPERTIES.items()}
        return {**found, "kvConfigPath": self.kv_file}


PROPERTIES: Mapping[str, str] = {
    "orderMessageEnable": "order_message_enable",
    "returnOrderTopicConfigToBroker": "return_order_topic_config_to_broker",
    "supportActingMaster": "support_acting_master",
    "deleteTopicWithBrokerRegistration": "delete_topic_with_broker_registration",
    "enableAllTopicList": "enable_all_topic_list",
    "enableTopicList": "enable_topic_list",
    "needWaitForService": "need_wait_for_service",
    "waitSecondsForService": "wait_for_service_s",
    "scanNotActiveBrokerInterval": "scan_interval_ms",
}
"""RocketMQ's name of a setting that may change while it runs -> the field here."""

NEVER_BY_REQUEST = frozenset(
    {"configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome", "listenPort", "bindAddress"}
)
"""Paths and addresses. RocketMQ refuses the first four; the other two would have no effect before a restart."""

_NUMBER_MAX = 3_600_000


def _parsed(name: str, text: str, current: bool | int) -> bool | int:
    word = text.strip()
    if isinstance(current, bool):
        if word.lower() not in ("true", "false"):
            raise Refused(Reason.INVALID_PARAMETER, f"{name} is true or false, not {text[:60]!r}")
        return word.lower() == "true"
    if not word.isascii() or not word.isdecimal() or not 1 <= int(word[:20]) <= _NUMBER_MAX:
        raise Refused(Reason.INVALID_PARAMETER, f"{name} is a number from 1 to {_NUMBER_MAX}, not {text[:60]!r}")
    return int(word)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
