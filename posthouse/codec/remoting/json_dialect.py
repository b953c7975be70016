"""The JSON of bodies: strict JSON first, and what fastjson writes beside it.

Java's bodies may hold map keys that are bare numbers (`{0:"10.0.0.1:10911"}`) or whole objects
(`{{"brokerName":"b","queueId":0,"topic":"t"}:5}`), and back-references (`{"$ref":"$.a"}`). The reader takes these
and, as fastjson's own does, single quotes and trailing commas. Keys that are numbers become text, so both dialects
read alike; keys that are objects become a MessageQueue, or a sorted tuple of their members. Only WireError comes out.

The writer is compact, always: there are clients that split the text of a route by hand.
Source: RocketMQ 5.3 RemotingSerializable; fastjson 1.2 JSONSerializer, DefaultJSONParser.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from math import isinf
from typing import Any

import msgspec

from posthouse.codec.remoting.frame import WireError
from posthouse.codec.remoting.json_references import NESTING_MAX, resolve_references
from posthouse.model.message import MessageQueue

_decode_strict = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_json(data: bytes) -> Any:
    """The value, of dict, list, str, int, float, bool and None. Raises WireError."""
    try:
        found = _decode_strict(data)
    except RecursionError:
        raise WireError("JSON that is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = _read_dialect(data)
    return resolve_references(found) if b'"$ref"' in data or b"'$ref'" in data else found


def _read_dialect(data: bytes) -> Any:
    try:
        reader = _Reader(data.decode())
        found = reader.value(0)
        reader.end()
    except UnicodeDecodeError as error:
        raise WireError(f"the JSON: {error}") from None
    return found


_BLANK = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r""""[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*"|'[^'\\\x00-\x1f]*(?:\\.[^'\\\x00-\x1f]*)*'""")
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?")
_SINGLE_QUOTED = re.compile(r"\\.|\"")
_WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


class _Reader:
    """Reads one value of the dialect; recursion is bounded by NESTING_MAX."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self, depth: int) -> Any:
        if depth > NESTING_MAX:
            raise self._error(f"nested deeper than {NESTING_MAX}")
        first = self._peek()
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._array(depth)
        if first in ('"', "'"):
            return self._string()
        if first in _WORDS:
            word, meaning = _WORDS[first]
            if not self._text.startswith(word, self._at):
                raise self._error("not a value")
            self._at += len(word)
            return meaning
        return self._number()

    def end(self) -> None:
        if self._peek():
            raise self._error("more after the end")

    def _object(self, depth: int) -> dict[Hashable, Any]:
        self._at += 1
        found: dict[Hashable, Any] = {}
        while self._peek() != "}":
            key = self._key(depth)
            if self._peek() != ":":
                raise self._error("a colon is missing")
            self._at += 1
            found[key] = self.value(depth + 1)
            self._comma_or("}")
        self._at += 1
        return found

    def _array(self, depth: int) -> list[Any]:
        self._at += 1
        found: list[Any] = []
        while self._peek() != "]":
            found.append(self.value(depth + 1))
            self._comma_or("]")
        self._at += 1
        return found

    def _key(self, depth: int) -> Hashable:
        first = self._peek()
        if first in ('"', "'"):
            return self._string()
        if first in ("{", "["):
            return _as_key(self.value(depth + 1))
        return str(self._number())

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise self._error("a string without its end")
        self._at = match.end()
        literal = match.group()
        if "\\" not in literal:
            return literal[1:-1]
        if literal[0] == "'":
            literal = f'"{_SINGLE_QUOTED.sub(_requote, literal[1:-1])}"'
        try:
            return str(_decode_strict(literal))
        except msgspec.MsgspecError as error:
            raise self._error(str(error)) from None

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            raise self._error("not a value")
        self._at = match.end()
        if match.group(1) is None and match.group(2) is None:
            return int(match.group())
        number = float(match.group())
        if isinf(number):
            raise self._error("a number out of range")
        return number

    def _comma_or(self, closing: str) -> None:
        found = self._peek()
        if found == ",":
            self._at += 1
        elif found != closing:
            raise self._error(f"a comma or {closing} is missing")

    def _peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None
        self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _error(self, what: str) -> WireError:
        return WireError(f"the JSON at character {self._at}: {what}")


def _requote(match: re.Match[str]) -> str:
    """Inside single quotes: `\\'` stands for a quote, and a bare double quote needs an escape."""
    return {"\\'": "'", '"': '\\"'}.get(match.group(), match.group())


def _as_key(value: Any) -> Hashable:
    """A map key that was an object: a MessageQueue if it is one, else a tuple of its sorted members."""
    if isinstance(value, dict):
        queue = _as_queue(value)
        return queue or tuple(sorted(((str(name), _as_key(member)) for name, member in value.items()), key=repr))
    if isinstance(value, list):
        return tuple(_as_key(each) for each in value)
    key: Hashable = value
    return key


def _as_queue(value: dict[Any, Any]) -> MessageQueue | None:
    topic, broker_name, queue_id = value.get("topic"), value.get("brokerName"), value.get("queueId")
    if isinstance(topic, str) and isinstance(broker_name, str) and type(queue_id) is int:
        return MessageQueue(topic, broker_name, queue_id)
    return None


def queue_of(value: Any) -> MessageQueue:
    """The queue that a key or member of a body names: read as a queue, as an object, or as text holding one.

    Raises WireError.
    """
    if isinstance(value, MessageQueue):
        return value
    if isinstance(value, str) and value.startswith("{"):
        value = read_json(value.encode(errors="surrogatepass"))
    queue = _as_queue(value) if isinstance(value, dict) else None
    if queue is None:
        raise WireError("a message queue needs topic, brokerName and queueId")
    return queue


def write_json(value: Any, *, bare_numbers: bool = False) -> bytes:
    """Compact JSON of dict, list, tuple, str, int, float, bool, and MessageQueue as member or as key.

    Members that are None are left out, as fastjson does. Keys that are ints are quoted, or bare with `bare_numbers`
    (the fastjson dialect). Keys that are queues are written as objects: that is no longer JSON, and what Java reads.
    """
    parts: list[bytes] = []
    _write(value, parts.append, bare_numbers)
    return b"".join(parts)


def _write(value: Any, put: Any, bare_numbers: bool) -> None:
    if isinstance(value, MessageQueue):
        put(_encode({"brokerName": value.broker_name, "queueId": value.queue_id, "topic": value.topic}))
    elif isinstance(value, Mapping):
        separator = b"{"
        for key, member in value.items():
            if member is not None:
                put(separator)
                _write_key(key, put, bare_numbers)
                put(b":")
                _write(member, put, bare_numbers)
                separator = b","
        put(b"{}" if separator == b"{" else b"}")
    elif isinstance(value, (list, tuple)):
        separator = b"["
        for member in value:
            put(separator)
            _write(member, put, bare_numbers)
            separator = b","
        put(b"[]" if separator == b"[" else b"]")
    else:
        put(_encode(value))


def _write_key(key: Any, put: Any, bare_numbers: bool) -> None:
    if isinstance(key, MessageQueue):
        _write(key, put, bare_numbers)
    elif isinstance(key, int):
        put(b"%d" % key if bare_numbers else b'"%d"' % key)
    else:
        put(_encode(key))
