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


@pytest.mark.parametrize("expression", ["*", " * ", "", None])
def test_a_star_or_nothing_takes_all(expression: str | None) -> None:
    found = parse_subscription("t", expression)
    assert found.takes_all
    assert found.expression == "*"
    assert found.matches_hash(0)
    assert found.matches_tag("anything")


def test_tags_with_bars_between_take_any_of_them() -> None:
    found = parse_subscription("t", "TagA || 中文||||TagB ", "TAG", 7)
    assert found.tags == {"TagA", "中文", "TagB"}
    assert found.tag_hashes == {2598919, 646394, 2598920}
    assert (found.topic, found.version, found.takes_all) == ("t", 7, False)
    assert found.matches_hash(2598919)
    assert not found.matches_hash(0)
    assert found.matches_tag("TagB")
    assert not found.matches_tag("")


def test_tags_of_one_hash_are_told_apart_by_the_exact_test_only() -> None:
    found = parse_subscription("t", "Aa")
    assert found.matches_hash(tag_hash("BB"))
    assert not found.matches_tag("BB")


@pytest.mark.parametrize("kind", [None, "", "TAG"])
def test_no_type_means_tags(kind: str | None) -> None:
    assert parse_subscription("t", "TagA", kind).expression_type == "TAG"


@pytest.mark.parametrize(
    ("expression", "kind", "words"),
    [
        ("||", "TAG", "names no tag"),
        (" || || ", "TAG", "names no tag"),
        ("a > 1", "SQL92", "'SQL92'"),
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
    assert found.matches_hash(99)
    assert found.matches_tag("y")
