from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from posthouse.host import Host, real
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk, DiskBusy, DiskFull
from posthouse.host.real import RealClock, RealDisk, RealRandomness
from tests.host.disk_suite import DiskSuite, committed, created, read_later, removed, replaced

HOLDER = """
import sys
from posthouse.host.real import RealDisk
disk = RealDisk(sys.argv[1])
disk.lock()
print("held", flush=True)
sys.stdin.read()
"""

FULL = """
import asyncio, resource, signal, sys
from posthouse.host.real import RealDisk

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    disk = RealDisk(sys.argv[1])
    disk.lock()
    disk.folder("log")
    file = disk.open("log/a", create=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    for act in (
        lambda done: file.commit(4096, (bytes(3000), bytes(3000)), True, done),
        lambda done: disk.replace("log/b", bytes(10000), done),
        lambda done: file.commit(0, (bytes(100),), True, done),
    ):
        told = asyncio.get_running_loop().create_future()
        act(told.set_result)
        error = await asyncio.wait_for(told, 10)
        print(type(error).__name__, getattr(error, "errno", None))
    print(file.size_bytes(), disk.list("log"))
    disk.close()

asyncio.run(main())
"""


SMALL = """
mount -t tmpfs -o size=1m tmpfs "$1" || { echo "cannot have one" >&2; exit 1; }
exec "$0" -c "$2" "$1"
"""

FILL = """
import asyncio, os, sys
from posthouse.host.real import RealDisk

async def give(act):
    told = asyncio.get_running_loop().create_future()
    act(told.set_result)
    return await asyncio.wait_for(told, 10)

async def main():
    disk = RealDisk(sys.argv[1])
    disk.lock()
    file = disk.open("a", create=True)
    disk.write_file("state", b"old")
    disk.write_file("filler", bytes(500_000))
    data = os.urandom(700_000)
    print(type(await give(lambda done: file.commit(0, (data,), True, done))).__name__)
    print(type(await give(lambda done: disk.replace("state", data, done))).__name__)
    print(disk.read_file("state").decode())
    print(disk.list(""))
    disk.remove("filler")
    print(await give(lambda done: file.commit(0, (data,), True, done)))
    print(disk.read_file("a") == data)
    disk.close()

asyncio.run(main())
"""


class TestRealDisk(DiskSuite):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self._root = tmp_path / "data"

    def make_disk(self) -> Disk:
        return RealDisk(str(self._root))


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "some" / "deep" / "folder")


def test_another_process_is_refused(root: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        disk = RealDisk(root)
        with pytest.raises(DiskBusy, match="another process is using the data folder") as caught:
            disk.lock()
        assert root in str(caught.value)
        holder.kill()
        holder.wait(10)
    disk.lock()  # the kernel let go of it when the process died
    disk.close()


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError):
        RealDisk(str(tmp_path / "file" / "data")).lock()


def test_a_full_disk_calls_back_with_the_error_and_the_thread_lives_on(root: str) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, root], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    first, second, third, rest = done.stdout.splitlines()
    assert first == second == f"OSError {errno.EFBIG}"
    assert third == "NoneType None"
    assert rest == "8192 ['a']"


@pytest.mark.asyncio
async def test_a_closed_file_gives_errors_and_never_touches_another(root: str) -> None:
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    await committed(file, 0, b"abc")
    file.close()
    file.close()
    other = disk.open("b", create=True)  # has the closed file's number now
    error = await committed(file, 0, b"xyz")
    assert isinstance(error, OSError)
    assert error.errno == errno.EBADF
    found = await read_later(file, 0, 3)
    assert isinstance(found, OSError)
    with pytest.raises(OSError):
        file.read(0, 3)
    with pytest.raises(OSError):
        file.read_wait(0, 3)
    assert other.size_bytes() == 0
    disk.close()


@pytest.mark.asyncio
async def test_a_replace_that_fails_leaves_the_old(root: str) -> None:
    disk = RealDisk(root)
    disk.lock()
    assert isinstance(await replaced(disk, "nowhere/state", b"new"), OSError)
    await replaced(disk, "state", b"old")
    os.mkdir(os.path.join(root, "state.new"))  # the temporary cannot be written
    assert isinstance(await replaced(disk, "state", b"new"), OSError)
    assert disk.read_file("state") == b"old"
    disk.close()


