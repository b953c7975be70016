"""SQL92 expressions the slow way: trees drawn at random, how they are written, and what they mean, rule by rule.

Shares nothing with posthouse.model.sql92. Values carry the name of their Java class, because the rules do. Source:
RocketMQ 5.3 ComparisonExpression, LogicExpression, UnaryExpression.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any, NamedTuple

from hypothesis import strategies as st

INT_MAX, LONG_MAX = 2**31 - 1, 2**63 - 1


class EvaluationError(Exception):
    """The message does not pass."""


class Tree(NamedTuple):
    what: str
    of: tuple[Any, ...]


class Of(NamedTuple):
    """A value that is not null, and its Java class."""

    java: str
    value: Any


# Writing


def write(tree: Tree) -> str:
    what, of = tree
    if what in ("and", "or"):
        return f" {what.upper()} ".join(_operand(each) for each in of)
    if what == "not":
        return f"NOT {_operand(of[0])}"
    if what in ("=", "<>", "<", "<=", ">", ">="):
        return f"{_operand(of[0])} {what} {_operand(of[1])}"
    if what in ("is null", "is not null"):
        return f"{_operand(of[0])} {what.upper()}"
    if what in ("between", "not between"):
        return f"{_operand(of[0])} {what} {_operand(of[1])} and {_operand(of[2])}"
    if what in ("in", "not in"):
        return f"{_operand(of[0])} {what.upper()} ({', '.join(_quoted(each) for each in of[1])})"
    if what.split()[-1] in ("contains", "startswith", "endswith"):
        return f"{_operand(of[0])} {what} {_quoted(of[1])}"
    return _operand(tree)


def _operand(tree: Tree) -> str:
    what, of = tree
    if what == "negated":
        return f"- {_operand(of[0])}"
    if what == "text":
        return _quoted(of[0])
    if what in ("property", "double"):
        return str(of[0])
    if what == "whole":
        return f"{of[0]}{of[1]}"
    if what == "truth":
        return "TRUE" if of[0] else "FALSE"
    return f"({write(tree)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Meaning


def passes(tree: Tree, properties: dict[str, str]) -> bool:
    try:
        found = meaning(tree, properties)
    except EvaluationError:
        return False
    return found == Of("Boolean", True)


def meaning(tree: Tree, properties: dict[str, str]) -> Of | None:
    what, of = tree
    if what == "property":
        return Of("String", properties[of[0]]) if of[0] in properties else None
    if what == "text":
        return Of("String", of[0])
    if what == "whole":
        return Of("Integer" if of[0] <= INT_MAX else "Long", of[0])
    if what == "double":
        return Of("Double", float(of[0]))
    if what == "truth":
        return Of("Boolean", of[0])
    if what == "negated":
        below = meaning(of[0], properties)
        return Of(below.java, -below.value) if below and below.java in ("Integer", "Long", "Double") else None
    return _truth(_condition(what, of, properties))


def _truth(value: bool | None) -> Of | None:
    return None if value is None else Of("Boolean", value)


def _as_condition(tree: Tree, properties: dict[str, str]) -> bool | None:
    found = meaning(tree, properties)
    if found is None:
        return None
    return bool(found.value) if found.java == "Boolean" else False  # a property is text, so it is never TRUE


def _condition(what: str, of: tuple[Any, ...], properties: dict[str, str]) -> bool | None:
    if what in ("and", "or"):
        return _joined(what == "or", of, properties)
    if what == "not":
        return _inverse(_as_condition(of[0], properties))
    if what in ("=", "<>"):
        equal = _equal(meaning(of[0], properties), meaning(of[1], properties))
        return equal if what == "=" else _inverse(equal)
    if what in ("<", "<=", ">", ">="):
        return _ordered(what, of[0], of[1], properties)
    if what in ("is null", "is not null"):
        return (meaning(of[0], properties) is None) is (what == "is null")
    if what == "between":
        return _joined(False, (Tree(">=", of[:2]), Tree("<=", (of[0], of[2]))), properties)
    if what == "not between":
        return _joined(True, (Tree("<", of[:2]), Tree(">", (of[0], of[2]))), properties)
    subject = meaning(of[0], properties)
    if what in ("in", "not in"):
        return None if subject is None else (subject.value in of[1]) is (what == "in")
    if subject is None or subject.java != "String" or not of[1]:
        return False
    found = {"contains": subject.value.find(of[1]) >= 0, "startswith": subject.value[: len(of[1])] == of[1]}
    found["endswith"] = subject.value[-len(of[1]) :] == of[1]
    return found[what.split()[-1]] is not what.startswith("not")


def _joined(decisive: bool, parts: tuple[Any, ...], properties: dict[str, str]) -> bool | None:
    """AND is decided by FALSE, OR by TRUE, from the left; what comes behind is not looked at."""
    seen = []
    for part in parts:
        value = _as_condition(part, properties)
        if value is decisive:
            return decisive
        seen.append(value)
    return None if None in seen else not decisive


def _inverse(value: bool | None) -> bool | None:
    return None if value is None else not value


def _equal(left: Of | None, right: Of | None) -> bool | None:
    if left is None and right is None:
        return True
    if left is None:
        return None
    if right is None:
        return False
    return _compare(left, right) == 0


def _ordered(sign: str, left: Tree, right: Tree, properties: dict[str, str]) -> bool | None:
    one = meaning(left, properties)
    if one is None:
        return None
    other = meaning(right, properties)
    if other is None:
        return None
    if one.java == other.java == "String":
        one, other = _converted(one, "Double"), _converted(other, "Double")
    found = _compare(one, other)
    return {"<": found < 0, "<=": found <= 0, ">": found > 0, ">=": found >= 0}[sign]


_RANK = {"Integer": 1, "Long": 2, "Double": 3}


def _compare(left: Of, right: Of) -> int:
    """Below 0, 0 or above 0, as Java's compareTo after the conversions."""
    if left.java != right.java:
        if left.java == "String":
            left = _converted(left, right.java)
        elif right.java == "String":
            right = _converted(right, left.java)
        elif "Boolean" in (left.java, right.java):
            return -1
        else:
            wider = max(left.java, right.java, key=lambda java: _RANK[java])
            left, right = (Of(wider, float(x.value) if wider == "Double" else x.value) for x in (left, right))
    if left.java == "Double":
        one, other = _bits(left.value), _bits(right.value)
        return (one > other) - (one < other)
    return int(left.value > right.value) - int(left.value < right.value)


