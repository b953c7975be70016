"""`posthouse cluster` against a running server, and with a broker that is gone."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.cli.server import RunningServer, running


def test_broker_is_shown_with_its_figures(server: RunningServer, topic: str) -> None:
    assert server.run("send", topic, "x", "--count", "7").returncode == 0
    (row,) = [json.loads(line) for line in server.run("cluster", "--json").stdout.splitlines()]
    assert list(row) == [
        "cluster", "broker", "broker_id", "address", "version",
        "put_per_second", "get_per_second", "put_total", "get_total", "warnings",
    ]  # fmt: skip
    assert (row["cluster"], row["broker"], row["broker_id"]) == ("DefaultCluster", "broker-a", 0)
    assert row["address"] == server.broker
    assert row["put_total"] >= 7
    head, line = server.run("cluster").stdout.splitlines()
    assert head.split() == ["cluster", "broker", "id", "address", "version", "in/s", "out/s", "in", "out"]
    assert line.split()[:4] == ["DefaultCluster", "broker-a", "0", server.broker]


def test_broker_that_does_not_answer_is_shown_and_is_a_failure(tmp_path: Path) -> None:
    with running(tmp_path / "ns", "--nameserver-port", "0", command="nameserver") as nameserver:
        options = ("--broker-port", "0", "--nameservers", nameserver.nameserver, "--advertise", "127.0.0.1:1")
        with running(tmp_path / "b", *options, command="broker") as broker:
            while not (done := nameserver.run("cluster", "--json")).stdout:
                assert done.returncode == 0
            assert done.returncode == 5
            assert json.loads(done.stdout)["version"] is None
            assert done.stderr.startswith("Error: no answer from broker-a at 127.0.0.1:1;")
            assert broker.stop(signal.SIGTERM)[0] == 0
