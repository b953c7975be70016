"""Which messages of a topic a group wants: tags, or a SQL92 expression over properties.

A queue entry carries the hash of its message's tag, and the broker compares hashes only; the client compares the tag
itself afterwards. SQL92 is decided by the broker alone. Source: RocketMQ 5.3 FilterAPI, ExpressionMessageFilter; the
hash is Java's String.hashCode over UTF-16 units, sign-extended to 64 bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from posthouse.model.limits import EXPRESSION_BYTES_MAX
from posthouse.model.refusal import Reason, Refused
from posthouse.model.sql92 import compile_sql92

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
    _test: Callable[[bytes], bool] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def takes_all(self) -> bool:
        return self.class_filter or (self.expression_type == TAG and not self.tag_hashes)

    @property
    def wants_hash(self) -> Callable[[int], bool] | None:
        """The test of a queue entry's tag hash; None if it does not matter."""
        return None if self.class_filter or not self.tag_hashes else self.tag_hashes.__contains__

    @property
    def wants_properties(self) -> Callable[[bytes], bool] | None:
        """The test of encoded properties, which never raises; None if they do not matter.

        Raises Refused(SUBSCRIPTION_ILLEGAL) if the expression, as a heartbeat brought it, cannot be served.
        """
        if self._test is not None or self.class_filter:
            return self._test
        _check_length(self.expression)
        if self.expression_type != TAG:  # kept here as well: a group's subscription is compiled once
            object.__setattr__(self, "_test", _compile(self.expression, self.expression_type))
        return self._test

    def matches_tag(self, tag: str) -> bool:
        """The client's exact test, after the broker's by hash."""
        return self.class_filter or not self.tags or tag in self.tags


def _check_length(expression: str) -> None:
    bytes_max = EXPRESSION_BYTES_MAX
    if len(expression) > bytes_max or (not expression.isascii() and len(expression.encode()) > bytes_max):
        raise Refused(Reason.SUBSCRIPTION_ILLEGAL, f"the expression is over {bytes_max} bytes")


def _compile(expression: str, expression_type: str) -> Callable[[bytes], bool]:
    if expression_type != SQL92:
        raise Refused(
            Reason.SUBSCRIPTION_ILLEGAL,
            f"expression type {expression_type!r} is not served; use TAG (tags with || between) or SQL92",
        )
    return compile_sql92(expression)


def parse_subscription(
    topic: str, expression: str | None, expression_type: str | None = TAG, version: int = 0
) -> Subscription:
    """The subscription for an expression as people write it: `*`, tags with `||` between them, or SQL92.

    Raises Refused(SUBSCRIPTION_ILLEGAL), naming what is wrong, for SQL92 with its column.
    """
    kind = expression_type or TAG
    text = expression or ALL
    _check_length(text)
    if kind != TAG:
        _compile(text, kind)
        return Subscription(topic, text, kind, version)
    if text.strip() == ALL:
        return Subscription(topic, ALL, TAG, version)
    tags = frozenset(part.strip() for part in text.split("||") if part.strip())
    if not tags:
        raise Refused(Reason.SUBSCRIPTION_ILLEGAL, f"the expression {text!r} names no tag; use * for all")
    return Subscription(topic, text, TAG, version, tags, frozenset(tag_hash(tag) for tag in tags))
