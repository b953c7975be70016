"""SQL92 expressions: what is refused, and where it is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.model.limits import EXPRESSION_DEPTH_MAX
from posthouse.model.refusal import Reason, Refused
from posthouse.model.sql92 import compile_sql92
from posthouse.model.sql92_syntax import AnyOf, Between, Compared, Every, Kind, Literal, Not, Property, parse


def refusal(expression: str) -> str:
    with pytest.raises(Refused) as caught:
        compile_sql92(expression)
    assert caught.value.reason is Reason.SUBSCRIPTION_ILLEGAL
    return caught.value.remark


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "column 1: at the end, a value"),
        ("   ", "column 4"),
        ("price >", "column 8: at the end, a value"),
        ("price > > 5", "column 9: before '>'"),
        ("price > 5 region = 'x'", "column 11: 'region' does not belong"),
        ("price > 5)", "column 10: ')'"),
        ("(price > 5", "column 11: at the end, a closing bracket"),
        ("price > 'x'", "column 9: only numbers"),
        ("price > TRUE", "column 9"),
        ("price = NULL", "column 9: nothing is equal to NULL; write IS NULL"),
        ("NULL <> price", "column 1"),
        ("TRUE = 5", "column 8"),
        ("price BETWEEN 9 AND 5", "column 15: nothing is between 9 and 5"),
        ("price BETWEEN 'a' AND 'b'", "column 15"),
        ("price BETWEEN 1 OR 5", "column 17: before 'OR', AND"),
        ("5 IN ('x')", "column 1: only a property"),
        ("price IN (5)", "column 11: before '5', text in single quotes"),
        ("price IN ('x'", "column 14: at the end, a comma"),
        ("price CONTAINS 5", "column 16"),
        ("price IS 5", "column 10: before '5', NULL"),
        ("NOT price > 5", "column 1: NOT binds tighter"),
        ("(a = 1) > 5", "column 1: only numbers"),
        ("price", None),
        ("5", "column 1: a condition"),
        ("a = 1 AND 'x'", "column 11: a condition"),
        ("-a", "column 1: a condition"),
        ("a LIKE 'x'", "column 3: 'LIKE' does not belong behind a whole expression; there is no LIKE"),
        ("(a LIKE 'x')", "there is no LIKE"),
        ("a != 5", "column 3: '!': write <>"),
        ("a == 5", "column 4"),
        ("a + 1 > 5", "column 3: '+' does not belong behind a whole expression; there is no arithmetic"),
        ("a * 2 > 5", "column 3: '*': there is no arithmetic"),
        ('a = "x"', "column 5: '\"': text is put in single quotes"),
        ("a = 'x", 'column 5: "\'": the text that begins here has no closing quote'),
        ("a = 1 && b = 1", "column 7: '&': write AND"),
        ("TagA || TagB", "column 6: '|': write OR; tags"),
        ("*", "column 1"),
        ("a = 1 /* open", "column 7"),
        ("a = 05", "column 5: 05 is no number"),
        ("a > 5x", "column 5"),
        ("a > 9223372036854775808", "column 5: the number is over"),
        ("a > 0.0", "column 5: a number with a point"),
        ("a > 1E999", "column 5"),
        ("a > 1\nAND b >\n\n 'x'", "line 4, column 2: only numbers"),
        ("ä = 1", "column 1: 'ä'"),
        ("a = 1;", "column 6: ';'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(expression: str, words: str | None) -> None:
    if words is None:
        compile_sql92(expression)
    else:
        assert words in refusal(expression)


@pytest.mark.parametrize("opened", ["(", "NOT ", "NOT(", "- ", "+ "])
def test_depth_has_a_limit(opened: str) -> None:
    close = ")" if "(" in opened else ""
    deep, over = EXPRESSION_DEPTH_MAX // len(opened.split("(")) - 1, EXPRESSION_DEPTH_MAX + 1
    value = "5 < a" if opened.strip() in "-+" else "(a = 1)"
    assert f"{EXPRESSION_DEPTH_MAX} levels" in refusal(opened * over + value + close * over)
    if opened.strip() not in "-+":
        compile_sql92(opened * deep + value + close * deep)(b"")


@pytest.mark.parametrize("chain", [" = TRUE", " IS NULL", " <> b", " CONTAINS 'x'", " IN ('x') = TRUE"])
def test_chains_that_lean_to_the_left_have_a_limit_too(chain: str) -> None:
    compile_sql92("a" + chain)(b"")
    assert f"{EXPRESSION_DEPTH_MAX} levels" in refusal("(a = 1)" + chain.replace(" IN ('x')", "") * 400)


@given(st.text("ab 5.'()<>=-+/*\nNOTANDORI,LS", max_size=30))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    remark = ""
    try:
        test = compile_sql92(text)
    except Refused as refused:
        remark = refused.remark
    assert "column" in remark if remark else test(b"a\x015\x02") in (True, False)


def test_the_tree_of_an_expression() -> None:
    a, b, five = Property("a"), Property("b"), Literal(Kind.INT, 5)
    assert parse("a > 5") == Compared(">", a, five)
    assert parse("a <> - 5.") == Not(Compared("=", a, Literal(Kind.DOUBLE, -5.0, negated=True)))
    assert parse("NOT (a > b)") == Not(Compared(">", a, b))
    assert parse("a NOT between 5 AND b") == Between(a, five, b, negated=True)
    either = parse("a = 5 or b = 5 and a = b OR a < b")
    assert either == AnyOf(
        (
            Compared("=", a, five),
            Every((Compared("=", b, five), Compared("=", a, b))),
            Compared("<", a, b),
        )
    )
    assert parse("a = 2147483648") == Compared("=", a, Literal(Kind.LONG, 2**31))
