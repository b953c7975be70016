from __future__ import annotations

import pytest

from posthouse.codec.remoting.codes import RESPONSE_CODE_OF, RequestCode, ResponseCode
from posthouse.model.refusal import Reason

REQUESTS_SERVED_BY_STOCK_SERVERS = [
    *range(10, 16), 17, 18, 21, *range(25, 47), *range(50, 55), 60, 61,
    *range(100, 107), *range(200, 218), *range(219, 226), *range(300, 330), 343, 345, *range(351, 356), 361, 370,
    400, 401, 402, 513, *range(901, 909), *range(1001, 1019), *range(2001, 2005), *range(3001, 3011),
    *range(200050, 200057), 200151,
]  # fmt: skip


def test_every_code_of_the_protocol_has_a_name() -> None:
    unnamed = set(REQUESTS_SERVED_BY_STOCK_SERVERS) - {44} - set(RequestCode)
    assert not unnamed


def test_no_request_code_was_given_twice() -> None:
    assert len(RequestCode.__members__) == len(RequestCode)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SEND_MESSAGE_V2", 310),
        ("PULL_MESSAGE", 11),
        ("HEART_BEAT", 34),
        ("GET_ROUTEINFO_BY_TOPIC", 105),
        ("REGISTER_BROKER", 103),
        ("LITE_PULL_MESSAGE", 361),
        ("GET_TOPIC_CONFIG", 351),
        ("POP_MESSAGE", 200050),
    ],
)
def test_codes_that_clients_cannot_do_without(name: str, number: int) -> None:
    assert RequestCode[name] == number


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("UPDATE_AND_CREATE_ACL_CONFIG_FAILED", "POLLING_FULL"),
        ("DELETE_ACL_CONFIG_FAILED", "POLLING_TIMEOUT"),
        ("UPDATE_GLOBAL_WHITE_ADDRS_CONFIG_FAILED", "BROKER_NOT_EXIST"),
    ],
)
def test_numbers_used_twice_carry_the_newer_name(older: str, newer: str) -> None:
    assert ResponseCode[older].name == newer


def test_every_reason_to_refuse_has_a_code_of_its_own() -> None:
    assert set(RESPONSE_CODE_OF) == set(Reason)
    assert len(set(RESPONSE_CODE_OF.values())) == len(Reason)


def test_no_refusal_looks_like_success_to_a_client() -> None:
    taken_as_sent = {0, 10, 11, 12}
    assert not taken_as_sent & {int(code) for code in RESPONSE_CODE_OF.values()}
