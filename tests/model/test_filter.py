from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.model.filter import Subscription, parse_subscription, tag_hash
from posthouse.model.limits import EXPRESSION_BYTES_MAX
from posthouse.model.refusal import Reason, Refused


@pytest.mark.parametrize(
    ("tag", "number"),
    [
        ("", 0),
        ("a", 97),
        ("TagA", 2598919),
        ("TagB", 2598920),
        ("order", 106006350),
        ("中文", 646394),
        ("\U0001f600", 55357 * 31 + 56832),  # two UTF-16 units
        ("Aa", 2112),
        ("BB", 2112),
        ("polygenelubricants", -(2**31)),
    ],
)
def test_the_hash_of_a_tag_is_javas(tag: str, number: int) -> None:
    assert tag_hash(tag) == number


@given(st.text(max_size=40))
def test_the_hash_of_a_tag_is_a_signed_int(tag: str) -> None:
    """Any text, lone surrogates too, as Java has them."""
    value = 0
    for unit in memoryview(tag.encode("utf-16-le", "surrogatepass")).cast("H"):
        value = 31 * value + unit
    wrapped = (value + 2**31) % 2**32 - 2**31
    assert tag_hash(tag) == wrapped


def wants_hash(subscription: Subscription, value: int) -> bool:
    test = subscription.wants_hash
    assert test is not None
    return test(value)


@pytest.mark.parametrize("expression", ["*", " * ", "", None])
def test_a_star_or_nothing_takes_all(expression: str | None) -> None:
    found = parse_subscription("t", expression)
    assert found.takes_all
    assert found.expression == "*"
    assert found.wants_hash is None
    assert found.matches_tag("anything")


def test_tags_with_bars_between_take_any_of_them() -> None:
    found = parse_subscription("t", "TagA || 中文||||TagB ", "TAG", 7)
    assert found.tags == {"TagA", "中文", "TagB"}
    assert found.tag_hashes == {2598919, 646394, 2598920}
    assert (found.topic, found.version, found.takes_all) == ("t", 7, False)
    assert wants_hash(found, 2598919)
    assert not wants_hash(found, 0)
    assert found.matches_tag("TagB")
    assert not found.matches_tag("")


def test_tags_of_one_hash_are_told_apart_by_the_exact_test_only() -> None:
    found = parse_subscription("t", "Aa")
    assert wants_hash(found, tag_hash("BB"))
    assert not found.matches_tag("BB")


@pytest.mark.parametrize("kind", [None, "", "TAG"])
def test_no_type_means_tags(kind: str | None) -> None:
    assert parse_subscription("t", "TagA", kind).expression_type == "TAG"


@pytest.mark.parametrize(
    ("expression", "kind", "words"),
    [
        ("||", "TAG", "names no tag"),
        (" || || ", "TAG", "names no tag"),
        ("a >", "SQL92", "column 4"),
        ("", "SQL92", "column 1"),
        ("a > 1 " + " " * EXPRESSION_BYTES_MAX, "SQL92", str(EXPRESSION_BYTES_MAX)),
        ("a > 1", "sql92", "'sql92'"),
        ("x", "tag", "'tag'"),
        ("x" * (EXPRESSION_BYTES_MAX + 1), "TAG", str(EXPRESSION_BYTES_MAX)),
        ("中" * (EXPRESSION_BYTES_MAX // 3 + 1), "TAG", str(EXPRESSION_BYTES_MAX)),
    ],
)
def test_an_expression_that_cannot_be_served_is_refused_with_why(expression: str, kind: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_subscription("t", expression, kind)
    assert caught.value.reason is Reason.SUBSCRIPTION_ILLEGAL
    assert words in caught.value.remark


def test_the_longest_expression_is_taken() -> None:
    assert parse_subscription("t", "x" * EXPRESSION_BYTES_MAX).tags


def test_a_class_filter_is_left_to_the_client() -> None:
    found = Subscription("t", "com.example.Filter", tags=frozenset({"x"}), tag_hashes=frozenset({1}), class_filter=True)
    assert found.takes_all
    assert found.wants_hash is None
    assert found.matches_tag("y")


def test_a_sql92_subscription_tests_properties_and_no_hash() -> None:
    found = parse_subscription("t", "price > 5", "SQL92", 7)
    assert (found.expression_type, found.version, found.takes_all) == ("SQL92", 7, False)
    assert found.wants_hash is None
    test = found.wants_properties
    assert test is not None
    assert test(b"price\x016\x02")
    assert not test(b"price\x015\x02")


def test_tags_need_no_properties_and_everything_needs_nothing() -> None:
    tagged = parse_subscription("t", "TagA")
    assert tagged.wants_properties is None
    assert tagged.wants_hash is not None
    assert tagged.wants_hash(2598919)
    assert not tagged.wants_hash(0)
    everything = parse_subscription("t", "*")
    assert (everything.wants_hash, everything.wants_properties) == (None, None)


def test_what_a_heartbeat_brought_and_cannot_be_served_is_refused_when_it_is_asked_for() -> None:
    for wrong in (
        Subscription("t", "a >", "SQL92"),
        Subscription("t", "x", "GROOVY"),
        Subscription("t", "x" * (EXPRESSION_BYTES_MAX + 1)),
    ):
        with pytest.raises(Refused):
            _ = wrong.wants_properties
