"""The real Apache RocketMQ as control: one NameServer and one broker as JVM processes on the loopback address.

The jars come from Maven Central by `apache/pom.xml`; the resolved classpath is kept under ~/.cache/posthouse, so
only the first run needs the network. Everything that the two processes write (store, logs, their ROCKETMQ_HOME)
lies in the given data folder. `with ApacheRocketMQ(data) as rocketmq:` returns when the broker is registered and
the route of TBW102 can be had, and has stopped both processes when it is left.

What must stay true: nothing is patched, and only settings are changed that keep it small and on loopback, so that
"passes against Apache" means what it says, and `enablePropertyFilter`, without which it has no SQL92. Apart from that
every setting has the value that Apache ships.

In the foreground, and Apache's own admin tool against any server:

    python -m tests.compat.apache_rocketmq run --data DIR [--nameserver-port N --broker-port N] [--flush sync|async]
    python -m tests.compat.apache_rocketmq mqadmin clusterList -n 127.0.0.1:9876
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

APACHE_VERSION = "5.3.3"
"""The newest 5.3 of which Maven Central has all the jars (5.3.4 lacks the client's and the tools')."""

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
RESOLVE_TIMEOUT_S = 540.0
ADMIN_TIMEOUT_S = 60.0

_POM = pathlib.Path(__file__).parent / "apache" / "pom.xml"
_HOST = "127.0.0.1"
_DEFAULT_TOPIC = "TBW102"  # registered by each broker that creates topics on demand; clients look for its route
_BROKER_PORT_OFFSETS = (-2, 0, 1)  # its "fast" port, its port, replication
_GET_ROUTE = 105
_SUCCESS = 0

# The JDK hides what RocketMQ uses to unmap its files; Apache's own start scripts open the same doors.
OPEN_JDK = (
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)

LOGBACK = """<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <appender name="file" class="ch.qos.logback.core.FileAppender">
    <file>{log}</file>
    <encoder class="ch.qos.logback.classic.encoder.PatternLayoutEncoder">
      <pattern>%d{{HH:mm:ss.SSS}} %-5p [%t] %logger{{12}} - %m%n</pattern>
      <charset class="java.nio.charset.Charset">UTF-8</charset>
    </encoder>
  </appender>
  <appender name="async" class="ch.qos.logback.classic.AsyncAppender">
    <appender-ref ref="file"/>
  </appender>
  <root level="INFO"><appender-ref ref="async"/></root>
