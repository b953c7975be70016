"""KV configuration: namespace -> key -> value, the only thing that a NameServer keeps over a restart.

It is one JSON file, of the same shape as RocketMQ's kvConfig.json, that is replaced as a whole. What readers see is
always what is on the disk: a change becomes visible when its file is durable, and an answered change survives a
power cut. Changes that come while a file is being written go into the next one together. When the disk fails,
every change that waited for it is refused and none of them is visible.

It is meant for a few entries (`ORDER_TOPIC_CONFIG`); its size is bounded so that all of it fits into one answer.
Source: RocketMQ 5.3 KVConfigManager, KVConfigSerializeWrapper.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from posthouse.host.disk import Disk
from posthouse.model.limits import KV_BYTES_MAX, KV_ENTRIES_MAX
from posthouse.model.refusal import Reason, Refused

log = logging.getLogger(__name__)

ORDER_TOPIC_CONFIG = "ORDER_TOPIC_CONFIG"
"""Namespace: topic -> `broker:queues;broker:queues`, for topics whose order is kept over all brokers."""

DISK_SECONDS_MAX = 10.0
"""How long a change waits for its file."""

Table = dict[str, dict[str, str]]


class KvUnreadable(Exception):
    """The file is there and is not ours to read; the text says what to do."""


class _File(msgspec.Struct):
    """The file. RocketMQ's spelling, so that a file of its NameServer can be put in its place."""

    configTable: Table = {}  # noqa: N815


class KvConfig:
    """`load` comes first. Names are opaque text; an empty namespace or key is refused."""

    def __init__(self, disk: Disk, file: str) -> None:
        self._disk = disk
        self._file = file
        self._written: Table = {}
        self._wanted: Table = {}  # what is written plus every change that waits
        self._entries = 0  # in _wanted
        self._writing = False
        self._under_way: list[asyncio.Future[OSError | None]] = []  # whose changes the file being written has
        self._waiting: list[asyncio.Future[OSError | None]] = []  # whose changes the next one will have

    def load(self) -> None:
        """Reads the file; waits for the device. Raises KvUnreadable, OSError."""
        folder = self._file.rpartition("/")[0]
        if folder:
            self._disk.folder(folder)
        try:
            data = self._disk.read_file(self._file)
        except FileNotFoundError:
            return
        try:
            self._written = msgspec.json.decode(data, type=_File).configTable
        except msgspec.MsgspecError as error:
            raise KvUnreadable(
                f"{self._file} in {self._disk.place} is no KV configuration ({error}); "
                "repair it, or move it away to start without any"
            ) from None
        self._wanted = self._written
        self._entries = sum(map(len, self._written.values()))

    def get(self, namespace: str, key: str) -> str:
        """Raises Refused(NOT_FOUND)."""
        value = self._written.get(namespace, {}).get(key)
        if value is None:
            raise Refused(Reason.NOT_FOUND, f"there is no key {key!r} in namespace {namespace!r}")
        return value

    def find(self, namespace: str, key: str) -> str | None:
        return self._written.get(namespace, {}).get(key)

    def namespace(self, namespace: str) -> Mapping[str, str] | None:
        """Everything under a namespace, or None when it has nothing."""
        found = self._written.get(namespace)
        return MappingProxyType(found) if found else None

    async def put(self, namespace: str, key: str, value: str) -> None:
        """Sets one entry; returns when it is durable. Raises Refused."""
        if not namespace or not key:
            raise Refused(Reason.FAILED, "the namespace or the key is empty")
        before = self._wanted.get(namespace, {})
        if key not in before and self._entries >= KV_ENTRIES_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"there are {KV_ENTRIES_MAX} KV entries, and that is the limit")
        await self._change({**self._wanted, namespace: {**before, key: value}})

    async def delete(self, namespace: str, key: str) -> None:
        """Removes one entry if it is there; returns when that is durable. Raises Refused."""
        before = self._wanted.get(namespace, {})
        if key not in before:
            return
        kept = {name: value for name, value in before.items() if name != key}
        table = {name: entries for name, entries in self._wanted.items() if name != namespace}
        await self._change({**table, namespace: kept} if kept else table)

    async def close(self) -> None:
        """Waits for the changes under way, as long as a change would."""
        if self._writing:
            last: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
            (self._waiting or self._under_way).append(last)
            await asyncio.wait({last}, timeout=DISK_SECONDS_MAX)

    async def _change(self, table: Table) -> None:
        if len(_encoded(table)) > KV_BYTES_MAX:
            raise Refused(Reason.INVALID_PARAMETER, f"the KV entries would take over {KV_BYTES_MAX} bytes in all")
        self._want(table)
        waiter: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if not self._writing:
            self._write()
        try:
            error = await asyncio.wait_for(waiter, DISK_SECONDS_MAX)
        except TimeoutError:
            raise Refused(
                Reason.FAILED,
                f"{self._file} in {self._disk.place} is not written after {DISK_SECONDS_MAX:g} s; it still may be: "
                "look at the disk, then ask for the key",
            ) from None
        if error is not None:
            raise Refused(Reason.FAILED, f"{self._file} cannot be written, nothing is changed: {error}")

    def _want(self, table: Table) -> None:
        self._wanted = table
        self._entries = sum(map(len, table.values()))

    def _write(self) -> None:
        """Writes what is wanted now; when that is done, what has been wanted since."""
        assert not self._writing
        self._writing = True
        table = self._wanted
        self._under_way, self._waiting = self._waiting, []

        def done(error: OSError | None) -> None:
            self._writing = False
            answered, self._under_way = self._under_way, []
            if error is None:
                self._written = table
            else:
                log.error("%s in %s cannot be written", self._file, self._disk.place, exc_info=error)
                self._want(self._written)
                answered.extend(self._waiting)  # they were built on what is now gone
                self._waiting = []
            for waiter in answered:
                if not waiter.done():
                    waiter.set_result(error)
            if self._waiting:
                self._write()

        self._disk.replace(self._file, _encoded(table), done)


def _encoded(table: Table) -> bytes:
    return msgspec.json.encode(_File(table))
