"""What the disk seam promises, asked of every disk. A subclass says which one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from posthouse.host.disk import Buffer, Disk, DiskBusy, File


async def committed(file: File, offset: int, *buffers: Buffer, sync: bool = True) -> OSError | None:
    """What a commit called back with."""
    found: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    file.commit(offset, buffers, sync, found.set_result)
    return await asyncio.wait_for(found, 10)


async def replaced(disk: Disk, name: str, data: bytes) -> OSError | None:
    found: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    disk.replace(name, data, found.set_result)
    return await asyncio.wait_for(found, 10)


async def read_later(file: File, offset: int, size: int) -> bytes | OSError:
    found: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()
    file.read_later(offset, size, found.set_result)
    return await asyncio.wait_for(found, 10)


async def created(disk: Disk, name: str) -> File | OSError:
    found: asyncio.Future[File | OSError] = asyncio.get_running_loop().create_future()
    disk.create(name, found.set_result)
    assert not found.done(), "a callback came at once, inside the call"
    return await asyncio.wait_for(found, 10)


async def removed(disk: Disk, name: str) -> OSError | None:
    found: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    disk.remove_later(name, found.set_result)
    assert not found.done(), "a callback came at once, inside the call"
    return await asyncio.wait_for(found, 10)


class DiskSuite(ABC):
    @abstractmethod
    def make_disk(self) -> Disk:
        """A disk over the place of this test; calls give disks over the same files."""

    @pytest.fixture
    def disk(self) -> Iterator[Disk]:
        disk = self.make_disk()
        disk.lock()
        disk.folder("log")
        yield disk
        disk.close()

    @pytest.mark.asyncio
    async def test_what_was_committed_is_read(self, disk: Disk) -> None:
        file = disk.open("log/a", create=True)
        assert file.name == "log/a"
        assert await committed(file, 0, b"one", bytearray(b"two"), memoryview(b"three")) is None
        assert file.size_bytes() == 11
        assert file.read_wait(3, 3) == b"two"
        assert await read_later(file, 6, 5) == b"three"
        assert file.read(0, 3) in (b"one", None)  # None: the device would have to be waited for
        file.close()

    @pytest.mark.asyncio
    async def test_commits_are_done_and_told_in_the_order_given(self, disk: Disk) -> None:
        file, other = disk.open("log/a", create=True), disk.open("log/b", create=True)
        told: list[int] = []
        last: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for number in range(50):
            one = (file, other)[number % 2]
            one.commit(0, (b"%05d" % number,), number % 7 == 0, lambda error, number=number: told.append(number))  # type: ignore[misc]
        disk.replace("log/c", b"whole", lambda error: (told.append(50), last.set_result(None))[1])  # type: ignore[func-returns-value]
        assert told == [], "a callback came at once, inside the call"
        await asyncio.wait_for(last, 10)
        assert told == list(range(51))
        assert file.read_wait(0, 5) == b"00048"
        assert other.read_wait(0, 5) == b"00049"

    @pytest.mark.asyncio
    async def test_an_empty_commit_only_syncs(self, disk: Disk) -> None:
        file = disk.open("log/a", create=True)
        assert await committed(file, 0, b"abc", sync=False) is None
        assert await committed(file, 0) is None
        assert file.read_wait(0, 10) == b"abc"

    @pytest.mark.asyncio
    async def test_a_commit_beyond_the_end_leaves_zeros_between(self, disk: Disk) -> None:
        file = disk.open("log/a", create=True)
        assert await committed(file, 4, b"end") is None
        assert file.read_wait(0, 100) == b"\0\0\0\0end"

    @pytest.mark.asyncio
    async def test_a_read_beyond_the_end_is_short(self, disk: Disk) -> None:
        file = disk.open("log/a", create=True)
        await committed(file, 0, b"0123456789")
        for offset, size, want in ((8, 10, b"89"), (10, 5, b""), (1000, 5, b""), (0, 0, b"")):
            assert file.read_wait(offset, size) == want
            assert await read_later(file, offset, size) == want
            assert file.read(offset, size) in (want, None)

    @pytest.mark.asyncio
    async def test_a_replacement_is_the_old_or_the_new(self, disk: Disk) -> None:
        old, new = b"o" * 100_000, b"n" * 200_000
        assert await replaced(disk, "log/state", old) is None
        done: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        disk.replace("log/state", new, done.set_result)
        seen = set()
        while not done.done():
            seen.add(disk.read_file("log/state"))
            await asyncio.sleep(0)
        seen.add(disk.read_file("log/state"))
        assert seen <= {old, new}
        assert disk.read_file("log/state") == new
        assert disk.list("log") == ["state"]

    @pytest.mark.asyncio
    async def test_an_open_file_keeps_its_bytes_when_its_name_is_replaced(self, disk: Disk) -> None:
        await replaced(disk, "log/state", b"old")
        file = disk.open("log/state")
        await replaced(disk, "log/state", b"new!")
        assert file.read_wait(0, 10) == b"old"
        file.close()

    @pytest.mark.asyncio
    async def test_truncate_cuts_and_grows_with_zeros(self, disk: Disk) -> None:
        file = disk.open("log/a", create=True)
        await committed(file, 0, b"0123456789")
        file.truncate(4)
        assert (file.size_bytes(), file.read_wait(0, 10)) == (4, b"0123")
        file.truncate(6)
        assert file.read_wait(0, 10) == b"0123\0\0"

    def test_open_makes_a_file_only_when_asked(self, disk: Disk) -> None:
        with pytest.raises(FileNotFoundError):
            disk.open("log/a")
        disk.open("log/a", create=True).close()
        disk.open("log/a").close()
        with pytest.raises(FileExistsError):
            disk.open("log/a", create=True)

    @pytest.mark.asyncio
    async def test_a_created_file_is_empty_and_there(self, disk: Disk) -> None:
        file = await created(disk, "log/a")
        assert not isinstance(file, OSError)
        assert (file.name, file.size_bytes(), disk.list("log")) == ("log/a", 0, ["a"])
        assert await committed(file, 0, b"abc") is None
        assert disk.read_file("log/a") == b"abc"
        file.close()

    @pytest.mark.asyncio
    async def test_an_empty_file_that_is_there_is_the_created_one_and_one_with_bytes_is_not(self, disk: Disk) -> None:
        disk.open("log/a", create=True).close()
        file = await created(disk, "log/a")
        assert not isinstance(file, OSError)
        await committed(file, 0, b"abc")
        assert isinstance(await created(disk, "log/a"), FileExistsError)
        assert disk.read_file("log/a") == b"abc"

    @pytest.mark.asyncio
    async def test_what_is_given_is_done_in_the_order_given_also_creating_and_removing(self, disk: Disk) -> None:
        told: list[str] = []
        last: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        disk.open("log/a", create=True).commit(0, (b"a",), False, lambda error: told.append("written"))
        disk.create("log/b", lambda made: told.append("created"))
        disk.remove_later("log/a", lambda error: told.append("removed"))
        disk.replace("log/a", b"new", lambda error: (told.append("replaced"), last.set_result(None))[1])  # type: ignore[func-returns-value]
        await asyncio.wait_for(last, 10)
        assert told == ["written", "created", "removed", "replaced"]
        assert disk.list("log") == ["a", "b"]
        assert disk.read_file("log/a") == b"new"

    @pytest.mark.asyncio
    async def test_a_file_that_is_removed_later_may_be_gone_already_and_stays_readable_while_open(
        self, disk: Disk
    ) -> None:
        assert await removed(disk, "log/a") is None
        file = disk.open("log/a", create=True)
        await committed(file, 0, b"abc")
        assert await removed(disk, "log/a") is None
        assert disk.list("log") == []
        assert file.read_wait(0, 10) == b"abc"

    @pytest.mark.asyncio
    async def test_reads_and_commits_that_were_given_before_a_file_is_closed_end_well(self, disk: Disk) -> None:
        file = disk.open("log/a", create=True)
        await committed(file, 0, b"abc")
        read: asyncio.Future[bytes | OSError] = asyncio.get_running_loop().create_future()
        wrote: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        file.read_later(0, 3, read.set_result)
        file.commit(3, (b"def",), True, wrote.set_result)
        file.close()
        assert await asyncio.wait_for(read, 10) == b"abc"
        assert await asyncio.wait_for(wrote, 10) is None
        assert disk.read_file("log/a") == b"abcdef"

    def test_a_file_is_written_whole_by_who_can_wait(self, disk: Disk) -> None:
        disk.write_file("state", b"one")
        assert disk.read_file("state") == b"one"
        disk.write_file("state", b"2")
        assert disk.read_file("state") == b"2"

    def test_a_moved_file_has_its_bytes_and_no_other_loses_its_own(self, disk: Disk) -> None:
        disk.write_file("log/a", b"abc")
        disk.move("log/a", "b")
        assert disk.read_file("b") == b"abc"
        assert disk.list("log") == []
        disk.write_file("log/a", b"other")
        with pytest.raises(FileExistsError):
            disk.move("log/a", "b")
        assert (disk.read_file("b"), disk.read_file("log/a")) == (b"abc", b"other")
        with pytest.raises(FileNotFoundError):
            disk.move("log/c", "d")

    def test_a_disk_is_writable_unless_it_was_opened_otherwise(self, disk: Disk) -> None:
        assert disk.writable

    def test_names_are_listed_sorted_and_a_folder_that_is_not_there_is_empty(self, disk: Disk) -> None:
        for name in ("c", "a", "b"):
            disk.open(f"log/{name}", create=True).close()
        assert disk.list("log") == ["a", "b", "c"]
        assert disk.list("nowhere") == []
        disk.remove("log/b")
        disk.remove("log/b", sync=True)
        disk.remove("log/c", sync=True)
        assert disk.list("log") == ["a"]

    def test_a_file_that_is_not_there_cannot_be_read(self, disk: Disk) -> None:
        with pytest.raises(FileNotFoundError):
            disk.read_file("log/a")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("name", ["../a", "log/../../a", "/etc/a"])
    async def test_no_name_leaves_the_root(self, disk: Disk, name: str) -> None:
        for use in (
            lambda: disk.open(name),
            lambda: disk.open(name, create=True),
            lambda: disk.replace(name, b"", lambda error: None),
            lambda: disk.read_file(name),
            lambda: disk.remove(name),
            lambda: disk.create(name, lambda made: None),
            lambda: disk.remove_later(name, lambda error: None),
            lambda: disk.write_file(name, b""),
            lambda: disk.move(name, "b"),
            lambda: disk.move("a", name),
            lambda: disk.list(name),
        ):
            with pytest.raises(AssertionError, match="leaves the data folder"):
                use()

    def test_a_second_holder_is_refused_until_the_first_lets_go(self, disk: Disk) -> None:
        with pytest.raises(DiskBusy):
            self.make_disk().lock()
        disk.close()
        second = self.make_disk()
        second.lock()
        second.close()

    def test_files_outlive_the_holder(self, disk: Disk) -> None:
        disk.open("log/a", create=True).close()
        disk.close()
        second = self.make_disk()
        second.lock()
        assert second.list("log") == ["a"]
        second.close()

    def test_usage_is_within_the_whole(self, disk: Disk) -> None:
        used, whole = disk.usage()
        assert 0 <= used <= whole

    def test_the_place_is_a_word_for_a_person(self, disk: Disk) -> None:
        assert disk.place
