"""Servers as processes: what they print, how they stop, and what they say when they cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from posthouse.cli.root import root
from posthouse.cli.serve import house_config, store_config
from posthouse.cli.settings import STORE_SETTINGS, ServerSettings, server_options
from posthouse.host.net import Address
from posthouse.host.real import RealDisk
from posthouse.store.config import Durability, StoreConfig
from tests.cli.server import free_ports, posthouse, running


def test_serve_says_where_it_is_and_what_to_type_next(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()) as server:
        text = "\n".join(server.lines)
        assert re.search(r"NameServer +127\.0\.0\.1:\d+", text)
        assert re.search(r"broker +127\.0\.0\.1:\d+ \(broker-a in DefaultCluster\)", text)
        assert str(tmp_path / "data") in text
        assert "an acknowledgement means on disk" in text
        assert f"posthouse send hello 'first mail' --nameservers {server.nameserver}" in text
        assert "Warning" not in text


def test_own_nameserver_is_not_one_elsewhere() -> None:
    given = (Address("127.0.0.1", 9876), Address("localhost", 9876), Address("127.0.0.1", 9877), Address("ns", 9876))
    settings = ServerSettings(host="127.0.0.1", loop="auto", log_level="warning", nameservers=given)
    assert house_config(settings, has_nameserver=True, has_broker=True).nameservers == given[2:]
    assert house_config(settings, has_nameserver=False, has_broker=True).nameservers == given
    elsewhere = replace(settings, host="10.0.0.1")
    assert house_config(elsewhere, has_nameserver=True, has_broker=True).nameservers == given


def test_store_is_told_what_the_options_say() -> None:
    settings = ServerSettings(
        host="127.0.0.1",
        loop="auto",
        log_level="warning",
        durability="os",
        segment_size=1 << 26,
        retention_hours=0.5,
        retention_size=1 << 30,
        retention_at=(2, 3),
        disk_clean_level=50,
        disk_force_level=60,
        disk_full_level=70,
    )
    assert house_config(settings, has_nameserver=True, has_broker=True).store == StoreConfig(
        segment_bytes=1 << 26,
        durability=Durability.OS,
        retention_ms=1_800_000,
        retention_bytes=1 << 30,
        retention_hours=(2, 3),
        disk_clean_level=0.5,
        disk_force_level=0.6,
        disk_full_level=0.7,
    )


def test_without_options_the_store_has_its_own_defaults() -> None:
    @click.command()
    @server_options("host", "loop", "log_level", *STORE_SETTINGS)
    def show(**options: Any) -> None:
        settings = ServerSettings(**options)
        assert settings == ServerSettings(host="127.0.0.1", loop="auto", log_level="warning")
        assert store_config(settings) == StoreConfig()

    assert CliRunner().invoke(show, []).exception is None


@pytest.mark.parametrize("command", ["serve", "broker"])
def test_levels_that_do_not_rise_are_a_usage_error(command: str, tmp_path: Path) -> None:
    words = [command, "--data", str(tmp_path / "data"), "--disk-clean-level", "88"]
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "the disk levels must rise: clean (88%) up to force (85%) up to full (90%); see --disk-clean-level" in said
    assert not (tmp_path / "data").exists()


def test_full_disk_is_told_to_who_sends_and_to_who_asks(tmp_path: Path) -> None:
    used, total = RealDisk(str(tmp_path)).usage()
    if used / total < 0.11:
        pytest.skip("the least level is 10%, and this disk is emptier")
    levels = ("--disk-clean-level", "10", "--disk-force-level", "10", "--disk-full-level", "10")
    with running(tmp_path / "data", *free_ports(), *levels) as server:
        done = server.run("send", "orders", "x")
        assert done.returncode == 1
        assert "over 10% this broker takes no more messages (--disk-full-level)" in done.stderr
        assert str(tmp_path / "data") in done.stderr
        code, errors = server.stop(signal.SIGTERM)
    assert code == 0
    assert "the oldest messages are deleted, and no more are taken" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_signal_stops_it_in_order(tmp_path: Path, number: int, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with running(tmp_path / "data", *free_ports(), "--loop", loop) as server:
        assert any(loop in line for line in server.lines)
        code, errors = server.stop(number)
    assert code == 0
    assert errors == "Stopping; a second signal stops at once.\n"


def test_it_starts_again_in_the_same_folder_with_what_it_had(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()) as server:
        assert server.run("topic", "create", "kept").returncode == 0
        assert server.stop(signal.SIGTERM)[0] == 0
    with running(tmp_path / "data", *free_ports()) as server:
        assert "kept" in server.run("topic", "list").stdout


def test_second_process_in_the_same_folder_is_one_clear_line(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()):
        done = posthouse("serve", "--data", str(tmp_path / "data"), *free_ports())
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"Error: [^\n]*another process[^\n]*\n", done.stderr)
    assert str(tmp_path / "data") in done.stderr


@pytest.mark.parametrize(
    ("option", "other"), [("--nameserver-port", "--broker-port"), ("--broker-port", "--nameserver-port")]
)
def test_port_in_use_is_one_clear_line(tmp_path: Path, option: str, other: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = posthouse("serve", "--data", str(tmp_path), option, str(port), other, "0")
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: [^\n]*127\.0\.0\.1:{port}[^\n]*in use[^\n]*\n", done.stderr)


def test_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = posthouse("serve", "--data", str(tmp_path / "file" / "data"), *free_ports())
    assert done.returncode == 1
    assert re.fullmatch(r"Error: [^\n]*file[^\n]*\n", done.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_read_only_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = posthouse("serve", "--data", str(tmp_path / "data"), *free_ports())
    assert done.returncode == 1
    assert re.fullmatch(r"Error: [^\n]*ermission denied[^\n]*\n", done.stderr)


def test_address_that_is_not_ours_is_one_clear_line(tmp_path: Path) -> None:
    done = posthouse("serve", "--data", str(tmp_path), "--host", "192.0.2.1", *free_ports())
    assert done.returncode == 1
    assert re.fullmatch(r"Error: [^\n]*192\.0\.2\.1[^\n]*\n", done.stderr)


def test_optimised_python_is_refused_because_it_drops_the_checks(tmp_path: Path) -> None:
    command = [sys.executable, "-O", "-m", "posthouse", "serve", "--data", str(tmp_path / "data"), *free_ports()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "python -O" in done.stderr
    assert not (tmp_path / "data").exists()


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()) as server:
        for _ in range(2):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        assert server.process.wait(5) in (0, -signal.SIGTERM)  # the first may have been enough by then


def test_nameserver_and_broker_run_apart(tmp_path: Path) -> None:
    with running(tmp_path / "ns", "--nameserver-port", "0", command="nameserver") as nameserver:
        assert not nameserver.broker
        assert f"  posthouse broker --nameservers {nameserver.nameserver}" in nameserver.lines
        options = ("--broker-port", "0", "--broker-name", "other", "--nameservers", nameserver.nameserver)
        with running(tmp_path / "b", *options, command="broker") as broker:
            assert not broker.nameserver
            deadline = time.monotonic() + 10
            while "other" not in (found := nameserver.run("cluster")).stdout:
                assert time.monotonic() < deadline, found
                time.sleep(0.1)
            assert broker.stop(signal.SIGTERM)[0] == 0
        assert nameserver.stop(signal.SIGTERM)[0] == 0


def test_log_line_is_one_line_on_stderr(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports(), "--log-level", "debug") as server:
        code, errors = server.stop(signal.SIGTERM)
    assert code == 0
    logged = [line for line in errors.splitlines() if not line.startswith("Stopping")]
    assert logged
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ +\S+: ", line) for line in logged), logged
