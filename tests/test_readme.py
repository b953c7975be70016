"""What the README shows is run as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.server import free_ports, running

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
MAKEFILE = (Path(__file__).resolve().parent.parent / "Makefile").read_text(encoding="utf-8")


def test_python_of_the_readme_runs_as_it_stands_there(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    with running(tmp_path / "data", *free_ports()) as server:
        program = program.replace("127.0.0.1:9876", server.nameserver)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "hello 0 first mail"


def test_commands_of_the_readme_run_as_they_stand_there(tmp_path: Path) -> None:
    commands = re.findall(r"^posthouse (send|tail) (.*)$", README, re.M)
    assert [name for name, _ in commands] == ["send", "tail"]
    with running(tmp_path / "data", *free_ports()) as server:
        for name, words in commands:
            done = server.run(name, *shlex.split(words), *(["--no-follow"] if name == "tail" else []))
            assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("first mail")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)", README))))
def test_make_targets_of_the_readme_exist(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.M)
