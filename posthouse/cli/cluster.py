"""`posthouse cluster`: every broker that the NameServer knows, with the figures that it tells about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from posthouse.cli.failure import Unreachable
from posthouse.cli.remote import Remote, json_option, remote_options

if TYPE_CHECKING:
    from posthouse.client.admin import Admin


class BrokerRow(NamedTuple):
    """The names are the keys of the JSON. The figures are None for a broker that does not answer."""

    cluster: str
    broker: str
    broker_id: int
    address: str
    version: str | None = None
    put_per_second: float | None = None
    get_per_second: float | None = None
    put_total: int | None = None
    get_total: int | None = None
    warnings: str | None = None


@click.command()
@json_option
@remote_options
def cluster(remote: Remote, as_json: bool) -> None:
    """Show the brokers: addresses, versions, rates, message counts.

    Rates are messages a second over the last ten; counts are those since the broker's start (Apache's: of today).

    \b
    Example:
      posthouse cluster
    """
    from posthouse.cli.screen import show_json, show_table
    from posthouse.client.admin import Admin

    async def ask() -> list[BrokerRow]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s / 2) as admin:
            return await _rows(admin)

    rows = remote.run(ask)
    if as_json:
        for row in rows:
            show_json(row._asdict())
    else:
        head = ("cluster", "broker", "id", "address", "version", "in/s", "out/s", "in", "out")
        show_table(head, [["-" if cell is None else cell for cell in row[:-1]] for row in rows])
        for row in rows:
            if row.warnings:
                click.echo(f"Warning: {row.broker}: {row.warnings}", err=True)
    silent = [f"{row.broker} at {row.address}" for row in rows if row.version is None]
    if silent:
        raise Unreachable(f"no answer from {', '.join(silent)}; is it running, and can this machine reach it?")


async def _rows(admin: Admin) -> list[BrokerRow]:
    import asyncio

    brokers = [
        BrokerRow(broker.cluster, name, broker_id, address)
        for name, broker in sorted((await admin.cluster_info()).brokers.items())
        for broker_id, address in sorted(broker.addresses.items())
    ]
    return await asyncio.gather(*(_with_figures(admin, row) for row in brokers))


async def _with_figures(admin: Admin, row: BrokerRow) -> BrokerRow:
    from posthouse.client.errors import PosthouseError
    from posthouse.host.net import Address

    try:
        figures = await admin.broker_runtime_info(Address.parse(row.address))
    except (PosthouseError, ValueError):
        return row
    return row._replace(
        version=figures.get("brokerVersionDesc", "?"),
        put_per_second=_first_number(figures.get("putTps", "")),
        get_per_second=_first_number(figures.get("getTransferredTps", "")),
        put_total=int(_first_number(figures.get("msgPutTotalTodayNow", ""))),
        get_total=int(_first_number(figures.get("msgGetTotalTodayNow", ""))),
        warnings=figures.get("warnings", ""),
    )


def _first_number(text: str) -> float:
    """Of a rate over three windows, the one over the shortest; 0 if it is no number."""
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return 0.0
