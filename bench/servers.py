"""The servers under load, behind one small interface: Posthouse and Apache RocketMQ, each as processes of its own.

Both are given the same things: a data folder, free ports on loopback, a sync to disk before a send is answered.
`starting` clocks a start in the same way for both: from the instant at which the kernel says that the process was
forked, to the first answer that a client gets, asked for every few milliseconds from before the process exists.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from bench import frames, usage
from tests.compat.apache_rocketmq import ApacheError, ApacheRocketMQ, free_port

Flush = Literal["sync", "async"]

HOST: Final = "127.0.0.1"
CHECKOUT: Final = Path(__file__).resolve().parent.parent
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
ASK_EVERY_S: Final = 0.005
DEFAULT_TOPIC: Final = "TBW102"


class ServerFailed(Exception):
    """A server did not start or did not answer; the text says where to look."""


class Server(Protocol):
    """A NameServer and a broker. `broker_pids` is what is compared; `pids` has the NameServer's process as well."""

    name: str
    nameserver_address: str
    broker_address: str

    def start(self, data: Path) -> None:
        """Starts the processes, their files under `data`. Raises: ServerFailed."""

    def stop(self) -> None:
        """Ends the processes and waits for them; does nothing if none runs."""

    def describe(self) -> str:
        """Version and settings that matter to the figures."""

    @property
    def nameserver_pid(self) -> int: ...

    @property
    def broker_pid(self) -> int: ...


class PosthouseServer:
    """`posthouse serve` of a checkout, NameServer and broker in one process, with its default settings.

    POSTHOUSE_LOOP in the environment is handed on.
    """

    def __init__(self, checkout: Path = CHECKOUT, name: str = "posthouse") -> None:
        self.name = name
        self._checkout = checkout
        broker_port = free_port()
        self._ports = (free_port(avoid=(broker_port,)), broker_port)
        self.nameserver_address, self.broker_address = (f"{HOST}:{port}" for port in self._ports)
        self._process: subprocess.Popen[bytes] | None = None
        self._output = Path()

    def start(self, data: Path) -> None:
        nameserver_port, broker_port = self._ports
        self._output = data / "posthouse.out"
        command = [sys.executable, "-m", "posthouse", "serve", "--data", str(data / "store")]
        command += ["--nameserver-port", str(nameserver_port), "--broker-port", str(broker_port)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self._checkout
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while code_of(self.broker_address, frames.producer_heartbeat(1, "bench")) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"posthouse did not come up; it printed:\n{self._tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def describe(self) -> str:
        loop = os.environ.get("POSTHOUSE_LOOP", "default")
        which = "this checkout" if self._checkout == CHECKOUT else "an earlier checkout"
        return f"{self.name}: posthouse of {which}, Python {sys.version.split()[0]}, loop {loop}, durable (default)"

    @property
    def nameserver_pid(self) -> int:
        return self.broker_pid

    @property
    def broker_pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _tail(self) -> str:
        return "\n".join(self._output.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])


class ApacheServer:
    """Apache RocketMQ: a NameServer and a broker as JVM processes, the second started when the first listens."""

    name = "apache"

    def __init__(self, flush: Flush, heap_mib: int) -> None:
        self._flush: Flush = flush
        self._heap_mib = heap_mib
        broker_port = free_port(around=(-2, 0, 1))
        taken = (broker_port - 2, broker_port, broker_port + 1)
        self._ports = (free_port(avoid=taken), broker_port)
        self.nameserver_address, self.broker_address = (f"{HOST}:{port}" for port in self._ports)
        self._running: ApacheRocketMQ | None = None

    def start(self, data: Path) -> None:
        nameserver_port, broker_port = self._ports
        running = ApacheRocketMQ(
            data, nameserver_port=nameserver_port, broker_port=broker_port, flush=self._flush, heap_mib=self._heap_mib
        )
        try:
            self._running = running.__enter__()
        except ApacheError as error:
            raise ServerFailed(str(error)) from error

    def stop(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None

    def describe(self) -> str:
        return f"Apache RocketMQ {ApacheRocketMQ.version}, heap {self._heap_mib} MiB, {self._flush.upper()}_FLUSH"

    @property
    def nameserver_pid(self) -> int:
        assert self._running is not None
        return self._running.nameserver_pid

    @property
    def broker_pid(self) -> int:
        assert self._running is not None
        return self._running.broker_pid


@dataclass(frozen=True)
class StartTimes:
    """Seconds to the first answer: `broker_s` from the broker's own fork, `whole_s` from the first process's fork until
    NameServer and broker have both answered."""

    broker_s: float
    whole_s: float


def start_clocked(server: Server, data: Path) -> StartTimes:
    """Starts the server and says how long it took until a client had its first answers. Raises: ServerFailed."""
    answers = _FirstAnswers(server)
    answers.start()
    try:
        server.start(data)
        answers.join(START_TIMEOUT_S)
    finally:
        answers.give_up.set()
        answers.join()
    if answers.nameserver_at_s is None or answers.broker_at_s is None:
        raise ServerFailed(f"{server.name} runs but did not answer route and heartbeat in {START_TIMEOUT_S:.0f} s")
    broker_forked_s = usage.started_at_s(server.broker_pid)
    first_forked_s = min(broker_forked_s, usage.started_at_s(server.nameserver_pid))
    both_at_s = max(answers.nameserver_at_s, answers.broker_at_s)
    return StartTimes(answers.broker_at_s - broker_forked_s, both_at_s - first_forked_s)


class _FirstAnswers(threading.Thread):
    """Asks until the NameServer answers a route query (found or not found) and the broker a heartbeat."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.give_up = threading.Event()
        self.nameserver_at_s: float | None = None
        self.broker_at_s: float | None = None

    def run(self) -> None:
        route = frames.route_query(1, DEFAULT_TOPIC)
        heartbeat = frames.producer_heartbeat(1, "127.0.0.1@bench")
        self.nameserver_at_s = self._when_answered(self._server.nameserver_address, route, {0, frames.TOPIC_NOT_EXIST})
        self.broker_at_s = self._when_answered(self._server.broker_address, heartbeat, {frames.SUCCESS})

    def _when_answered(self, address: str, frame: bytes, wanted: set[int]) -> float | None:
        while not self.give_up.is_set():
            if code_of(address, frame) in wanted:
                return usage.now_s()
            self.give_up.wait(ASK_EVERY_S)
        return None


def code_of(address: str, frame: bytes, timeout_s: float = 3.0) -> int | None:
    """The code of the answer to one request on a connection of its own, or None without an answer."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_s) as connection:
            connection.sendall(frame)
            start = _read(connection.recv, 8)
            header_bytes = struct.unpack(">I", start[4:])[0]
            return int(json.loads(_read(connection.recv, header_bytes))["code"])
    except OSError:
        return None


def _read(recv: Callable[[int], bytes], size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = recv(size - len(got))
        if not piece:
            raise ConnectionError("closed in the middle of an answer")
        got += piece
    return got
