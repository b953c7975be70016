from __future__ import annotations

import pytest

from posthouse.nameserver.addresses import BrokerAddress, Origin, plain_host

ELSEWHERE = Origin("10.0.0.7", "10.0.0.1")
HERE = Origin("127.0.0.1", "127.0.0.1")
HERE_BY_OUTER_ADDRESS = Origin("10.0.0.1", "10.0.0.1")


@pytest.mark.parametrize("text", ["10.0.0.5:10911", "broker.example:10911", "[2001:db8::5]:10911"])
@pytest.mark.parametrize("origin", [ELSEWHERE, HERE])
def test_specified_address_is_told_as_registered(text: str, origin: Origin) -> None:
    assert BrokerAddress.of(text, origin).told("192.168.1.1") == text


@pytest.mark.parametrize("text", ["0.0.0.0:10911", "[::]:10911", "[0:0:0:0:0:0:0:0]:10911", "[::ffff:0.0.0.0]:10911"])
@pytest.mark.parametrize("origin", [HERE, HERE_BY_OUTER_ADDRESS, Origin("::1", "::1")])
def test_unspecified_broker_of_this_machine_is_told_where_the_client_dialled(text: str, origin: Origin) -> None:
    address = BrokerAddress.of(text, origin)
    assert address.told("192.168.1.1") == "192.168.1.1:10911"
    assert address.told("127.0.0.1") == "127.0.0.1:10911"
    assert address.told("2001:db8::1") == "[2001:db8::1]:10911"
    assert address.registered == text


@pytest.mark.parametrize("text", ["0.0.0.0:10911", "[::]:10911"])
def test_unspecified_broker_of_another_machine_is_told_where_it_came_from(text: str) -> None:
    assert BrokerAddress.of(text, ELSEWHERE).told("192.168.1.1") == "10.0.0.7:10911"
    assert BrokerAddress.of(text, Origin("2001:db8::7", "2001:db8::1")).told("::1") == "[2001:db8::7]:10911"


def test_ipv4_in_ipv6_clothes_becomes_ipv4_everywhere() -> None:
    mapped = Origin("::ffff:10.0.0.7", "::ffff:10.0.0.1")
    assert BrokerAddress.of("[::ffff:10.0.0.5]:10911", HERE).told("::1") == "10.0.0.5:10911"
    assert BrokerAddress.of("0.0.0.0:10911", mapped).told("10.0.0.1") == "10.0.0.7:10911"
    assert BrokerAddress.of("0.0.0.0:10911", HERE).told("::ffff:192.168.1.1") == "192.168.1.1:10911"
    assert Origin("::ffff:10.0.0.1", "10.0.0.1").same_machine
    assert Origin("::ffff:127.0.0.1", "10.0.0.1").same_machine
    assert not mapped.same_machine


def test_unspecified_address_is_left_alone_when_nobody_knows_what_was_dialled() -> None:
    assert BrokerAddress.of("0.0.0.0:10911", HERE).told("") == "0.0.0.0:10911"


@pytest.mark.parametrize("text", ["", "10911", "host:", "host:port", "host:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        BrokerAddress.of(text, HERE)


def test_plain_host_keeps_names_and_real_ipv6() -> None:
    assert [plain_host(text) for text in ("broker", "2001:db8::5", "10.0.0.1", "::ffff:10.0.0.1")] == [
        "broker",
        "2001:db8::5",
        "10.0.0.1",
        "10.0.0.1",
    ]
