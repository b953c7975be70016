"""Apache's admin tool, unmodified, many commands in one virtual machine: see apache/Desk.java.

mqadmin ends with code 0 even when a command has failed and only prints the stack trace; so what was printed is all that
there is to look at.
"""

from __future__ import annotations

import pathlib
import struct
import subprocess
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from tests.compat.apache_rocketmq import LOGBACK, OPEN_JDK, ApacheError, java_path, resolve_classpath

COMMAND_TIMEOUT_S = 60.0
_SOURCE = pathlib.Path(__file__).parent / "apache" / "Desk.java"


class Printed(NamedTuple):
    out: str
    err: str


class Desk:
    """A running tool; its logs go under `home`. One command at a time."""

    def __init__(self, home: pathlib.Path) -> None:
        self._home = home.resolve()

    def __enter__(self) -> Self:
        logback = self._home / "tools.logback.xml"
        logback.write_text(LOGBACK.format(log=self._home / "tools.log"), encoding="utf-8")
        command = [
            java_path(),
            "-Xms64m",
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",  # it lives for seconds: half of them would go to the second compiler
            *OPEN_JDK,
            f"-Duser.home={self._home}",
            f"-Drocketmq.home.dir={self._home}",
            f"-Drmq.logback.configurationFile={logback}",
            "-cp",
            resolve_classpath(),
            str(_SOURCE),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self._home
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # nothing of it needs a good-bye, and Java's clients take seconds for theirs
        self._process.communicate()

    def run(self, *request: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Printed:
        """What the command wrote. Raises ApacheError when it has not ended in time or took the tool with it."""
        killer = threading.Timer(timeout_s, self._process.kill)
        killer.start()
        try:
            return self._exchange(request)
        except (OSError, struct.error):
            killer.cancel()
            self._process.kill()
            complaint = self._process.communicate()[1].decode(errors="replace")
            raise ApacheError(
                f"mqadmin {' '.join(request)} has not ended after {timeout_s:.0f} s, or the tool has; read "
                f"{self._home / 'tools.log'}\n{complaint}"
            ) from None
        finally:
            killer.cancel()

    def _exchange(self, request: Sequence[str]) -> Printed:
        assert self._process.stdin is not None
        encoded = [text.encode() for text in request]
        self._process.stdin.write(struct.pack(">I", len(encoded)))
        for text in encoded:
            self._process.stdin.write(struct.pack(">I", len(text)) + text)
        self._process.stdin.flush()
        return Printed(self._read(), self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        (size,) = struct.unpack(">I", self._process.stdout.read(4))
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise OSError("the tool has ended")
        return data.decode(errors="replace")
