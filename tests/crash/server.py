"""The real server in a process of its own: started on free ports, killed, measured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from posthouse.host.net import Address

START_SECONDS_MAX = 30.0
_PORT = re.compile(r"^  (NameServer|broker) +(\S+:\d+)", re.M)


class ServerProcess:
    """`posthouse serve` over one data folder. `output` and `log` are what it wrote on stdout and stderr."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._stdout = data.with_name(data.name + ".out")
        self._stderr = data.with_name(data.name + ".err")
        self.start_seconds = 0.0
        self.nameserver = self.broker = Address("", 0)

    def start(self) -> ServerProcess:
        """Returns when it serves; it waits for no more than START_SECONDS_MAX."""
        command = [sys.executable, "-m", "posthouse", "serve", "--data", str(self.data)]
        command += ["--nameserver-port", "0", "--broker-port", "0", *self._options]
        begin = time.monotonic()
        with open(self._stdout, "wb") as out, open(self._stderr, "ab") as err:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        while "Next" not in (text := self.output):
            assert self._process.poll() is None, f"the server ended at its start: {self.log}"
            assert time.monotonic() - begin < START_SECONDS_MAX, f"the server did not start: {text} {self.log}"
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - begin
        found = dict(_PORT.findall(text))
        self.nameserver, self.broker = Address.parse(found["NameServer"]), Address.parse(found["broker"])
        return self

    @property
    def output(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def log(self) -> str:
        return self._stderr.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def resident_bytes(self) -> int:
        """Memory that it has now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def kill(self) -> None:
        """As kill -9 does: nothing of it runs any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGINT)
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
