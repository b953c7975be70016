from __future__ import annotations

import pytest

from posthouse.model.pop import Source, pop_retry_topic, pop_retry_topic_v2, source_topic


def test_retry_topics_are_named_as_rocketmq_names_them() -> None:
    assert pop_retry_topic("G", "T") == "%RETRY%G_T"
    assert pop_retry_topic_v2("G", "T") == "%RETRY%G+T"


@pytest.mark.parametrize(
    ("source", "topic"), [(Source.NORMAL, "T"), (Source.RETRY, "%RETRY%G_T"), (Source.RETRY_V2, "%RETRY%G+T")]
)
def test_a_source_is_a_topic(source: Source, topic: str) -> None:
    assert source_topic(source, "G", "T") == topic


def test_sources_have_the_numbers_of_the_wire() -> None:
    assert [int(source) for source in (Source.NORMAL, Source.RETRY, Source.RETRY_V2)] == [0, 1, 2]
