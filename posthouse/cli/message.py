"""`posthouse message find`: single messages of a topic, by a key or by an id, over all its brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from posthouse.cli.failure import NotFound
from posthouse.cli.moment import Ago, Moment, Start, moment
from posthouse.cli.remote import Remote, json_option, remote_options

if TYPE_CHECKING:
    from posthouse.client.admin import Admin
    from posthouse.client.received import ReceivedMessage


@click.group()
def message() -> None:
    """Find single messages by key or id.

    \b
    Example:
      posthouse message find orders --key 7
    """


def _since(text: str) -> Start | Ago:
    """An option type: of the places to begin, those that are times."""
    found: Moment = moment(text)
    if isinstance(found, Start | Ago):
        return found
    raise click.BadParameter(f"{text!r} is no time to begin; say start, or -1h (s, m, h, d)")


@message.command()
@click.argument("topic")
@click.option("--key", metavar="KEY", help="One of the keys that they were sent with.")
@click.option("--id", "message_id", metavar="ID", help="A message id, as `send` and `tail --json` show it.")
@click.option(
    "--since", type=_since, metavar="WHEN", default="start", help="start, or -1h (or s, m, d). [default: start]"
)
@click.option("-n", "limit", type=click.IntRange(1, 64), metavar="N", default=32, show_default=True, help="At most.")
@json_option
@remote_options
def find(
    remote: Remote, topic: str, key: str | None, message_id: str | None, since: Start | Ago, limit: int, as_json: bool
) -> None:
    """Find messages by a key or by an id, the newest first.

    \b
    Example:
      posthouse message find orders --key 7
      posthouse message find orders --id 7F00000100002A9F0000000000000400 --json
    """
    from posthouse.cli.screen import body_text, message_document, printable, show_json, show_table, time_text
    from posthouse.client.admin import Admin

    if (key is None) == (message_id is None):
        raise click.UsageError("say --key or --id, one of them")

    async def ask() -> tuple[ReceivedMessage, ...]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            if key is not None:
                return await admin.query_by_key(topic, key, _begin_ms(since), limit=limit)
            assert message_id is not None
            return (await _by_id(admin, topic, message_id, _begin_ms(since)))[:limit]

    found = remote.run(ask)
    if not found:
        what = f"key {key!r}" if key is not None else f"id {message_id!r}"
        raise NotFound(f"topic {topic} has no message with {what} that is still kept.")
    if as_json:
        for each in found:
            show_json(message_document(each, each.body))
        return
    show_table(
        ("stored", "broker", "queue", "offset", "id", "tag", "keys", "body"),
        [
            (
                time_text(each.stored_at_ms),
                each.broker_name,
                each.queue_id,
                each.queue_offset,
                printable(each.message_id),
                printable(each.tag) or "-",
                printable(",".join(each.keys)) or "-",
                body_text(each.body),
            )
            for each in found
        ],
    )


def _begin_ms(since: Start | Ago) -> int:
    from posthouse.host import Host

    return max(0, Host.real().clock.now_ms() - since.ms) if isinstance(since, Ago) else 0


async def _by_id(admin: Admin, topic: str, message_id: str, begin_ms: int) -> tuple[ReceivedMessage, ...]:
    """By the producer's id; or, if nobody has that, by place, when the id names one at a broker of the topic."""
    from dataclasses import replace
    from ipaddress import ip_address

    from posthouse.client.errors import BrokerRefused
    from posthouse.codec.remoting.codes import ResponseCode
    from posthouse.host.net import Address
    from posthouse.model.ids import parse_offset_message_id

    found = await admin.query_by_unique_key(topic, message_id, begin_ms)
    if found:
        return found
    try:
        place, _ = parse_offset_message_id(message_id)
    except ValueError:
        return ()
    address = Address(str(ip_address(place.ip)), place.port)
    for broker in (await admin.topic_route(topic)).brokers:
        if str(address) in broker.addresses.values():
            try:
                only = await admin.message_by_id(message_id)
            except BrokerRefused as error:
                if error.code == ResponseCode.SYSTEM_ERROR:  # how both servers say that nothing begins there
                    return ()
                raise
            return (replace(only, broker_name=broker.broker_name),) if only.queue.topic == topic else ()
    return ()
