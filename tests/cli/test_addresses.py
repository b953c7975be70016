"""Addresses as people write them."""

from __future__ import annotations

import click
import pytest

from posthouse.cli.addresses import address_list, advertised, is_every_address, is_loopback, parse_address
from posthouse.host.net import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mq.example.org", Address("mq.example.org", 9876)),
        ("mq.example.org:1", Address("mq.example.org", 1)),
        (" 127.0.0.1:2 ", Address("127.0.0.1", 2)),
        ("[::1]", Address("::1", 9876)),
        ("[::1]:3", Address("::1", 3)),
    ],
)
def test_port_may_go_without_saying(text: str, address: Address) -> None:
    assert parse_address(text, 9876) == address


@pytest.mark.parametrize("text", ["", ":", "a:", ":1", "a:b", "a:65536", "a:-1"])
def test_what_is_not_an_address_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_address(text, 9876)


def test_list_may_be_parted_by_semicolons_or_commas() -> None:
    wanted = (Address("a", 1), Address("b", 2), Address("c", 9876))
    assert address_list("a:1;b:2;c") == wanted
    assert address_list("a:1, b:2, c;") == wanted


@pytest.mark.parametrize("text", ["", ";", "a:1;b:x"])
def test_bad_list_is_a_usage_error_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write for example 127\.0\.0\.1:9876"):
        address_list(text)


def test_advertised_address_stays_as_it_was_written() -> None:
    assert advertised(" mq.example.org ") == "mq.example.org"
    assert advertised("10.0.0.2:10911") == "10.0.0.2:10911"


@pytest.mark.parametrize(
    ("host", "loopback", "every"),
    [
        ("127.0.0.1", True, False),
        ("127.8.9.1", True, False),
        ("::1", True, False),
        ("localhost", True, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("10.0.0.1", False, False),
        ("mq.example.org", False, False),
    ],
)
def test_who_can_reach_a_listener(host: str, loopback: bool, every: bool) -> None:
    assert (is_loopback(host), is_every_address(host)) == (loopback, every)
