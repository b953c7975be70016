"""Settings of a running broker under RocketMQ's names: all can be read, a few can be changed.

What may change is a white list: switches and numbers whose services take a new value at any moment. Never a path, an
address, a name or anything that is run: those came with the start and are the operator's. A change is all or nothing,
and lasts until the process ends. Source: RocketMQ 5.3 AdminBrokerProcessor.updateBrokerConfig, BrokerConfig,
MessageStoreConfig.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from posthouse.broker.config import BrokerConfig
from posthouse.host.clock import Clock
from posthouse.model.limits import MESSAGE_BYTES_MAX, QUEUES_PER_TOPIC_MAX
from posthouse.model.refusal import Reason, Refused
from posthouse.model.route import DataVersion
from posthouse.model.topic import Perm
from posthouse.store.config import HOUR_MS, Durability

log = logging.getLogger(__name__)

_HOURS_MAX = 24 * 366 * 10


class _Setting(NamedTuple):
    """`field` is one of BrokerConfig, or after `store.` of StoreConfig. `parse` raises ValueError with what can be."""

    field: str
    show: Callable[[Any], str]
    parse: Callable[[str], Any]

    def read(self, config: BrokerConfig) -> str:
        return self.show(getattr(config.store if self.is_of_store else config, self.name))

    @property
    def is_of_store(self) -> bool:
        return self.field.startswith(_STORE)

    @property
    def name(self) -> str:
        return self.field.removeprefix(_STORE)


_STORE = "store."


def _flag(field: str) -> _Setting:
    return _word(field, {"true": True, "false": False})


def _number(field: str, least: int, most: int, unit: float = 1) -> _Setting:
    """`unit`: what the field has for 1 of the text."""

    def parse(text: str) -> float:
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and least <= int(text) <= most):
            raise ValueError(f"a number from {least} to {most}")
        return int(text) * unit

    return _Setting(field, lambda value: f"{round(value / unit, 6):g}", parse)


def _word(field: str, values: Mapping[str, object]) -> _Setting:
    words = {value: word for word, value in values.items()}

    def parse(text: str) -> object:
        if text not in values:
            raise ValueError(" or ".join(values))
        return values[text]

    return _Setting(field, lambda value: words[value], parse)


def _hours(field: str) -> _Setting:
    def parse(text: str) -> tuple[int, ...]:
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not all(part.isascii() and part.isdecimal() and len(part) <= 2 and int(part) <= 23 for part in parts):
            raise ValueError("hours of the day, 00 to 23, with ; between them; nothing for any hour")
        return tuple(sorted({int(part) for part in parts}))

    return _Setting(field, lambda hours: ";".join(f"{hour:02}" for hour in hours), parse)


_CHANGEABLE: dict[str, _Setting] = {
    "autoCreateSubscriptionGroup": _flag("auto_create_groups"),
    "autoCreateTopicEnable": _flag("auto_create_topics"),
    "brokerPermission": _word("permission", {"6": Perm.READ_WRITE, "4": Perm.READ}),
    "defaultTopicQueueNums": _number("default_topic_queues", 1, QUEUES_PER_TOPIC_MAX),
    "deleteWhen": _hours("store.retention_hours"),
    "diskMaxUsedSpaceRatio": _number("store.disk_clean_level", 10, 95, 0.01),
    "diskSpaceCleanForciblyRatio": _number("store.disk_force_level", 10, 100, 0.01),
    "diskSpaceWarningLevelRatio": _number("store.disk_full_level", 10, 100, 0.01),
    "fileReservedTime": _number("store.retention_ms", 1, _HOURS_MAX, HOUR_MS),  # in hours
    "flushDiskType": _word("store.durability", {"SYNC_FLUSH": Durability.DISK, "ASYNC_FLUSH": Durability.OS}),
    "longPollingEnable": _flag("long_polling"),
    "registerNameServerPeriod": _number("register_period_s", 10_000, 60_000, 0.001),
    "useServerSideResetOffset": _flag("server_side_reset"),
}
"""RocketMQ's name of what may be changed while the broker runs."""

