from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import offsets
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (offsets.QUERY_CONSUMER_OFFSET, "consumerGroup topic queueId setZeroIfNotFound? bname?"),
    (offsets.UPDATE_CONSUMER_OFFSET, "consumerGroup topic queueId? commitOffset? bname?"),
    (offsets.SEARCH_OFFSET, "topic queueId timestamp boundaryType? bname?"),
    (offsets.GET_MAX_OFFSET, "topic queueId committed? bname?"),
    (offsets.GET_MIN_OFFSET, "topic queueId bname?"),
    (offsets.GET_EARLIEST_STORE_TIME, "topic queueId bname?"),
    (offsets.OFFSET_REPLY, "offset"),
    (offsets.EARLIEST_STORE_TIME_REPLY, "timestamp"),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(offsets).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}
