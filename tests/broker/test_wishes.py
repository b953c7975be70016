"""Members of one group that want different things are found out, once for each change."""

from __future__ import annotations

from posthouse.broker.wishes import KINDS_MAX, NAMES_MAX, Wishes, wishes_of
from posthouse.model.connection import Disagreement
from posthouse.model.filter import parse_subscription


def say(wishes: Wishes, member: str, **topics: str) -> None:
    said = [parse_subscription(topic, expression, version=len(member)) for topic, expression in topics.items()]
    wishes.said(member, member, wishes_of(said))


def test_members_that_want_the_same_are_no_news() -> None:
    wishes = Wishes()
    say(wishes, "a", T="x || y", U="*")
    assert wishes.news() is None
    say(wishes, "bb", U="*", T="y||x")
    assert wishes.news() is None
    assert wishes.disagreements() == ()


def test_another_expression_is_told_once_and_so_is_the_end_of_it() -> None:
    wishes = Wishes()
    say(wishes, "a", T="x")
    say(wishes, "b", T="y")
    news = wishes.news()
    assert news is not None
    assert "T with 'x' by a" in news
    assert "T with 'y' by b" in news
    assert wishes.news() is None
    say(wishes, "c", T="y")
    assert wishes.news() is None, "nothing new is wanted"
    assert wishes.disagreements() == (
        Disagreement("T", "x", "TAG", 1, ("a",)),
        Disagreement("T", "y", "TAG", 2, ("b", "c")),
    )
    wishes.gone("a")
    assert wishes.news() == ""
    assert wishes.news() is None
    assert wishes.disagreements() == ()


def test_a_topic_that_only_some_subscribe_is_told() -> None:
    wishes = Wishes()
    say(wishes, "a", T="*", U="*")
    say(wishes, "b", T="*")
    assert wishes.disagreements() == (
        Disagreement("U", "*", "TAG", 1, ("a",)),
        Disagreement("U", None, "TAG", 1, ("b",)),
    )
    news = wishes.news()
    assert news is not None
    assert "U is not subscribed by b" in news
    say(wishes, "b", T="*", U="*")
    assert wishes.news() == ""


def test_what_is_shown_of_many_members_is_bounded() -> None:
    wishes = Wishes()
    for number in range(100):
        say(wishes, f"alike-{number}", T="*")
        say(wishes, f"odd-{number}", T=f"tag-{number}")
    found = wishes.disagreements()
    assert len(found) == KINDS_MAX
    assert found[0].members == 100
    assert len(found[0].client_ids) == NAMES_MAX
    assert "and others" in (wishes.news() or "")
