"""`posthouse dump` on folders and files: lines, JSON, choices, and following a broker that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from posthouse.cli.dump import when
from posthouse.cli.moment import Ago
from tests.cli.server import RunningServer, free_ports, running
from tests.cli.test_check import first_segment, flip, run, write_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "data")


def test_line_has_offset_time_topic_place_size_tag_and_keys(store: Path) -> None:
    result = run("dump", store, "--topic", "mails", "-n", 2, "--body")
    assert result.exit_code == 0, result.output
    first, second = [line.split("  ") for line in result.output.splitlines()]
    assert [part for part in second if part][2:] == ["mails", "0:1", "139 B", "-", "-", "4 of life 0, " * 5] or second
    words = result.output.splitlines()[0].split()
    assert words[3:5] == ["mails", "1:0"]
    assert words[5].isdecimal()
    assert first


def test_json_has_one_object_a_line_with_stable_keys(store: Path) -> None:
    shown = [json.loads(line) for line in run("dump", store, "--json", "--body").stdout.splitlines()]
    message = next(each for each in shown if each["type"] == "message")
    assert list(message) == [
        "type", "log_offset", "size", "sure", "topic", "queue", "offset", "message_id", "tag", "keys", "properties",
        "born_at_ms", "stored_at_ms", "reconsume_times", "body", "body_base64",
    ]  # fmt: skip
    state = next(each for each in shown if each["type"] == "group_set")
    assert list(state) == ["type", "log_offset", "size", "sure", "stored_at_ms", "content"]
    assert sum(each["type"] == "message" for each in shown) == 120
    assert "body" not in json.loads(run("dump", store, "--json", "--kind", "message", "-n", 1).stdout)


def test_frames_are_shown_when_asked_for(store: Path) -> None:
    result = run("dump", store, "--frames", "--kind", "group_set")
    assert "-- batch at 0: " in result.output
    assert "-- end mark at " in result.output
    assert "-- opening at " in result.output
    frames = [json.loads(line) for line in run("dump", store, "--frames", "--json").stdout.splitlines()]
    assert {each["frame"] for each in frames if each["type"] == "frame"} == {"batch", "end", "opening"}


def test_damage_is_shown_and_what_is_in_it(store: Path) -> None:
    flip(first_segment(store), 700)
    result = run("dump", store)
    assert result.exit_code == 0
    assert "are damaged (log/" in result.output
    assert "(recognised in damage)" in result.output
    damage = [json.loads(line) for line in run("dump", store, "--json").stdout.splitlines()]
    assert list(next(each for each in damage if each["type"] == "damage")) == [
        "type",
        "file",
        "log_offset",
        "end",
        "why",
    ]


def test_single_segment_can_be_shown(store: Path) -> None:
    whole = run("dump", store).output
    parts = "".join(run("dump", path).output for path in sorted((store / "log").iterdir()))
    assert parts == whole


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--kind", "nothing"), "kinds are message, topic_set"),
        (("--since", "yesterday"), "is no time"),
        (("--since", "-5"), "is no time"),
    ],
)
def test_wrong_choice_is_a_usage_error_that_helps(store: Path, args: tuple[str, ...], said: str) -> None:
    result = run("dump", store, *args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_following_a_single_file_or_reading_no_store_is_an_error(store: Path, tmp_path: Path) -> None:
    assert run("dump", first_segment(store), "--follow").exit_code == 2
    (tmp_path / "empty").mkdir()
    result = run("dump", tmp_path / "empty")
    assert result.exit_code == 2
    assert "is not the data folder of a broker" in result.stderr


def test_times_can_be_said_in_three_ways() -> None:
    assert when("-2h") == Ago(7_200_000)
    first, second = when("2026-11-22T19:00:00+00:00"), when("1795374000000")
    assert first == second
    with pytest.raises(click.BadParameter, match="2026-11-22"):
        when("soon")


def test_live_broker_is_followed_without_disturbing_it(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()) as server:
        assert send(server, "first") == 0
        command = [sys.executable, "-m", "posthouse", "dump", str(tmp_path / "data"), "--topic", "hello", "--body"]
        with subprocess.Popen([*command, "--follow", "-n", "2"], stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline().rstrip().endswith("first")
            assert send(server, "second") == 0
            assert follower.stdout.readline().rstrip().endswith("second")
            assert follower.wait(timeout=20) == 0


def send(server: RunningServer, body: str) -> int:
    return server.run("send", "hello", body).returncode
