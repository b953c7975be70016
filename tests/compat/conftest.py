"""The server that the official clients and tools are run against: Posthouse, or Apache RocketMQ as the control.

POSTHOUSE_COMPAT_SERVER says which (posthouse, apache; default posthouse). What is asserted is the same for both: a test
that Apache does not pass says nothing about Posthouse. Both run as processes of their own, on free loopback ports, and
keep data and logs in pytest's folder for the run; the end of the log is part of every failure.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.compat.apache_rocketmq import ApacheRocketMQ, ask, free_port

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
SERVER_KINDS = ("posthouse", "apache")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
LOG_TAIL_CHARS = 6000

_GET_ROUTE = 105
_SUMMARY = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class Server:
    """A NameServer and its one broker, alive for the tests of one module."""

    kind: str
    nameserver_address: str
    broker_address: str
    log_tail: Callable[[], str]

    def explain(self, what: str, output: str) -> str:
        """A failure's text: what happened, what the client's side said, what the server's log says."""
        return f"{what} (server: {self.kind})\n{output}\n--- the server's log\n{self.log_tail()}"


@pytest.fixture(scope="session")
def java_tools() -> None:
    """java and mvn: without them a laptop skips, CI fails."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if not missing:
        return
    text = f"not found: {', '.join(missing)}; the official clients need a JDK (11 or newer) and Maven (3.6 or newer)"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="module")
def server(java_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = os.environ.get("POSTHOUSE_COMPAT_SERVER", "posthouse")
    folder = tmp_path_factory.mktemp(kind)
    if kind == "apache":
        with ApacheRocketMQ(folder) as apache:
            yield Server(kind, apache.nameserver_address, apache.broker_address, lambda: apache.tail("broker"))
    elif kind == "posthouse":
        with _posthouse(folder) as running:
            yield running
    else:
        pytest.fail(f"POSTHOUSE_COMPAT_SERVER is {kind!r}; it can be one of {', '.join(SERVER_KINDS)}")


@contextmanager
def _posthouse(folder: pathlib.Path) -> Iterator[Server]:
    broker_port = free_port()
    nameserver_port = free_port(avoid={broker_port})
    log = folder / "posthouse.log"
    command = [sys.executable, "-m", "posthouse", "serve", "--data", str(folder / "data"), "--log-level", "info"]
    command += ["--nameserver-port", str(nameserver_port), "--broker-port", str(broker_port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=CHECKOUT
        )

    def log_tail() -> str:
        return f"{log}:\n{log.read_text(encoding='utf-8', errors='replace')[-LOG_TAIL_CHARS:]}"

    running = Server("posthouse", f"127.0.0.1:{nameserver_port}", f"127.0.0.1:{broker_port}", log_tail)
    try:
        _await_route(running, process)
        yield running
        ended = process.poll()
        assert ended is None, running.explain(f"the server ended by itself with code {ended}", "")
    finally:
        _stop(process)
    assert process.returncode == 0, running.explain(f"stopped by SIGTERM it ended with code {process.returncode}", "")


def _await_route(running: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while ask(running.nameserver_address, _GET_ROUTE, {"topic": "TBW102"})[0] != 0:
        assert process.poll() is None, running.explain(f"it ended while starting, with code {process.returncode}", "")
        assert time.monotonic() < deadline, running.explain(f"no route of TBW102 after {START_TIMEOUT_S:.0f} s", "")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def summary(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed when all tests have run."""
    return pytestconfig.stash.setdefault(_SUMMARY, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_SUMMARY, [])
    if lines:
        terminalreporter.section("official clients")
        for line in lines:
            terminalreporter.write_line(line)
