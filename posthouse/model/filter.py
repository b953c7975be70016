"""Which messages of a topic a group wants. Here: tag expressions; a queue entry carries the hash of its tag.

The broker compares hashes only; the client compares the tag itself afterwards. Source: RocketMQ 5.3 FilterAPI,
ExpressionMessageFilter; the hash is Java's String.hashCode over UTF-16 units, sign-extended to 64 bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from posthouse.model.limits import EXPRESSION_BYTES_MAX
from posthouse.model.refusal import Reason, Refused

TAG = "TAG"
SQL92 = "SQL92"
ALL = "*"


@lru_cache(maxsize=4096)
def tag_hash(tag: str) -> int:
    """Java's String.hashCode as a signed 32 bit number; 0 for no tag."""
    value = 0
    raw = tag.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(raw), 2):
        value = (31 * value + (raw[at] << 8 | raw[at + 1])) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic and the expression that picks from it. `version` grows when a member changes its mind (any unit)."""

    topic: str
    expression: str = ALL
    expression_type: str = TAG
    version: int = 0
    tags: frozenset[str] = frozenset()
    tag_hashes: frozenset[int] = frozenset()
    class_filter: bool = False

    @property
    def takes_all(self) -> bool:
        return self.class_filter or (self.expression_type == TAG and not self.tag_hashes)

    def matches_hash(self, tag_hash_of_entry: int) -> bool:
        """Whether a queue entry with this tag hash may pass."""
        return self.class_filter or not self.tag_hashes or tag_hash_of_entry in self.tag_hashes

    def matches_tag(self, tag: str) -> bool:
        """The client's exact test, after the broker's by hash."""
        return self.class_filter or not self.tags or tag in self.tags


def parse_subscription(
    topic: str, expression: str | None, expression_type: str | None = TAG, version: int = 0
) -> Subscription:
    """The subscription for an expression as people write it: `*`, or tags with `||` between them.

    Raises Refused(SUBSCRIPTION_ILLEGAL), naming what is wrong.
    """
    kind = expression_type or TAG
    text = expression or ALL
    if len(text.encode()) > EXPRESSION_BYTES_MAX:
        raise Refused(Reason.SUBSCRIPTION_ILLEGAL, f"the expression is over {EXPRESSION_BYTES_MAX} bytes")
    if kind != TAG:
        raise Refused(
            Reason.SUBSCRIPTION_ILLEGAL,
            f"expression type {kind!r} is not served; use TAG (tags with || between)",
        )
    if text.strip() == ALL:
        return Subscription(topic, ALL, TAG, version)
    tags = frozenset(part.strip() for part in text.split("||") if part.strip())
    if not tags:
        raise Refused(Reason.SUBSCRIPTION_ILLEGAL, f"the expression {text!r} names no tag; use * for all")
    return Subscription(topic, text, TAG, version, tags, frozenset(tag_hash(tag) for tag in tags))
