"""`posthouse group`: list, show, set, delete, reset, clone, mode, connections; each a few calls of the admin client."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from posthouse.cli.failure import Failure, NotFound
from posthouse.cli.remote import Remote, json_option, remote_options
from posthouse.cli.reset_place import ResetPlace, reset_place
from posthouse.cli.subcommands import Subcommands

if TYPE_CHECKING:
    from posthouse.client.admin import Admin
    from posthouse.client.group_admin import QueueLag
    from posthouse.model.connection import ConsumerConnections, Disagreement
    from posthouse.model.group import GroupConfig
    from posthouse.model.message import MessageQueue
    from posthouse.model.offsets import QueueOffset

_TOGETHER: Final = 8
"""Groups that are asked for at a time."""


@click.group(cls=Subcommands)
def group() -> None:
    """Look at consumer groups, set them up, and move them.

    \b
    Example:
      posthouse group list
      posthouse group show billing
      posthouse group reset billing --topic orders --to -1h --dry-run
    """


@group.command("list")
@click.option("--names", "only_names", is_flag=True, help="Only the names: one request for each broker.")
@json_option
@remote_options
def list_groups(remote: Remote, only_names: bool, as_json: bool) -> None:
    """List the consumer groups: members, topics, how far behind.

    \b
    Example:
      posthouse group list
    """
    import asyncio

    from posthouse.cli.screen import show_json, show_table
    from posthouse.client.admin import Admin

    async def ask() -> list[dict[str, object]]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            names = list(await admin.group_configs())
            if only_names:
                return [{"group": name} for name in names]
            few = asyncio.Semaphore(_TOGETHER)

            async def row(name: str) -> dict[str, object]:
                async with few:
                    return await _row(admin, name)

            return list(await asyncio.gather(*map(row, names)))

    rows = remote.run(ask)
    if as_json:
        for row in rows:
            show_json(row)
    elif only_names:
        for row in rows:
            click.echo(row["group"])
    else:
        keys = ("group", "members", "topics", "lag", "lag_seconds")
        head = ("group", "members", "topics", "behind", "behind for")
        show_table(head, [[*(row[key] for key in keys[:-1]), _seconds_text(row["lag_seconds"])] for row in rows])


async def _row(admin: Admin, name: str) -> dict[str, object]:
    members = await admin.group_members(name)
    lags = await _all_lags(admin, name, members)
    lags = {queue: lag for queue, lag in lags.items() if _is_users(queue.topic, name)}
    times = [lag.lag_ms for lag in lags.values() if lag.lag_ms is not None]
    clients = {client.client_id for found in members.values() for client in found.connections}
    return {
        "group": name,
        "members": len(clients),
        "topics": len({queue.topic for queue in lags}),
        "lag": sum(lag.messages for lag in lags.values()),
        "lag_seconds": max(times) / 1000 if times else None,
        "agrees": not any(found.disagreements for found in members.values()),
    }


async def _all_lags(admin: Admin, name: str, members: dict[str, ConsumerConnections]) -> dict[MessageQueue, QueueLag]:
    """On all topics in which the group has offsets, and on those that its members want and have none in yet."""
    lags = await admin.group_lag(name)
    wanted = {topic for found in members.values() for topic in found.subscriptions}
    for topic in sorted(wanted - {queue.topic for queue in lags}):
        lags |= await admin.group_lag(name, topic)
    return lags


def _is_users(topic: str, group_name: str) -> bool:
    """Whether a topic is one that people know: not the group's own for retries."""
    from posthouse.model.names import retry_topic

    return not topic.startswith(retry_topic(group_name))


def _seconds_text(seconds: object) -> str:
    """A span as people say it."""
    if not isinstance(seconds, int | float):
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@group.command()
@click.argument("name", metavar="GROUP")
@click.option("--topic", metavar="TOPIC", help="Only this topic, also if the group has no offset in it yet.")
@json_option
@remote_options
def show(remote: Remote, name: str, topic: str | None, as_json: bool) -> None:
    """Show a group: its set-up, its members and what they want, and how far behind it is on each queue.

    Members that want different things are pointed out: they get the wrong messages.

    \b
    Example:
      posthouse group show billing
    """
    from posthouse.client.admin import Admin

    async def ask() -> _Found:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            configs = (await admin.group_configs()).get(name, {})
            members = await admin.group_members(name)
            if topic is not None:
                await admin.topic_route(topic)  # raises NoRoute: there is no such topic
            lags = await (_all_lags(admin, name, members) if topic is None else admin.group_lag(name, topic))
            if not configs and not members and not lags:
                raise _unknown(name)
            return _Found(configs, members, lags)

    found = remote.run(ask)
    if as_json:
        _show_documents(name, found)
    else:
        _show_screen(found)


