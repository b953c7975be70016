"""The real server in a process of its own: started on free ports, killed, also while it starts, measured."""

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
        self.options = options
        """Of the next start."""
        self.module = "posthouse"
        """What is run as `python -m`; `tests.crash.often` is the same server with checkpoints far more often."""
        self._process: subprocess.Popen[bytes] | None = None
        self._stdout = data.with_name(data.name + ".out")
        self._stderr = data.with_name(data.name + ".err")
        self.start_seconds = 0.0
        self.nameserver = self.broker = Address("", 0)

    def start(self) -> ServerProcess:
        """Returns when it serves; it waits for no more than START_SECONDS_MAX."""
        process = self._begin()
        begin = time.monotonic()
        while "Next" not in (text := self.output):
            assert process.poll() is None, f"the server ended at its start: {self.log}"
            assert time.monotonic() - begin < START_SECONDS_MAX, f"the server did not start: {text} {self.log}"
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - begin
        found = dict(_PORT.findall(text))
        self.nameserver, self.broker = Address.parse(found["NameServer"]), Address.parse(found["broker"])
        return self

    def start_and_kill(self, after_seconds: float) -> bool:
        """Starts it and kills it so long after it has taken its folder; whether it serves by then."""
        process = self._begin()
        begin = time.monotonic()
        while not self._has_folder(process.pid) and "Next" not in self.output:
            assert process.poll() is None, f"the server ended at its start: {self.log}"
            assert time.monotonic() - begin < START_SECONDS_MAX, f"the server did not start: {self.output} {self.log}"
            time.sleep(0.0005)
        time.sleep(after_seconds)
        assert process.poll() is None, f"the server ended at its start: {self.log}"
        serves = "Next" in self.output
        self.kill()
        return serves

    def _begin(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", self.module, "serve", "--data", str(self.data)]
        command += ["--nameserver-port", "0", "--broker-port", "0", *self.options]
        with open(self._stdout, "wb") as out, open(self._stderr, "ab") as err:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        return self._process

    def _has_folder(self, pid: int) -> bool:
        """Whether the process has taken the lock of its folder; True where the system cannot say."""
        descriptors = Path(f"/proc/{pid}/fd")
        if not Path("/proc/self/fd").is_dir():
            return True
        lock = str(self.data.resolve() / "lock")
        try:
            return any(os.readlink(each) == lock for each in descriptors.iterdir())
        except FileNotFoundError:
            return False  # a descriptor was closed meanwhile

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

    def stop_and_kill(self, after_seconds: float) -> None:
        """Asks it to stop, and kills it so long after, wherever it is then."""
        os.kill(self.pid, signal.SIGTERM)
        time.sleep(after_seconds)
        self.kill()

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
