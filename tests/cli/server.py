"""`posthouse serve` in a process of its own, for tests: on free ports, in a folder of the test."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

from posthouse.cli.root import root

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


def posthouse(*args: str, stdin: str | bytes = b"", timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "posthouse", *args], input=given, capture_output=True, timeout=timeout_s, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@dataclass
class RunningServer:
    """A process that has announced itself. `lines` is what it has printed so far."""

    process: subprocess.Popen[str]
    nameserver: str = ""
    broker: str = ""
    lines: list[str] = field(default_factory=list)

    def run(self, *args: str, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
        """A command against this server, in the process of the tests: new ones would take most of the time."""
        words = [*args, "--nameservers", self.nameserver]
        result = CliRunner().invoke(root, words, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)

    def stop(self, number: int) -> tuple[int, str]:
        """Sends a signal and waits: the exit code, and what was printed to stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=STOP_TIMEOUT_S)
        return self.process.returncode, errors


def free_ports() -> Sequence[str]:
    return ("--nameserver-port", "0", "--broker-port", "0")


@contextmanager
def running(data: Path, *args: str, command: str = "serve", launcher: Sequence[str] = ()) -> Iterator[RunningServer]:
    """The command with its data in that folder, started by `launcher`; killed at the end if it still runs."""
    words = [*launcher, sys.executable, "-m", "posthouse", command, "--data", str(data), *args]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    server = RunningServer(process)
    try:
        _await_announcement(server)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=STOP_TIMEOUT_S)


def _await_announcement(server: RunningServer) -> None:
    assert server.process.stdout is not None
    assert server.process.stderr is not None
    deadline = time.monotonic() + START_TIMEOUT_S
    while not any(line.startswith("  posthouse ") for line in server.lines):
        line = server.process.stdout.readline()
        assert line, f"it ended before it announced itself: {server.process.stderr.read()}"
        assert time.monotonic() < deadline, f"it has not announced itself: {server.lines}"
        server.lines.append(line.rstrip("\n"))
    for line in server.lines:
        if found := re.match(r"  (NameServer|broker) +(\S+)", line):
            setattr(server, found[1].lower(), found[2])
