"""The first moments of the `posthouse` command."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import posthouse

HEAVY = ("asyncio", "click", "importlib.metadata", "logging", "msgspec", "uvloop")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "posthouse", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_version_is_answered_in_a_moment() -> None:
    times_s = []
    for word in ("--version", "-V") * 3:
        began_s = time.perf_counter()
        done = run(word)
        times_s.append(time.perf_counter() - began_s)
        assert (done.returncode, done.stdout) == (0, f"posthouse {posthouse.__version__}\n")
    assert min(times_s) < 0.15


def test_version_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['posthouse', '--version']\n"
        "from posthouse.__main__ import main; main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_import_of_the_package_is_as_light() -> None:
    script = f"import sys, posthouse; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def test_version_is_one_that_can_be_compared() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", posthouse.__version__)


def test_without_a_command_the_commands_are_shown() -> None:
    done = run()
    assert done.returncode == 2
    assert "posthouse serve" in done.stdout + done.stderr
