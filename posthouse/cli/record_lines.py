"""What `posthouse dump` shows of records, frames and damage: one line each, for people or as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from posthouse.cli.screen import body_text, message_document, printable, time_text
from posthouse.codec.compression import inflate_body
from posthouse.codec.record import RecordError
from posthouse.model import properties as names
from posthouse.model.limits import DUE_MS_MAX
from posthouse.model.message import StoredMessage
from posthouse.model.names import TIMER_TOPICS
from posthouse.store.dump import Damage, Item, kind_word
from posthouse.store.log.scan import Frame

STATE_CHARS_MAX = 400
"""Of the content of a state record; JSON has all of it."""


def item_line(item: Item, with_body: bool) -> str:
    if isinstance(item, Frame):
        return _frame_line(item)
    if isinstance(item, Damage):
        return f"!! {item.end - item.first} bytes at {item.first} are damaged ({item.file}): {item.why}"
    doubt = "" if item.is_sure else "  (recognised in damage)"
    record = item.record
    start = f"{item.log_offset:>12}  {time_text(record.stored_at_ms)}"
    if not isinstance(record, StoredMessage):
        content = _json(record.body)
        more = "…" if len(content) > STATE_CHARS_MAX else ""
        return f"{start}  [{kind_word(record.kind)}]  {printable(content[:STATE_CHARS_MAX])}{more}{doubt}"
    keys = printable(",".join(record.keys)) or "-"
    place = f"{record.queue_id}:{record.queue_offset}"
    line = f"{start}  {printable(record.topic)}  {place}  {item.size} B  {printable(record.tag) or '-'}  {keys}"
    line += "".join(f"  ({note})" for note in _notes(record)) + doubt
    return f"{line}  {body_text(_body(record))}" if with_body else line


def _notes(record: StoredMessage) -> list[str]:
    """What a message is besides a message: one that waits for its time, or that replaces another record."""
    notes: list[str] = []
    if record.topic in TIMER_TOPICS:
        due_ms = record.properties.get(names.TIMER_OUT_MS, "")
        known = due_ms.isdecimal() and int(due_ms) <= DUE_MS_MAX
        to = printable(record.properties.get(names.REAL_TOPIC, "?"))
        notes.append(f"due {time_text(int(due_ms)) if known else '?'} in {to}")
    if record.prepared_transaction_offset:
        notes.append(f"replaces {record.prepared_transaction_offset}")
    return notes


def item_document(item: Item, with_body: bool) -> str:
    if isinstance(item, Frame):
        return _json(_frame_document(item))
    if isinstance(item, Damage):
        return _json({"type": "damage", "file": item.file, "log_offset": item.first, "end": item.end, "why": item.why})
    record = item.record
    document: dict[str, Any] = {
        "type": "message",
        "log_offset": item.log_offset,
        "size": item.size,
        "sure": item.is_sure,
    }
    if isinstance(record, StoredMessage):
        document |= message_document(record, _body(record) if with_body else b"")
        if record.prepared_transaction_offset:
            document["replaces"] = record.prepared_transaction_offset
        del document["broker"]
        if not with_body:
            del document["body"], document["body_base64"]
    else:
        document |= {"type": kind_word(record.kind), "stored_at_ms": record.stored_at_ms, "content": record.body}
    return _json(document)


def _body(message: StoredMessage) -> bytes:
    """As the program sent it, if it can be inflated here; else as it is stored."""
    try:
        return inflate_body(message)
    except RecordError:
        return message.body


def _frame_line(frame: Frame) -> str:
    header = frame.header
    what = {"BATCH": "batch", "OPENING": "opening", "END": "end mark", "GAP": "gap"}[frame.kind.name]
    records = f", {header.records} records" if header.records else ""
    return (
        f"-- {what} at {header.offset}: {header.size} bytes{records}, epoch {header.epoch}, durable up to "
        f"{header.durable}, checksum {header.checksum:08x} after {header.previous:08x}"
    )


def _frame_document(frame: Frame) -> dict[str, Any]:
    header = frame.header
    return {
        "type": "frame",
        "frame": frame.kind.name.lower(),
        "log_offset": header.offset,
        "size": header.size,
        "records": header.records,
        "epoch": header.epoch,
        "stored_at_ms": header.stored_at_ms,
        "durable": header.durable,
        "previous": header.previous,
        "checksum": header.checksum,
    }


def _json(document: object) -> str:
    return msgspec.json.encode(document).decode()