def _bits(value: float) -> int:
    """A number that sorts as Double.compareTo does: its bits, those of negative ones turned round."""
    bits: int = struct.unpack(">q", struct.pack(">d", math.nan if math.isnan(value) else value))[0]
    return bits if bits >= 0 else -(bits & LONG_MAX) - 1


def _converted(value: Of, java: str) -> Of:
    text = value.value
    if java == "Boolean":
        return Of(java, text.lower() == "true")
    if java == "Double":
        stripped = text.strip("".join(map(chr, range(33))))
        if re.fullmatch(r"[+-]?(NaN|Infinity|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[fFdD]?)", stripped):
            return Of(java, float(stripped.rstrip("fFdD") if stripped[-1] in "fFdD" else stripped))
    elif re.fullmatch(r"[+-]?[0-9]+", text):
        most = INT_MAX if java == "Integer" else LONG_MAX
        if -most - 1 <= int(text) <= most:
            return Of(java, int(text))
    raise EvaluationError(f"{text!r} is no {java}")


# Drawing

NAMES = ("a", "b", "_c", "D$1", "TAGS")
VALUES = (
    "1", "5", "-3", "+4", "05", "0", "-0", "-0.0", "0.0", "1.5", ".5", "5.", "1e3", "5d", " 7 ", "7\t", "abc", "true",
    "TRUE", "false", "NaN", "-NaN", "Infinity", "-Infinity", "inf", "nan", "1_0", "2147483647", "2147483648",
    "-2147483649", "9223372036854775807", "9223372036854775808", "it's", "it", "häuser", "5 5", "0x10", "1e400",
    "-", "+", "",
)  # fmt: skip


