"""What each member of a group wants, kept apart, so that members that want different things are found out.

All members of a group must subscribe alike: the last heartbeat decides for all of them, so who differs gets the wrong
messages or none. RocketMQ does not notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from posthouse.model.connection import Disagreement
from posthouse.model.filter import TAG, Subscription

NAMES_MAX = 5
"""Members that are named for each thing that is wanted."""

KINDS_MAX = 10
"""Kinds of member that are told apart, when there are many."""


class Wish(NamedTuple):
    """A subscription, with tags in one order; versions do not count."""

    topic: str
    expression: str
    expression_type: str


def wishes_of(subscriptions: Iterable[Subscription]) -> frozenset[Wish]:
    return frozenset(_wish(each) for each in subscriptions)


def _wish(said: Subscription) -> Wish:
    text = " || ".join(sorted(said.tags)) if said.expression_type == TAG and said.tags else said.expression
    return Wish(said.topic, text, said.expression_type)


class Wishes:
    """Of one group. Members are told apart by identity; each has a name to show."""

    def __init__(self) -> None:
        self._members: dict[object, frozenset[Wish]] = {}
        self._alike: dict[frozenset[Wish], dict[object, str]] = {}
        self._is_new = False  # whether a kind of wish came or went since news were asked for
        self._differed = False

    def said(self, member: object, name: str, wishes: frozenset[Wish]) -> None:
        if self._members.get(member) != wishes:
            self.gone(member)
            self._members[member] = wishes
            self._is_new = self._is_new or wishes not in self._alike
            self._alike.setdefault(wishes, {})[member] = name

    def gone(self, member: object) -> None:
        wishes = self._members.pop(member, None)
        if wishes is not None:
            del self._alike[wishes][member]
            if not self._alike[wishes]:
                del self._alike[wishes]
                self._is_new = True

    def news(self) -> str | None:
        """What to tell a person, once for each change of what is wanted: empty when all agree again."""
        if not self._is_new:
            return None
        self._is_new = False
        differs, differed = len(self._alike) > 1, self._differed
        self._differed = differs
        return "; ".join(map(_text, self.disagreements())) if differs else "" if differed else None

    def disagreements(self) -> tuple[Disagreement, ...]:
        """By topic; empty when all members want the same. Of KINDS_MAX kinds of member at most."""
        if len(self._alike) < 2:
            return ()
        kinds = list(islice(self._alike.items(), KINDS_MAX))
        found: list[Disagreement] = []
        for topic in sorted({wish.topic for wishes, _ in kinds for wish in wishes}):
            wanting: dict[Wish | None, list[dict[object, str]]] = {}
            for wishes, members in kinds:
                wish = next((each for each in wishes if each.topic == topic), None)
                wanting.setdefault(wish, []).append(members)
            if len(wanting) > 1:
                found += (_disagreement(topic, wish, parts) for wish, parts in wanting.items())
        return tuple(found)


def _disagreement(topic: str, wish: Wish | None, parts: list[dict[object, str]]) -> Disagreement:
    names = islice((name for members in parts for name in members.values()), NAMES_MAX)
    expression = None if wish is None else wish.expression
    kind = TAG if wish is None else wish.expression_type
    return Disagreement(topic, expression, kind, sum(map(len, parts)), tuple(names))


def _text(each: Disagreement) -> str:
    names = ", ".join(each.client_ids) + (" and others" if each.members > len(each.client_ids) else "")
    if each.expression is None:
        return f"{each.topic} is not subscribed by {names}"
    return f"{each.topic} with {each.expression!r} by {names}"
