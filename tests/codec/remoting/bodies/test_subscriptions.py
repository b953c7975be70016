from __future__ import annotations

import json

import msgspec
from hypothesis import given

from posthouse.codec.remoting.bodies.subscriptions import SubscriptionShape, subscription_members
from posthouse.codec.remoting.json_dialect import write_json
from posthouse.model.filter import Subscription, parse_subscription
from tests.codec.strategies import subscriptions


def read(data: bytes) -> Subscription:
    return msgspec.json.decode(data, type=SubscriptionShape, strict=False).value()


@given(subscriptions())
def test_what_was_encoded_is_decoded(subscription: Subscription) -> None:
    assert read(write_json(subscription_members(subscription))) == subscription


def test_members_have_the_published_names() -> None:
    assert json.loads(write_json(subscription_members(parse_subscription("t", "TagA || TagB", version=7)))) == {
        "classFilterMode": False,
        "codeSet": [2598919, 2598920],
        "expressionType": "TAG",
        "subString": "TagA || TagB",
        "subVersion": 7,
        "tagsSet": ["TagA", "TagB"],
        "topic": "t",
    }


def test_hashes_may_come_as_text_and_versions_in_nanoseconds() -> None:
    found = read(
        b'{"topic":"t","subString":"TagA","tagsSet":["TagA"],"codeSet":["2598919"],"subVersion":1700000000000000000}'
    )
    assert found == Subscription(
        "t", "TagA", "TAG", 1_700_000_000_000_000_000, frozenset({"TagA"}), frozenset({2598919})
    )


def test_missing_hashes_are_made_from_the_tags() -> None:
    assert read(b'{"topic":"t","subString":"TagA","tagsSet":["TagA"]}').tag_hashes == {2598919}


def test_what_is_absent_takes_all() -> None:
    found = read(b'{"topic":"t","tagsSet":null,"codeSet":[],"expressionType":null}')
    assert found == Subscription("t")
    assert found.takes_all
