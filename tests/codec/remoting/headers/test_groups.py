from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import groups
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (groups.GET_ALL_GROUP_CONFIG, "groupSeq? dataVersion? maxGroupNum?"),
    (groups.GET_ALL_GROUP_CONFIG_REPLY, "totalGroupNum?"),
    (groups.GET_GROUP_CONFIG, "group"),
    (groups.DELETE_GROUP, "groupName cleanOffset? removeOffset?"),
    (groups.GET_CONSUMER_CONNECTIONS, "consumerGroup"),
    (groups.GET_PRODUCER_CONNECTIONS, "producerGroup"),
    (groups.GROUP_FORBIDDEN, "group topic readable?"),
    (groups.GET_CONSUME_STATS, "consumerGroup topic? topicList?"),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(groups).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}


@pytest.mark.parametrize(
    ("ext", "with_offsets"),
    [({}, False), ({"cleanOffset": "true"}, True), ({"removeOffset": "true"}, True), ({"cleanOffset": "false"}, False)],
)
def test_both_spellings_ask_to_delete_the_offsets_too(ext: dict[str, str], with_offsets: bool) -> None:
    assert groups.DELETE_GROUP.decode({"groupName": "g", **ext}).with_offsets is with_offsets
