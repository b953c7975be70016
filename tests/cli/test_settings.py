"""Settings of a server: where a value may come from, which source wins, and what is said about a wrong one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from posthouse.cli.settings import SETTINGS, STORE_SETTINGS, ServerCommand, flatten, server_options, variable


@click.command()
@server_options(*SETTINGS)
def show(**options: Any) -> None:
    """Prints the settings that it was given."""
    click.echo(json.dumps(options))


@click.command()
@server_options("nameservers", nameservers="127.0.0.1:9876")
def show_nameservers(**options: Any) -> None:
    click.echo(json.dumps(options))


def run(*args: str, env: Mapping[str, str] | None = None, command: click.Command = show) -> Result:
    return CliRunner().invoke(command, args, env=env)


def values(*args: str, env: Mapping[str, str] | None = None, command: click.Command = show) -> dict[str, Any]:
    result = run(*args, env=env, command=command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "posthouse.toml"
    path.write_text('data = "from-file"\nbroker_port = 1001\ncluster = "from-file"\n')
    return path


def test_defaults_are_those_of_rocketmq() -> None:
    found = values()
    assert (found["nameserver_port"], found["broker_port"]) == (9876, 10911)
    assert (found["cluster"], found["broker_name"], found["host"]) == ("DefaultCluster", "broker-a", "127.0.0.1")
    assert found["nameservers"] is None
    assert found["auto_create_topics"] is True


def test_a_command_may_have_a_default_of_its_own() -> None:
    assert values(command=show_nameservers)["nameservers"] == [["127.0.0.1", 9876]]


def test_command_line_beats_environment_beats_file_beats_default(config: Path) -> None:
    env = {"POSTHOUSE_BROKER_PORT": "1002", "POSTHOUSE_CLUSTER": "from-env"}
    found = values("--config", str(config), "--broker-port", "1003", env=env)
    assert found["broker_port"] == 1003
    assert found["cluster"] == "from-env"
    assert found["data"] == "from-file"
    assert found["nameserver_port"] == 9876


def test_config_file_may_be_named_by_the_environment(config: Path) -> None:
    assert values(env={"POSTHOUSE_CONFIG": str(config)})["data"] == "from-file"


FROM_TEXT: Mapping[str, tuple[str, object]] = {
    "nameserver_port": ("7", 7),
    "broker_port": ("7", 7),
    "nameservers": ("info", [["info", 9876]]),
    "auto_create_topics": ("false", False),
    "durability": ("os", "os"),
    "segment_size": ("64MiB", 1 << 26),
    "retention_hours": ("0.5", 0.5),
    "retention_size": ("20GiB", 20 << 30),
    "retention_at": ("2,3", [2, 3]),
    "disk_clean_level": ("50", 50),
    "disk_force_level": ("50", 50),
    "disk_full_level": ("50", 50),
    "loop": ("asyncio", "asyncio"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_variable(name: str) -> None:
    text, expected = FROM_TEXT.get(name, ("info", "info"))
    assert values(env={variable(name): text})[name] == expected


def test_every_setting_may_stand_in_the_file(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "data": "d", "host": "::1", "nameserver_port": 0, "broker_port": 1, "advertise": "mq.example.org",
        "nameservers": ["a:1", "b:2"], "cluster": "c", "broker_name": "n", "auto_create_topics": False,
        "durability": "os", "segment_size": "64MiB", "retention_hours": 0.5, "retention_size": "1GiB",
        "retention_at": "2,3", "disk_clean_level": 10, "disk_force_level": 20, "disk_full_level": 30,
        "loop": "asyncio", "log_level": "debug",
    }  # fmt: skip
    assert set(given) == set(SETTINGS)
    path = tmp_path / "all.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
    read = {"nameservers": [["a", 1], ["b", 2]], "segment_size": 1 << 26, "retention_size": 1 << 30}
    assert values("--config", str(path)) == given | read | {"retention_at": [2, 3]}


def test_amounts_in_the_file_may_be_numbers_and_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "numbers.toml"
    path.write_text(
        "segment_size = 1048576\n[retention]\nhours = 24\nsize = 1073741824\nat = [2, 3]\n[disk]\nfull_level = 95\n"
    )
    found = values("--config", str(path))
    assert (found["segment_size"], found["retention_hours"], found["retention_size"]) == (1 << 20, 24, 1 << 30)
    assert (found["retention_at"], found["disk_full_level"]) == ([2, 3], 95)
    path.write_text("retention_at = []")
    assert values("--config", str(path))["retention_at"] == []
    path.write_text("retention_at = 5")
    assert values("--config", str(path))["retention_at"] == [5]


def test_table_is_the_first_word_of_the_names_in_it() -> None:
    assert flatten({"broker": {"port": 5, "name": "b"}, "nameserver": {"port": 6}}) == {
        "broker_port": 5,
        "broker_name": "b",
        "nameserver_port": 6,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("brokerport = 1", "unknown setting 'brokerport'; did you mean 'broker_port'?"),
        ("[broker]\nprot = 1", "unknown setting 'broker_prot'; did you mean 'broker_port'?"),
        ("zzz = 1", "unknown setting 'zzz'; known are data, host,"),
        ('broker_port = "1"', "setting 'broker_port' must be a whole number, not '1'"),
        ("broker_port = true", "setting 'broker_port' must be a whole number, not True"),
        ("auto_create_topics = 1", "setting 'auto_create_topics' must be true or false, not 1"),
        ("data = 1", "setting 'data' must be text in quotes, not 1"),
        ("broker_port = 70000", "broker_port: 70000 is not in the range 0<=x<=65535"),
        ('loop = "trio"', "loop: 'trio' is not one of"),
        ('nameservers = ["a:b"]', "nameservers: 'a:b' is not host:port"),
        ("broker_port = 1\n[broker]\nport = 1", "setting 'broker_port' is given twice"),
        ("data = ", "is not TOML"),
        ('durability = "tape"', "durability: 'tape' is not one of"),
        ("segment_size = 1000", "segment_size: '1000' is too small for a segment"),
        ("retention_hours = 0", "retention_hours: '0' is not a number of hours above 0"),
        ("retention_hours = true", "setting 'retention_hours' must be text in quotes, not True"),
        ("retention_at = [24]", "retention_at: '24' are no hours of the day"),
        ('retention_at = ["2"]', "setting 'retention_at' must be text in quotes, not ['2']"),
        ("disk_full_level = 100", "disk_full_level: 100 is not in the range 10<=x<=99"),
        ("disk_full_level = 0.9", "setting 'disk_full_level' must be a whole number, not 0.9"),
    ],
)
def test_wrong_file_is_a_usage_error_that_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    result = run("--config", str(path))
    assert result.exit_code == 2
    assert said in result.output
    assert "wrong.toml" in result.output


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    result = run("--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "No such file" in result.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--broker-port", "x"), "not a valid integer"),
        (("--broker-port", "65536"), "not in the range"),
        (("--nameservers", "a:b"), "'a:b' is not host:port; write for example"),
        (("--advertise", "a:b:c"), "write for example"),
        (("--loop", "trio"), "is not one of"),
        (("--dat", "x"), "Did you mean"),
        (("--segment-size", "big"), "'big' is not a size; write for example 512MiB or 20GiB"),
        (("--retention-hours", "3d"), "'3d' is not a number of hours above 0"),
        (("--retention-size", "1KiB"), "too small for a log"),
        (("--retention-at", "25"), "write for example 4, or 2,3, or any"),
        (("--disk-clean-level", "9"), "9 is not in the range 10<=x<=99"),
    ],
)
def test_wrong_option_is_a_usage_error_with_a_remedy(args: tuple[str, ...], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.output


def test_help_of_a_server_has_the_options_of_the_store_under_a_heading_of_their_own() -> None:
    text = CliRunner().invoke(ServerCommand("show", params=show.params), ["--help"]).output
    general, of_store = text.split("Options of the store  [default]:\n")
    assert [word for word in of_store.split() if word.startswith("--")] == [
        "--" + name.replace("_", "-") for name in STORE_SETTINGS
    ]
    assert "--broker-port" in general
    assert "[10911]" in general
    assert "  [1GiB]" in of_store
