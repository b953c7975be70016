from __future__ import annotations

from pathlib import Path

import pytest

from posthouse.cli.folder import Unreadable, open_for_reading, stopped_store
from tests.cli.test_check import first_segment, write_store


def test_path_of_a_folder_or_of_a_file_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "data")
    host, name = open_for_reading(str(store))
    assert (host.disk.place, name) == (str(store), "")
    segment = first_segment(store)
    host, name = open_for_reading(str(segment))
    assert (host.disk.place, name) == (str(segment.parent), segment.name)
    monkeypatch.chdir(segment.parent)
    host, name = open_for_reading(segment.name)
    assert host.disk.open(name).size_bytes() == segment.stat().st_size


def test_stopped_store_is_locked_as_long_as_it_is_looked_at(tmp_path: Path) -> None:
    store = str(write_store(tmp_path))
    with stopped_store(store, for_writing=True):  # noqa: SIM117
        with pytest.raises(Unreadable, match="another process"), stopped_store(store, for_writing=False):
            pass
    with stopped_store(store, for_writing=False):
        pass


def test_errors_of_the_system_name_the_file(tmp_path: Path) -> None:
    store = str(write_store(tmp_path))
    with pytest.raises(Unreadable, match="log/nothing"), stopped_store(store, for_writing=False) as host:
        host.disk.open("log/nothing")
