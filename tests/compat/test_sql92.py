"""The same expressions and properties to RocketMQ's own SQL92 filter (its jar, without a broker) and to Posthouse's.

Where the two differ on purpose stands in docs/filters.md, and here in DIFFERENT.
"""

from __future__ import annotations

import base64
import pathlib
import subprocess

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from posthouse.model.properties import encode_properties
from posthouse.model.refusal import Refused
from posthouse.model.sql92 import compile_sql92
from tests.compat.apache_rocketmq import java_path, resolve_classpath
from tests.model import sql92_reference as reference
from tests.model import test_sql92 as tables
from tests.model import test_sql92_syntax as grammar

pytestmark = pytest.mark.compat

_JAVA = pathlib.Path(__file__).parent / "filter" / "Sql92.java"
RANDOM_EXPRESSIONS = 3000

Case = tuple[str, dict[str, str]]

DIFFERENT = {
    # RocketMQ ignores what is left over behind a whole expression
    "price > 5 region = 'x'",
    "price > 5)",
    "a LIKE 'x'",
    "a + 1 > 5",
    "a = 05",
    "a > 5x",
    # an error there, for every message that has the property
    "TRUE = fragile",
}


def apache(cases: list[Case]) -> list[str]:
    lines = "".join(f"{_base64(expression)},{_base64(encode_properties(there))}\n" for expression, there in cases)
    command = [java_path(), "-cp", resolve_classpath(), str(_JAVA)]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    answers = done.stdout.decode().split()
    assert len(answers) == len(cases)
    return answers


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def ours(case: Case) -> str:
    try:
        test = compile_sql92(case[0])
    except Refused:
        return "refused"
    return "passes" if test(encode_properties(case[1]).encode()) else "not"


def table_cases() -> list[Case]:
    """What the tests of sql92 say, all of it."""

    def values(test: object, number: int = 0) -> list[tuple[object, ...]]:
        marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
        return [each if isinstance(each, tuple) else (each,) for each in marks[number].args[1]]

    found: list[Case] = [(str(row[0]), tables.MESSAGE) for row in values(tables.test_these_pass)]
    found += [(str(row[0]), tables.MESSAGE) for row in values(tables.test_these_do_not_pass)]
    numbers = values(tables.test_text_is_read_as_the_kind_of_number_that_it_is_compared_with)
    found += [(str(row[1]), {"a": str(row[0])}) for row in numbers]
    found += [(str(row[0]), tables.MESSAGE) for row in values(grammar.test_what_is_wrong_is_refused_with_its_place)]
    return found


def drawn_cases(count: int) -> list[Case]:
    found: list[Case] = []

    @settings(max_examples=count, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(st.tuples(reference.conditions(with_truth_first=False).map(reference.write), reference.properties()))
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    return found


def test_posthouse_and_rocketmq_agree_on_every_expression(java_tools: None) -> None:
    cases = table_cases() + drawn_cases(RANDOM_EXPRESSIONS)
    wrong = [
        f"{expression!r} with {there!r}: {found} there, {ours((expression, there))} here"
        for (expression, there), found in zip(cases, apache(cases), strict=True)
        if found != ours((expression, there)) and expression not in DIFFERENT
    ]
    assert not wrong, "\n".join(wrong[:40])


def test_what_differs_on_purpose_does_differ(java_tools: None) -> None:
    cases = [case for case in table_cases() if case[0] in DIFFERENT]
    assert {expression for expression, _ in cases} == DIFFERENT
    same = [case[0] for case, found in zip(cases, apache(cases), strict=True) if found == ours(case)]
    assert not same