def properties() -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=len(NAMES))


def _leaves() -> tuple[st.SearchStrategy[Tree], st.SearchStrategy[Tree], st.SearchStrategy[Tree]]:
    named = st.sampled_from(NAMES).map(lambda name: Tree("property", (name,)))
    wholes = st.sampled_from([0, 1, 4, 5, 7, 10, INT_MAX, INT_MAX + 1, LONG_MAX])
    whole = st.builds(lambda n, end: Tree("whole", (n, end if n else "")), wholes, st.sampled_from(["", "", "L", "l"]))
    double = st.sampled_from(["1.5", ".5", "5.", "1e3", "7.0", "4E-2", "5.5E+1"]).map(lambda x: Tree("double", (x,)))
    number = st.one_of(whole, whole, double)
    number = st.one_of(number, number, number.map(lambda tree: Tree("negated", (tree,))))
    text = st.sampled_from([value for value in VALUES if value]).map(lambda value: Tree("text", (value,)))
    return named, number, text


def conditions(with_truth_first: bool = True) -> st.SearchStrategy[Tree]:
    """Whole expressions. Without `with_truth_first` TRUE and FALSE stand only to the right of `=`."""
    named, number, text = _leaves()
    ordered = st.one_of(named, named, number, named.map(lambda tree: Tree("negated", (tree,))))
    truth = st.booleans().map(lambda value: Tree("truth", (value,)))
    equal = st.sampled_from(["=", "<>"])
    value = st.one_of(named, number, text)
    simple = [
        st.builds(lambda sign, x, y: Tree(sign, (x, y)), st.sampled_from(["<", "<=", ">", ">="]), ordered, ordered),
        st.builds(lambda sign, x, y: Tree(sign, (x, y)), equal, value, value),
        st.builds(lambda sign, x, y: Tree(sign, (x, y)), equal, st.one_of(named, number), truth),
        st.builds(lambda sign, x: Tree(sign, (x,)), st.sampled_from(["is null", "is not null"]), value),
        st.builds(
            lambda sign, x, texts: Tree(sign, (x, texts)),
            st.sampled_from(["in", "not in"]),
            named,
            st.lists(st.sampled_from(VALUES), min_size=1, max_size=6),
        ),
        st.builds(
            lambda no, sign, x, y: Tree(no + sign, (x, y)),
            st.sampled_from(["", "not "]),
            st.sampled_from(["contains", "startswith", "endswith"]),
            st.one_of(named, named, text, number),
            st.sampled_from(["", "i", "it", "'s", "5", "ä", "true", "er"]),
        ),
        st.builds(
            lambda sign, x, ends: Tree(sign, (x, *ends)),
            st.sampled_from(["between", "not between"]),
            ordered,
            st.tuples(ordered, ordered),
        ).filter(_has_lower_end_first),
    ]  # fmt: skip
    if with_truth_first:
        simple.append(st.builds(lambda sign, x, y: Tree(sign, (x, y)), equal, truth, named))
    return st.recursive(
        st.one_of(*simple),
        lambda below: st.one_of(
            st.builds(
                lambda sign, parts: Tree(sign, tuple(parts)),
                st.sampled_from(["and", "or"]),
                st.lists(st.one_of(below, below, below, named, truth), min_size=2, max_size=4),
            ),
            st.builds(lambda x: Tree("not", (x,)), st.one_of(below, below, named)),
            st.builds(lambda sign, x: Tree(sign, (x,)), st.sampled_from(["is null", "is not null"]), below),
            st.builds(lambda sign, x, y: Tree(sign, (x, y)), equal, below, st.one_of(below, truth, number)),
            st.builds(
                lambda sign, x, y: Tree(sign, (x, Tree("negated", (y,)))), st.sampled_from(["<", ">"]), named, below
            ),
        ),
        max_leaves=8,
    )


def _has_lower_end_first(tree: Tree) -> bool:
    """Two constants the other way round are refused."""
    low, high = tree.of[1:]
    if tree.what == "not between" or not {low.what, high.what} <= {"whole", "double"}:
        return True
    return float(low.of[0]) <= float(high.of[0])
