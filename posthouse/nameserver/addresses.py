"""Which address a client is told for a broker.

A broker may register with an unspecified host (`0.0.0.0:10911`, `[::]:10911`). That says "tell each client the
address it dialled", and only the connections can tell what that is: the one that the broker registered on and the
one that the client asks on. A broker on this machine is told at the address by which the client reached us; a
broker elsewhere at the address that its connection came from. Every other text is told as it was registered,
except that an IPv4 address in IPv6 clothes becomes IPv4, because clients compare it with what their sockets say.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.host.net import Address


class Origin(NamedTuple):
    """The two ends of the connection that a request came in on, as host text; "" where it is not known."""

    remote_host: str
    local_host: str

    @property
    def same_machine(self) -> bool:
        """Loopback, or a machine that talks to its own outer address."""
        ip = _ip(self.remote_host)
        return plain_host(self.remote_host) == plain_host(self.local_host) or (ip is not None and ip.is_loopback)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """An address as a broker registered it, and how to tell it."""

    registered: str
    told_to_all: str | None
    """None: it depends on who asks."""
    port: int

    @staticmethod
    def of(registered: str, origin: Origin) -> BrokerAddress:
        """Raises ValueError when the text is not `host:port`."""
        host, port = Address.parse(registered)
        ip = _ip(host)
        if ip is None or not ip.is_unspecified:
            plain = plain_host(host)
            return BrokerAddress(registered, registered if plain == host else str(Address(plain, port)), port)
        if origin.same_machine:
            return BrokerAddress(registered, None, port)
        return BrokerAddress(registered, str(Address(plain_host(origin.remote_host), port)), port)

    def told(self, dialled_host: str) -> str:
        """The address for a client that reached us at `dialled_host`."""
        if self.told_to_all is not None:
            return self.told_to_all
        return str(Address(plain_host(dialled_host), self.port)) if dialled_host else self.registered


def plain_host(host: str) -> str:
    """IPv4-mapped IPv6 text as IPv4; anything else as it is."""
    ip = _ip(host)
    return str(ip) if isinstance(ip, ipaddress.IPv4Address) else host


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:  # a host name
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
