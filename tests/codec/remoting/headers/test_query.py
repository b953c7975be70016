from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import query
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (query.QUERY_MESSAGE, "topic key maxNum beginTimestamp endTimestamp _UNIQUE_KEY_QUERY? bname?"),
    (query.QUERY_MESSAGE_REPLY, "indexLastUpdateTimestamp indexLastUpdatePhyoffset"),
    (query.VIEW_MESSAGE, "topic? offset bname?"),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(query).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}
