"""A server for the behaviour suites: Posthouse, or the real Apache RocketMQ as the control.

POSTHOUSE_TEST_SERVER=posthouse (the default) or apache says which; POSTHOUSE_TEST_NAMESERVER=host:port takes one that
runs already. Without Java the control is skipped, but in CI (CI=true) that is a failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from posthouse.client.admin import Admin
from posthouse.client.errors import PosthouseError

T = TypeVar("T")

START_SECONDS = 30.0


class Server:
    """Where it is. `kind` is posthouse or apache."""

    def __init__(self, kind: str, nameserver: str) -> None:
        self.kind = kind
        self.nameserver = nameserver

    def __repr__(self) -> str:
        return f"{self.kind} at {self.nameserver}"


class PosthouseProcess(Server):
    """`posthouse serve` as a process that can be killed and started again on the same ports and data."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._nameserver_port, self._broker_port = free_port(), free_port()
        super().__init__("posthouse", f"127.0.0.1:{self._nameserver_port}")
        self._process: subprocess.Popen[bytes] | None = None
        self._log = data.with_suffix(".log")

    def start(self) -> None:
        command = [sys.executable, "-m", "posthouse", "serve", "--data", str(self._data)]
        command += ["--nameserver-port", str(self._nameserver_port), "--broker-port", str(self._broker_port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not asyncio.run(self._answers()):
            said = self._log.read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"the server ended while it started:\n{said}"
            assert time.monotonic() < deadline, f"the server was not there after {START_SECONDS:g} s:\n{said}"
            time.sleep(0.05)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    async def _answers(self) -> bool:
        try:
            async with Admin(self.nameserver, timeout_s=1.0) as admin:
                await admin.topic_route("TBW102")
        except PosthouseError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = os.environ.get("POSTHOUSE_TEST_SERVER", "posthouse")
    running = os.environ.get("POSTHOUSE_TEST_NAMESERVER")
    if running:
        yield Server(kind, running)
    elif kind == "apache":
        if shutil.which("java") is None:
            if os.environ.get("CI") == "true":
                pytest.fail("Java is missing, and in CI the control must run")
            pytest.skip("Apache RocketMQ needs Java, which is not installed")
        from tests.compat.apache_rocketmq import ApacheRocketMQ

        with ApacheRocketMQ(tmp_path_factory.mktemp("apache"), flush="async") as apache:
            yield Server(kind, apache.nameserver_address)
    else:
        assert kind == "posthouse", f"POSTHOUSE_TEST_SERVER={kind}: posthouse or apache"
        process = PosthouseProcess(tmp_path_factory.mktemp("posthouse") / "data")
        process.start()
        yield process
        process.stop()


@pytest.fixture
def posthouse_process(tmp_path: Path) -> Iterator[PosthouseProcess]:
    """A Posthouse of this test alone, to be killed at will."""
    if os.environ.get("POSTHOUSE_TEST_SERVER", "posthouse") != "posthouse":
        pytest.skip("the control is shared by all tests and not killed")
    process = PosthouseProcess(tmp_path / "data")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def name() -> str:
    """A name for a topic or a group that no other test uses."""
    return f"t-{uuid4().hex[:12]}"


async def until(condition: Callable[[], bool], seconds: float = 15.0, what: str = "") -> None:
    """Waits for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def until_equal(ask: Callable[[], Awaitable[T]], wanted: T, seconds: float = 15.0) -> None:
    """Waits until the answer is the wanted one; shows the last answer when it does not come."""
    deadline = time.monotonic() + seconds
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, f"{found!r} and not {wanted!r}"
        await asyncio.sleep(0.05)