</configuration>
"""


class ApacheError(RuntimeError):
    """The control could not be resolved, started or asked; the text says what to read."""


class ApacheRocketMQ:
    """NameServer and broker of Apache RocketMQ, alive inside the `with` block.

    A port that is not given is a free one. The broker also takes broker_port - 2 (its "fast" port) and
    broker_port + 1 (replication).
    """

    version: str = APACHE_VERSION

    def __init__(
        self,
        data: pathlib.Path,
        *,
        nameserver_port: int | None = None,
        broker_port: int | None = None,
        flush: Literal["sync", "async"] = "sync",
        heap_mib: int = 512,
    ) -> None:
        self._data = data.resolve()
        self._flush = flush
        self._heap_mib = heap_mib
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        broker_port = free_port(around=_BROKER_PORT_OFFSETS) if broker_port is None else broker_port
        taken = {broker_port + offset for offset in _BROKER_PORT_OFFSETS}
        nameserver_port = free_port(avoid=taken) if nameserver_port is None else nameserver_port
        if nameserver_port in taken:
            raise ApacheError(f"the broker takes the ports {sorted(taken)}; give the NameServer another one")
        self._nameserver_port = nameserver_port
        self._broker_port = broker_port
        self.nameserver_address: str = f"{_HOST}:{nameserver_port}"
        self.broker_address: str = f"{_HOST}:{broker_port}"
        self.nameserver_pid: int = 0
        self.broker_pid: int = 0

    @property
    def logs(self) -> pathlib.Path:
        """The folder with nameserver.log, broker.log and what each process printed (*.out)."""
        return self._data / "logs"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the broker, then the NameServer: SIGTERM, and SIGKILL after STOP_TIMEOUT_S. May be called twice."""
        while self._processes:
            _, process = self._processes.pop()
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> None:
        # Another server there would answer in the place of the one that could not start.
        ports = (self._nameserver_port, *(self._broker_port + offset for offset in _BROKER_PORT_OFFSETS))
        taken = [port for port in ports if not _is_free(port)]
        if taken:
            raise ApacheError(f"something listens on {taken} of {_HOST} already; stop it or give other ports")
        classpath = resolve_classpath(self.version)
        conf = self._data / "home" / "conf"
        for folder in (conf, self.logs, self._data / "store", self._data / "user"):
            folder.mkdir(parents=True, exist_ok=True)
        namesrv_conf = _write_properties(conf / "namesrv.conf", self._namesrv_settings())
        broker_conf = _write_properties(conf / "broker.conf", self._broker_settings())
        deadline = time.monotonic() + START_TIMEOUT_S
        self.nameserver_pid = self._launch(
            "nameserver", "org.apache.rocketmq.namesrv.NamesrvStartup", namesrv_conf, classpath, heap_mib=128
        )
        self._await("nameserver", deadline, lambda: _answers(self._nameserver_port))
        self.broker_pid = self._launch(
            "broker", "org.apache.rocketmq.broker.BrokerStartup", broker_conf, classpath, heap_mib=self._heap_mib
        )
        self._await("broker", deadline, self._is_registered)

    def _namesrv_settings(self) -> dict[str, object]:
        return {
            "bindAddress": _HOST,
            "listenPort": self._nameserver_port,
            "rocketmqHome": self._data / "home",
            "kvConfigPath": self._data / "kvConfig.json",
            "configStorePath": self._data / "namesrv.properties",
        }

    def _broker_settings(self) -> dict[str, object]:
        store = self._data / "store"
        return {
            "brokerClusterName": "DefaultCluster",
            "brokerName": "apache",
            "brokerId": 0,
            "brokerIP1": _HOST,
            "brokerIP2": _HOST,
            "bindAddress": _HOST,
            "listenPort": self._broker_port,
            "haListenPort": self._broker_port + 1,
            "namesrvAddr": self.nameserver_address,
            "storePathRootDir": store,
            "storePathCommitLog": store / "commitlog",
            "mappedFileSizeCommitLog": 64 * 1024 * 1024,
            "flushDiskType": "SYNC_FLUSH" if self._flush == "sync" else "ASYNC_FLUSH",
            "autoCreateTopicEnable": "true",
            "autoCreateSubscriptionGroup": "true",
            "enablePropertyFilter": "true",
        }

    def _launch(self, name: str, main: str, conf: pathlib.Path, classpath: str, *, heap_mib: int) -> int:
        logback = conf.parent / f"{name}.logback.xml"
        logback.write_text(LOGBACK.format(log=self.logs / f"{name}.log"), encoding="utf-8")
        command = [
            java_path(),
            f"-Xms{min(256, heap_mib)}m",
            f"-Xmx{heap_mib}m",
            f"-XX:MaxDirectMemorySize={max(128, heap_mib)}m",
            *OPEN_JDK,
            f"-Duser.home={self._data / 'user'}",
            f"-Drocketmq.home.dir={self._data / 'home'}",
            f"-Drmq.logback.configurationFile={logback}",
            "-cp",
            classpath,
            main,
            "-c",
            str(conf),
        ]
        with (self.logs / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=self._data
            )
        self._processes.append((name, process))
        return process.pid

    def _await(self, name: str, deadline: float, is_ready: Callable[[], bool]) -> None:
        while not is_ready():
            for other, process in self._processes:
                if process.poll() is not None:
                    raise ApacheError(
                        f"Apache's {other} ended with code {process.returncode} while starting; read "
                        f"{self.logs / other}.out and {other}.log there\n{self.tail(other)}"
                    )
            if time.monotonic() > deadline:
                raise ApacheError(
                    f"Apache's {name} was not ready within {START_TIMEOUT_S:.0f} s; read {self.logs}\n{self.tail(name)}"
                )
            time.sleep(0.1)

    def _is_registered(self) -> bool:
        if not _answers(self._broker_port):
            return False
        code, body = ask(self.nameserver_address, _GET_ROUTE, {"topic": _DEFAULT_TOPIC})
        return code == _SUCCESS and str(self._broker_port).encode() in body

    def tail(self, name: str, lines: int = 30) -> str:
        """The last lines of a process's log and output, for an error's text."""
        parts = []
        for path in (self.logs / f"{name}.log", self.logs / f"{name}.out"):
            if path.exists():
                text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
                parts.append(f"--- {path.name}\n" + "\n".join(text))
        return "\n".join(parts)


def java_path() -> str:
    """The java command of JAVA_HOME, else of PATH. Raises ApacheError when there is none."""
    home = os.environ.get("JAVA_HOME")
    found = str(pathlib.Path(home) / "bin" / "java") if home else shutil.which("java")
    if not found or not pathlib.Path(found).exists():
        raise ApacheError("no java found: install a JDK of version 11 or newer, or set JAVA_HOME")
    return found


def resolve_classpath(version: str = APACHE_VERSION) -> str:
    """The jars of Apache's NameServer, broker and tools, joined by ':'; asks Maven when the cache has no answer.

    The cache is POSTHOUSE_CACHE, else ~/.cache/posthouse. Raises ApacheError when Maven fails.
    """
    root = pathlib.Path(os.environ.get("POSTHOUSE_CACHE") or pathlib.Path.home() / ".cache" / "posthouse")
    kept = root / f"apache-{version}" / "classpath.txt"
    if kept.exists():
        classpath = kept.read_text(encoding="utf-8").strip()
        if classpath and all(os.path.exists(jar) for jar in classpath.split(":")):
            return classpath
    maven = shutil.which("mvn")
    if maven is None:
        raise ApacheError("no mvn found: install Maven 3.6 or newer; it fetches Apache RocketMQ's jars")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fresh = pathlib.Path(folder) / "classpath.txt"
        command = [maven, "-q", "-B", "--no-transfer-progress", "-f", str(_POM), f"-Drocketmq.version={version}"]
        command += ["dependency:build-classpath", f"-Dmdep.outputFile={fresh}"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RESOLVE_TIMEOUT_S, check=False
        )
        if done.returncode != 0 or not fresh.exists():
            raise ApacheError(f"Maven could not resolve Apache RocketMQ {version}:\n{done.stdout}{done.stderr}")
        fresh.replace(kept)  # in one step, so that a second process never reads half a line
    return kept.read_text(encoding="utf-8").strip()


