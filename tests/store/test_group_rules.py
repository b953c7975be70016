from __future__ import annotations

import json

from posthouse.model.group import GroupRule, RequestMode
from posthouse.model.offsets import LogOffset
from posthouse.store.group_rules import GroupRules, Rules
from posthouse.store.state_record import Kind

AT = LogOffset(0)
POPPED = GroupRule("g", "t", RequestMode.POP, 2)
FORBIDDEN = GroupRule("g", "u", readable=False)


def restored(rules: GroupRules) -> Rules:
    again = GroupRules()
    again.restore(json.loads(json.dumps(rules.snapshot())))
    return again.live


def with_rules(*rules: GroupRule) -> GroupRules:
    found = GroupRules()
    for rule in rules:
        body = json.loads(json.dumps(GroupRules.set_body(rule)))
        found.decide(Kind.GROUP_RULE, body, AT)
        found.apply(Kind.GROUP_RULE, body, AT)
    return found


def test_a_rule_lives_when_decided_and_is_kept_when_committed() -> None:
    rules = GroupRules()
    body = GroupRules.set_body(POPPED)
    rules.decide(Kind.GROUP_RULE, body, AT)
    assert rules.live == {("g", "t"): POPPED}
    assert restored(rules) == {}
    rules.apply(Kind.GROUP_RULE, body, AT)
    assert restored(rules) == {("g", "t"): POPPED}


def test_a_rule_that_says_nothing_any_more_is_forgotten() -> None:
    rules = with_rules(POPPED, FORBIDDEN, GroupRule("g", "u"))
    assert rules.live == {("g", "t"): POPPED} == restored(rules)


def test_rules_go_with_their_group_and_their_topic() -> None:
    other = GroupRule("h", "t", readable=False)
    rules = with_rules(POPPED, FORBIDDEN, other)
    rules.drop_live(topic="t")
    assert list(rules.live) == [("g", "u")]
    assert len(restored(rules)) == 3
    rules.drop_committed(topic="t")
    assert restored(rules) == {("g", "u"): FORBIDDEN}
    rules.drop_live(group="g")
    rules.drop_committed(group="g")
    assert rules.live == {} == restored(rules)
