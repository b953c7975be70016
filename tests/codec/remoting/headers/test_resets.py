from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import resets
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (resets.RESET_OFFSETS, "topic group timestamp? isForce? queueId? offset? throughClients?"),
    (resets.RESET_CLIENT_OFFSETS, "topic group timestamp? isForce?"),
    (resets.QUERY_CORRECTION, "filterGroups? compareGroup topic"),
    (resets.CLONE_OFFSETS, "srcGroup destGroup topic? offline?"),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(resets).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}


def test_reset_without_numbers_is_to_the_end_of_all_queues() -> None:
    found = resets.RESET_OFFSETS.decode({"topic": "t", "group": "g"})
    assert (found.timestamp_ms, found.force, found.queue_id, found.offset) == (-1, True, None, None)
