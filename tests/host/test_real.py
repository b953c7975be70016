from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posthouse.host import Host
from posthouse.host.disk import Disk, DiskBusy
from posthouse.host.real import RealClock, RealDisk, RealRandomness
from tests.host.disk_suite import DiskSuite, committed, read_later, replaced

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
    assert rest == "8192 ['a', 'b.new']"


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


def test_random_numbers_stay_below_their_limit_and_reach_all_of_it() -> None:
    random = RealRandomness()
    assert {random.below(3) for _ in range(200)} == {0, 1, 2}
    assert random.below(1) == 0
    assert len(random.token_bytes(16)) == 16
    assert random.token_bytes(16) != random.token_bytes(16)


def test_a_host_without_a_folder_keeps_everything_in_memory() -> None:
    assert Host.real().disk.place == "memory"
    assert Host.real("somewhere").disk.place == os.path.abspath("somewhere")
