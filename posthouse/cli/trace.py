"""`posthouse trace`: the story of a message, as far as clients have noted it and brokers still have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from posthouse.cli.failure import NotFound
from posthouse.cli.moment import Instant, Start, epoch_ms, instant
from posthouse.cli.remote import Remote, json_option, remote_options

if TYPE_CHECKING:
    from posthouse.client.dead_letters import DeadLetter
    from posthouse.client.received import ReceivedMessage
    from posthouse.client.story import Delivery, GroupFate, Story
    from posthouse.codec.remoting.bodies.trace import Published


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--topic", metavar="TOPIC", help="Where it was sent to. Without: where it was traced, or all topics.")
@click.option("--since", type=instant, metavar="WHEN", default="start", help="start, -1h (s, m, h, d), or a date.")
@click.option("--trace-topic", metavar="TOPIC", help="Where clients say what they do. [default: RMQ_SYS_TRACE_TOPIC]")
@json_option
@remote_options
def trace(
    remote: Remote, message_id: str, topic: str | None, since: Instant, trace_topic: str | None, as_json: bool
) -> None:
    """Tell the story of a message: who sent it, where it lies, who received it, how it ended.

    ID is a message id, the id of a message's place, or a key. Clients that trace (trace=True) say when handlers began
    and ended; of others the brokers know where the message is, and which groups are past it.

    \b
    Example:
      posthouse trace C0000202093E1B2C3D4E5F6071820001
      posthouse trace order-7 --topic orders --json
    """
    from posthouse.cli.screen import show_json
    from posthouse.client.admin import Admin
    from posthouse.client.story import Stories
    from posthouse.host import Host
    from posthouse.model.names import TRACE_TOPIC

    since_ms = 0 if isinstance(since, Start) else epoch_ms(since, Host.real().clock.now_ms())

    async def ask() -> tuple[Story, ...]:
        async with Admin(remote.nameservers, timeout_s=remote.timeout_s) as admin:
            found = await Stories(admin, trace_topic or TRACE_TOPIC).tell(message_id, topic, since_ms)
            if not found and topic is not None:
                await admin.topic_route(topic)  # raises NoRoute: there is no such topic
            return found

    stories = remote.run(ask)
    if not stories:
        where = f"topic {topic}" if topic is not None else "no topic"
        has = "has no message" if topic is not None else "has a message"
        raise NotFound(f"{where} {has} with id or key {message_id!r} that is still kept, and nobody traced one.")
    for number, story in enumerate(stories):
        if as_json:
            show_json(story_document(story))
            continue
        if number:
            click.echo()
        _show(story)


_ORDER: Final = ("sent", "waits", "stored", "retry", "delivered", "ended", "recalled", "dead letter")
"""Of what happened in the same millisecond, as near as can be guessed."""


def _show(story: Story) -> None:
    from posthouse.cli.screen import printable, show_table, time_text

    click.echo(f"message {printable(story.message_id)}, topic {printable(story.topic) or '-'}")
    if not story.traced:
        click.echo("no client has traced it; this is what the brokers know")
    elif not story.deliveries:
        click.echo("no consumer has traced it; of those this is what the brokers know")
    rows = [(time_text(at_ms), what, printable(text)) for at_ms, what, text in _events(story)]
    show_table(("time", "what", "how"), rows)
    if story.groups:
        click.echo()
        show_table(("group", "where it is", "more"), [_group_row(each) for each in story.groups])


def _events(story: Story) -> list[tuple[int, str, str]]:
    """All that has a time, in order."""
    from posthouse.cli.screen import time_text
    from posthouse.client.story import due_ms

    found: list[tuple[int, str, str]] = []
    for sent in story.published:
        how = f"in {sent.cost_ms} ms" if sent.success else f"failed after {sent.cost_ms} ms"
        to = f" to {sent.store_host}" if sent.store_host else ""
        by = f" from {sent.client_host}" if sent.client_host else ""
        found.append((sent.at_ms, "sent", f"by producer group {sent.group}{by}{to}, {how}"))
    for record in story.stored:
        again = f", redriven from {record.properties['REDRIVEN_FROM']}" if "REDRIVEN_FROM" in record.properties else ""
        tag = f", tag {record.tag}" if record.tag else ""
        keys = f", keys {' '.join(record.keys)}" if record.keys else ""
        text = f"{_place(record)}, born {time_text(record.born_at_ms)}, {len(record.body)} bytes{tag}{keys}{again}"
        found.append((record.stored_at_ms, "stored", text))
    for record in story.waiting:
        due = due_ms(record)
        until = f"until {time_text(due)}" if due is not None else "for its time"
        found.append((record.stored_at_ms, "waits", f"{until}, then {record.properties.get('REAL_TOPIC', '-')}"))
    for record in story.retried:
        found.append((record.stored_at_ms, "retry", f"{_place(record)} of {record.queue.topic}"))
    for delivery in story.deliveries:
        found.append((delivery.at_ms, "delivered", _delivery_text(delivery)))
    for end in story.ended:
        state = getattr(end, "state", None)
        text = (
            f"transaction: {state}" if state is not None else ("done" if getattr(end, "success", False) else "failed")
        )
        found.append((end.at_ms, "ended" if state is not None else "recalled", f"{text}, by group {end.group}"))
    for letter in story.dead:
        text = f"of group {letter.group}, reason {letter.reason or 'unknown'}, after {letter.attempts} attempts"
        found.append((letter.died_at_ms, "dead letter", f"{text}, {_place(letter.message)}"))
    return sorted(found, key=lambda each: (each[0], _ORDER.index(each[1])))


def _place(record: ReceivedMessage) -> str:
    return f"{record.queue.broker_name} queue {record.queue.queue_id} offset {record.queue_offset}"


def _delivery_text(delivery: Delivery) -> str:
    from posthouse.codec.remoting.bodies.trace import ContextCode

    attempt = f", attempt {delivery.begun.reconsume_times + 1}" if delivery.begun is not None else ""
    handled = delivery.handled
    if handled is None:
        how = "how it ended was not noted, or it is not over"
    elif handled.success:
        how = f"handled in {handled.cost_ms} ms"
    else:
        try:
            why = ContextCode(handled.context_code).name.lower().replace("_", " ")
        except ValueError:
            why = str(handled.context_code)
        how = f"failed after {handled.cost_ms} ms ({why})"
    return f"to group {delivery.group or '-'}{attempt}: {how}"


def _group_row(fate: GroupFate) -> tuple[str, str, str]:
    from posthouse.cli.screen import printable, time_text
    from posthouse.client.story import Fate

    more = [f"attempts that failed: {fate.attempts}"] if fate.attempts else []
    if fate.until_ms is not None:
        more.append(f"until {time_text(fate.until_ms)}")
    if fate.fate in (Fate.AHEAD, Fate.RETRY_DUE):
        more.append(f"messages before it: {fate.before_it}")
    if fate.offset is not None:
        more.append(f"the group is at offset {fate.offset}")
    return printable(fate.group), fate.fate.value, ", ".join(more) or "-"


def story_document(story: Story) -> dict[str, Any]:
    """All of a story, with stable keys."""
    from posthouse.cli.screen import message_document

    return {
        "message_id": story.message_id,
        "topic": story.topic or None,
        "traced": story.traced,
        "sent": [_sent_document(each) for each in story.published],
        "stored": [message_document(each, each.body) for each in story.stored],
        "waiting": [_waiting_document(each) for each in story.waiting],
        "retries": [_retry_document(each) for each in story.retried],
        "delivered": [_delivery_document(each) for each in story.deliveries],
        "ended": [
            {"at_ms": each.at_ms, "group": each.group, "state": getattr(each, "state", "RECALLED")}
            for each in story.ended
        ],
        "dead_letters": [_letter_document(each) for each in story.dead],
        "groups": [
            {
                "group": each.group,
                "fate": each.fate.name.lower(),
                "offset": each.offset,
                "messages_before_it": each.before_it,
                "attempts": each.attempts,
                "until_ms": each.until_ms,
            }
            for each in story.groups
        ],
    }


def _sent_document(sent: Published) -> dict[str, Any]:
    return {
        "at_ms": sent.at_ms,
        "group": sent.group,
        "client": sent.client_host or None,
        "store_host": sent.store_host or None,
        "offset_message_id": sent.offset_message_id or None,
        "cost_ms": sent.cost_ms,
        "success": sent.success,
    }


def _waiting_document(record: ReceivedMessage) -> dict[str, Any]:
    from posthouse.client.story import due_ms

    return {
        "stored_at_ms": record.stored_at_ms,
        "due_at_ms": due_ms(record),
        "topic": record.properties.get("REAL_TOPIC"),
        "reconsume_times": record.reconsume_times,
    }


def _retry_document(record: ReceivedMessage) -> dict[str, Any]:
    return {
        "stored_at_ms": record.stored_at_ms,
        "topic": record.queue.topic,
        "broker": record.queue.broker_name,
        "queue": record.queue.queue_id,
        "offset": record.queue_offset,
        "reconsume_times": record.reconsume_times,
    }


def _delivery_document(delivery: Delivery) -> dict[str, Any]:
    begun, handled = delivery.begun, delivery.handled
    return {
        "at_ms": delivery.at_ms,
        "group": delivery.group,
        "attempt": begun.reconsume_times + 1 if begun is not None else None,
        "cost_ms": handled.cost_ms if handled is not None else None,
        "success": handled.success if handled is not None else None,
        "context_code": handled.context_code if handled is not None else None,
    }


def _letter_document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "died_at_ms": letter.died_at_ms,
        "group": letter.group,
        "reason": letter.reason or None,
        "attempts": letter.attempts,
        "broker": letter.message.queue.broker_name,
        "queue": letter.message.queue_id,
        "offset": letter.message.queue_offset,
    }
