"""docs/compat.md: its tables are those of the routes and of the tests."""

from __future__ import annotations

from posthouse.codec.remoting.codes import RequestCode
from tests.compat.document import DOCUMENT, requests, written


def test_every_request_is_served_or_refused_with_a_reason() -> None:
    assert [row.code for row in requests() if not row.meaning] == []
    assert [row.code for row in requests()] == sorted(RequestCode)


def test_document_is_what_the_routes_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == written(text), "docs/compat.md is out of date: run `python -m tests.compat.document`"
