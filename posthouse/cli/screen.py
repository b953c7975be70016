"""How things look on a screen: aligned tables, times, bodies; and JSON, one document a line with stable keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click

from posthouse.model.message import StoredMessage

HEX_BYTES_MAX: Final = 64
"""Of a body that is no text, so many bytes are shown."""

CELL_CHARS_MAX: Final = 120
"""Of a body in a table, so many characters are shown: it may have megabytes, and the table is for looking around."""


def show_json(document: object) -> None:
    """One line."""
    click.echo(json.dumps(document, ensure_ascii=False, separators=(", ", ": ")))


def show_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns under their names, at least two blanks apart; numbers to the right."""
    body = list(rows)
    texts = [list(head), *([str(cell) for cell in row] for row in body)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(head))]
    to_right = [bool(body) and all(isinstance(row[column], int | float) for row in body) for column in range(len(head))]
    for line in texts:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def time_text(epoch_ms: int) -> str:
    """Local time with milliseconds."""
    return datetime.fromtimestamp(epoch_ms / 1000).isoformat(" ", "milliseconds")


def printable(text: str) -> str:
    """The text on one line, without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def body_text(body: bytes, chars_max: int | None = None) -> str:
    """A body on one line: as text if it is UTF-8, else in hex with its size. Text longer than `chars_max` is cut."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        shown = printable(text[:chars_max])
        return shown if chars_max is None or len(text) <= chars_max else f"{shown}… ({len(body)} bytes)"
    more = "…" if len(body) > HEX_BYTES_MAX else ""
    return f"<{len(body)} bytes: {body[:HEX_BYTES_MAX].hex()}{more}>"


def message_line(message: StoredMessage, body: bytes) -> str:
    """`time  queue:offset  tag  keys  body`, tag and keys as "-" when there are none."""
    place = f"{message.queue_id}:{message.queue_offset}"
    keys = printable(",".join(message.keys)) or "-"
    return f"{time_text(message.stored_at_ms)}  {place}  {printable(message.tag) or '-'}  {keys}  {body_text(body)}"


def message_document(message: StoredMessage, body: bytes) -> dict[str, Any]:
    """All of a message. A body that is not UTF-8 is in `body_base64`, and `body` is null."""
    text: str | None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "topic": message.topic,
        "broker": message.broker_name,
        "queue": message.queue_id,
        "offset": message.queue_offset,
        "message_id": message.message_id,
        "tag": message.tag,
        "keys": list(message.keys),
        "properties": message.properties,
        "born_at_ms": message.born_at_ms,
        "stored_at_ms": message.stored_at_ms,
        "reconsume_times": message.reconsume_times,
        "body": text,
        "body_base64": None if text is not None else base64.b64encode(body).decode(),
    }
