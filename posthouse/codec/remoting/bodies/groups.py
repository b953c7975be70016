"""Configuration of consumer groups: one (200, 352), several (225), all (201); and names of groups (300).

And whether a group may read a topic (353).
Source: RocketMQ 5.3 SubscriptionGroupConfig, GroupRetryPolicy, SimpleSubscriptionData, SubscriptionGroupWrapper,
SubscriptionGroupList, GroupList, GroupForbidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from posthouse.codec.remoting.bodies.data_version import DataVersionShape, data_version_members
from posthouse.codec.remoting.bodies.shape import BodyType
from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.filter import ALL, TAG
from posthouse.model.group import FixedSubscription, GroupConfig, RetryPolicy, RetryPolicyType
from posthouse.model.route import DataVersion


class GroupTable(NamedTuple):
    """All groups of a broker by name. `forbidden`: group to topic to a mask of perm bits that are taken away."""

    groups: dict[str, GroupConfig]
    forbidden: dict[str, dict[str, int]]
    version: DataVersion


class _ExponentialShape(msgspec.Struct, rename="camel"):
    initial: Int64 = RetryPolicy().initial_ms
    max: Int64 = RetryPolicy().max_ms
    multiplier: Int64 = RetryPolicy().multiplier


class _CustomizedShape(msgspec.Struct, rename="camel"):
    next: list[Int64] | None = None


class _RetryPolicyShape(msgspec.Struct, rename="camel"):
    type: str | None = None
    exponential_retry_policy: _ExponentialShape | None = None
    customized_retry_policy: _CustomizedShape | None = None

    def value(self) -> RetryPolicy:
        try:
            kind = RetryPolicyType(self.type or RetryPolicyType.CUSTOMIZED)
        except ValueError:
            raise WireError(f"{str(self.type)[:60]!r} is no type of retry policy") from None
        grows = self.exponential_retry_policy or _ExponentialShape()
        listed = self.customized_retry_policy or _CustomizedShape()
        return RetryPolicy(kind, tuple(listed.next or ()), grows.initial, grows.max, grows.multiplier)


class _FixedShape(msgspec.Struct, rename="camel"):
    topic: str
    expression: str | None = None
    expression_type: str | None = None
    version: Int64 = 0

    def value(self) -> FixedSubscription:
        return FixedSubscription(self.topic, self.expression or ALL, self.expression_type or TAG, self.version)


class _ConfigShape(msgspec.Struct, rename="camel"):
    group_name: str | None = None
    consume_enable: bool = True
    consume_from_min_enable: bool = True
    consume_broadcast_enable: bool = True
    consume_message_orderly: bool = False
    retry_queue_nums: Int32 = 1
    retry_max_times: Int32 = 16
    broker_id: Int64 = 0
    which_broker_when_consume_slowly: Int64 = 1
    notify_consumer_ids_changed_enable: bool = True
    group_sys_flag: Int32 = 0
    consume_timeout_minute: Int32 = 15
    attributes: dict[str, str | None] | None = None
    group_retry_policy: _RetryPolicyShape | None = None
    subscription_data_set: list[_FixedShape] | None = None

    def value(self, name: str = "") -> GroupConfig:
        return GroupConfig(
            self.group_name or name,
            self.consume_enable,
            self.consume_from_min_enable,
            self.consume_broadcast_enable,
            self.consume_message_orderly,
            self.retry_queue_nums,
            self.retry_max_times,
            self.broker_id,
            self.which_broker_when_consume_slowly,
            self.notify_consumer_ids_changed_enable,
            self.group_sys_flag,
            self.consume_timeout_minute,
            {key: value for key, value in (self.attributes or {}).items() if value is not None},
            self.group_retry_policy.value() if self.group_retry_policy is not None else RetryPolicy(),
            tuple(each.value() for each in self.subscription_data_set)
            if self.subscription_data_set is not None
            else None,
        )


class _TableShape(msgspec.Struct, rename="camel"):
    subscription_group_table: dict[str, _ConfigShape] | None = None
    forbidden_table: dict[str, dict[str, Int32]] | None = None
    data_version: DataVersionShape | None = None


class _ConfigListShape(msgspec.Struct, rename="camel"):
    group_config_list: list[_ConfigShape] | None = None


class _NamesShape(msgspec.Struct, rename="camel"):
    group_list: list[str] | None = None


_CONFIG = BodyType(_ConfigShape, "a group configuration")
_CONFIG_LIST = BodyType(_ConfigListShape, "a list of group configurations")
_TABLE = BodyType(_TableShape, "a group table")
_NAMES = BodyType(_NamesShape, "a group list")


def _policy_members(policy: RetryPolicy) -> dict[str, Any]:
    """Of its parts only those that differ from the defaults, which Java has as well."""
    members: dict[str, Any] = {"type": policy.type.value}
    if policy.next_ms:
        members["customizedRetryPolicy"] = {"next": policy.next_ms}
    grows = policy.initial_ms, policy.max_ms, policy.multiplier
    if policy.type is RetryPolicyType.EXPONENTIAL or grows != _GROWS:
        members["exponentialRetryPolicy"] = dict(zip(("initial", "max", "multiplier"), grows, strict=True))
    return members


_GROWS = RetryPolicy().initial_ms, RetryPolicy().max_ms, RetryPolicy().multiplier


def _fixed_members(subscription: FixedSubscription) -> dict[str, Any]:
    return {
        "expression": subscription.expression,
        "expressionType": subscription.expression_type,
        "topic": subscription.topic,
        "version": subscription.version,
    }


def _members(config: GroupConfig) -> dict[str, Any]:
    fixed = config.fixed_subscriptions
    return {
        "attributes": config.attributes,
        "brokerId": config.broker_id,
        "consumeBroadcastEnable": config.consume_broadcast_enable,
        "consumeEnable": config.consume_enable,
        "consumeFromMinEnable": config.consume_from_min_enable,
        "consumeMessageOrderly": config.consume_message_orderly,
        "consumeTimeoutMinute": config.consume_timeout_minutes,
        "groupName": config.name,
        "groupRetryPolicy": _policy_members(config.retry_policy),
        "groupSysFlag": config.group_sys_flag,
        "notifyConsumerIdsChangedEnable": config.notify_consumer_ids_changed_enable,
        "retryMaxTimes": config.retry_max_times,
        "retryQueueNums": config.retry_queues,
        "subscriptionDataSet": None if fixed is None else [_fixed_members(each) for each in fixed],
        "whichBrokerWhenConsumeSlowly": config.which_broker_when_consume_slowly,
    }


def encode_group_config(config: GroupConfig) -> bytes:
    return write_json(_members(config))


def decode_group_config(data: bytes) -> GroupConfig:
    """Raises WireError."""
    return _CONFIG.decode(data).value()


def encode_group_config_list(configs: Iterable[GroupConfig]) -> bytes:
    return write_json({"groupConfigList": [_members(config) for config in configs]})


def decode_group_config_list(data: bytes) -> tuple[GroupConfig, ...]:
    """Raises WireError."""
    return tuple(shape.value() for shape in _CONFIG_LIST.decode(data).group_config_list or ())


def encode_group_table(
    configs: Iterable[GroupConfig], version: DataVersion, forbidden: Mapping[str, Mapping[str, int]] | None = None
) -> bytes:
    return write_json(
        {
            "dataVersion": data_version_members(version),
            "forbiddenTable": forbidden or {},
            "subscriptionGroupTable": {config.name: _members(config) for config in configs},
        }
    )


def decode_group_table(data: bytes) -> GroupTable:
    """Raises WireError."""
    found = _TABLE.decode(data)
    configs = [shape.value(name) for name, shape in (found.subscription_group_table or {}).items()]
    version = found.data_version.value() if found.data_version is not None else DataVersion()
    return GroupTable({config.name: config for config in configs}, found.forbidden_table or {}, version)


def encode_group_list(groups: Iterable[str]) -> bytes:
    return write_json({"groupList": list(groups)})


def decode_group_list(data: bytes) -> tuple[str, ...]:
    """Raises WireError."""
    return tuple(_NAMES.decode(data).group_list or ())


class Readable(NamedTuple):
    """Whether a group may read a topic."""

    group: str
    topic: str
    readable: bool


class _ReadableShape(msgspec.Struct, rename="camel"):
    group: str
    topic: str
    readable: bool = True


_READABLE = BodyType(_ReadableShape, "a permission of a group")


def encode_readable(found: Readable) -> bytes:
    return write_json(found._asdict())


def decode_readable(data: bytes) -> Readable:
    """Raises WireError."""
    found = _READABLE.decode(data)
    return Readable(found.group, found.topic, found.readable)
