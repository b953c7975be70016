from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import replies
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (
        replies.PUSH_REPLY,
        "producerGroup topic defaultTopic defaultTopicQueueNums queueId sysFlag bornTimestamp flag properties? "
        "reconsumeTimes? unitMode? bornHost storeHost storeTimestamp",
    ),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(replies).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}
