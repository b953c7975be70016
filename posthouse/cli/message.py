"""`posthouse message find`: single messages of a topic, over all its brokers: by key, by id, by time, by offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from posthouse.cli.failure import NotFound
from posthouse.cli.moment import Instant, epoch_ms, instant
from posthouse.cli.remote import Remote, json_option, remote_options
from posthouse.cli.subcommands import Subcommands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.client.admin import Admin
    from posthouse.client.pull_consumer import PullConsumer
    from posthouse.client.received import ReceivedMessage
    from posthouse.model.message import MessageQueue

BY_KEY_MAX: Final = 64
"""Messages that a broker gives for a key."""


@click.group(cls=Subcommands)
def message() -> None:
    """Find single messages by key, id, time or offset.

    \b
    Example:
      posthouse message find orders --key 7
    """


@message.command()
@click.argument("topic")
@click.option("--key", metavar="KEY", help="One of the keys that they were sent with.")
@click.option("--id", "message_id", metavar="ID", help="A message id, as `send` and `tail --json` show it.")
@click.option("--since", type=instant, metavar="WHEN", help="Stored since: start, -1h (or s, m, d), or a date.")
@click.option("--until", type=instant, metavar="WHEN", help="Stored until then.")
@click.option("--offset", type=click.IntRange(0), metavar="N", help="The one at this offset, of each queue.")
@click.option("--queue", "queue_id", type=click.IntRange(0), metavar="N", help="Only this queue, for time and offset.")
@click.option("-n", "limit", type=click.IntRange(1), metavar="N", default=32, show_default=True, help="At most.")
@json_option
@remote_options
def find(
    remote: Remote,
    topic: str,
    key: str | None,
    message_id: str | None,
    since: Instant | None,
    until: Instant | None,
    offset: int | None,
    queue_id: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Find messages by a key, by an id, by the time at which they were stored, or by offset; the newest first.

    \b
    Example:
      posthouse message find orders --key 7
      posthouse message find orders --id 7F00000100002A9F0000000000000400 --json
      posthouse message find orders --since '2026-11-22 19:00' --until '2026-11-22 19:05'
      posthouse message find orders --queue 3 --offset 1200
    """
    from posthouse.client.admin import Admin

    _check_question(key, message_id, since, until, offset, queue_id, limit)
    begin_ms, end_ms = _window(since, until)

    async def ask() -> Sequence[ReceivedMessage]:
        if key is None and message_id is None:
            span = (begin_ms, end_ms) if offset is None else offset
            return await _by_place(remote, topic, span, queue_id, limit)
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            if key is not None:
                return await admin.query_by_key(topic, key, begin_ms, end_ms, limit=limit)
            assert message_id is not None
            found = await _by_id(admin, topic, message_id, begin_ms)
            return [each for each in found if each.stored_at_ms <= end_ms][:limit]

    found = remote.run(ask)
    if not found:
        raise NotFound(f"topic {topic} has no message {_wanted(key, message_id, offset, queue_id)} that is still kept.")
    _show(found, as_json)


def _wanted(key: str | None, message_id: str | None, offset: int | None, queue_id: int | None) -> str:
    """What was asked for, in words."""
    if key is not None:
        return f"with key {key!r}"
    if message_id is not None:
        return f"with id {message_id!r}"
    where = "" if queue_id is None else f" of queue {queue_id}"
    return f"of that time{where}" if offset is None else f"at offset {offset}{where}"


def _check_question(
    key: str | None,
    message_id: str | None,
    since: Instant | None,
    until: Instant | None,
    offset: int | None,
    queue_id: int | None,
    limit: int,
) -> None:
    """Raises click.UsageError."""
    named = key is not None or message_id is not None
    if (key is not None and message_id is not None) or (named and (offset is not None or queue_id is not None)):
        raise click.UsageError("say --key or --id, one of them, and then neither --offset nor --queue")
    if not named and since is None and until is None and offset is None:
        raise click.UsageError("say --key, --id, --since, --until or --offset")
    if offset is not None and (since is not None or until is not None):
        raise click.UsageError("say a time or --offset, one of them")
    if named and limit > BY_KEY_MAX:
        raise click.UsageError(f"-n is {BY_KEY_MAX} at most with --key and --id: that is all that a broker gives")


def _window(since: Instant | None, until: Instant | None) -> tuple[int, int]:
    """Times of storing in ms, both included."""
    from posthouse.client.admin import TIME_MAX_MS
    from posthouse.host import Host

    now_ms = Host.real().clock.now_ms()
    begin_ms = epoch_ms(since, now_ms) if since is not None else 0
    return begin_ms, epoch_ms(until, now_ms) if until is not None else TIME_MAX_MS


def _show(found: Sequence[ReceivedMessage], as_json: bool) -> None:
    from posthouse.cli.screen import (
        CELL_CHARS_MAX,
        body_text,
        message_document,
        printable,
        show_json,
        show_table,
        time_text,
    )

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
                body_text(each.body, CELL_CHARS_MAX),
            )
            for each in found
        ],
    )


async def _by_place(
    remote: Remote, topic: str, span: tuple[int, int] | int, queue_id: int | None, limit: int
) -> list[ReceivedMessage]:
    """Of all queues, or of that one: what was stored between two times, or what is at an offset; newest first."""
    import asyncio

    from posthouse.cli.tail import GROUP
    from posthouse.client.pull_consumer import PullConsumer

    async with PullConsumer(GROUP, remote.nameservers) as consumer:
        queues = [each for each in await consumer.queues(topic) if queue_id in (None, each.queue_id)]
        if not queues:
            raise NotFound(f"topic {topic} has no queue {queue_id} to read.")
        found = await asyncio.gather(*(_of_queue(consumer, queue, span, limit) for queue in queues))
    newest_first = sorted(
        (each for messages in found for each in messages),
        key=lambda each: (each.stored_at_ms, each.log_offset),
        reverse=True,
    )
    return newest_first[:limit]


async def _of_queue(
    consumer: PullConsumer, queue: MessageQueue, span: tuple[int, int] | int, limit: int
) -> list[ReceivedMessage]:
    """At most the newest `limit`."""
    offset: int
    end: int
    first, end = await consumer.min_offset(queue), await consumer.max_offset(queue)
    if isinstance(span, int):
        offset, end = max(first, span), min(end, span + 1)
    else:
        offset = max(first, await consumer.search_offset(queue, span[0]))
        if span[1] < (1 << 62):
            end = min(end, await consumer.search_offset(queue, span[1] + 1))
        offset = max(offset, end - limit)
    found: list[ReceivedMessage] = []
    while offset < end:
        pulled = await consumer.pull(queue, offset)
        found += [each for each in pulled.messages if each.queue_offset < end]
        if pulled.next_offset <= offset:
            break  # the queue was cut meanwhile
        offset = pulled.next_offset
    if isinstance(span, int):
        return found
    return [each for each in found if span[0] <= each.stored_at_ms <= span[1]]


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