class _Found:
    """All that is known of a group; the first two by broker name."""

    def __init__(
        self,
        configs: dict[str, GroupConfig],
        members: dict[str, ConsumerConnections],
        lags: dict[MessageQueue, QueueLag],
    ) -> None:
        self.configs = configs
        self.members = members
        self.lags = lags

    @property
    def disagreements(self) -> list[Disagreement]:
        """Members are the same on every broker, so what one of them says of them is enough."""
        return next((list(each.disagreements) for each in self.members.values() if each.disagreements), [])


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"there is no group {name!r}. It comes to be with its first consumer, or with `posthouse group set {name}`; "
        "look at `posthouse group list`."
    )


def _show_documents(name: str, found: _Found) -> None:
    from posthouse.cli.screen import show_json

    for broker, config in found.configs.items():
        show_json({"type": "config", "group": name, "broker": broker} | _config_document(config))
    for broker, members in found.members.items():
        for topic, subscription in sorted(members.subscriptions.items()):
            show_json(
                {
                    "type": "subscription",
                    "group": name,
                    "broker": broker,
                    "topic": topic,
                    "expression": subscription.expression,
                    "expression_type": subscription.expression_type,
                }
            )
    for each in found.disagreements:
        show_json(
            {
                "type": "disagreement",
                "group": name,
                "topic": each.topic,
                "expression": each.expression,
                "expression_type": each.expression_type,
                "members": each.members,
                "client_ids": list(each.client_ids),
            }
        )
    for queue, lag in found.lags.items():
        show_json({"type": "queue", "group": name} | _lag_document(queue, lag))


def _lag_document(queue: MessageQueue, lag: QueueLag) -> dict[str, object]:
    return {
        "topic": queue.topic,
        "broker": queue.broker_name,
        "queue": queue.queue_id,
        "next_offset": lag.progress.broker_offset,
        "consumed_offset": lag.progress.consumer_offset,
        "lag": lag.messages,
        "lag_seconds": None if lag.lag_ms is None else lag.lag_ms / 1000,
        "last_consumed_stored_at_ms": lag.progress.consumed_at_ms or None,
    }


_CONFIG_FIELDS: Final = (
    "consume_enable",
    "consume_broadcast_enable",
    "consume_message_orderly",
    "retry_queues",
    "retry_max_times",
    "consume_timeout_minutes",
    "notify_consumer_ids_changed_enable",
    "attributes",
)


def _config_document(config: GroupConfig) -> dict[str, Any]:
    return {field: getattr(config, field) for field in _CONFIG_FIELDS}


def _show_screen(found: _Found) -> None:
    from posthouse.cli.screen import printable, show_table
    from posthouse.model.names import RETRY_PREFIX

    for broker, config in found.configs.items():
        click.echo(f"on {broker}: {_config_text(config)}")
    for broker, members in found.members.items():
        clients = len({client.client_id for client in members.connections})
        way = members.consume_type.name.lower().replace("_", " ")
        wants = ", ".join(
            f"{topic} ({printable(each.expression)})"
            for topic, each in sorted(members.subscriptions.items())
            if not topic.startswith(RETRY_PREFIX)
        )
        click.echo(
            f"on {broker}: {_count(clients, 'members', 'member')}, "
            f"{members.message_model.name.lower()}, {way}, want {wants or 'nothing'}"
        )
    if not found.members:
        click.echo("no member is connected")
    for each in found.disagreements:
        names = ", ".join(each.client_ids) + (" and others" if each.members > len(each.client_ids) else "")
        wish = "not subscribed" if each.expression is None else f"subscribed with {printable(each.expression)!r}"
        click.echo(f"WARNING: {each.topic} is {wish} by {names}; all members must subscribe alike")
    if not found.lags:
        click.echo("it has no offsets yet")
        return
    rows = [
        (
            queue.topic,
            queue.broker_name,
            queue.queue_id,
            lag.progress.broker_offset,
            lag.progress.consumer_offset,
            lag.messages,
            _seconds_text(None if lag.lag_ms is None else lag.lag_ms / 1000),
        )
        for queue, lag in found.lags.items()
    ]
    show_table(("topic", "broker", "queue", "next", "consumed", "behind", "behind for"), rows)
    click.echo(f"behind by {_count(sum(lag.messages for lag in found.lags.values()), 'messages', 'message')} in all")


