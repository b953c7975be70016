"""`posthouse topic`: list, create, show, delete, status, route. Each is a call or two of the admin client."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from posthouse.cli.amounts import span_hours
from posthouse.cli.remote import Remote, json_option, remote_options
from posthouse.cli.subcommands import Subcommands

if TYPE_CHECKING:
    from posthouse.model.route import TopicRoute
    from posthouse.model.stats import TopicStats
    from posthouse.model.topic import TopicConfig


_AS_BROKER: Final = "broker"
"""What says that a topic has no setting of its own."""


def _topic_age(text: str) -> int:
    """Milliseconds of a span in hours; -1 for as long as the broker says."""
    return -1 if text == _AS_BROKER else max(1, round(span_hours(text) * 3_600_000))


@click.group(cls=Subcommands)
def topic() -> None:
    """List, create, delete and look at topics.

    \b
    Example:
      posthouse topic create orders --queues 8
      posthouse topic status orders
    """


@topic.command("list")
@click.option("--all", "everything", is_flag=True, help="Also retry topics, dead letters and system topics.")
@json_option
@remote_options
def list_topics(remote: Remote, everything: bool, as_json: bool) -> None:
    """List the topics that the NameServer knows.

    \b
    Example:
      posthouse topic list
    """
    from posthouse.cli.screen import show_json
    from posthouse.client.admin import Admin
    from posthouse.model.names import DEAD_LETTER_PREFIX, RETRY_PREFIX, is_system_topic, reply_topic

    async def ask() -> list[str]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            topics = await admin.topic_list()
            if everything:
                return list(topics)
            info = await admin.cluster_info()  # each cluster and each broker has a topic of its name
            hidden = info.clusters.keys() | info.brokers.keys() | {reply_topic(name) for name in info.clusters}
        prefixes = (RETRY_PREFIX, DEAD_LETTER_PREFIX)
        return [
            each
            for each in topics
            if each not in hidden and not is_system_topic(each) and not each.startswith(prefixes)
        ]

    for name in remote.run(ask):
        if as_json:
            show_json({"topic": name})
        else:
            click.echo(name)


@topic.command()
@click.argument("name", metavar="TOPIC")
@click.option("--queues", type=click.IntRange(1), metavar="N", default=8, show_default=True, help="On each broker.")
@click.option("--cluster", metavar="NAME", help="Only on the brokers of this cluster.")
@click.option(
    "--durability",
    type=click.Choice(["disk", "os", _AS_BROKER]),
    help="Where its messages are when they are answered: on disk, or with the operating system.",
)
@click.option(
    "--retention-hours",
    type=_topic_age,
    metavar="HOURS",
    help=f'How long its messages are kept; "{_AS_BROKER}": as long as the broker says.',
)
@remote_options
def create(
    remote: Remote, name: str, queues: int, cluster: str | None, durability: str | None, retention_hours: int | None
) -> None:
    """Create a topic on all brokers, or change it: the number of queues, and what else is given.

    \b
    Example:
      posthouse topic create orders --queues 8
      posthouse topic create clicks --durability os --retention-hours 6
    """
    from posthouse.client.admin import Admin

    changes: list[str] = []
    if durability is not None:
        changes.append("-durability" if durability == _AS_BROKER else f"+durability={durability}")
    if retention_hours is not None:
        changes.append(f"+reserve.time={retention_hours}")

    async def ask() -> None:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            await admin.create_topic(name, queues=queues, cluster=cluster, attributes=",".join(changes))

    remote.run(ask)
    click.echo(f"{name} has {queues} queue{'s' if queues > 1 else ''} on each broker")


@topic.command()
@click.argument("name", metavar="TOPIC")
@json_option
@remote_options
def show(remote: Remote, name: str, as_json: bool) -> None:
    """Show how a topic is set up on each of its brokers.

    \b
    Example:
      posthouse topic show orders
    """
    import asyncio

    from posthouse.cli.screen import show_json, show_table
    from posthouse.client.admin import Admin
    from posthouse.host.net import Address

    async def ask() -> list[tuple[str, TopicConfig]]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            brokers = sorted((await admin.topic_route(name)).brokers, key=lambda each: each.broker_name)
            masters = {broker.broker_name: broker.master for broker in brokers if broker.master is not None}
            configs = [admin.topic_config(name, Address.parse(master)) for master in masters.values()]
            return list(zip(masters, await asyncio.gather(*configs), strict=True))

    rows = [_config_row(broker_name, config) for broker_name, config in remote.run(ask)]
    if as_json:
        for row in rows:
            show_json({"topic": name} | dict(zip(_CONFIG_KEYS, row, strict=True)))
    else:
        head = [key.replace("_", " ") for key in _CONFIG_KEYS]
        show_table(head, [[_AS_BROKER if cell is None else cell for cell in row] for row in rows])


_CONFIG_KEYS = ("broker", "read_queues", "write_queues", "readable", "writable", "durability", "retention_hours")


def _config_row(broker_name: str, config: TopicConfig) -> tuple[object, ...]:
    """None: as the broker has it."""
    age_text = config.attributes.get("reserve.time", "")
    age_hours = int(age_text) / 3_600_000 if age_text.isdecimal() else None
    return (
        broker_name,
        config.read_queues,
        config.write_queues,
        config.readable,
        config.writable,
        config.attributes.get("durability"),
        int(age_hours) if age_hours is not None and age_hours.is_integer() else age_hours,
    )


@topic.command()
@click.argument("name", metavar="TOPIC")
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_options
def delete(remote: Remote, name: str, yes: bool) -> None:
    """Delete a topic with all its messages. Asks first when a person is at the keyboard.

    \b
    Example:
      posthouse topic delete orders
    """
    from posthouse.client.admin import Admin

    async def ask() -> None:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            await admin.topic_route(name)  # servers take it for done when there is no such topic
            await admin.delete_topic(name)

    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {name} and all its messages?", abort=True)
    remote.run(ask)
    click.echo(f"{name} is deleted")


@topic.command()
@click.argument("name", metavar="TOPIC")
@json_option
@remote_options
def status(remote: Remote, name: str, as_json: bool) -> None:
    """Show each queue of a topic: its first offset, the next one, how many messages, the time of the last.

    \b
    Example:
      posthouse topic status orders
    """
    from posthouse.cli.screen import show_json, show_table, time_text
    from posthouse.client.admin import Admin

    async def ask() -> TopicStats:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            return await admin.topic_stats(name)

    queues = remote.run(ask).queues
    if as_json:
        for queue, bounds in queues.items():
            show_json(
                {
                    "topic": name,
                    "broker": queue.broker_name,
                    "queue": queue.queue_id,
                    "min_offset": bounds.min_offset,
                    "max_offset": bounds.max_offset,
                    "messages": bounds.max_offset - bounds.min_offset,
                    "last_stored_at_ms": bounds.updated_at_ms or None,
                }
            )
        return
    show_table(
        ("broker", "queue", "first", "next", "messages", "last stored"),
        [
            (
                queue.broker_name,
                queue.queue_id,
                bounds.min_offset,
                bounds.max_offset,
                bounds.max_offset - bounds.min_offset,
                time_text(bounds.updated_at_ms) if bounds.updated_at_ms else "-",
            )
            for queue, bounds in queues.items()
        ],
    )


@topic.command()
@click.argument("name", metavar="TOPIC")
@json_option
@remote_options
def route(remote: Remote, name: str, as_json: bool) -> None:
    """Show which brokers have a topic: their addresses, how many queues, what is allowed.

    \b
    Example:
      posthouse topic route orders
    """
    from posthouse.cli.screen import show_json, show_table
    from posthouse.client.admin import Admin

    async def ask() -> TopicRoute:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            return await admin.topic_route(name)

    rows = _route_rows(remote.run(ask))
    if as_json:
        for row in rows:
            show_json({"topic": name} | dict(zip(_ROUTE_KEYS, row, strict=True)))
    else:
        show_table([key.replace("_", " ") for key in _ROUTE_KEYS], rows)


_ROUTE_KEYS = ("cluster", "broker", "broker_id", "address", "read_queues", "write_queues", "readable", "writable")


def _route_rows(found: TopicRoute) -> list[tuple[object, ...]]:
    from posthouse.model.topic import Perm

    queues = {each.broker_name: each for each in found.queues}
    return [
        (
            broker.cluster,
            broker.broker_name,
            broker_id,
            address,
            queues[broker.broker_name].read_queues,
            queues[broker.broker_name].write_queues,
            bool(queues[broker.broker_name].perm & Perm.READ),
            bool(queues[broker.broker_name].perm & Perm.WRITE),
        )
        for broker in sorted(found.brokers, key=lambda each: each.broker_name)
        if broker.broker_name in queues
        for broker_id, address in sorted(broker.addresses.items())
    ]
