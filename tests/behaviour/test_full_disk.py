"""The real server on a real disk that fills up, and in folders that it cannot use: what a person sees, and what stays.

The full disk is a small file system in memory, mounted in a namespace that only the server lives in.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from posthouse import Producer, PullConsumer
from posthouse.client.errors import SendFailed
from posthouse.endpoint.house import House, HouseConfig
from posthouse.host import Host
from tests.cli.server import RunningServer, free_ports, posthouse, running
from tests.endpoint.clients import R
from tests.store.clean import assert_clean

TOPIC = "orders"
MIB = 1024 * 1024
DISK_BYTES = 24 * MIB
BODY = bytes(16_000)
SEGMENTS = ("--segment-size", "1MiB")
NEVER = ("--disk-clean-level", "99", "--disk-force-level", "99", "--disk-full-level", "99")
"""Levels that a write passes together with the end of this disk. Nothing is deleted: there is one segment only."""
GOES_ON_SECONDS = 10.0
NOBODY = 65534


@dataclass
class SmallDisk:
    """`launcher` runs a command with the disk at `place`; `inside` is how others reach that."""

    launcher: Sequence[str]
    place: Path
    inside: Path

    @property
    def data(self) -> Path:
        return self.place / "data"

    def fill(self, name: str, size: int) -> Callable[[], None]:
        """A file of somebody else's; what removes it."""
        file = self.inside / name
        file.write_bytes(bytes(size))
        return file.unlink

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.inside).free


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """It is gone with the last process that has it; one that sleeps keeps it."""
    place = tmp_path / "small"
    place.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && echo mounted && exec sleep 600'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(place)]
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("a small file system needs unshare(1) and nsenter(1)")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as keeper:
        assert keeper.stdout is not None
        try:
            if keeper.stdout.readline() != "mounted\n":
                pytest.skip("no file system can be mounted here")
            launcher = ("nsenter", "--target", str(keeper.pid), "--user", "--mount", "--preserve-credentials")
            disk = SmallDisk(launcher, place, Path(f"/proc/{keeper.pid}/root{place}"))
            if shutil.disk_usage(disk.inside).total != DISK_BYTES:
                pytest.skip("the small file system cannot be seen from outside")
            yield disk
        finally:
            keeper.kill()


@contextmanager
def serving(disk: SmallDisk, *options: str) -> Iterator[RunningServer]:
    with running(disk.data, *free_ports(), *options, launcher=disk.launcher) as server:
        yield server