@pytest.mark.asyncio
async def test_close_waits_for_the_commits_under_way_and_takes_no_more(root: str) -> None:
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    told: list[OSError | None] = []
    for number in range(20):
        file.commit(number * 1000, (bytes([number]) * 1000,), True, told.append)
    disk.close()
    with open(os.path.join(root, "a"), "rb") as written:
        assert written.read() == b"".join(bytes([number]) * 1000 for number in range(20))
    error = await committed(file, 0, b"late")
    assert told == [None] * 20
    assert isinstance(error, OSError)
    with open(os.path.join(root, "a"), "rb") as written:
        assert written.read(4) == bytes(4)


@pytest.mark.asyncio
async def test_a_cold_read_waits_for_nobody(root: str) -> None:
    """A page that is not in memory is answered None or read at once, never wrongly short."""
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    data = os.urandom(1 << 20)
    await committed(file, 0, data)
    with open(os.path.join(root, "a"), "rb") as same:
        os.posix_fadvise(same.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert file.read(0, 1 << 20) in (None, data)
    assert await read_later(file, 0, 1 << 20) == data
    assert file.read((1 << 20) - 10, 100) in (None, data[-10:])
    disk.close()


@pytest.mark.asyncio
async def test_a_file_system_that_cannot_say_whether_it_waits_is_read_plainly(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    await committed(file, 0, b"0123456789")

    def cannot(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "preadv", cannot)
    assert file.read(2, 3) == b"234"
    assert file.read(8, 30) == b"89"
    disk.close()


def test_callbacks_for_a_closed_loop_are_dropped(root: str) -> None:
    disk = RealDisk(root)
    disk.lock()

    async def give() -> None:
        disk.replace("state", b"x" * 1_000_000, lambda error: None)

    asyncio.run(give())
    disk.close()
    assert os.path.getsize(os.path.join(root, "state")) == 1_000_000


def test_the_clock_gives_milliseconds_of_now() -> None:
    before = time.time() * 1000
    assert before - 1 <= RealClock().now_ms() <= time.time() * 1000


@pytest.mark.parametrize(("zone", "hour"), [("UTC0", 22), ("CST-8", 6), ("EST5", 17)])
def test_hour_of_day_is_the_local_one(zone: str, hour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert RealClock().hour_of_day(EpochMs(1_700_000_000_000)) == hour
    finally:
        monkeypatch.undo()
        time.tzset()


def test_random_numbers_stay_below_their_limit_and_reach_all_of_it() -> None:
    random = RealRandomness()
    assert {random.below(3) for _ in range(200)} == {0, 1, 2}
    assert random.below(1) == 0
    assert len(random.token_bytes(16)) == 16
    assert random.token_bytes(16) != random.token_bytes(16)


def test_a_host_without_a_folder_keeps_everything_in_memory() -> None:
    assert Host.real().disk.place == "memory"
    assert Host.real("somewhere").disk.place == os.path.abspath("somewhere")


# A disk without room


def no_room(code: int = errno.ENOSPC) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_write_without_room_is_told_as_such_and_may_be_given_again(
    root: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", no_room(code))
        error = await committed(file, 0, b"abc")
    assert isinstance(error, DiskFull)
    assert (error.errno, error.strerror) == (code, os.strerror(code))
    assert await committed(file, 0, b"abc") is None
    assert disk.read_file("a") == b"abc"
    disk.close()


@pytest.mark.asyncio
async def test_a_sync_without_room_is_an_error_like_any_other(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    monkeypatch.setattr(real, "_sync_data", no_room())
    error = await committed(file, 0, b"abc")
    assert isinstance(error, OSError)
    assert not isinstance(error, DiskFull)
    disk.close()


@pytest.mark.asyncio
async def test_a_write_that_is_cut_short_is_continued(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk(root)
    disk.lock()
    file = disk.open("a", create=True)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, bytes(data)[:3], offset))
    assert await committed(file, 2, b"0123456", b"789") is None
    await replaced(disk, "b", b"0123456789")
    assert disk.read_file("a") == b"\0\0" + b"0123456789"
    assert disk.read_file("b") == b"0123456789"
    disk.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
async def test_a_replace_without_room_leaves_the_old_and_no_temporary(
    root: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(root)
    disk.lock()
    await replaced(disk, "state", b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, no_room())
        assert isinstance(await replaced(disk, "state", b"new"), DiskFull)
        with pytest.raises(DiskFull):
            disk.write_file("state", b"new")
    assert disk.read_file("state") == b"old"
    assert disk.list("") == ["lock", "state"]
    assert await replaced(disk, "state", b"new") is None
    assert disk.read_file("state") == b"new"
    disk.close()


@pytest.mark.asyncio
async def test_a_file_that_finds_no_room_is_created_when_there_is_room(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(root)
    disk.lock()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", no_room())
        assert isinstance(await created(disk, "a"), DiskFull)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", no_room())  # of the folder: nobody knows what that means
        error = await created(disk, "a")
        assert isinstance(error, OSError)
        assert not isinstance(error, DiskFull)
    assert not isinstance(await created(disk, "a"), OSError)
    disk.close()


def test_a_real_file_system_without_room_is_a_full_disk_until_there_is_room(tmp_path: Path) -> None:
    """On a small file system in memory, where this machine lets us have one; nothing is patched."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", SMALL, sys.executable, place, FILL],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "cannot have one" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no file systems can be mounted here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "DiskFull",
        "DiskFull",
        "old",
        "['a', 'filler', 'lock', 'state']",
        "None",
        "True",
    ]


# Reading only, and missing rights


@pytest.mark.asyncio
async def test_a_disk_that_is_opened_for_reading_changes_nothing_and_needs_no_lock(root: str) -> None:
    disk = RealDisk(root)
    disk.lock()
    disk.folder("log")
    disk.write_file("log/a", b"abc")
    reading = Host.real(root, read_only=True).disk
    assert not reading.writable
    file = reading.open("log/a")
    assert file.read_wait(0, 10) == b"abc"
    assert reading.list("log") == ["a"]
    reading.folder("log")
    for use in (
        lambda: reading.lock(),
        lambda: reading.folder("other"),
        lambda: reading.open("log/b", create=True),
        lambda: reading.write_file("log/b", b""),
        lambda: reading.remove("log/a"),
        lambda: reading.move("log/a", "log/b"),
        lambda: file.truncate(0),
    ):
        with pytest.raises(OSError):
            use()
    for error in (
        await committed(file, 0, b"x"),
        await replaced(reading, "log/a", b"x"),
        await removed(reading, "log/a"),
        await created(reading, "log/b"),
    ):
        assert isinstance(error, OSError)
    reading.close()
    assert (disk.list("log"), disk.read_file("log/a"), disk.list("")) == (["a"], b"abc", ["lock", "log"])
    disk.close()


def test_a_folder_that_is_not_there_is_not_made_for_reading(root: str) -> None:
    disk = RealDisk(root, read_only=True)
    assert disk.list("log") == []
    with pytest.raises(FileNotFoundError):
        disk.read_file("format")
    assert not os.path.exists(root)
    disk.close()


@pytest.mark.parametrize(
    "code, said",
    [(errno.EACCES, r"user \d+ may not write"), (errno.EPERM, "may not write"), (errno.EROFS, "read-only")],
)
def test_a_missing_right_is_told_with_the_place_and_what_to_do(
    root: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(root)
    disk.lock()
    disk.open("a", create=True).close()
    disk.close()
    monkeypatch.setattr(os, "open", no_room(code))
    for use, place in (
        (lambda: disk.lock(), os.path.join(root, "lock")),
        (lambda: disk.open("a"), os.path.join(root, "a")),
        (lambda: disk.open("b", create=True), os.path.join(root, "b")),
    ):
        with pytest.raises(OSError, match=said) as caught:
            use()
        assert caught.value.errno == code
        text = str(caught.value.strerror)
        assert re.search(rf"{re.escape(place)}\b", text)
        assert "name another" in text
        assert "\n" not in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o500)
    with pytest.raises(PermissionError, match="may not write"):
        RealDisk(str(tmp_path / "data")).lock()
    os.chmod(tmp_path, 0o700)
