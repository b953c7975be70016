"""The official Java client, unmodified, against a server: `java/` run by Maven, once for each client version.

A client version passes when every one of its tests has run and passed. What passed is listed per class at the end of
the run. The tests run side by side, because most of their time is waiting, so their times add up to more than the
run took. The same with Apache RocketMQ as the server is `make compat-apache`.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from tests.compat.conftest import Server

PROJECT = pathlib.Path(__file__).parent / "java"
CLIENT_VERSIONS = ("5.3.3", "4.9.8")
RUN_TIMEOUT_S = 600.0

# Test classes for what Posthouse does not serve yet. Apache has to pass them all the same.
NOT_YET: dict[str, str] = {}
OUTPUT_TAIL_CHARS = 12_000

pytestmark = [pytest.mark.compat, pytest.mark.timeout(2 * RUN_TIMEOUT_S + 60)]


@dataclass(frozen=True)
class ClassResult:
    """One test class of a Maven run, as its report tells it."""

    name: str
    tests: int
    failed: int
    skipped: int
    longest_s: float

    def __str__(self) -> str:
        passed = self.tests - self.failed - self.skipped
        counts = f"{passed:3} passed {self.failed:3} failed {self.skipped:3} skipped"
        return f"{self.name:<22} {counts}, the longest {self.longest_s:5.1f} s"


@pytest.mark.parametrize("version", CLIENT_VERSIONS)
def test_the_java_client_passes(version: str, server: Server, tmp_path: pathlib.Path, summary: list[str]) -> None:
    left_out = NOT_YET if server.kind == "posthouse" else {}
    start = time.monotonic()
    code, output = _run_maven(version, server.nameserver_address, left_out, tmp_path)

    seconds = time.monotonic() - start
    results = _read_reports(tmp_path / "surefire-reports")
    total = sum(each.tests for each in results)
    summary.append(f"Java client {version} against {server.kind}: {total} tests in {seconds:.0f} s")
    summary += [f"  {each}" for each in results]
    summary += [f"  {name:<22} not run: {reason}" for name, reason in left_out.items()]
    assert code == 0, server.explain(f"client {version}: Maven ended with code {code}", output[-OUTPUT_TAIL_CHARS:])
    assert total > 0, server.explain(f"client {version}: no test has run", output[-OUTPUT_TAIL_CHARS:])
    assert not any(each.failed or each.skipped for each in results)


def _run_maven(version: str, nameserver_address: str, left_out: Iterable[str], folder: pathlib.Path) -> tuple[int, str]:
    """Exit code and output. The network is asked only for what the local repository lacks."""
    command = ["mvn", "-q", "-B", "--no-transfer-progress", "-f", str(PROJECT / "pom.xml"), "test"]
    command += [f"-Drocketmq.version={version}", f"-Dbuild.folder={folder}"]
    command += [f"-Dposthouse.nameserver={nameserver_address}"]
    if left_out:
        command.append("-Dtest=" + ",".join(f"!{name}" for name in left_out))
    code, output = _run([*command, "--offline"])
    if code != 0 and not (folder / "surefire-reports").exists():
        return _run(command)
    return code, output


def _run(command: list[str]) -> tuple[int, str]:
    """Exit code and output; what Maven has started is ended with it when the time is over."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=RUN_TIMEOUT_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return -1, f"{output}\nnot ended after {RUN_TIMEOUT_S:.0f} s"
        raise
    return process.returncode, output


def _read_reports(folder: pathlib.Path) -> list[ClassResult]:
    """By the class that each test names: of tests side by side, Maven puts some into another class's file."""
    tests: dict[str, list[ElementTree.Element]] = {}
    for path in sorted(folder.glob("TEST-*.xml")):
        for test in ElementTree.parse(path).getroot().iter("testcase"):
            tests.setdefault(test.attrib["classname"].rpartition(".")[2], []).append(test)
    return [
        ClassResult(
            name=name,
            tests=len(of_class),
            failed=sum(test.find("failure") is not None or test.find("error") is not None for test in of_class),
            skipped=sum(test.find("skipped") is not None for test in of_class),
            longest_s=max(float(test.attrib["time"]) for test in of_class),
        )
        for name, of_class in sorted(tests.items())
    ]
