"""The programs in docs/consumers.md are Python, what they import is there, and so are the arguments that they give."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import posthouse
from posthouse import Producer, PushConsumer
from tests.cli.server import free_ports, running

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "consumers.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


def _tree(program: str) -> ast.AST:
    found = compile(program, "docs/consumers.md", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(found, ast.AST)
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_uses_what_is_there(program: str) -> None:
    for node in ast.walk(_tree(program)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            for alias in node.names:
                assert hasattr(importlib.import_module(node.module), alias.name)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("Producer", "PushConsumer")
        ):
            known = inspect.signature(getattr(posthouse, node.func.id)).parameters
            assert {keyword.arg for keyword in node.keywords} <= set(known)


def test_arguments_that_the_text_names_exist() -> None:
    known = {*inspect.signature(PushConsumer).parameters, *inspect.signature(Producer.request).parameters}
    named = set(re.findall(r"`([a-z_]+_(?:s|max|ms|level|where|folder|by_broker|handler))\b", TEXT))
    assert named, "the pattern finds nothing"
    assert named <= known, named - known


def test_the_first_program_runs_as_it_stands_there_until_it_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()) as server:
        assert server.run("send", "orders", "first", "--tag", "paid").returncode == 0
        words = [sys.executable, "-u", "-c", PROGRAMS[0].replace("127.0.0.1:9876", server.nameserver)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "orders paid 1 b'first'\n"
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=20)[1] == ""
    assert program.returncode == 0