def mqadmin(
    args: Sequence[str], *, home: pathlib.Path, timeout_s: float = ADMIN_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run Apache's admin tool, e.g. ("topicList", "-n", "127.0.0.1:9876"); its logs go under `home`.

    Raises ApacheError when it has not ended after timeout_s.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    logback = home / "tools.logback.xml"
    logback.write_text(LOGBACK.format(log=home / "tools.log"), encoding="utf-8")
    command = [
        java_path(),
        "-Xms64m",
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",  # the tool lives for a second: half of it would go to the second compiler
        *OPEN_JDK,
        f"-Duser.home={home}",
        f"-Drocketmq.home.dir={home}",
        f"-Drmq.logback.configurationFile={logback}",
        "-cp",
        resolve_classpath(),
        "org.apache.rocketmq.tools.command.MQAdminStartup",
        *args,
    ]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ApacheError(
            f"mqadmin {' '.join(args)} has not ended after {timeout_s:.0f} s; read {home / 'tools.log'}"
        ) from error


def ask(address: str, code: int, ext_fields: Mapping[str, str], timeout_s: float = 3.0) -> tuple[int, bytes]:
    """One remoting request with a JSON header; gives the answer's code and body, or (-1, b"") without an answer."""
    host, _, port = address.rpartition(":")
    fields = {"code": code, "language": "PYTHON", "version": 0, "opaque": 1, "flag": 0, "extFields": dict(ext_fields)}
    header = json.dumps(fields).encode()
    try:
        with socket.create_connection((host, int(port)), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
            frame = _read(connection, struct.unpack(">I", _read(connection, 4))[0])
    except OSError:
        return -1, b""
    header_end = 4 + (struct.unpack(">I", frame[:4])[0] & 0xFFFFFF)
    return int(json.loads(frame[4:header_end])["code"]), frame[header_end:]


def free_port(*, around: Iterable[int] = (0,), avoid: Iterable[int] = ()) -> int:
    """A port such that port + each of `around` is free on loopback now. Raises ApacheError after 100 tries."""
    offsets, avoided = tuple(around), set(avoid)
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            port: int = probe.getsockname()[1]
        wanted = {port + offset for offset in offsets}
        if not wanted & avoided and all(1024 < each < 65536 and _is_free(each) for each in wanted):
            return port
    raise ApacheError("found no free ports on 127.0.0.1 in 100 tries; is something taking them all?")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((_HOST, port), 1.0):
            return True
    except OSError:
        return False


def _read(connection: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = connection.recv(size - len(got))
        if not piece:
            raise ConnectionError("closed in the middle of an answer")
        got += piece
    return bytes(got)


def _write_properties(path: pathlib.Path, settings: Mapping[str, object]) -> pathlib.Path:
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
    return path


def _run_in_foreground(options: argparse.Namespace) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    rocketmq = ApacheRocketMQ(
        options.data,
        nameserver_port=options.nameserver_port,
        broker_port=options.broker_port,
        flush=options.flush,
        heap_mib=options.heap_mib,
    )
    with rocketmq:
        print(f"Apache RocketMQ {rocketmq.version}: NameServer {rocketmq.nameserver_address} ", end="")
        print(
            f"(pid {rocketmq.nameserver_pid}), broker {rocketmq.broker_address} (pid {rocketmq.broker_pid}), ", end=""
        )
        print(f"logs in {rocketmq.logs}", flush=True)
        ended.wait()
    return 0


def _run_mqadmin(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as home:
        done = mqadmin(options.args, home=pathlib.Path(home))
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat.apache_rocketmq", description="Apache RocketMQ")
    verbs = parser.add_subparsers(required=True)
    run = verbs.add_parser("run", help="start NameServer and broker; stop them with Ctrl-C")
    run.add_argument("--data", type=pathlib.Path, required=True)
    run.add_argument("--nameserver-port", type=int)
    run.add_argument("--broker-port", type=int, help="the ports N-2 and N+1 are taken as well")
    run.add_argument("--flush", choices=("sync", "async"), default="sync")
    run.add_argument("--heap-mib", type=int, default=512)
    run.set_defaults(verb=_run_in_foreground)
    admin = verbs.add_parser("mqadmin", help="run Apache's admin tool with the arguments that follow")
    admin.add_argument("args", nargs=argparse.REMAINDER)
    admin.set_defaults(verb=_run_mqadmin)
    options = parser.parse_args(argv)
    try:
        code: int = options.verb(options)
    except ApacheError as error:
        print(error, file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
