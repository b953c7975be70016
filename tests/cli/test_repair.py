"""`posthouse repair` on folders: it shows, asks, does; and never touches a folder in use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from posthouse.host.real import RealDisk
from tests.cli.test_check import first_segment, flip, run, write_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Damaged in one frame of its oldest segment."""
    store = write_store(tmp_path / "data")
    flip(first_segment(store), 700)
    return store


def files(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop("lock", None)
    return found


def test_dry_run_shows_steps_and_losses_and_changes_nothing(store: Path) -> None:
    before = files(store)
    result = run("repair", store, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "put a gap of " in result.output
    assert "Lost: " in result.output
    assert "  orders: at least " in result.output
    assert "a check finds no damage" in result.output
    assert files(store) == before


def test_repair_is_done_with_yes_and_the_store_is_clean_then(store: Path) -> None:
    result = run("repair", store, "--yes")
    assert result.exit_code == 0, result.output
    assert "Repaired. What was moved is in" in result.output
    checked = run("check", store)
    assert checked.exit_code == 0
    assert "a repair could not save what was here" in checked.output
    lost = [name for name in files(store) if name.endswith(".lost")]
    assert len(lost) == 1
    shown = run("dump", store / lost[0])
    assert "(recognised in damage)" in shown.output
    assert "nothing to repair" in run("repair", store).output


def test_without_a_person_and_without_yes_nothing_is_changed(store: Path) -> None:
    before = files(store)
    result = run("repair", store)
    assert result.exit_code == 1
    assert "Give --yes to go on" in result.stderr
    assert files(store) == before


@pytest.mark.parametrize(("answer", "is_done"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_person_is_asked(store: Path, answer: str, is_done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(store)
    monkeypatch.setattr("posthouse.cli.repair.has_person", lambda: True)
    result = run("repair", store, stdin=answer)
    assert "Go on?" in result.output
    assert (files(store) != before) is is_done
    assert (result.exit_code == 0) is is_done


def test_json_is_one_document_and_does_not_ask(store: Path) -> None:
    before = files(store)
    result = run("repair", store, "--json", "--dry-run")
    (document,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert list(document) == [
        "place", "dry_run", "steps", "lost_bytes", "lost_messages", "beyond_repair", "clean_afterwards",
    ]  # fmt: skip
    assert document["lost_messages"].keys() <= {"orders", "mails", "bills"}
    assert document["clean_afterwards"] is True
    assert run("repair", store, "--json").exit_code == 1
    assert files(store) == before
    assert run("repair", store, "--json", "--yes").exit_code == 0
    assert files(store) != before


def test_folder_in_use_is_not_touched(store: Path) -> None:
    before = files(store)
    disk = RealDisk(str(store))
    disk.lock()
    try:
        result = run("repair", store, "--yes")
    finally:
        disk.close()
    assert result.exit_code == 2
    assert files(store) == before


def test_what_is_beyond_repair_is_said_and_left(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    (store / "format").write_text("posthouse 77\n")
    result = run("repair", store, "--yes")
    assert result.exit_code == 1
    assert "beyond repair: format: " in result.output
    assert (store / "format").read_text() == "posthouse 77\n"


def test_has_person_is_about_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from posthouse.cli.repair import has_person

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert has_person()