_PATH = "it names a path: what a broker reads and writes is told at its start only"
_IDENTITY = "it is who and where this broker is; change it and start again"
_FIXED = "it is fixed here"
_NEVER = {
    "brokerConfigPath": _PATH,
    "configBlackList": "it says what may not be changed",
    "rocketmqHome": _PATH,
    "storePathRootDir": _PATH,
    "storePathCommitLog": _PATH,
    "storePathConsumeQueue": _PATH,
    "storePathIndex": _PATH,
    "filterServerNums": "in RocketMQ it starts a command; nothing is started by request here",
    "enablePropertyFilter": f"{_FIXED}: SQL92 expressions are always served",
    "filterSupportRetry": _FIXED,
    "brokerClusterName": _IDENTITY,
    "brokerId": _IDENTITY,
    "brokerIP1": _IDENTITY,
    "brokerIP2": _IDENTITY,
    "brokerName": _IDENTITY,
    "brokerRole": _IDENTITY,
    "listenPort": _IDENTITY,
    "namesrvAddr": _IDENTITY,
    "mappedFileSizeCommitLog": "it is fixed at the start (--segment-size)",
    "maxMessageSize": f"{_FIXED}: {MESSAGE_BYTES_MAX} bytes",
    "messageDelayLevel": f"{_FIXED}: the 18 levels of RocketMQ",
    "transferMsgByHeap": _FIXED,
}
"""Names that people try, and why they are refused."""


class Settings:
    """`appliers` are told the whole new configuration; they cannot refuse."""

    def __init__(self, config: BrokerConfig, clock: Clock, appliers: Iterable[Callable[[BrokerConfig], None]]) -> None:
        self.config = config
        self._clock = clock
        self._appliers = tuple(appliers)
        self.version = DataVersion(0, clock.now_ms(), 0)

    def change(self, properties: Mapping[str, str]) -> None:
        """Raises Refused and changes nothing then: NO_PERMISSION for what may not be changed, INVALID_PARAMETER."""
        config = _changed(self.config, properties)
        if config == self.config:
            return
        self.config = config
        self.version = DataVersion(0, self._clock.now_ms(), self.version.counter + 1)
        log.warning("settings changed by request: %s", ", ".join(f"{name}={properties[name]}" for name in properties))
        for apply in self._appliers:
            apply(config)

    def table(self, listen_port: int) -> dict[str, str]:
        """All that has a name in RocketMQ."""
        config = self.config
        fixed = {
            "brokerClusterName": config.cluster,
            "brokerId": str(config.broker_id),
            "brokerName": config.name,
            "brokerRole": "ASYNC_MASTER",
            "configBlackList": ";".join(sorted(_NEVER)),
            "listenPort": str(listen_port),
            "mappedFileSizeCommitLog": str(config.store.segment_bytes),
            "maxMessageSize": str(MESSAGE_BYTES_MAX),
            "namesrvAddr": ";".join(map(str, config.nameservers)),
            "traceOn": "true",
            "enablePropertyFilter": "true",
        }
        if config.advertise is not None:
            fixed["brokerIP1"] = config.advertise.host
        changeable = {name: setting.read(config) for name, setting in _CHANGEABLE.items()}
        return dict(sorted((fixed | changeable).items()))


def _changed(config: BrokerConfig, properties: Mapping[str, str]) -> BrokerConfig:
    """All changes at once, because some must go together. Raises Refused."""
    fields: dict[str, Any] = {}
    store_fields: dict[str, Any] = {}
    for name, text in properties.items():
        setting = _setting(name)
        try:
            (store_fields if setting.is_of_store else fields)[setting.name] = setting.parse(text.strip())
        except ValueError as error:
            raise Refused(Reason.INVALID_PARAMETER, f"{name}={text[:60]}: it can be {error}") from None
    try:
        return replace(config, store=replace(config.store, **store_fields), **fields)
    except ValueError as error:
        raise Refused(Reason.INVALID_PARAMETER, str(error)) from None


def _setting(name: str) -> _Setting:
    """Raises Refused."""
    setting = _CHANGEABLE.get(name)
    if setting is not None:
        return setting
    if name in _NEVER:
        raise Refused(Reason.NO_PERMISSION, f"{name} cannot be changed by request: {_NEVER[name]}")
    known = ", ".join(_CHANGEABLE)
    raise Refused(Reason.INVALID_PARAMETER, f"{name[:60]!r} cannot be changed while this broker runs; {known} can")
