"""`serve`, `nameserver` and `broker`: one composition with or without its halves, run until a signal.

Options become a HouseConfig; the house itself is posthouse.endpoint.house. The first lines that a person sees are
made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from posthouse.cli.addresses import is_every_address, is_loopback
from posthouse.cli.settings import EPILOG, STORE_SETTINGS, ServerCommand, ServerSettings, server_options

if TYPE_CHECKING:
    from posthouse.endpoint.house import HouseConfig
    from posthouse.host.net import Address
    from posthouse.store.config import StoreConfig

_OF_A_BROKER = ("advertise", "nameservers", "cluster", "broker_name", "auto_create_topics")


@click.command(cls=ServerCommand, epilog=EPILOG)
@server_options("data", "host", "nameserver_port", "broker_port", *_OF_A_BROKER, *STORE_SETTINGS, "loop", "log_level")
def serve(**options: Any) -> None:
    """Run a NameServer and a broker in one process, until Ctrl-C.

    \b
    Example:
      posthouse serve --data /var/lib/posthouse --host 0.0.0.0
    """
    settings = ServerSettings(**options)
    _run(settings, house_config(settings, has_nameserver=True, has_broker=True))


@click.command(cls=ServerCommand, epilog=EPILOG)
@server_options("data", "host", "nameserver_port", "loop", "log_level", data="posthouse-nameserver")
def nameserver(**options: Any) -> None:
    """Run a NameServer alone, until Ctrl-C. Of what it knows, only the KV configuration is kept on disk.

    \b
    Example:
      posthouse nameserver --host 0.0.0.0
    """
    settings = ServerSettings(**options)
    _run(settings, house_config(settings, has_nameserver=True, has_broker=False))


@click.command(cls=ServerCommand, epilog=EPILOG)
@server_options(
    "data", "host", "broker_port", *_OF_A_BROKER, *STORE_SETTINGS, "loop", "log_level", nameservers="127.0.0.1:9876"
)
def broker(**options: Any) -> None:
    """Run a broker that registers with NameServers elsewhere, until Ctrl-C.

    \b
    Example:
      posthouse broker --broker-name broker-b --broker-port 10921 --data b --nameservers 'ns1:9876;ns2:9876'
    """
    settings = ServerSettings(**options)
    _run(settings, house_config(settings, has_nameserver=False, has_broker=True))


def house_config(settings: ServerSettings, *, has_nameserver: bool, has_broker: bool) -> HouseConfig:
    """The composition that these settings ask for. Raises click.UsageError."""
    from posthouse.endpoint.house import HouseConfig

    return HouseConfig(
        data=settings.data,
        host=settings.host,
        nameserver_port=settings.nameserver_port if has_nameserver else None,
        broker_port=settings.broker_port if has_broker else None,
        advertise=settings.advertise,
        nameservers=_elsewhere(settings) if has_nameserver else settings.nameservers or (),
        cluster=settings.cluster,
        broker_name=settings.broker_name,
        auto_create_topics=settings.auto_create_topics,
        store=store_config(settings),
        connections_max=_connections_max(has_nameserver + has_broker),
    )


def store_config(settings: ServerSettings) -> StoreConfig:
    """What the store is told. Raises click.UsageError for levels that do not rise."""
    from posthouse.store.config import HOUR_MS, Durability, StoreConfig

    try:
        return StoreConfig(
            segment_bytes=settings.segment_size,
            durability=Durability(settings.durability),
            retention_ms=max(1, round(settings.retention_hours * HOUR_MS)),
            retention_bytes=settings.retention_size,
            retention_hours=settings.retention_at,
            disk_clean_level=settings.disk_clean_level / 100,
            disk_force_level=settings.disk_force_level / 100,
            disk_full_level=settings.disk_full_level / 100,
        )
    except ValueError as error:
        raise click.UsageError(f"{error}; see --disk-clean-level, --disk-force-level and --disk-full-level.") from error


def _connections_max(ports: int) -> int:
    """Connections for each port: as many as we serve, or as the system's limit on open files leaves."""
    from posthouse.host.real import raise_open_files_limit
    from posthouse.model.limits import CONNECTIONS_MAX, DESCRIPTORS_KEPT

    files = raise_open_files_limit(ports * CONNECTIONS_MAX + DESCRIPTORS_KEPT)
    return max(16, min(CONNECTIONS_MAX, (files - DESCRIPTORS_KEPT) // ports))


def _elsewhere(settings: ServerSettings) -> tuple[Address, ...]:
    """The NameServers but our own, which POSTHOUSE_NAMESERVERS may well name for the sake of the clients."""
    hosts = {settings.host}
    if is_loopback(settings.host) or is_every_address(settings.host):
        hosts |= {"127.0.0.1", "localhost", "::1"}
    return tuple(
        each
        for each in settings.nameservers or ()
        if not (each.host in hosts and each.port == settings.nameserver_port)
    )


def _run(settings: ServerSettings, config: HouseConfig) -> None:
    from posthouse.cli.logs import set_up_logging
    from posthouse.cli.run import run_house

    set_up_logging(settings.log_level)
    run_house(config, settings.loop)
