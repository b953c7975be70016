"""`posthouse check` on folders: what a person sees, what a script can rely on."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from posthouse.cli.check import size_text
from posthouse.cli.root import root
from posthouse.host.real import RealDisk
from tests.store.damage import a_store


def write_store(folder: Path, *, closed: bool = True) -> Path:
    """The small store of the tests, as real files."""
    disk = asyncio.run(a_store(closed=closed))
    for name, data in disk.files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def first_segment(folder: Path) -> Path:
    return min((folder / "log").iterdir())


def run(*args: object, stdin: str = "") -> Result:
    result = CliRunner().invoke(root, [str(arg) for arg in args], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "data")


def test_whole_store_is_told_in_figures_and_ends_with_0(store: Path) -> None:
    result = run("check", store)
    assert result.exit_code == 0, result.output
    assert "120 messages of 3 topics in 6 queues, 1 group" in result.output
    assert result.output.splitlines()[-1] == "No damage."
    assert result.stderr == ""


def test_damage_is_told_with_file_place_meaning_and_remedy_and_ends_with_1(store: Path) -> None:
    segment = first_segment(store)
    flip(segment, 1000)
    result = run("check", store)
    assert result.exit_code == 1
    assert f"damage  log/{segment.name} at log offset " in result.output
    assert "can still be recognised in there" in result.output
    assert f"posthouse repair {store}" in result.output
    assert "Damaged in 1 place. Restore the folder from a copy" in result.output


def test_json_is_one_document_with_the_same_in_it(store: Path) -> None:
    flip(first_segment(store), 1000)
    result = run("check", store, "--json")
    assert result.exit_code == 1
    (document,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert list(document) == [
        "place", "damaged", "first_offset", "end_offset", "seconds", "figures", "findings", "unlisted",
    ]  # fmt: skip
    (finding,) = document["findings"]
    assert list(finding) == ["severity", "file", "log_offset", "what", "means", "remedy"]
    assert finding["severity"] == "damage"
    assert document["figures"]["messages"] < 120


def test_torn_tail_is_a_note(tmp_path: Path) -> None:
    store = write_store(tmp_path, closed=False)
    newest = max((store / "log").iterdir())
    newest.write_bytes(newest.read_bytes()[:-3])
    result = run("check", store)
    assert result.exit_code == 0
    assert result.output.startswith("note  log/")
    assert "that were never acknowledged" in result.output
    assert "No damage. (1 note)" in result.output


def test_folder_in_use_ends_with_2_and_says_what_reads_it_anyway(store: Path) -> None:
    disk = RealDisk(str(store))
    disk.lock()
    try:
        result = run("check", store)
    finally:
        disk.close()
    assert result.exit_code == 2
    assert "stop the broker first" in result.stderr
    assert "posthouse dump" in result.stderr


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "log folder"])
def test_what_is_no_store_ends_with_2(what: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("?")
    (tmp_path / "empty").mkdir()
    path = store / "log" if what == "log folder" else tmp_path / what
    result = run("check", path)
    assert result.exit_code == 2
    assert not (tmp_path / "nothing").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    if what == "log folder":
        assert "Name the folder above it." in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_read_only_folder_is_checked_without_a_lock(store: Path) -> None:
    (store / "lock").unlink(missing_ok=True)
    store.chmod(0o555)
    try:
        assert run("check", store).exit_code == 0
    finally:
        store.chmod(0o755)


def test_file_of_the_nameserver_is_looked_at_too(store: Path) -> None:
    (store / "nameserver").mkdir()
    file = store / "nameserver" / "kvConfig.json"
    file.write_text('{"configTable": {}}')
    assert run("check", store).exit_code == 0
    file.write_text("{")
    result = run("check", store)
    assert result.exit_code == 1
    assert "nameserver/kvConfig.json" in result.output


def test_sizes_are_short() -> None:
    assert [size_text(each) for each in (0, 1023, 1024, 1536, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "5.0 GiB",
    ]
