"""Which consumer groups exist, and how they come to exist: by an admin, or by the first heartbeat or pull.

Beside its configuration a group may have a rule for a topic: whether it may read it, and how its members get their
queues (see assignment). Rules are durable before they are acknowledged, and go with the group and with the topic.
"""

from __future__ import annotations

from dataclasses import replace

from posthouse.broker.config import BrokerConfig
from posthouse.model.group import FixedSubscription, GroupConfig, GroupRule
from posthouse.model.limits import (
    EXPRESSION_BYTES_MAX,
    FIXED_SUBSCRIPTIONS_MAX,
    GROUP_RULES_MAX,
    GROUPS_MAX,
    PROPERTIES_BYTES_MAX,
    QUEUES_PER_TOPIC_MAX,
    RETRY_TIMES_MAX,
)
from posthouse.model.names import check_group
from posthouse.model.refusal import Reason, Refused
from posthouse.store.group_rules import GroupRules
from posthouse.store.group_table import GroupTable
from posthouse.store.message_store import LogError, MessageStore
from posthouse.store.state_record import Kind


class Groups:
    """The tables are folds over the store's log; this service decides their changes."""

    def __init__(self, store: MessageStore, config: BrokerConfig) -> None:
        self._store = store
        self._config = config
        self._table = store.groups
        self._rules = store.rules.live
        self.find = self._table.live.get

    def use(self, config: BrokerConfig) -> None:
        """Settings that were changed."""
        self._config = config

    def require(self, name: str) -> GroupConfig:
        """The group, made with defaults if the broker makes groups. Raises Refused."""
        group = self.find(name)
        if group is not None:
            return group
        check_group(name)
        if not self._config.auto_create_groups:
            raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {name!r} does not exist; create it first")
        self._check_room()
        self._store.check_recordable()
        self._store.record(Kind.GROUP_SET, GroupTable.set_body(GroupConfig(name)), _ignore)
        return self._table.live[name]

    def known(self, name: str) -> GroupConfig:
        """Raises Refused(GROUP_NOT_EXIST); makes none."""
        group = self.find(name)
        if group is None:
            raise Refused(Reason.GROUP_NOT_EXIST, f"consumer group {name!r} does not exist")
        return group

    def all(self) -> list[GroupConfig]:
        return list(self._table.live.values())

    async def set(self, config: GroupConfig) -> None:
        """Creates or changes a group, as an admin asks. Raises Refused."""
        _check_config(config)
        found = self.find(config.name)
        if found is None:
            self._check_room()
        if found != config:
            await self._store.record_and_wait(Kind.GROUP_SET, GroupTable.set_body(config))
        else:
            await self._store.settled()

    async def delete(self, name: str, with_offsets: bool) -> None:
        """Forgets a group; an unknown one is no error, and its offsets go all the same. Raises Refused."""
        if self.find(name) is not None or (with_offsets and name in self._store.offsets.live):
            await self._store.record_and_wait(Kind.GROUP_DELETED, {"name": name, "clean_offsets": with_offsets})
        else:
            await self._store.settled()

    def _check_room(self) -> None:
        if len(self._table.live) >= GROUPS_MAX:
            raise Refused(Reason.BUSY, f"this broker has {GROUPS_MAX} groups, which is the limit; delete some")

    # Rules for a topic

    def rule(self, group: str, topic: str) -> GroupRule:
        return self._rules.get((group, topic)) or GroupRule(group, topic)

    def rules(self) -> list[GroupRule]:
        return list(self._rules.values())

    def check_readable(self, group: str, topic: str) -> None:
        """Raises Refused(NO_PERMISSION) if the group may not read the topic. For each pull and pop."""
        if self._rules and (rule := self._rules.get((group, topic))) is not None and not rule.readable:
            raise Refused(Reason.NO_PERMISSION, f"group {group!r} is forbidden to read topic {topic!r}")

    async def set_readable(self, group: str, topic: str, readable: bool) -> None:
        """Whether the group may read the topic, from now on. Raises Refused."""
        await self.set_rule(replace(self.rule(group, topic), readable=readable))

    async def set_rule(self, rule: GroupRule) -> None:
        """The group and the topic have been looked at by the caller. Raises Refused."""
        if self.rule(rule.group, rule.topic) == rule:
            await self._store.settled()
            return
        if (rule.group, rule.topic) not in self._rules and len(self._rules) >= GROUP_RULES_MAX:
            raise Refused(Reason.BUSY, f"{GROUP_RULES_MAX} rules of groups for topics, which is the limit; lift some")
        await self._store.record_and_wait(Kind.GROUP_RULE, GroupRules.set_body(rule))


def _check_config(config: GroupConfig) -> None:
    """Raises Refused(INVALID_PARAMETER): nothing is kept that has no bound."""
    check_group(config.name)
    if not 0 <= config.retry_queues <= QUEUES_PER_TOPIC_MAX:
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"{config.retry_queues} retry queues; 0 to {QUEUES_PER_TOPIC_MAX} are possible",
        )
    if sum(len(name) + len(value) for name, value in config.attributes.items()) > PROPERTIES_BYTES_MAX:
        raise Refused(Reason.INVALID_PARAMETER, f"attributes of over {PROPERTIES_BYTES_MAX} characters")
    times = config.retry_policy.next_ms
    if len(times) > RETRY_TIMES_MAX or any(time_ms < 0 for time_ms in times):
        raise Refused(Reason.INVALID_PARAMETER, f"a retry policy has up to {RETRY_TIMES_MAX} times, none below 0")
    fixed = config.fixed_subscriptions or ()
    if len(fixed) > FIXED_SUBSCRIPTIONS_MAX or any(map(_is_long, fixed)):
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"a group has up to {FIXED_SUBSCRIPTIONS_MAX} subscriptions of its own, each expression up to "
            f"{EXPRESSION_BYTES_MAX} bytes",
        )


def _is_long(subscription: FixedSubscription) -> bool:
    return len(subscription.expression.encode(errors="surrogatepass")) > EXPRESSION_BYTES_MAX


def _ignore(error: LogError | None) -> None:
    """A group that is lost in a crash is made again by its next heartbeat."""
