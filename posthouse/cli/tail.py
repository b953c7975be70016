"""`posthouse tail`: reads queues without belonging to a group in any way that counts, so it moves no offsets.

First what is there, over all queues in the order in which it was stored; then what comes, as it comes. A broker that
goes away while messages are awaited is waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from posthouse.cli.failure import NotFound
from posthouse.cli.moment import Ago, AtOffset, End, Last, Moment, Start, moment
from posthouse.cli.remote import Remote, failures, json_option, remote_options

if TYPE_CHECKING:
    import asyncio

    from posthouse.client.pull_consumer import PullConsumer
    from posthouse.client.received import ReceivedMessage
    from posthouse.model.message import MessageQueue

GROUP: Final = "TOOLS_CONSUMER"
"""The group that RocketMQ's own tools read with; every broker has it."""

HOLD_MS: Final = 15_000
"""How long a broker holds a pull that finds nothing."""

READ_AHEAD_MAX: Final = 1000
"""Messages that have come and are not shown yet."""

PAUSE_S: Final = 1.0
"""Before a broker that does not answer is asked again."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What to read, and how long."""

    topic: str
    begin: Moment
    queue_id: int | None
    expression: str
    follow: bool
    limit: int | None


@click.command()
@click.argument("topic")
@click.option(
    "--from",
    "begin",
    type=moment,
    metavar="WHERE",
    default="-10",
    show_default=True,
    help="start, end, -10 (the last ten), -1h (or s, m, d), or a queue offset.",
)
@click.option("-n", "limit", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait for more, or end at the end.")
@click.option("--queue", "queue_id", type=click.IntRange(0), metavar="N", help="Only this queue.")
@click.option("--tag", "expression", metavar="TAGS", default="*", help="Only these tags: 'paid || refunded'.")
@json_option
@remote_options
def tail(
    remote: Remote,
    topic: str,
    begin: Moment,
    limit: int | None,
    follow: bool,
    queue_id: int | None,
    expression: str,
    as_json: bool,
) -> None:
    """Show messages of a topic as they come; moves no offsets. Ends on Ctrl-C.

    A line is: time stored, queue:offset, tag, keys, body (in hex if it is not text).

    \b
    Example:
      posthouse tail orders --from -1h --tag 'paid || refunded'
      posthouse tail orders --from start --no-follow --json
    """  # fmt: skip
    import asyncio

    reading = Reading(topic, begin, queue_id, expression, follow, limit)
    with failures(remote):
        try:
            asyncio.run(_show(remote, reading, as_json))
        except KeyboardInterrupt:
            return  # the ordinary end


async def _show(remote: Remote, reading: Reading, as_json: bool) -> None:
    import asyncio

    from posthouse.cli.screen import message_document, message_line, show_json
    from posthouse.client.pull_consumer import PullConsumer

    shown = 0
    async with PullConsumer(GROUP, remote.nameservers) as consumer:
        async with asyncio.timeout(remote.timeout_s):
            spans = await _spans(consumer, reading)
        async with aclosing(_messages(consumer, spans, reading)) as messages:
            async for message in messages:
                if as_json:
                    show_json(message_document(message, message.body))
                else:
                    click.echo(message_line(message, message.body))
                shown += 1
                if shown == reading.limit:
                    return


async def _spans(consumer: PullConsumer, reading: Reading) -> dict[MessageQueue, tuple[int, int]]:
    """For each queue: where to begin, and where it ends now."""
    import asyncio

    queues = await consumer.queues(reading.topic)
    wanted = [queue for queue in queues if reading.queue_id in (None, queue.queue_id)]
    if not wanted:
        known = ", ".join(f"{queue.queue_id} of {queue.broker_name}" for queue in queues) or "none"
        raise NotFound(f"topic {reading.topic} has no queue {reading.queue_id} to read; it has {known}.")
    spans = await asyncio.gather(*(_span(consumer, queue, reading.begin) for queue in wanted))
    return dict(zip(wanted, spans, strict=True))


async def _span(consumer: PullConsumer, queue: MessageQueue, begin: Moment) -> tuple[int, int]:
    from posthouse.host import Host

    first, end = await consumer.min_offset(queue), await consumer.max_offset(queue)
    match begin:
        case Start():
            return first, end
        case End():
            return end, end
        case Last(count):
            return max(first, end - count), end
        case Ago(ms):
            found = await consumer.search_offset(queue, Host.real().clock.now_ms() - ms)
            return min(max(first, found), end), end
        case AtOffset(offset):
            return min(max(first, offset), end), end


async def _messages(
    consumer: PullConsumer, spans: Mapping[MessageQueue, tuple[int, int]], reading: Reading
) -> AsyncGenerator[ReceivedMessage, None]:
    there = _merged([_span_messages(consumer, queue, *span, reading.expression) for queue, span in spans.items()])
    if isinstance(reading.begin, Last):
        newest: deque[ReceivedMessage] = deque(maxlen=reading.begin.count)
        async for message in there:
            newest.append(message)
        for message in newest:
            yield message
    else:
        async for message in there:
            yield message
    if reading.follow:
        ends = {queue: end for queue, (_, end) in spans.items()}
        async with aclosing(_coming(consumer, ends, reading.expression)) as coming:
            async for message in coming:
                yield message


async def _span_messages(
    consumer: PullConsumer, queue: MessageQueue, offset: int, end: int, expression: str
) -> AsyncIterator[ReceivedMessage]:
    while offset < end:
        pulled = await consumer.pull(queue, offset, expression=expression)
        for message in pulled.messages:
            if message.queue_offset < end:
                yield message
        if pulled.next_offset <= offset:
            return  # the queue was cut meanwhile
        offset = pulled.next_offset


async def _merged(parts: list[AsyncIterator[ReceivedMessage]]) -> AsyncIterator[ReceivedMessage]:
    """All messages of the parts, by the time at which they were stored."""
    heads = [(message, part) for part in parts if (message := await anext(part, None)) is not None]
    while heads:
        at = min(range(len(heads)), key=lambda each: (heads[each][0].stored_at_ms, heads[each][0].log_offset))
        message, part = heads[at]
        yield message
        following = await anext(part, None)
        if following is None:
            del heads[at]
        else:
            heads[at] = (following, part)


async def _coming(
    consumer: PullConsumer, offsets: Mapping[MessageQueue, int], expression: str
) -> AsyncGenerator[ReceivedMessage, None]:
    """What comes at these offsets and after, in order within a queue; for ever."""
    import asyncio

    ready: asyncio.Queue[ReceivedMessage] = asyncio.Queue(READ_AHEAD_MAX)
    readers = [
        asyncio.create_task(_read_on(consumer, queue, offset, expression, ready)) for queue, offset in offsets.items()
    ]
    try:
        while True:
            getting = asyncio.ensure_future(ready.get())
            await asyncio.wait((getting, *readers), return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                for reader in readers:
                    if reader.done():
                        reader.result()  # raises: a reader only ends with an error
            yield await getting
            while not ready.empty():
                yield ready.get_nowait()
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read_on(
    consumer: PullConsumer, queue: MessageQueue, offset: int, expression: str, ready: asyncio.Queue[ReceivedMessage]
) -> None:
    import asyncio

    from posthouse.client.errors import NoBroker, NoNameServer, Timeout, Unreachable

    silent = False
    while True:
        try:
            pulled = await consumer.pull(queue, offset, wait_ms=HOLD_MS, expression=expression)
        except (NoBroker, NoNameServer, Timeout, Unreachable) as error:
            if not silent:
                click.echo(f"{queue.broker_name}: {error}; waiting for it", err=True)
            silent = True
            await asyncio.sleep(PAUSE_S)
            continue
        silent = False
        for message in pulled.messages:
            await ready.put(message)
        offset = pulled.next_offset
