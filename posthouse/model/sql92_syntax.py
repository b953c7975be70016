"""SQL92 filter expressions, from text to a tree. What a tree means is in `sql92`.

    or          and {OR and}
    and         equality {AND equality}
    equality    comparison {= comparison | <> comparison | IS [NOT] NULL}
    comparison  unary {(> | >= | < | <=) unary | [NOT] BETWEEN unary AND unary | [NOT] IN ('text' {, 'text'})
                       | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) 'text'}
    unary       {+ | - | NOT} (literal | property | ( or ))

Keywords in any case, properties as they are written; comments are `-- to the end of the line` and `/* ... */`. NOT
binds tighter than a comparison. What could never be compared is refused here, with its place, and so is what is left
over behind a whole expression: RocketMQ ignores that, and then filters by something else than was written.
Trees are at most EXPRESSION_DEPTH_MAX deep, so that whoever walks one needs no more stack than that.
Source: RocketMQ 5.3 SelectorParser, ComparisonExpression, ConstantExpression.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, NoReturn

from posthouse.model.limits import EXPRESSION_DEPTH_MAX
from posthouse.model.refusal import Reason, Refused


class Kind(Enum):
    """What an operand is. Numbers are of the kind that Java gives to their literal."""

    PROPERTY = auto()  # text, or null
    TEXT = auto()
    INT = auto()  # 32 bit
    LONG = auto()
    DOUBLE = auto()
    BOOLEAN = auto()  # of three values
    NULL = auto()  # always


class Property(NamedTuple):
    name: str


class Literal(NamedTuple):
    """`value` is a str, int, float, bool, or None for NULL. `negated`: not a plain constant any more for the checks."""

    kind: Kind
    value: str | int | float | bool | None
    negated: bool = False


class Negated(NamedTuple):
    """A minus before something that is no number: null, once that is evaluated."""

    of: Node


class Not(NamedTuple):
    of: Node


class Cast(NamedTuple):
    """A property where a condition is wanted: it is text, so it is never TRUE."""

    of: Property


class Compared(NamedTuple):
    """`operator` is one of = > >= < <=."""

    operator: str
    left: Node
    right: Node


class IsNull(NamedTuple):
    of: Node


class In(NamedTuple):
    of: Property
    texts: tuple[str, ...]
    negated: bool


class Matched(NamedTuple):
    """`operator` is CONTAINS, STARTSWITH or ENDSWITH."""

    operator: str
    of: Node
    text: str
    negated: bool


class Between(NamedTuple):
    of: Node
    low: Node
    high: Node
    negated: bool


class Every(NamedTuple):
    """Joined by AND."""

    of: tuple[Node, ...]


class AnyOf(NamedTuple):
    """Joined by OR."""

    of: tuple[Node, ...]


Node = Property | Literal | Negated | Not | Cast | Compared | IsNull | In | Matched | Between | Every | AnyOf
_CONDITIONS = (Not, Cast, Compared, IsNull, In, Matched, Between, Every, AnyOf)

_INT_MAX, _LONG_MAX = 2**31 - 1, 2**63 - 1
_DOUBLE_MIN = 5e-324  # Java's Double.MIN_VALUE
_NUMBERS = (Kind.INT, Kind.LONG, Kind.DOUBLE)
_MATCHES = ("CONTAINS", "STARTSWITH", "ENDSWITH")


def kind_of(node: Node) -> Kind:
    if isinstance(node, Literal):
        return node.kind
    if isinstance(node, Property):
        return Kind.PROPERTY
    return Kind.NULL if isinstance(node, Negated) else Kind.BOOLEAN


def is_condition(node: Node) -> bool:
    """Whether it has a truth value of itself: TRUE, FALSE and NULL have."""
    return isinstance(node, _CONDITIONS) or (isinstance(node, Literal) and node.kind in (Kind.BOOLEAN, Kind.NULL))


# Words


class _Token(NamedTuple):
    kind: str  # of _WORDS, or the keyword or sign itself, or "" at the end
    text: str
    at: int


_KEYWORDS = {"AND", "OR", "NOT", "BETWEEN", "IN", "IS", "NULL", "TRUE", "FALSE", *_MATCHES}
_WORDS = re.compile(
    r"""(?P<space>[ \t\n\r\f]+ | --[^\n\r]* | /\*(?s:.*?)\*/)
      | (?P<double>[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)? | \.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+)
      | (?P<whole>0|[1-9][0-9]*[lL]?)
      | (?P<text>'(?:''|[^'])*')
      | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
      | (?P<sign><>|>=|<=|[=<>(),+-])""",
    re.VERBOSE,
)
_HINTS = {
    "!": "write <> for unequal",
    '"': "text is put in single quotes",
    "`": "text is put in single quotes, property names in none",
    "'": "the text that begins here has no closing quote",
    "/": "there is no arithmetic; or a comment that begins here has no end",
    "*": "there is no arithmetic; and for all messages, subscribe with the type TAG",
    "%": "there is no arithmetic",
    "&": "write AND",
    "|": "write OR; tags with || between them are of the type TAG",
}
_NO_LIKE = "; there is no LIKE: use CONTAINS, STARTSWITH or ENDSWITH"


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _WORDS.match(text, at)
        if match is None:
            hint = _HINTS.get(text[at], "no word begins so")
            _refuse(text, at, f"{text[at]!r}: {hint}")
        kind, word = str(match.lastgroup), match.group()
        if kind == "sign":
            found.append(_Token(word, word, at))
        elif kind == "name" and word.upper() in _KEYWORDS:
            found.append(_Token(word.upper(), word, at))
        elif kind != "space":
            found.append(_Token(kind, word, at))
        at = match.end()
    found.append(_Token("", "", len(text)))
    return found


def _refuse(text: str, at: int, why: str) -> NoReturn:
    line = text.count("\n", 0, at)
    column = at - text.rfind("\n", 0, at)
    place = f"line {line + 1}, column {column}" if line else f"column {column}"
    raise Refused(Reason.SUBSCRIPTION_ILLEGAL, f"the SQL92 expression is wrong at {place}: {why}")


# Sentences


def parse(text: str) -> Node:
    """The tree of an expression; its root is a condition. Raises Refused(SUBSCRIPTION_ILLEGAL), naming the column."""
    return _Parser(text).whole()


class _Parser:
    """Recursive descent. Depth is that of the tree below, so chains that lean to the left count as well."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._all = _tokens(text)
        self._at = 0
        self._nested = 0
        self._depths: dict[int, int] = {}  # by id of a node; all nodes are kept in _nodes meanwhile
        self._nodes: list[Node] = []

    # Tokens

    @property
    def _next(self) -> _Token:
        return self._all[self._at]

    def _take(self, *kinds: str) -> _Token | None:
        token = self._all[self._at]
        if token.kind not in kinds:
            return None
        self._at += 1
        return token

    def _expect(self, kind: str, what: str) -> _Token:
        token = self._take(kind)
        if token is None:
            self._wrong(self._next, f"{what} is missing")
        return token

    def _wrong(self, token: _Token, why: str) -> NoReturn:
        before = f"before {token.text!r}, " if token.kind else "at the end, "
        _refuse(self._text, token.at, before + why + (_NO_LIKE if token.text.upper() == "LIKE" else ""))

    def _error(self, at: int, why: str) -> NoReturn:
        _refuse(self._text, at, why)

    def _made(self, node: Node, at: int, *below: Node) -> Node:
        """Notes how deep a new node is."""
        depth = 1 + max((self._depths.get(id(each), 0) for each in below), default=0)
        if depth > EXPRESSION_DEPTH_MAX:
            self._error(at, f"more than {EXPRESSION_DEPTH_MAX} levels")
        self._depths[id(node)] = depth
        self._nodes.append(node)
        return node

    # Grammar

    def whole(self) -> Node:
        start = self._next.at
        found = self._condition(self._either(), start)
        left = self._next
        if left.kind:
            self._error(left.at, f"{left.text!r} does not belong behind a whole expression{_hint_at(left)}")
        return found

    def _condition(self, node: Node, at: int) -> Node:
        if is_condition(node):
            return node
        if isinstance(node, Property):
            return self._made(Cast(node), at, node)
        self._error(at, "a condition is wanted here, not a value")

    def _either(self) -> Node:
        return self._joined("OR", self._both, AnyOf)

    def _both(self) -> Node:
        return self._joined("AND", self._equality, Every)

    def _joined(self, word: str, part: Callable[[], Node], make: Callable[[tuple[Node, ...]], Node]) -> Node:
        start = self._next.at
        first = part()
        if self._next.kind != word:
            return first
        parts = [self._condition(first, start)]
        while self._take(word):
            at = self._next.at
            parts.append(self._condition(part(), at))
        return self._made(make(tuple(parts)), start, *parts)

    def _equality(self) -> Node:
        start = self._next.at
        left = self._comparison()
        while token := self._take("=", "<>", "IS"):
            if token.kind == "IS":
                negated = self._take("NOT")
                self._expect("NULL", "NULL")
                left = self._made(IsNull(left), start, left)
            else:
                negated = token if token.kind == "<>" else None
                right_at = self._next.at
                right = self._comparison()
                self._check_equal(left, start, right, right_at)
                left = self._made(Compared("=", left, right), start, left, right)
            if negated:
                left = self._made(Not(left), start, left)
        return left

    def _check_equal(self, left: Node, left_at: int, right: Node, right_at: int) -> None:
        for node, at in ((left, left_at), (right, right_at)):
            if isinstance(node, Literal) and node.kind is Kind.NULL:
                self._error(at, "nothing is equal to NULL; write IS NULL or IS NOT NULL")
        if (
            isinstance(left, Literal)
            and isinstance(right, Literal)
            and not right.negated
            and left.kind is Kind.BOOLEAN
            and right.kind is not Kind.BOOLEAN
        ):
            self._error(right_at, "TRUE and FALSE are compared with properties only")

    def _comparison(self) -> Node:
        start = self._next.at
        left = self._unary()
        while True:
            if token := self._take(">", ">=", "<", "<="):
                at = self._next.at
                right = self._unary()
                self._check_ordered(left, start)
                self._check_ordered(right, at)
                left = self._made(Compared(token.kind, left, right), start, left, right)
                continue
            negated = self._next.kind == "NOT" and self._all[self._at + 1].kind in (*_MATCHES, "BETWEEN", "IN")
            if negated:
                self._at += 1
            if token := self._take(*_MATCHES):
                left = self._made(Matched(token.kind, left, self._string(), negated), start, left)
            elif self._take("BETWEEN"):
                left = self._between(left, start, negated)
            elif self._take("IN"):
                left = self._made(self._in(left, start, negated), start, left)
            else:
                return left

    def _check_ordered(self, node: Node, at: int) -> None:
        if isinstance(node, Literal) and (node.negated or node.kind in _NUMBERS):
            return
        if isinstance(node, Literal):
            self._error(at, "only numbers and properties have an order; text and TRUE, FALSE, NULL have none")
        if isinstance(node, Not):
            self._error(at, "NOT binds tighter than a comparison; put what follows it in brackets: NOT (a > 1)")
        if is_condition(node):
            self._error(at, "only numbers and properties have an order, a condition has none")

    def _between(self, left: Node, start: int, negated: bool) -> Node:
        low_at = self._next.at
        low = self._unary()
        self._expect("AND", "AND and the upper end of BETWEEN")
        high_at = self._next.at
        high = self._unary()
        for node, at in ((left, start), (low, low_at), (high, high_at)):
            self._check_ordered(node, at)
        if isinstance(low, Literal) and isinstance(high, Literal) and not (negated or low.negated or high.negated):
            assert isinstance(low.value, int | float)
            assert isinstance(high.value, int | float)
            if low.value > high.value:
                self._error(low_at, f"nothing is between {low.value} and {high.value}; the lower end comes first")
        return self._made(Between(left, low, high, negated), start, left, low, high)

    def _in(self, left: Node, start: int, negated: bool) -> In:
        if not isinstance(left, Property):
            self._error(start, "only a property can be IN a list")
        self._expect("(", "a bracket that opens the list")
        texts = [self._string()]
        while self._take(","):
            texts.append(self._string())
        self._expect(")", "a comma, or the bracket that closes the list,")
        return In(left, tuple(texts), negated)

    def _string(self) -> str:
        return _text(self._expect("text", "text in single quotes").text)

    def _unary(self) -> Node:
        token = self._take("+", "-", "NOT")
        if token is None:
            return self._primary()
        at = self._next.at
        self._enter(token)
        below = self._unary()
        self._nested -= 1
        if token.kind == "+":
            return below
        if token.kind == "NOT":
            of = self._condition(below, at)
            return self._made(Not(of), token.at, of)
        if isinstance(below, Literal) and below.kind in _NUMBERS:
            assert isinstance(below.value, int | float)
            return self._made(Literal(below.kind, -below.value, True), token.at)
        return self._made(Negated(below), token.at, below)

    def _enter(self, token: _Token) -> None:
        self._nested += 1
        if self._nested > EXPRESSION_DEPTH_MAX:
            self._error(token.at, f"more than {EXPRESSION_DEPTH_MAX} levels")

    def _primary(self) -> Node:
        token = self._next
        self._at += 1
        if token.kind == "(":
            self._enter(token)
            found = self._either()
            self._expect(")", "a closing bracket")
            self._nested -= 1
            return found
        if token.kind == "name":
            return Property(token.text)
        literal = self._literal(token)
        if literal is None:
            self._wrong(token, "a value, a property or a bracket is missing")
        return literal

    def _literal(self, token: _Token) -> Literal | None:
        if token.kind == "text":
            return Literal(Kind.TEXT, _text(token.text))
        if token.kind == "whole":
            following = self._next
            if following.kind in ("whole", "double", "name") and following.at == token.at + len(token.text):
                self._error(token.at, f"{token.text}{following.text} is no number; none begins with 0 or has letters")
            whole = int(token.text.rstrip("lL")[:20])
            if whole > _LONG_MAX:
                self._error(token.at, f"the number is over {_LONG_MAX}")
            return Literal(Kind.INT if whole <= _INT_MAX else Kind.LONG, whole)
        if token.kind == "double":
            double = float(token.text)
            if not _DOUBLE_MIN <= double <= sys.float_info.max:
                self._error(token.at, "a number with a point may neither be 0 nor too large; write 0 for zero")
            return Literal(Kind.DOUBLE, double)
        if token.kind in ("TRUE", "FALSE"):
            return Literal(Kind.BOOLEAN, token.kind == "TRUE")
        return Literal(Kind.NULL, None) if token.kind == "NULL" else None


def _text(quoted: str) -> str:
    return quoted[1:-1].replace("''", "'")


def _hint_at(token: _Token) -> str:
    if token.text.upper() == "LIKE":
        return _NO_LIKE
    if token.kind in ("+", "-"):
        return "; there is no arithmetic"
    if token.kind == "=":
        return "; write = once"
    return "; is AND or OR missing?"
