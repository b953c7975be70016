"""The first lines that `serve` prints: what is served where, what an acknowledgement means, what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posthouse import __version__
from posthouse.cli.addresses import NAMESERVER_PORT, is_every_address, is_loopback

if TYPE_CHECKING:
    from posthouse.endpoint.house import HouseConfig
    from posthouse.host.net import Address

DURABILITY = {
    "disk": "an acknowledgement means on disk (synced before the answer)",
    "os": "an acknowledgement means with the operating system (a power cut may lose the last seconds)",
}


def announcement(
    config: HouseConfig, nameserver: Address | None, broker: Address | None, loop_name: str, place: str
) -> str:
    """Several lines without a line end. `place` is what a person calls the data folder."""
    rows: list[tuple[str, str]] = []
    if nameserver is not None:
        rows.append(("NameServer", str(nameserver)))
    if broker is not None:
        told = f", clients are told {config.advertise}" if config.advertise else ""
        rows.append(("broker", f"{broker} ({config.broker_name} in {config.cluster}{told})"))
        if config.nameservers:
            rows.append(("registers", "with " + ";".join(map(str, config.nameservers))))
        promise = DURABILITY[config.store.durability]
        rows.append(("durability", promise if config.data is not None else "none: everything is in memory"))
    rows += [("data", place), ("loop", loop_name)]
    lines = [f"Posthouse {__version__}", *(f"  {name:<11} {value}" for name, value in rows)]
    if not is_loopback(config.host):
        where = "on all addresses of this machine" if is_every_address(config.host) else f"on {config.host}"
        lines.append(
            f"Warning: listening {where} without TLS or access control: who reaches a port may read and write."
        )
    lines += ["Next, in another terminal:", *(f"  {line}" for line in _next_lines(config, nameserver, broker))]
    return "\n".join(lines)


def _next_lines(config: HouseConfig, nameserver: Address | None, broker: Address | None) -> list[str]:
    if broker is None:
        assert nameserver is not None
        return [f"posthouse broker{_option(_reachable(nameserver))}"]
    where = _reachable(nameserver) if nameserver is not None else ";".join(map(str, config.nameservers))
    create = [] if config.auto_create_topics else [f"posthouse topic create hello{_option(where)}"]
    return [*create, f"posthouse send hello 'first mail'{_option(where)}", f"posthouse tail hello{_option(where)}"]


def _reachable(address: Address) -> str:
    """As one types it on this machine: "all addresses" is not one that can be dialled."""
    return f"127.0.0.1:{address.port}" if is_every_address(address.host) else str(address)


def _option(nameservers: str) -> str:
    if nameservers in (f"127.0.0.1:{NAMESERVER_PORT}", f"localhost:{NAMESERVER_PORT}"):
        return ""
    return f" --nameservers '{nameservers}'" if ";" in nameservers else f" --nameservers {nameservers}"