def _count(number: int, many: str, one: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _config_text(config: GroupConfig) -> str:
    said = [f"{_count(config.retry_max_times, 'retries', 'retry')} at most"]
    said.append(_count(config.retry_queues, "retry queues", "retry queue"))
    if not config.consume_enable:
        said.append("consuming is switched off")
    if not config.consume_broadcast_enable:
        said.append("broadcasting is switched off")
    if config.consume_message_orderly:
        said.append("in order")
    if config.attributes:
        said.append(", ".join(f"{name}={value}" for name, value in config.attributes.items()))
    return ", ".join(said)


@group.command("set")
@click.argument("name", metavar="GROUP")
@click.option("--consume/--no-consume", "consume_enable", default=None, help="Whether its members get messages.")
@click.option(
    "--broadcast/--no-broadcast",
    "consume_broadcast_enable",
    default=None,
    help="Whether members that broadcast get any.",
)
@click.option("--ordered/--not-ordered", "consume_message_orderly", default=None, help="For clients of 5.x: in order.")
@click.option(
    "--retry-max-times", type=click.IntRange(-1), metavar="N", help="After so many retries a message is a dead letter."
)
@click.option("--retry-queues", type=click.IntRange(1), metavar="N", help="Queues of its retry topic.")
@click.option(
    "--notify/--no-notify",
    "notify_consumer_ids_changed_enable",
    default=None,
    help="Whether members hear of new ones at once.",
)
@click.option(
    "--forbid", "forbidden", multiple=True, metavar="TOPIC", help="It may not read this topic; may be repeated."
)
@click.option("--allow", "allowed", multiple=True, metavar="TOPIC", help="It may read it again; may be repeated.")
@click.option("--cluster", metavar="NAME", help="Only on the brokers of this cluster.")
@remote_options
def set_group(
    remote: Remote,
    name: str,
    cluster: str | None,
    forbidden: tuple[str, ...],
    allowed: tuple[str, ...],
    **fields: Any,
) -> None:
    """Create a group on all brokers, or change it: what is not given stays as it is.

    \b
    Example:
      posthouse group set billing --retry-max-times 5
      posthouse group set billing --no-consume
      posthouse group set billing --forbid salaries
    """
    from dataclasses import replace

    from posthouse.client.admin import Admin
    from posthouse.model.group import GroupConfig
    from posthouse.model.names import check_group

    changes = {field: value for field, value in fields.items() if value is not None}

    async def ask() -> bool:
        check_group(name)
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            before = (await admin.group_configs()).get(name, {})
            config = next(iter(before.values()), GroupConfig(name))
            if changes or not before:
                await admin.create_group(replace(config, **changes), cluster=cluster)
            for topic in forbidden:
                await admin.set_readable(name, topic, False)
            for topic in allowed:
                await admin.set_readable(name, topic, True)
            return bool(before)

    existed = remote.run(ask)
    click.echo(f"{name} is {'changed' if existed else 'created'}")


@group.command()
@click.argument("name", metavar="GROUP")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-offsets", is_flag=True, help="So that a group of that name goes on where this one was.")
@click.option("--force", is_flag=True, help="Also when it has members; the next heartbeat makes it anew.")
@remote_options
def delete(remote: Remote, name: str, yes: bool, keep_offsets: bool, force: bool) -> None:
    """Delete a group with its offsets, its retries and its dead letters. Asks first when a person is at the keyboard.

    \b
    Example:
      posthouse group delete billing
    """
    from posthouse.client.admin import Admin

    async def ask() -> tuple[str, ...]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            if name not in await admin.group_configs():
                raise _unknown(name)
            if not force:
                _refuse_members(name, await admin.group_members(name), "stop them first, or use --force")
            return await admin.delete_group(name, keep_offsets=keep_offsets)

    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {name} with its offsets, retries and dead letters?", abort=True)
    topics = remote.run(ask)
    click.echo(f"{name} is deleted" + (f", and with it {', '.join(topics)}" if topics else ""))


def _refuse_members(name: str, members: dict[str, ConsumerConnections], remedy: str) -> None:
    """Raises Failure if the group has members."""
    ids = sorted({client.client_id for found in members.values() for client in found.connections})
    if ids:
        more = " and others" if len(ids) > 3 else ""
        raise Failure(
            f"{name} has {_count(len(ids), 'members', 'member')} connected ({', '.join(ids[:3])}{more}): {remedy}."
        )


@group.command()
@click.argument("name", metavar="GROUP")
@click.option("--topic", required=True, metavar="TOPIC", help="On which topic.")
@click.option(
    "--to",
    "place",
    required=True,
    type=reset_place,
    metavar="PLACE",
    help="start, end, -1h (s, m, h, d ago), a time (2026-01-31T12:00, @ms), or with --queue an offset.",
)
@click.option("--queue", metavar="BROKER:ID", help="Only this queue; or only its id when one broker has the topic.")
@click.option("--only-back", is_flag=True, help="Never forward: queues that are behind stay where they are.")
@click.option("--through-clients", is_flag=True, help="Ask the members to move themselves, as RocketMQ 4.x does.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@json_option
@remote_options
def reset(
    remote: Remote,
    name: str,
    topic: str,
    place: ResetPlace,
    queue: str | None,
    only_back: bool,
    through_clients: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move a group on a topic: to a time, to an offset, past all that waits. Works on-line and off-line.

    \b
    Example:
      posthouse group reset billing --topic orders --to -1h --dry-run
      posthouse group reset billing --topic orders --to end
      posthouse group reset billing --topic orders --to 1200 --queue broker-a:3
    """
    from posthouse.client.admin import Admin

    if place.offset is not None and queue is None:
        raise click.UsageError(f"an offset ({place.offset}) is of one queue: name it with --queue")

    async def ask() -> tuple[dict[MessageQueue, QueueOffset], dict[MessageQueue, QueueOffset]]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            if name not in await admin.group_configs():
                raise _unknown(name)
            before = (await admin.group_stats(name, topic)).queues
            one = None if queue is None else _queue_of(queue, topic, list(before))
            at_ms = place.at_ms(admin.now_ms())
            order = admin.reset_targets if dry_run else admin.reset_offsets
            more: dict[str, Any] = {} if dry_run else {"through_clients": through_clients}
            after = await order(name, topic, at_ms=at_ms, queue=one, offset=place.offset, only_back=only_back, **more)
            return {each: before[each].consumer_offset for each in after if each in before}, after

    _show_moves(*remote.run(ask), dry_run=dry_run, as_json=as_json)


def _queue_of(text: str, topic: str, known: list[MessageQueue]) -> MessageQueue:
    """Raises Failure, NotFound."""
    broker, _, number = text.rpartition(":")
    if not (number.isascii() and number.isdecimal()):
        raise Failure(f"{text!r} is no queue; write for example {known[0].broker_name if known else 'broker-a'}:3.")
    found = [each for each in known if each.queue_id == int(number) and broker in ("", each.broker_name)]
    if not found:
        raise NotFound(f"topic {topic!r} has no queue {text}. Look at `posthouse topic status {topic}`.")
    if len(found) > 1:
        names = ", ".join(f"{each.broker_name}:{each.queue_id}" for each in found)
        raise Failure(f"several brokers have a queue {number} of {topic!r}: say which, one of {names}.")
    return found[0]


def _show_moves(
    before: dict[MessageQueue, QueueOffset], after: dict[MessageQueue, QueueOffset], *, dry_run: bool, as_json: bool
) -> None:
    from posthouse.cli.screen import show_json, show_table

    rows = [(queue, before.get(queue, 0), offset) for queue, offset in sorted(after.items())]
    if as_json:
        for queue, was, offset in rows:
            show_json(
                {
                    "topic": queue.topic,
                    "broker": queue.broker_name,
                    "queue": queue.queue_id,
                    "from_offset": was,
                    "to_offset": offset,
                    "messages_again": max(0, was - offset),
                    "messages_skipped": max(0, offset - was),
                    "dry_run": dry_run,
                }
            )
        return
    show_table(
        ("broker", "queue", "from", "to", "again", "skipped"),
        [
            (
                queue.broker_name,
                queue.queue_id,
                was or 0,
                offset,
                max(0, (was or 0) - offset),
                max(0, offset - (was or 0)),
            )
            for queue, was, offset in rows
        ],
    )
    if dry_run:
        click.echo("nothing was moved (--dry-run)")


@group.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--topic", metavar="TOPIC", help="Only on this topic.")
@click.option("--force", is_flag=True, help="Also when TARGET has members, who may commit other offsets at once.")
@remote_options
def clone(remote: Remote, source: str, target: str, topic: str | None, force: bool) -> None:
    """Give a group the offsets of another, so that it goes on where that one is.

    \b
    Example:
      posthouse group clone billing billing-v2
    """
    from posthouse.client.admin import Admin

    async def ask() -> int:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            configs = await admin.group_configs()
            if source not in configs:
                raise _unknown(source)
            if topic is not None and topic not in await admin.group_topics(source):
                raise NotFound(
                    f"group {source} has no offsets on topic {topic!r}; look at `posthouse group show {source}`."
                )
            if not force:
                _refuse_members(target, await admin.group_members(target), "stop them first, or use --force")
            if target not in configs:
                from dataclasses import replace

                await admin.create_group(replace(next(iter(configs[source].values())), name=target))
            await admin.clone_offsets(source, target, topic, offline=True)
            topics = [each for each in await admin.group_topics(target) if _is_users(each, target)]
            return len(topics) if topic is None else int(topic in topics)

    count = remote.run(ask)
    click.echo(f"{target} has the offsets of {source} on {_count(count, 'topics', 'topic')}")


@group.command()
@click.argument("name", metavar="GROUP")
@click.argument("topic", metavar="[TOPIC]", required=False)
@click.argument("mode", metavar="[pull|pop]", required=False, type=click.Choice(["pull", "pop"]))
@click.option(
    "--share", type=click.IntRange(0), default=0, metavar="N", help="With pop: read the next N members' shares as well."
)
@json_option
@remote_options
def mode(remote: Remote, name: str, topic: str | None, mode: str | None, share: int, as_json: bool) -> None:
    """Show, or set, how clients that ask the broker for their queues get messages of a topic: by pull, or by pop.

    With pop and no --share, every member reads every queue.

    \b
    Example:
      posthouse group mode billing
      posthouse group mode billing orders pop
    """
    from posthouse.cli.screen import show_json, show_table
    from posthouse.client.admin import Admin
    from posthouse.model.group import GroupRule, RequestMode

    async def ask() -> list[GroupRule]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            if topic is not None and mode is not None:
                await admin.set_request_mode(name, topic, RequestMode(mode.upper()), share)
            found = await admin.request_modes(name)
            return [each for each in found if topic is None or each.topic == topic]

    rules = remote.run(ask)
    if as_json:
        for rule in rules:
            word = (rule.mode or RequestMode.PULL).value.lower()
            show_json({"group": rule.group, "topic": rule.topic, "mode": word, "share_queues": rule.share_queues})
    elif rules:
        rows = [(each.topic, (each.mode or RequestMode.PULL).value.lower(), each.share_queues) for each in rules]
        show_table(("topic", "mode", "share"), rows)
    else:
        click.echo(f"{name}: by pull; nothing else is set")


@group.command()
@click.argument("name", metavar="GROUP")
@json_option
@remote_options
def connections(remote: Remote, name: str, as_json: bool) -> None:
    """Show the members of a group that are connected to each broker.

    \b
    Example:
      posthouse group connections billing
    """
    from posthouse.cli.screen import show_json, show_table
    from posthouse.client.admin import Admin

    async def ask() -> dict[str, ConsumerConnections]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            members = await admin.group_members(name)
            if not members and name not in await admin.group_configs():
                raise _unknown(name)
            return members

    members = remote.run(ask)
    rows = [
        (broker, client.client_id, client.address, client.language, client.version)
        for broker, found in members.items()
        for client in sorted(found.connections, key=lambda each: each.client_id)
    ]
    keys = ("broker", "client_id", "address", "language", "version")
    if as_json:
        for row in rows:
            show_json({"group": name} | dict(zip(keys, row, strict=True)))
    elif rows:
        show_table([key.replace("_", " ") for key in keys], rows)
    else:
        click.echo(f"no member of {name} is connected")
