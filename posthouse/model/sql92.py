"""SQL92 filter expressions as tests of a message's properties: compiled once to closures, then asked for each message.

Properties stay in their encoded form; a test looks for the names that its expression has and decodes nothing else. All
of it works on UTF-8 bytes, in which equality, prefix, suffix and part are what they are in text.

What must stay true, as in RocketMQ 5.3:

- Three values: an absent property is null (None here). AND is FALSE if anything is, else null if anything is; OR is
  TRUE if anything is, else null if anything is; NOT null is null. Only TRUE passes.
- `=`: null left gives null; null right alone FALSE; two nulls TRUE. `<>` is NOT of it. An order with null gives null.
- Text beside a number is read as a number of the literal's kind: 32 bit, 64 bit, or double. Text that is none is an
  error of evaluation: the message does not pass, whatever the rest says, unless AND or OR had decided before.
- Two properties are in order as doubles, and equal as text.
- CONTAINS, STARTSWITH and ENDSWITH are FALSE, with NOT too, for what is absent, and for an empty text.
- A property alone is not TRUE, whatever its text.

A difference: TRUE = a is a = TRUE here; there it is an error for every message that has `a`.

The closures for what people write (a property beside a literal) do all in one call. The rest goes the general way.
Source: RocketMQ 5.3 ComparisonExpression, LogicExpression, UnaryExpression.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from posthouse.model import sql92_syntax as syntax
from posthouse.model.properties import NAME_END, PAIR_END
from posthouse.model.sql92_syntax import Kind, Node

Value = bytes | int | float | bool | None
Answer = bool | None
Evaluate = Callable[[bytes], Any]
"""From encoded properties, with a separator before and behind, to a value. Raises ValueError for an error."""

_END = PAIR_END.encode()
_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1
_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1
_PLAIN_DOUBLE = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z").match
_NAMED_DOUBLE = re.compile(rb"[+-]?(?:NaN|Infinity)\Z").match
_BLANKS = bytes(range(0x21))

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_MIRRORED = {"=": "=", ">": "<", ">=": "<=", "<": ">", "<=": ">="}


@lru_cache(maxsize=256)
def compile_sql92(expression: str) -> Callable[[bytes], bool]:
    """A test of encoded properties: never raises. Raises Refused(SUBSCRIPTION_ILLEGAL), naming the column.

    The caller has checked the expression's length. Kept by text: consumers bring the same one again and again.
    """
    evaluate = _compile(syntax.parse(expression))

    def passes(properties: bytes) -> bool:
        try:
            return evaluate(b"\x02" + properties + b"\x02") is True
        except ValueError:
            return False

    return passes


def _compile(node: Node) -> Evaluate:
    return _COMPILERS[type(node)](node)


# Properties


def _needle(name: str) -> bytes:
    return f"{PAIR_END}{name}{NAME_END}".encode()


def _property(node: syntax.Property) -> Evaluate:
    needle = _needle(node.name)
    size = len(needle)

    def value(data: bytes) -> bytes | None:
        at = data.rfind(needle)
        if at < 0:
            return None
        at += size
        return data[at : data.find(_END, at)] or _earlier(data, needle)

    return value


def _earlier(data: bytes, needle: bytes) -> bytes | None:
    """The last one that has a value: a pair without one does not count."""
    at = len(data)
    while (at := data.rfind(needle, 0, at)) >= 0:
        begin = at + len(needle)
        found = data[begin : data.find(_END, begin)]
        if found:
            return found
        at += len(needle) - 1
    return None


# Numbers from text, as Java reads them


def _int(text: bytes) -> int:
    return _whole(text, _INT_MIN, _INT_MAX)


def _long(text: bytes) -> int:
    return _whole(text, _LONG_MIN, _LONG_MAX)


def _whole(text: bytes, low: int, high: int) -> int:
    if text.isdigit() or (text[:1] in (b"-", b"+") and text[1:].isdigit()):
        found = int(text)
        if low <= found <= high:
            return found
    raise ValueError


def _double(text: bytes) -> float:
    """Double.valueOf, without its hexadecimal form."""
    if text.replace(b".", b"", 1).isdigit() or _PLAIN_DOUBLE(text):  # the first is the quick one, for most
        return float(text)
    text = text.strip(_BLANKS)
    if _NAMED_DOUBLE(text):
        return float(text)
    if text[-1:] in (b"d", b"D", b"f", b"F"):
        text = text[:-1]
    if _PLAIN_DOUBLE(text):
        return float(text)
    raise ValueError


_READERS: dict[Kind, Callable[[bytes], int | float]] = {Kind.INT: _int, Kind.LONG: _long, Kind.DOUBLE: _double}


def _place(number: int | float) -> tuple[int, float]:
    """Sorts doubles as Java does: -0.0 before 0.0, what is no number behind all, and equal to its like."""
    if number != number:
        return 1, 0.0
    return 0, number


def _compare_doubles(left: float, right: float) -> int:
    if left == right:
        return (
            0
            if left
            else int(math.copysign(1, left) > math.copysign(1, right))
            - int(math.copysign(1, left) < math.copysign(1, right))
        )
    return 1 if _place(left) > _place(right) else -1 if _place(left) < _place(right) else 0


# Comparisons


def _compared(node: syntax.Compared) -> Evaluate:
    left, right = node.left, node.right
    sign = node.operator
    if isinstance(left, syntax.Literal) and isinstance(right, syntax.Property) and sign != "=":
        left, right, sign = right, left, _MIRRORED[sign]  # an order has no side on which null counts more
    if isinstance(left, syntax.Property) and isinstance(right, syntax.Literal):
        if right.kind is Kind.TEXT:
            return _equals_text(left, str(right.value).encode())
        if right.kind is Kind.BOOLEAN:
            return _equals_boolean(left, bool(right.value))
        assert isinstance(right.value, int | float)
        return _against_number(sign, left, right.kind, right.value)
    if sign == "=":
        return _equal(left, right)
    return _ordered(sign, left, right)


def _equals_text(node: syntax.Property, wanted: bytes) -> Evaluate:
    needle = _needle(node.name)
    size = len(needle)

    def test(data: bytes) -> Answer:
        at = data.rfind(needle)
        if at < 0:
            return None
        at += size
        found = data[at : data.find(_END, at)] or _earlier(data, needle)
        return None if found is None else found == wanted

    return test


def _equals_boolean(node: syntax.Property, wanted: bool) -> Evaluate:
    value = _property(node)

    def test(data: bytes) -> Answer:
        found = value(data)
        return None if found is None else (found.lower() == b"true") is wanted

    return test


def _against_number(sign: str, node: syntax.Property, kind: Kind, number: int | float) -> Evaluate:
    """A property beside a number: the test that is asked most."""
    needle = _needle(node.name)
    size = len(needle)
    read = _READERS[kind]
    most = {Kind.INT: _INT_MAX, Kind.LONG: _LONG_MAX}.get(kind, 0)
    order = operator.eq if sign == "=" else _ORDERS[sign]

    def test(data: bytes) -> Answer:
        at = data.rfind(needle)
        if at < 0:
            return None
        at += size
        found: bytes | None = data[at : data.find(_END, at)]
        if found and found.isdigit() and (value := int(found)) <= most:  # most numbers are such
            return order(value, number)
        if not found:
            found = _earlier(data, needle)
            if found is None:
                return None
        return order(read(found), number)

    def test_double(data: bytes) -> Answer:
        found: bytes | None = value_of(data)
        if found is None:
            return None
        value = _double(found)
        return order(value if value == value else math.inf, number)  # NaN is behind all in Java's order

    value_of = _property(node)
    return test_double if kind is Kind.DOUBLE else test


def _equal(left: Node, right: Node) -> Evaluate:
    left_value, right_value = _compile(left), _compile(right)
    same = _same(syntax.kind_of(left), syntax.kind_of(right))

    def test(data: bytes) -> Answer:
        one, other = left_value(data), right_value(data)
        if one is None:
            return True if other is None else None
        return False if other is None else same(one, other)

    return test


_TEXTS = (Kind.PROPERTY, Kind.TEXT)


def _same(left: Kind, right: Kind) -> Callable[[Any, Any], bool]:
    """Equality of two that are not null, by their kinds."""
    if left in _TEXTS and right in _TEXTS:
        return operator.eq
    if left in _READERS and right in _READERS:
        if Kind.DOUBLE in (left, right):
            return lambda one, other: _compare_doubles(float(one), float(other)) == 0
        return operator.eq
    if left in _READERS and right in _TEXTS:
        return _same_number(_READERS[left])
    if left in _TEXTS and right in _READERS:
        same = _same_number(_READERS[right])
        return lambda one, other: same(other, one)
    if left is Kind.BOOLEAN and right is Kind.BOOLEAN:
        return operator.is_
    if left is Kind.BOOLEAN and right in _TEXTS:
        return lambda one, other: (other.lower() == b"true") is one
    if left in _TEXTS and right is Kind.BOOLEAN:
        return lambda one, other: (one.lower() == b"true") is other
    return lambda one, other: False


def _same_number(read: Callable[[bytes], int | float]) -> Callable[[int | float, bytes], bool]:
    return lambda number, text: _compare_doubles(number, read(text)) == 0 if read is _double else number == read(text)


def _ordered(sign: str, left: Node, right: Node) -> Evaluate:
    """An order of what is no property beside a literal: two properties, two numbers, or nothing that has one."""
    left_value, right_value = _compile(left), _compile(right)
    order = _ORDERS[sign]
    kinds = syntax.kind_of(left), syntax.kind_of(right)
    read: Callable[[Any], int | float] = _double if kinds == (Kind.PROPERTY, Kind.PROPERTY) else _as_it_is
    assert set(kinds) <= {Kind.PROPERTY, Kind.NULL} or set(kinds) <= {*_READERS, Kind.NULL}

    def test(data: bytes) -> Answer:
        one = left_value(data)
        if one is None:
            return None
        other = right_value(data)
        if other is None:
            return None
        return order(_compare_doubles(read(one), read(other)), 0)

    return test


def _as_it_is(number: int | float) -> int | float:
    return number


def _between(node: syntax.Between) -> Evaluate:
    if (
        isinstance(node.of, syntax.Property)
        and isinstance(node.low, syntax.Literal)
        and isinstance(node.high, syntax.Literal)
        and node.low.kind is node.high.kind
    ):
        assert isinstance(node.low.value, int | float)
        assert isinstance(node.high.value, int | float)
        return _within(node.of, node.low.kind, node.low.value, node.high.value, node.negated)
    low, high = ("<", ">") if node.negated else (">=", "<=")
    parts = _compared(syntax.Compared(low, node.of, node.low)), _compared(syntax.Compared(high, node.of, node.high))
    return _any_of(parts) if node.negated else _every(parts)


def _within(node: syntax.Property, kind: Kind, low: int | float, high: int | float, negated: bool) -> Evaluate:
    """Both ends at once, if both are read in the same way."""
    value, read = _property(node), _READERS[kind]

    def test(data: bytes) -> Answer:
        found = value(data)
        if found is None:
            return None
        number = int(found) if kind is Kind.INT and len(found) < 10 and found.isdigit() else read(found)
        return (low <= number <= high) is not negated

    return test


def _in(node: syntax.In) -> Evaluate:
    value = _property(node.of)
    texts = frozenset(text.encode() for text in node.texts)
    negated = node.negated

    def test(data: bytes) -> Answer:
        found = value(data)
        return None if found is None else (found in texts) is not negated

    return test


_FINDERS: dict[str, Callable[[bytes, bytes], bool]] = {
    "CONTAINS": operator.contains,
    "STARTSWITH": bytes.startswith,
    "ENDSWITH": bytes.endswith,
}


def _matched(node: syntax.Matched) -> Evaluate:
    value, text = _compile(node.of), node.text.encode()
    find, negated = _FINDERS[node.operator], node.negated

    def test(data: bytes) -> Answer:
        found = value(data)
        return find(found, text) is not negated if text and isinstance(found, bytes) else False

    return test


def _is_null(node: syntax.IsNull) -> Evaluate:
    value = _compile(node.of)

    def test(data: bytes) -> Answer:
        return value(data) is None

    return test


# Logic


def _not(node: syntax.Not) -> Evaluate:
    value = _compile(node.of)

    def test(data: bytes) -> Answer:
        found = value(data)
        return None if found is None else not found

    return test


def _cast(node: syntax.Cast) -> Evaluate:
    value = _property(node.of)

    def test(data: bytes) -> Answer:
        return None if value(data) is None else False

    return test


def _every(parts: tuple[Evaluate, ...]) -> Evaluate:
    if len(parts) == 2:
        first, second = parts

        def both(data: bytes) -> Answer:
            one = first(data)
            if one is False:
                return False
            other = second(data)
            return other if one or other is False else None

        return both

    def test(data: bytes) -> Answer:
        answer: Answer = True
        for part in parts:
            found = part(data)
            if found is False:
                return False
            if found is None:
                answer = None
        return answer

    return test


def _any_of(parts: tuple[Evaluate, ...]) -> Evaluate:
    if len(parts) == 2:
        first, second = parts

        def either(data: bytes) -> Answer:
            one = first(data)
            if one:
                return True
            other = second(data)
            return other if one is False or other else None

        return either

    def test(data: bytes) -> Answer:
        answer: Answer = False
        for part in parts:
            found = part(data)
            if found:
                return True
            if found is None:
                answer = None
        return answer

    return test


def _literal(node: syntax.Literal) -> Evaluate:
    value = node.value.encode() if isinstance(node.value, str) else node.value
    return lambda data: value


def _negated(node: syntax.Negated) -> Evaluate:
    value = _compile(node.of)

    def test(data: bytes) -> None:
        value(data)  # which may be an error

    return test


_COMPILERS: dict[type, Callable[[Any], Evaluate]] = {
    syntax.Property: _property,
    syntax.Literal: _literal,
    syntax.Negated: _negated,
    syntax.Not: _not,
    syntax.Cast: _cast,
    syntax.Compared: _compared,
    syntax.IsNull: _is_null,
    syntax.In: _in,
    syntax.Matched: _matched,
    syntax.Between: _between,
    syntax.Every: lambda node: _every(tuple(_compile(part) for part in node.of)),
    syntax.AnyOf: lambda node: _any_of(tuple(_compile(part) for part in node.of)),
}
