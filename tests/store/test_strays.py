from __future__ import annotations

from pathlib import Path

from posthouse.host.real import RealDisk
from posthouse.store.strays import Stray, snapshot_files, strays
from tests.store.disks import FaultyDisk

RUN = f"{0:020d}-{9:020d}.run"
SNAPSHOT = f"{9:020d}.json"


def test_files_of_the_store_are_no_strays() -> None:
    disk = FaultyDisk(dict.fromkeys((f"log/{0:020d}.log", f"queues/{RUN}", f"snapshots/{SNAPSHOT}", "lost/x"), b""))
    assert list(strays(disk, [RUN])) == []
    assert snapshot_files(disk) == [SNAPSHOT]


def test_what_interrupted_writes_left_is_told_from_what_belongs_to_nobody() -> None:
    left = (f"queues/{RUN}", f"queues/{RUN}.new", f"snapshots/{SNAPSHOT}.new")
    nobodys = ("log/a", "queues/b.run", "snapshots/c.json")
    disk = FaultyDisk(dict.fromkeys((*left, *nobodys), b""))
    found = list(strays(disk, []))
    assert {each.name for each in found if each.leftover} == set(left)
    assert {each.name for each in found if not each.leftover} == set(nobodys)


def test_unknown_names_beside_the_folders_are_strays(tmp_path: Path) -> None:
    for name in ("lock", "format", "notes.txt"):
        (tmp_path / name).touch()
    for name in ("log", "queues", "snapshots", "lost", "nameserver", "other"):
        (tmp_path / name).mkdir()
    assert list(strays(RealDisk(str(tmp_path), read_only=True), [])) == [
        Stray("notes.txt", leftover=False),
        Stray("other", leftover=False),
    ]
