"""The first lines that a server prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from posthouse.cli.announcement import announcement
from posthouse.endpoint.house import HouseConfig
from posthouse.host.net import Address

CONFIG = HouseConfig()
NAMESERVER = Address("127.0.0.1", 9876)
BROKER = Address("127.0.0.1", 10911)


def lines(config: HouseConfig, nameserver: Address | None = NAMESERVER, broker: Address | None = BROKER) -> list[str]:
    return [line.strip() for line in announcement(config, nameserver, broker, "uvloop", "/data").splitlines()]


def test_default_ports_need_no_option_in_what_to_type_next() -> None:
    assert lines(CONFIG)[-2:] == ["posthouse send hello 'first mail'", "posthouse tail hello"]


def test_other_port_is_in_what_to_type_next() -> None:
    found = lines(CONFIG, Address("127.0.0.1", 9877))
    assert found[-1] == "posthouse tail hello --nameservers 127.0.0.1:9877"


def test_topic_must_be_created_first_when_nobody_else_does() -> None:
    found = lines(replace(CONFIG, auto_create_topics=False))
    assert found[-3] == "posthouse topic create hello"


def test_it_says_where_the_data_is_and_what_an_acknowledgement_means() -> None:
    found = "\n".join(lines(CONFIG))
    assert "/data" in found
    assert "an acknowledgement means on disk" in found
    assert "acknowledgement" not in "\n".join(lines(replace(CONFIG, data=None)))


@pytest.mark.parametrize(
    ("host", "where"), [("0.0.0.0", "on all addresses"), ("::", "on all addresses"), ("10.0.0.5", "on 10.0.0.5")]
)
def test_what_others_can_reach_is_warned_about(host: str, where: str) -> None:
    (warning,) = [line for line in lines(replace(CONFIG, host=host), Address(host, 9876)) if "Warning" in line]
    assert where in warning
    assert "without TLS or access control" in warning


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_is_not_warned_about(host: str) -> None:
    assert not [line for line in lines(replace(CONFIG, host=host)) if "Warning" in line]


def test_all_addresses_cannot_be_dialled_so_the_next_lines_have_loopback() -> None:
    assert lines(CONFIG, Address("0.0.0.0", 9876))[-1] == "posthouse tail hello"
    assert lines(CONFIG, Address("0.0.0.0", 9000))[-1] == "posthouse tail hello --nameservers 127.0.0.1:9000"


def test_broker_alone_points_to_the_nameservers_that_it_uses() -> None:
    config = replace(CONFIG, nameservers=(Address("a", 1), Address("b", 2)), advertise="mq.example.org")
    found = lines(config, None)
    assert "registers   with a:1;b:2" in found
    assert any("clients are told mq.example.org" in line for line in found)
    assert found[-1] == "posthouse tail hello --nameservers 'a:1;b:2'"


def test_nameserver_alone_asks_for_a_broker_next() -> None:
    found = lines(CONFIG, Address("127.0.0.1", 9000), None)
    assert found[-1] == "posthouse broker --nameservers 127.0.0.1:9000"
    assert not any(line.startswith("durability") for line in found)
