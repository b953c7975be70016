"""SQL92 expressions: what passes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.model.limits import EXPRESSION_BYTES_MAX
from posthouse.model.properties import NAME_END, PAIR_END, decode_properties, encode_properties
from posthouse.model.sql92 import compile_sql92
from tests.model import sql92_reference as reference
from tests.model.sql92_reference import Tree


def passes(expression: str, properties: dict[str, str]) -> bool:
    return compile_sql92(expression)(encode_properties(properties).encode())


@given(reference.conditions(), reference.properties())
def test_it_means_what_the_slow_reference_says(tree: Tree, properties: dict[str, str]) -> None:
    expression = reference.write(tree)
    there = {name: value for name, value in properties.items() if value}  # one without a value is none
    assert passes(expression, properties) is reference.passes(tree, there), expression


MESSAGE = {"region": "eu", "price": "129", "weight": "1.5", "TAGS": "paid", "fragile": "true", "note": "it's ok"}


@pytest.mark.parametrize(
    "expression",
    [
        "price > 100",
        "price>=129 and price<=129",
        "100 < price",
        "price BETWEEN 129 AND 129",
        "price NOT BETWEEN 1 AND 128",
        "price = 129 AND region = 'eu'",
        "price <> 5",
        "-5 < price",
        "price > - 5",
        "weight > 1.49 AND weight < 15E-1 OR weight = +1.5",
        "weight < price",  # two properties: as doubles
        "region IN ('us', 'eu')",
        "region NOT IN ('us')",
        "TAGS = 'paid' OR absent > 5",
        "absent IS NULL AND region IS NOT NULL",
        "(absent = 'x') IS NULL",
        "NOT (price < 100)",
        "NOT region",  # a property alone is not TRUE
        "fragile = TRUE",
        "TRUE = fragile",
        "fragile <> false",
        "note = 'it''s ok'",
        "note CONTAINS '''s'",
        "note STARTSWITH 'it' AND note ENDSWITH 'ok' AND note NOT CONTAINS 'no'",
        "TRUE",
        "NOT FALSE",
        "price > 100 -- to the end of the line\n and /* between ** */ region = 'eu'",
        "price > 100 -- to the very end",
        "price\t>\r\n100",
        "price > 128L",
        "absent = other",  # two nulls
        "'x' <> absent",
        "price = 0 OR price = 129",
        "region = 'eu' OR region > 5",  # decided before the error
    ],
)
def test_these_pass(expression: str) -> None:
    assert passes(expression, MESSAGE)


@pytest.mark.parametrize(
    "expression",
    [
        "price > 129",
        "absent > 5",
        "NOT (absent > 5)",  # null, and not FALSE
        "absent <> 'x'",
        "absent = 'x' OR absent <> 'x'",
        "absent NOT IN ('x')",
        "absent NOT CONTAINS 'x'",
        "note CONTAINS ''",
        "note NOT CONTAINS ''",
        "price CONTAINS ''",
        "region",
        "fragile",
        "absent",
        "NOT absent",
        "Region = 'eu'",  # names as they are written
        "weight > 1",  # '1.5' is no whole number
        "region > 5 OR region = 'eu'",  # an error before it is decided
        "NOT (region > 5)",
        "region < note",
        "- price < 0",  # a sign makes a number of no text
        "NOT price = 5",  # (NOT price) = 5
        "region = TRUE",
        "NULL",
        "FALSE",
        "price > 2147483647 OR weight = 1",
        "price BETWEEN 130 AND 2147483648",
    ],
)
def test_these_do_not_pass(expression: str) -> None:
    assert not passes(expression, MESSAGE)


@pytest.mark.parametrize(
    ("value", "expression", "does_pass"),
    [
        ("2147483648", "a > 5", False),  # over 32 bit, as the literal is
        ("2147483648", "a > 2147483648", False),
        ("2147483649", "a > 2147483648", True),
        ("9223372036854775808", "a > 2147483648", False),
        ("+5", "a = 5", True),
        ("05", "a = 5", True),
        (" 5", "a = 5", False),
        (" 5", "a = 5.0", True),
        ("1_0", "a = 10", False),
        ("1_0", "a = 1E1", False),
        ("5d", "a = 5.", True),
        ("NaN", "a > 1E300", True),  # Java's order: behind all others
        ("Infinity", "a > 1E300", True),
        ("inf", "a > 1E300", False),
        ("-0.0", "a < .5", True),
        ("9" * 5000, "a > 5", False),
    ],
)
def test_text_is_read_as_the_kind_of_number_that_it_is_compared_with(
    value: str, expression: str, does_pass: bool
) -> None:
    assert passes(expression, {"a": value}) is does_pass


def test_the_longest_expressions_are_served() -> None:
    for word, value in ((" OR ", True), (" AND ", False)):
        parts = ["a = 1"] * ((EXPRESSION_BYTES_MAX - 5) // (5 + len(word))) + ["a = 2"]
        expression = word.join(parts)
        assert len(expression) <= EXPRESSION_BYTES_MAX
        assert passes(expression, {"a": "2"}) is value
    many = ",".join(["'x'"] * 1000)
    assert passes(f"a IN ({many},'y')", {"a": "y"})


# Properties as they are on the wire


@pytest.mark.parametrize(
    "text",
    [
        "a\x015",
        "a\x015\x02",
        "\x02a\x015\x02\x02",
        "b\x01x\x02a\x015",
        "a\x014\x02a\x015\x02",  # the last one counts
        "a\x015\x02a\x01\x02",  # one without a value does not
        "a\x015\x02a\x02",
        "ba\x014\x02a\x015\x02aa\x014\x02",
    ],
)
def test_property_is_found_wherever_it_stands(text: str) -> None:
    for expression in (
        "a = 5",
        "a = '5'",
        "a = 5.0",
        "a IN ('5')",
        "a IS NOT NULL",
        "a BETWEEN 5 AND 5",
        "a = TRUE IS NOT NULL",
    ):
        assert compile_sql92(expression)(text.encode()), expression
    assert not compile_sql92("a = 4")(text.encode())


WIRE = st.text("ab5" + NAME_END + PAIR_END, max_size=24)


@given(WIRE)
@example("a\x01\x02a\x01\x02")
def test_property_is_the_one_that_decoding_gives(text: str) -> None:
    found = decode_properties(text)
    for name in ("a", "b", "ab"):
        value = found.get(name)
        assert compile_sql92(f"{name} IS NULL")(text.encode()) is (value is None)
        if value is not None:
            quoted = value.replace("'", "''")
            assert compile_sql92(f"{name} = '{quoted}'")(text.encode())
            assert compile_sql92(f"{name} IN ('{quoted}')")(text.encode())


@given(st.binary(max_size=60), reference.conditions())
def test_no_properties_make_it_raise(data: bytes, tree: Tree) -> None:
    assert compile_sql92(reference.write(tree))(data) in (True, False)


def test_the_same_text_is_compiled_once() -> None:
    assert compile_sql92("once = 1") is compile_sql92("once = 1")
