"""`posthouse send`: one message, many of one body, or one for every line that comes in.

Reading stdin waits in the one thread there is, between two runs of the loop: what has come is sent, many messages in
flight, and acknowledged, before more is read. So a slow pipe is sent line by line, a fast one by thousands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import IO, TYPE_CHECKING, Any, Final

import click

from posthouse.cli.failure import NotFound
from posthouse.cli.remote import Remote, failures, json_option, remote_options

if TYPE_CHECKING:
    from posthouse.client.producer import Producer
    from posthouse.client.receipt import SendReceipt
    from posthouse.model.message import MessageQueue

READ_BYTES: Final = 256 * 1024
RUN_MESSAGES_MAX: Final = 1000
"""Messages in flight at once."""


def _properties(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{pair!r} is not name=value", ctx, param)
        found[name] = value
    return found


@click.command()
@click.argument("topic")
@click.argument("body", required=False)
@click.option("--key", "keys", metavar="KEY", multiple=True, help="A word to find the message by; may be repeated.")
@click.option("--tag", metavar="TAG", default="", help="The word that subscriptions choose by.")
@click.option(
    "-H", "properties", metavar="NAME=VALUE", multiple=True, callback=_properties, help="A property; may be repeated."
)
@click.option("--sharding-key", metavar="KEY", default="", help="Messages of one key go to one queue, in order.")
@click.option("--queue", "queue_id", type=click.IntRange(0), metavar="N", help="This queue, not each in turn.")
@click.option("--count", type=click.IntRange(1), metavar="N", default=1, help="Send it so many times.")
@click.option("--lines", is_flag=True, help="Every line of the input is a message; empty ones are left out.")
@click.option("--file", type=click.File("rb"), metavar="FILE", help="Read the body, or the lines, from it.")
@json_option
@remote_options
def send(
    remote: Remote,
    topic: str,
    body: str | None,
    queue_id: int | None,
    count: int,
    lines: bool,
    file: IO[bytes] | None,
    as_json: bool,
    **message: Any,
) -> None:
    """Send messages to a topic. BODY is text; without it, or as "-", the body is read from stdin.

    \b
    Example:
      posthouse send orders '{"id": 7}' --tag paid --key 7 -H source=shop
      seq 1 100 | posthouse send numbers - --lines
    """
    import asyncio

    runs = _runs(_source(body, file), lines, count)
    if queue_id is not None and message["sharding_key"]:
        raise click.UsageError("--queue and --sharding-key both choose the queue; give one of them.")
    from posthouse.client.producer import Producer

    with asyncio.Runner() as runner, failures(remote):
        producer = Producer(remote.nameservers, send_timeout_ms=remote.timeout_ms, in_flight_max=RUN_MESSAGES_MAX)
        runner.run(producer.__aenter__())
        try:
            queue = runner.run(_queue(producer, topic, queue_id)) if queue_id is not None else None
            for bodies in runs:
                runner.run(_send_run(producer, topic, bodies, {**message, "queue": queue}, as_json))
        finally:
            runner.run(producer.close())


def _source(body: str | None, file: IO[bytes] | None) -> bytes | IO[bytes]:
    """The body itself, or what it is read from."""
    if file is not None:
        if body not in (None, "-"):
            raise click.UsageError("give a body or --file, not both.")
        return file
    if body is not None and body != "-":
        return body.encode("utf-8", "surrogateescape")
    if body is None and sys.stdin.isatty():
        raise click.UsageError('give a body, or "-" to read it from stdin.')
    return sys.stdin.buffer


def _runs(source: bytes | IO[bytes], lines: bool, count: int) -> Iterator[Sequence[bytes]]:
    """Bodies, in runs that are sent together."""
    if lines:
        if isinstance(source, bytes):
            raise click.UsageError("--lines reads stdin or --file; it goes with no other body.")
        for run in _line_runs(source):
            yield from _cut(each for line in run for each in repeat(line, count))
    else:
        body = source if isinstance(source, bytes) else source.read()
        yield from _cut(repeat(body, count))


def _cut(bodies: Iterator[bytes]) -> Iterator[Sequence[bytes]]:
    while run := list(islice(bodies, RUN_MESSAGES_MAX)):
        yield run


def _line_runs(source: IO[bytes]) -> Iterator[Sequence[bytes]]:
    """The whole lines of what can be read without waiting for more."""
    read = getattr(source, "read1", source.read)
    rest = b""
    while piece := read(READ_BYTES):
        *whole, rest = (rest + piece).split(b"\n")
        yield [line for line in whole if line]
    yield [rest] if rest else []


async def _queue(producer: Producer, topic: str, queue_id: int) -> MessageQueue:
    queues = await producer.queues(topic)
    for queue in queues:
        if queue.queue_id == queue_id:
            return queue
    known = ", ".join(sorted(f"{queue.queue_id} of {queue.broker_name}" for queue in queues)) or "none"
    raise NotFound(f"topic {topic} takes no messages in a queue {queue_id}; it has {known}.")


async def _send_run(
    producer: Producer, topic: str, bodies: Sequence[bytes], details: dict[str, Any], as_json: bool
) -> None:
    import asyncio

    sends = [producer.send(topic, body, **details) for body in bodies]
    try:
        for sending in sends:
            _show(await sending, as_json)
    finally:
        for sending in sends:
            sending.cancel()
        await asyncio.gather(*sends, return_exceptions=True)


def _show(receipt: SendReceipt, as_json: bool) -> None:
    from posthouse.cli.screen import show_json

    queue = receipt.queue
    if as_json:
        show_json(
            {
                "message_id": receipt.message_id,
                "topic": queue.topic,
                "broker": queue.broker_name,
                "queue": queue.queue_id,
                "offset": receipt.queue_offset,
                "status": receipt.status.name,
                "durability": receipt.durability,
            }
        )
    else:
        kept = "" if receipt.status == 0 else f"  {receipt.status.name}"
        kept += "  not synced" if receipt.durability == "os" else ""
        click.echo(f"{receipt.message_id}  {queue.broker_name}  {queue.queue_id}:{receipt.queue_offset}{kept}")
