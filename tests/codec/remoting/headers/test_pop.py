from __future__ import annotations

from typing import Any

import pytest

from posthouse.codec.remoting.command import HeaderType
from posthouse.codec.remoting.headers import pop
from tests.codec.header_checks import check_header

WIRE: list[tuple[HeaderType[Any], str]] = [
    (
        pop.POP_MESSAGE,
        "consumerGroup topic queueId maxMsgNums invisibleTime pollTime bornTime? initMode? expType? exp? order? "
        "attemptId? bname?",
    ),
    (
        pop.POP_MESSAGE_REPLY,
        "popTime invisibleTime reviveQid restNum startOffsetInfo? msgOffsetInfo? orderCountInfo?",
    ),
    (pop.ACK_MESSAGE, "consumerGroup topic queueId extraInfo offset bname?"),
    (pop.CHANGE_INVISIBLE_TIME, "consumerGroup topic queueId extraInfo offset invisibleTime bname?"),
    (pop.CHANGE_INVISIBLE_TIME_REPLY, "popTime invisibleTime reviveQid"),
    (pop.PEEK_MESSAGE, "consumerGroup topic queueId maxMsgNums bname?"),
    (pop.NOTIFICATION, "consumerGroup topic queueId pollTime bornTime? order? attemptId? expType? exp? bname?"),
    (pop.NOTIFICATION_REPLY, "hasMsg pollingFull"),
    (pop.POLLING_INFO, "consumerGroup topic queueId bname?"),
    (pop.POLLING_INFO_REPLY, "pollingNum"),
]


@pytest.mark.parametrize(("header_type", "names"), WIRE, ids=[each.struct_type.__name__ for each, _ in WIRE])
def test_header_is_spelled_as_published_and_survives_the_wire(header_type: HeaderType[Any], names: str) -> None:
    check_header(header_type, names)


def test_every_header_of_the_module_is_in_the_table() -> None:
    declared = [each for each in vars(pop).values() if isinstance(each, HeaderType)]
    assert {id(each) for each in declared} == {id(each) for each, _ in WIRE}
