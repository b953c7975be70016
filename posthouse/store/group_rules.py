"""What an admin has set for a group on one topic, as a fold over the log; two views, as in topic_table.

A rule that says nothing is no rule. Rules go with their topic and with their group.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.model.group import GroupRule
from posthouse.model.offsets import LogOffset
from posthouse.store.state_record import Kind

Rules = dict[tuple[str, str], GroupRule]
"""By (group, topic)."""


class GroupRules:
    kinds = (Kind.GROUP_RULE,)

    def __init__(self) -> None:
        self.live: Rules = {}
        self._committed: Rules = {}

    @staticmethod
    def set_body(rule: GroupRule) -> object:
        return {"rule": msgspec.to_builtins(rule)}

    def decide(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _change(self.live, body)

    def apply(self, kind: Kind, body: Any, log_offset: LogOffset) -> None:
        _change(self._committed, body)

    def fill(self, rule: GroupRule) -> None:
        """A rule as the opening of a segment has it. For replays."""
        self.live[rule.group, rule.topic] = self._committed[rule.group, rule.topic] = rule

    def drop_live(self, *, topic: str | None = None, group: str | None = None) -> None:
        _drop(self.live, topic, group)

    def drop_committed(self, *, topic: str | None = None, group: str | None = None) -> None:
        _drop(self._committed, topic, group)

    def snapshot(self) -> object:
        return [msgspec.to_builtins(rule) for rule in self._committed.values()]

    def restore(self, state: Any) -> None:
        for rule in msgspec.convert(state, list[GroupRule]):
            self.fill(rule)


def _change(table: Rules, body: Any) -> None:
    rule = msgspec.convert(body["rule"], GroupRule)
    if rule.says_nothing:
        table.pop((rule.group, rule.topic), None)
    else:
        table[rule.group, rule.topic] = rule


def _drop(table: Rules, topic: str | None, group: str | None) -> None:
    for key in [key for key in table if key[0] == group or key[1] == topic]:
        del table[key]
