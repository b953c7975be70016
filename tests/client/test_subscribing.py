from __future__ import annotations

import pytest

from posthouse.client.subscribing import Sql, subscription_of, subscriptions_of
from posthouse.model.filter import SQL92, TAG


def test_a_topic_or_a_map_and_always_the_retry_topic() -> None:
    assert {topic: each.expression for topic, each in subscriptions_of("g", "t", 7).items()} == {
        "t": "*",
        "%RETRY%g": "*",
    }
    found = subscriptions_of("g", {"t": "A || B", "u": "*"}, 7, retries=False)
    assert list(found) == ["t", "u"]
    assert found["t"].tags == {"A", "B"}
    assert found["t"].version == 7


def test_sql_is_told_from_tags_by_its_type() -> None:
    found = subscription_of("t", Sql("a > 3"), 1)
    assert (found.expression_type, found.expression) == (SQL92, "a > 3")
    assert found.matches_tag("anything")
    assert subscription_of("t", "TagA", 1).expression_type == TAG


@pytest.mark.parametrize("bad", ["a >", "a > > 3", "", "a ==== 3"])
def test_a_wrong_expression_is_said_at_once(bad: str) -> None:
    with pytest.raises(ValueError, match="the subscription to t: "):
        subscription_of("t", Sql(bad), 1)
