"""A subscription as a member of other bodies.

`codeSet` holds the hashes of the tags: numbers, or from Go numbers as text. Versions are compared only with their
like; their unit is the client's. Source: RocketMQ 5.3 SubscriptionData.
"""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.codec.remoting.headers.numbers import Int32, Int64
from posthouse.model.filter import ALL, TAG, Subscription, tag_hash


class SubscriptionShape(msgspec.Struct, rename="camel"):
    topic: str
    sub_string: str | None = None
    tags_set: list[str] | None = None
    code_set: list[Int32] | None = None
    sub_version: Int64 | None = None
    class_filter_mode: bool | None = None
    expression_type: str | None = None

    def value(self) -> Subscription:
        tags = frozenset(self.tags_set or ())
        return Subscription(
            self.topic,
            self.sub_string or ALL,
            self.expression_type or TAG,
            self.sub_version or 0,
            tags,
            frozenset(self.code_set) if self.code_set else frozenset(tag_hash(tag) for tag in tags),
            bool(self.class_filter_mode),
        )


def subscription_members(subscription: Subscription) -> dict[str, Any]:
    return {
        "classFilterMode": subscription.class_filter,
        "codeSet": sorted(subscription.tag_hashes),
        "expressionType": subscription.expression_type,
        "subString": subscription.expression,
        "subVersion": subscription.version,
        "tagsSet": sorted(subscription.tags),
        "topic": subscription.topic,
    }
