"""Addresses as people write them on a command line, and the ports that go without saying.

`address_list` and `advertised` are option types: they raise click.BadParameter with an example to copy.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from posthouse.host.net import Address

NAMESERVER_PORT = 9876
"""RocketMQ's own default."""

BROKER_PORT = 10911
"""RocketMQ's own default."""


def parse_address(text: str, port: int) -> Address:
    """`host:port`, or `host` alone with that port. Raises ValueError with the text."""
    from posthouse.host.net import Address

    host = text.strip()
    if host and ":" not in host.rpartition("]")[2]:
        return Address(host.removeprefix("[").removesuffix("]"), port)
    return Address.parse(host)


def address_list(text: str) -> tuple[Address, ...]:
    """One or more NameServers, parted by ";" (as RocketMQ has it) or ","."""
    parts = [part for part in text.replace(",", ";").split(";") if part.strip()]
    try:
        found = tuple(parse_address(part, NAMESERVER_PORT) for part in parts)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write for example 127.0.0.1:9876;10.0.0.2:9876") from error
    if not found:
        raise click.BadParameter(f"{text!r} names no address; write for example 127.0.0.1:9876")
    return found


def advertised(text: str) -> str:
    """The HOST or HOST:PORT that clients are told to connect to; stays text."""
    try:
        parse_address(text, BROKER_PORT)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write for example mq.example.org or 10.0.0.2:10911") from error
    return text.strip()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there. An unknown name counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_every_address(host: str) -> bool:
    """Whether it means "all addresses of this machine" (0.0.0.0, ::)."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == ""
