from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.model.names import check_group, check_topic, is_retry_topic_of, is_system_topic, retry_topic
from posthouse.model.refusal import Reason, Refused

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%|_-"


@given(st.text(ALPHABET, min_size=1, max_size=120))
def test_every_legal_name_is_taken(name: str) -> None:
    check_topic(name)
    check_group(name)
    check_topic(retry_topic(name))


@given(st.text(min_size=1, max_size=120).filter(lambda text: not set(text) <= set(ALPHABET)))
def test_any_other_character_is_refused(name: str) -> None:
    for check in (check_topic, check_group):
        with pytest.raises(Refused) as caught:
            check(name)
        assert caught.value.reason is Reason.INVALID_PARAMETER


@pytest.mark.parametrize("name", ["../../x", "a/b", "a.b", "a\n", "a ", "ä", "٣", "a\0b", "."])
def test_a_name_that_could_mean_a_path_or_a_line_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="character outside"):
        check_topic(name)


@pytest.mark.parametrize(
    ("prefix", "longest"), [("", 127), ("%RETRY%", 255), ("%DLQ%", 255)], ids=["plain", "retry", "dead letter"]
)
def test_the_length_of_a_topic_name_has_a_limit(prefix: str, longest: int) -> None:
    check_topic(prefix + "x" * (longest - len(prefix)))
    with pytest.raises(Refused, match=f"{longest + 1} characters; the limit is {longest}"):
        check_topic(prefix + "x" * (longest + 1 - len(prefix)))


def test_the_length_of_a_group_name_has_a_limit_and_its_retry_topic_fits() -> None:
    check_group("g" * 120)
    check_topic(retry_topic("g" * 120))
    assert len(retry_topic("g" * 120)) == 127
    with pytest.raises(Refused, match="121 characters; the limit is 120"):
        check_group("g" * 121)


@pytest.mark.parametrize("check", [check_topic, check_group])
def test_an_empty_name_is_refused(check: Callable[[str], None]) -> None:
    with pytest.raises(Refused, match="empty"):
        check("")


def test_system_topics_are_known_by_name_or_prefix() -> None:
    assert is_system_topic("SCHEDULE_TOPIC_XXXX")
    assert is_system_topic("TBW102")
    assert is_system_topic("rmq_sys_anything")
    assert not is_system_topic("orders")


@pytest.mark.parametrize(
    ("topic", "is_its"),
    [("%RETRY%g", True), ("%RETRY%g_t", True), ("%RETRY%g+t", True), ("%RETRY%gg", False), ("%DLQ%g", False)],
)
def test_a_group_knows_its_retry_topics(topic: str, is_its: bool) -> None:
    assert is_retry_topic_of("g", topic) is is_its