class Sent:
    """What was acknowledged, by (queue id, queue offset), and what was refused last."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.refused: SendFailed | None = None
        self._number = 0

    async def send(self, producer: Producer) -> bool:
        self._number += 1
        body = b"%d " % self._number + BODY
        try:
            receipt = await producer.send(TOPIC, body)
        except SendFailed as error:
            if error.code != R.SERVICE_NOT_AVAILABLE:
                raise
            self.refused = error
            return False
        self.acknowledged[receipt.queue.queue_id, receipt.queue_offset] = body
        return True

    async def send_until_refused(self, producer: Producer, messages_max: int = 4000) -> str:
        """The remark of the first refusal."""
        for _ in range(messages_max // 16):
            if not all(await asyncio.gather(*(self.send(producer) for _ in range(16)))):
                assert self.refused is not None
                return self.refused.remark
        raise AssertionError(f"{messages_max} messages were taken")

    async def send_until_taken(self, producer: Producer) -> float:
        """How long it took, in seconds."""
        begun = time.monotonic()
        while not await self.send(producer):
            assert time.monotonic() - begun < GOES_ON_SECONDS, f"still refused: {self.refused}"
            await asyncio.sleep(0.1)
        return time.monotonic() - begun


async def look(nameservers: str) -> tuple[dict[tuple[int, int], bytes], list[int]]:
    """All messages that are there, and the min offset of each queue."""
    there: dict[tuple[int, int], bytes] = {}
    minima: list[int] = []
    async with PullConsumer("readers", nameservers) as consumer:
        for queue in await consumer.queues(TOPIC):
            offset = await consumer.min_offset(queue)
            minima.append(offset)
            while (pulled := await consumer.pull(queue, offset)).messages:
                there |= {(queue.queue_id, each.queue_offset): each.body for each in pulled.messages}
                offset = pulled.next_offset
            await consumer.commit(queue, offset)
            assert await consumer.committed(queue) == offset
    return there, minima


def stop(server: RunningServer) -> str:
    """Ends it in order; what it said on stderr."""
    begun = time.monotonic()
    code, said = server.stop(signal.SIGTERM)
    assert code == 0, said
    assert time.monotonic() - begun < 5
    assert "Traceback" not in said
    return said


def check(disk: SmallDisk) -> None:
    command = [*disk.launcher, sys.executable, "-m", "posthouse", "check", str(disk.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_clean(Host.real(str(disk.inside / "data"), read_only=True).disk)


@pytest.mark.asyncio
async def test_disk_that_others_fill_stops_sends_until_there_is_room(small_disk: SmallDisk) -> None:
    """The retention levels are as they are; there is nothing that retention could delete."""
    sent = Sent()
    with serving(small_disk) as server:
        async with Producer(server.nameserver, retries=0, compress_over_bytes=None) as producer:
            assert await sent.send(producer)
            free = small_disk.fill("somebody else's", DISK_BYTES * 92 // 100)
            remark = await sent.send_until_refused(producer)
            assert "over 90% this broker takes no more messages (--disk-full-level)" in remark
            assert str(small_disk.data) in remark
            assert (await look(server.nameserver))[0] == sent.acknowledged, "and a group that is new may read"
            free()
            assert await sent.send_until_taken(producer) < 5
            assert (await look(server.nameserver))[0] == sent.acknowledged
        said = stop(server)
    assert len(re.findall("no more are taken", said)) == 1, said
    check(small_disk)


@pytest.mark.asyncio
async def test_server_deletes_its_oldest_messages_before_its_disk_is_full(small_disk: SmallDisk) -> None:
    """Three times what the disk holds is sent; what is refused on the way is taken later."""
    sent = Sent()
    with serving(small_disk, *SEGMENTS) as server:
        async with Producer(server.nameserver, retries=0, compress_over_bytes=None) as producer:
            while len(sent.acknowledged) * len(BODY) < 3 * DISK_BYTES:
                if not all(await asyncio.gather(*(sent.send(producer) for _ in range(16)))):
                    await sent.send_until_taken(producer)
        there, minima = await look(server.nameserver)
        assert min(minima) > 0
        kept = {place: body for place, body in sent.acknowledged.items() if place[1] >= minima[place[0]]}
        assert kept.items() <= there.items()
        assert len(kept) * len(BODY) > DISK_BYTES // 2, "more was deleted than had to be"
        said = stop(server)
    assert "takes no more writes" not in said
    check(small_disk)


@pytest.mark.asyncio
async def test_server_whose_writes_find_no_room_goes_on_when_there_is_some(small_disk: SmallDisk) -> None:
    sent = Sent()
    free = small_disk.fill("somebody else's", 8 * MIB)
    with serving(small_disk, *NEVER) as server:
        async with Producer(server.nameserver, retries=0, compress_over_bytes=None) as producer:
            await sent.send(producer)
            await look(server.nameserver)
            refusal = await sent.send_until_refused(producer)
            no_room = "there is no room for the log" in refusal  # or the highest level came before it
            assert no_room or "over 99%" in refusal, refusal
            assert small_disk.free_bytes < MIB
            acknowledged = dict(sent.acknowledged)
            assert not any(await asyncio.gather(*(sent.send(producer) for _ in range(16))))
            assert sent.refused is not None
            assert "make room" in sent.refused.remark
            there, minima = await look(server.nameserver)
            assert acknowledged == there, "what is held is not visible, and nothing else is missing"
            assert not any(minima)
            await asyncio.sleep(2)
            free()
            assert await sent.send_until_taken(producer) < 5
            there, _ = await look(server.nameserver)
            assert sent.acknowledged.items() <= there.items()
        said = stop(server)
    if no_room:
        assert len(re.findall("sends are refused until there is room", said)) == 1, said
        assert len(re.findall("sends are taken", said)) == 1, said
    check(small_disk)


@pytest.mark.asyncio
async def test_server_on_a_full_disk_stops_at_once_and_starts_again(small_disk: SmallDisk) -> None:
    sent = Sent()
    free = small_disk.fill("somebody else's", 8 * MIB)
    with serving(small_disk, *NEVER) as server:
        async with Producer(server.nameserver, retries=0, compress_over_bytes=None) as producer:
            await sent.send(producer)
            await look(server.nameserver)
            await sent.send_until_refused(producer)
        stop(server)
    check(small_disk)
    with serving(small_disk, *NEVER) as server:
        there, _ = await look(server.nameserver)
        assert sent.acknowledged.items() <= there.items()
        async with Producer(server.nameserver, retries=0, compress_over_bytes=None) as producer:
            await sent.send_until_refused(producer)
            free()
            assert await sent.send_until_taken(producer) < 5
        there, _ = await look(server.nameserver)
        assert sent.acknowledged.items() <= there.items()
        stop(server)
    check(small_disk)


# Folders that cannot be used


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a house that was closed."""
    data = tmp_path / "store"

    async def live() -> None:
        house = House(Host.real(str(data)), HouseConfig(nameserver_port=0, broker_port=0))
        await house.start()
        await house.close()

    asyncio.run(live())
    return data


