from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import topics
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (
        topics.CREATE_TOPIC,
        "topic defaultTopic? readQueueNums writeQueueNums perm topicFilterType? topicSysFlag? order? "
        "attributes? force?",
    ),
    (topics.GET_ALL_TOPIC_CONFIG, "topicSeq? dataVersion? maxTopicNum?"),
    (topics.GET_ALL_TOPIC_CONFIG_REPLY, "totalTopicNum?"),
    (topics.TOPIC_NAME, "topic"),
    (topics.TOPIC_OF_GROUP, "topic group"),
    (topics.TOPICS_OF_GROUP, "group"),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(topics).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}
