"""The form of a log line. The set-up itself is seen in tests/cli/test_serve.py, in a process of its own."""

from __future__ import annotations

import logging
import sys

from posthouse.cli.logs import OneLine


def test_record_is_one_line_even_with_a_traceback() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = logging.LogRecord("posthouse.x", logging.ERROR, __file__, 1, "failed %s", ("it",), sys.exc_info())
    line = OneLine().format(record)
    assert "\n" not in line
    assert " ERROR   posthouse.x: failed it" in line
    assert "ValueError: first\\nsecond" in line
