"""Progress of a broadcast consumer: in a file of its own, as no broker keeps it.

    <folder>/offsets.json    {"group": "g", "offsets": [{"topic": "t", "brokerName": "b", "queueId": 0, "offset": 7}]}

Replaced as a whole every few seconds and when the consumer is closed, so it is the old one or the new one, never half
of one. What a crash costs: the messages of the last seconds come again. Two consumers never share a file: the folder
is locked. Without a folder of its own a consumer takes the first free one of numbers 0, 1, 2, ... under the group's
name, so that several processes of one machine get one each. Source: RocketMQ 5.3 LocalFileOffsetStore.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from posthouse.client.errors import OffsetsUnreadable
from posthouse.client.offsets import QueueBounds
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.disk import Disk, DiskBusy
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset

log = logging.getLogger(__name__)

FILE_NAME = "offsets.json"

FOLDERS_MAX = 256
"""Broadcast consumers of one group on one machine without a folder of their own."""

WRITE_SECONDS = 5.0
"""How long closing waits for the last write."""


class _Place(msgspec.Struct, rename="camel"):
    topic: str
    broker_name: str
    queue_id: int
    offset: int


class _Content(msgspec.Struct):
    group: str
    offsets: list[_Place]


class BroadcastOffsets:
    """Offsets of one consumer. Open it before it is asked."""

    def __init__(self, host: Host | None, group: str, folder: str | None, bounds: QueueBounds) -> None:
        """`host`: whose disk to use as it is; None takes this machine's, at `folder` or at the default place."""
        self._host = host
        self._group = group
        self._folder = folder
        self._bounds = bounds
        self._disk: Disk | None = None
        self._name = ""
        self._offsets: dict[MessageQueue, QueueOffset] = {}
        self._written: dict[MessageQueue, QueueOffset] = {}
        self._writing: asyncio.Future[None] | None = None

    @property
    def place(self) -> str:
        """The file, for people."""
        return f"{self._disk.place}/{self._name}" if self._disk is not None else ""

    def open(self) -> None:
        """Takes the folder and reads the file; waits for the device. Raises OffsetsUnreadable."""
        try:
            self._disk = self._take_folder()
            data = self._disk.read_file(self._name)
        except FileNotFoundError:
            return
        except (OSError, DiskBusy) as error:
            self._let_go()
            raise OffsetsUnreadable(self._folder or "the default folder", str(error)) from None
        try:
            found = msgspec.json.decode(data, type=_Content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            place = self.place
            self._let_go()
            raise OffsetsUnreadable(place, str(error)) from None
        for each in found.offsets:
            queue = MessageQueue(each.topic, each.broker_name, each.queue_id)
            self._offsets[queue] = QueueOffset(each.offset)
        self._written = dict(self._offsets)

    async def close(self) -> None:
        """Writes what changed, and lets the folder go."""
        try:
            await self._write_now()
        finally:
            self._let_go()

    async def begin(self, queue: MessageQueue, start: ConsumeFrom, at_ms: EpochMs) -> QueueOffset:
        stored = self._offsets.get(queue)
        return stored if stored is not None else await self._bounds.begin(queue, start, at_ms)

    def commit_soon(self, offsets: Mapping[MessageQueue, QueueOffset]) -> None:
        self._offsets.update(offsets)
        if self._offsets != self._written and (self._writing is None or self._writing.done()):
            self._write()

    async def commit(self, queue: MessageQueue, offset: QueueOffset) -> None:
        await self.commit_all({queue: offset})

    async def commit_all(self, offsets: Mapping[MessageQueue, QueueOffset]) -> None:
        self._offsets.update(offsets)
        await self._write_now()

    def forget(self, queue: MessageQueue) -> None:
        """The file keeps it: a queue that comes back goes on where it was."""

    def _take_folder(self) -> Disk:
        if self._host is not None:
            disk = self._host.disk
            disk.folder(f"broadcast/{self._group}")
            self._name = f"broadcast/{self._group}/{FILE_NAME}"
            return disk
        self._name = FILE_NAME
        if self._folder is not None:
            return _locked(self._folder)
        for number in range(FOLDERS_MAX):
            try:
                return _locked(f"{Host.state_folder()}/broadcast/{self._group}/{number}")
            except DiskBusy:
                continue
        raise OSError(f"{FOLDERS_MAX} broadcast consumers of group {self._group} run on this machine already")

    def _let_go(self) -> None:
        if self._disk is not None and self._host is None:
            self._disk.close()
        self._disk = None

    def _write(self) -> asyncio.Future[None]:
        assert self._disk is not None
        going = dict(self._offsets)
        places = [_Place(*queue, offset) for queue, offset in sorted(going.items())]
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: OSError | None) -> None:
            if error is None:
                self._written = going
            else:
                log.warning("the offsets could not be written to %s: %s; messages may come again", self.place, error)
            if not written.done():
                written.set_result(None)

        self._writing = written
        self._disk.replace(self._name, msgspec.json.encode(_Content(self._group, places)), done)
        return written

    async def _write_now(self) -> None:
        if self._disk is None or self._offsets == self._written:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._write()
        except TimeoutError:
            log.warning("the offsets were not written to %s within %g s", self.place, WRITE_SECONDS)


def _locked(folder: str) -> Disk:
    """This machine's disk at that folder. Raises DiskBusy, OSError."""
    disk = Host.real(folder).disk
    try:
        disk.lock()
    except BaseException:
        disk.close()
        raise
    return disk