def refused(data: Path, launcher: Sequence[str] = ()) -> str:
    """The one line that a start is refused with."""
    command = [*launcher, sys.executable, "-m", "posthouse", "serve", "--data", str(data), *free_ports()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert str(data) in lines[0]
    return lines[0]


def files(data: Path) -> dict[str, bytes]:
    return {str(each.relative_to(data)): each.read_bytes() for each in data.rglob("*") if each.is_file()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("posthouse 3\n", "holds format 3; this version of Posthouse reads format 2: start the version that wrote it"),
        ("posthouse 1\n", "holds format 1"),
        ("something else\n", "is damaged"),
        ("", "is damaged"),
        (None, "move the folder away and start empty"),
    ],
)
def test_folder_of_another_format_is_refused_and_left_as_it_is(store: Path, content: str | None, words: str) -> None:
    if content is None:
        (store / "format").unlink()
    else:
        (store / "format").write_text(content)
    before = files(store)
    assert words in refused(store)
    assert files(store) == before


def test_folder_that_another_process_uses_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data", *free_ports()) as server:
        assert "another process is using the data folder" in refused(tmp_path / "data")
        done = posthouse("check", str(tmp_path / "data"))
        assert done.returncode == 2
        assert "stop the broker first" in done.stderr
        stop(server)


def test_folder_on_a_read_only_file_system_is_refused(small_disk: SmallDisk) -> None:
    with serving(small_disk) as server:
        stop(server)
    remount = [*small_disk.launcher, "mount", "-o", "remount,ro", str(small_disk.place)]
    subprocess.run(remount, check=True, timeout=10)
    said = refused(small_disk.data, small_disk.launcher)
    assert "read-only; mount it for writing, or name another data folder" in said
    assert "read-only" in refused(small_disk.place / "new", small_disk.launcher)
    check(small_disk)


@pytest.fixture
def as_nobody() -> Sequence[str]:
    """A launcher of commands that may read everything and write what is everybody's."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("to be another user one must be root, and have setpriv(1)")
    may_read = "-all,+dac_read_search"
    user = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    launcher = ("setpriv", *user, "--inh-caps", may_read, "--ambient-caps", may_read, "--bounding-set", may_read)
    if subprocess.run([*launcher, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("nobody may not run this Python")
    return launcher


@pytest.mark.parametrize(
    ("mine", "named"),
    [
        ((), "lock"),
        (("", "lock"), "log/00000000000000000000.log"),
        (("", "lock", "format", "snapshots", "queues", "log"), "log/00000000000000000000.log"),
    ],
)
def test_folder_without_the_rights_is_refused_and_the_file_is_named(
    store: Path, as_nobody: Sequence[str], mine: Sequence[str], named: str
) -> None:
    for name in mine:
        os.chown(store / name, NOBODY, NOBODY)
    before = files(store)
    said = refused(store, as_nobody)
    assert f"user {NOBODY} may not write {store / named}; give it the right (chown, chmod)" in said
    assert files(store) == before


def test_folder_that_may_not_be_made_is_refused(tmp_path: Path, as_nobody: Sequence[str]) -> None:
    tmp_path.chmod(0o755)
    assert f"user {NOBODY} may not write {tmp_path / 'new'}" in refused(tmp_path / "new", as_nobody)
    assert not (tmp_path / "new").exists()
