"""What clients write into the trace topic: lines about what they did with messages.

    body     line U+0002 line U+0002 ...
    line     field U+0001 field U+0001 ...

The first field says what kind of line it is; the others have their place, and a newer client may know more of them.

    Pub             time region group topic id tags keys store_host body_length cost_ms type offset_id success [client]
    SubBefore       time region group request id retry_times keys
    SubAfter        request id cost_ms success keys context_code [time group]
    EndTransaction  time region group topic id tags keys store_host type transaction_id state from_check
    Recall          time region group topic id success

SubBefore and SubAfter of one delivery share their request id. A line that cannot be read is skipped and counted, as a
body comes from whatever client was there. Java writes `null` for what it has not got.
Source: RocketMQ 5.3 TraceDataEncoder, TraceType, MessageType.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from posthouse.host.clock import EpochMs

FIELD_END = "\x01"
LINE_END = "\x02"

_NULL = "null"


class MessageType(IntEnum):
    """Of a message that was sent; the number is on the wire."""

    NORMAL = 0
    HALF = 1
    COMMIT = 2
    DELAY = 3
    ORDER = 4


class ContextCode(IntEnum):
    """How a consumer's handler ended. Source: RocketMQ 5.3 ConsumeReturnType."""

    SUCCESS = 0
    TIMED_OUT = 1
    EXCEPTION = 2
    RETURNED_NULL = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Published:
    """A producer sent a message, or failed to. `store_host` is the broker's `ip:port`."""

    at_ms: EpochMs
    group: str
    topic: str
    message_id: str
    tag: str = ""
    keys: str = ""
    store_host: str = ""
    body_bytes: int = 0
    cost_ms: int = 0
    message_type: int = MessageType.NORMAL
    offset_message_id: str = ""
    success: bool = True
    client_host: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A consumer is about to handle a message."""

    at_ms: EpochMs
    group: str
    request_id: str
    message_id: str
    reconsume_times: int = 0
    keys: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Handled:
    """A consumer has handled it. Old clients say neither when nor for which group: that is in `Delivered`."""

    request_id: str
    message_id: str
    cost_ms: int = 0
    success: bool = True
    keys: str = ""
    context_code: int = ContextCode.SUCCESS
    at_ms: EpochMs | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """`state` is COMMIT_MESSAGE, ROLLBACK_MESSAGE or UNKNOW."""

    at_ms: EpochMs
    group: str
    topic: str
    message_id: str
    tag: str = ""
    keys: str = ""
    store_host: str = ""
    message_type: int = MessageType.COMMIT
    transaction_id: str = ""
    state: str = ""
    from_check: bool = False
    region: str = ""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A message that waited for its time was called back, or could not be."""

    at_ms: EpochMs
    group: str
    topic: str
    message_id: str
    success: bool = True
    region: str = ""


TraceLine: TypeAlias = Published | Delivered | Handled | TransactionEnded | Recalled


def encode_trace(lines: Iterable[TraceLine]) -> bytes:
    """A body. The two separators in a text are made blanks: they would break the line."""
    found: list[str] = []
    for line in lines:
        kind, fields = _fields(line)
        found.append(FIELD_END.join((kind, *(_clean(each) for each in fields))) + LINE_END)
    return "".join(found).encode("utf-8", "replace")


def decode_trace(body: bytes) -> tuple[list[TraceLine], int]:
    """The lines of a body, in order, and how many could not be read."""
    found: list[TraceLine] = []
    unread = 0
    for text in body.decode("utf-8", "replace").split(LINE_END):
        if not text.strip():
            continue
        kind, *rest = text.split(FIELD_END)
        least, read = _READERS.get(kind, (0, None))
        if read is None or len(rest) < least:
            unread += 1
            continue
        try:
            found.append(read([("" if field == _NULL else field) for field in rest]))
        except ValueError:
            unread += 1
    return found, unread


def _clean(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    text = str(value)
    return text.replace(FIELD_END, " ").replace(LINE_END, " ")


def _fields(line: TraceLine) -> tuple[str, tuple[object, ...]]:
    match line:
        case Published():
            return "Pub", (
                *(line.at_ms, line.region, line.group, line.topic, line.message_id, line.tag, line.keys),
                *(line.store_host, line.body_bytes, line.cost_ms, line.message_type, line.offset_message_id),
                *((line.success, line.client_host) if line.client_host else (line.success,)),
            )
        case Delivered():
            return "SubBefore", (
                *(line.at_ms, line.region, line.group, line.request_id, line.message_id),
                *(line.reconsume_times, line.keys),
            )
        case Handled():
            code = (line.request_id, line.message_id, line.cost_ms, line.success, line.keys, line.context_code)
            return "SubAfter", code if line.at_ms is None else (*code, line.at_ms, line.group)
        case TransactionEnded():
            return "EndTransaction", (
                *(line.at_ms, line.region, line.group, line.topic, line.message_id, line.tag, line.keys),
                *(line.store_host, line.message_type, line.transaction_id, line.state, line.from_check),
            )
        case Recalled():
            return "Recall", (line.at_ms, line.region, line.group, line.topic, line.message_id, line.success)


def _number(text: str) -> int:
    """Raises ValueError for what is no int64: the digits that Java reads."""
    found = int(text) if text else 0
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"{text[:20]} is no 64 bit number")
    return found


def _is_true(text: str) -> bool:
    return text.lower() == "true"


def _read_published(field: list[str]) -> Published:
    """Clients before 4.5 or so have no offset id, so there success comes a field earlier."""
    old = len(field) == 12
    return Published(
        EpochMs(_number(field[0])),
        field[2],
        field[3],
        field[4],
        field[5],
        field[6],
        field[7],
        _number(field[8]),
        _number(field[9]),
        _number(field[10]),
        "" if old else field[11],
        _is_true(field[11] if old else field[12]),
        field[13] if len(field) > 13 else "",
        field[1],
    )


def _read_delivered(field: list[str]) -> Delivered:
    keys = field[6] if len(field) > 6 else ""
    return Delivered(EpochMs(_number(field[0])), field[2], field[3], field[4], _number(field[5]), keys, field[1])


def _read_handled(field: list[str]) -> Handled:
    return Handled(
        field[0],
        field[1],
        _number(field[2]),
        _is_true(field[3]),
        field[4] if len(field) > 4 else "",
        _number(field[5]) if len(field) > 5 else ContextCode.SUCCESS,
        EpochMs(_number(field[6])) if len(field) > 6 else None,
        field[7] if len(field) > 7 else "",
    )


def _read_transaction(field: list[str]) -> TransactionEnded:
    return TransactionEnded(
        EpochMs(_number(field[0])),
        field[2],
        field[3],
        field[4],
        field[5],
        field[6],
        field[7],
        _number(field[8]),
        field[9],
        field[10],
        _is_true(field[11]) if len(field) > 11 else False,
        field[1],
    )


def _read_recalled(field: list[str]) -> Recalled:
    return Recalled(EpochMs(_number(field[0])), field[2], field[3], field[4], _is_true(field[5]), field[1])


_READERS: dict[str, tuple[int, Callable[[list[str]], TraceLine] | None]] = {
    "Pub": (12, _read_published),
    "SubBefore": (6, _read_delivered),
    "SubAfter": (4, _read_handled),
    "EndTransaction": (11, _read_transaction),
    "Recall": (6, _read_recalled),
}
"""For each kind: how many fields it has at least after the first, and who reads them."""
