from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from posthouse.host import Host
from posthouse.host.disk import OnCommit
from posthouse.host.memory import MemoryDisk
from posthouse.model.refusal import Reason, Refused
from posthouse.nameserver import kv as kv_module
from posthouse.nameserver.kv import KvConfig, KvUnreadable

FILE = "nameserver/kvConfig.json"


class SlowDisk(MemoryDisk):
    """A disk whose replacements happen when the test says so; `fail` makes the next ones fail."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []
        self.fail: OSError | None = None

    def replace(self, name: str, data: bytes, done: OnCommit) -> None:
        def work() -> None:
            if self.fail is not None:
                done(self.fail)
            else:
                MemoryDisk.replace(self, name, data, done)

        self.held.append(work)

    async def release(self) -> None:
        work = self.held.pop(0)
        work()
        for _ in range(3):
            await asyncio.sleep(0)


def opened(disk: MemoryDisk) -> KvConfig:
    kv = KvConfig(disk, FILE)
    kv.load()
    return kv


@pytest.mark.asyncio
async def test_entry_is_there_after_a_restart() -> None:
    disk = MemoryDisk()
    kv = opened(disk)
    await kv.put("NS", "key", "value")
    await kv.put("NS", "键", "值")
    again = opened(disk)
    assert again.get("NS", "key") == "value"
    assert again.namespace("NS") == {"key": "value", "键": "值"}


@pytest.mark.asyncio
async def test_entry_is_there_after_a_restart_on_a_real_disk(tmp_path: Path) -> None:
    host = Host.real(str(tmp_path))
    kv = KvConfig(host.disk, FILE)
    kv.load()
    await kv.put("NS", "key", "value")
    await kv.close()
    host.disk.close()
    assert json.loads((tmp_path / FILE).read_bytes()) == {"configTable": {"NS": {"key": "value"}}}
    second = Host.real(str(tmp_path))
    again = KvConfig(second.disk, FILE)
    again.load()
    assert again.get("NS", "key") == "value"
    second.disk.close()


@pytest.mark.asyncio
async def test_missing_key_is_not_found() -> None:
    kv = opened(MemoryDisk())
    await kv.put("NS", "key", "")
    assert kv.get("NS", "key") == ""
    for namespace, key in (("NS", "other"), ("other", "key")):
        with pytest.raises(Refused) as refused:
            kv.get(namespace, key)
        assert refused.value.reason is Reason.NOT_FOUND
        assert kv.find(namespace, key) is None
    assert kv.namespace("other") is None


@pytest.mark.asyncio
async def test_deleting_the_last_entry_deletes_the_namespace() -> None:
    disk = MemoryDisk()
    kv = opened(disk)
    await kv.put("NS", "a", "1")
    await kv.put("NS", "b", "2")
    await kv.delete("NS", "a")
    assert kv.namespace("NS") == {"b": "2"}
    await kv.delete("NS", "b")
    await kv.delete("NS", "b")
    await kv.delete("other", "b")
    assert kv.namespace("NS") is None
    assert json.loads(disk.read_file(FILE)) == {"configTable": {}}
    assert opened(disk).namespace("NS") is None


@pytest.mark.asyncio
async def test_change_is_answered_and_visible_only_when_it_is_durable() -> None:
    disk = SlowDisk()
    kv = opened(disk)
    change = asyncio.create_task(kv.put("NS", "key", "value"))
    await asyncio.sleep(0)
    assert not change.done()
    assert kv.find("NS", "key") is None
    await disk.release()
    assert change.done()
    assert kv.find("NS", "key") == "value"


@pytest.mark.asyncio
async def test_changes_during_a_write_share_the_next_one() -> None:
    disk = SlowDisk()
    kv = opened(disk)
    changes = [asyncio.create_task(kv.put("NS", str(n), "x")) for n in range(10)]
    await asyncio.sleep(0)
    await disk.release()
    assert [change.done() for change in changes] == [True] + [False] * 9
    assert kv.namespace("NS") == {"0": "x"}
    await disk.release()
    await asyncio.gather(*changes)
    assert not disk.held
    assert kv.namespace("NS") == {str(n): "x" for n in range(10)}


@pytest.mark.asyncio
async def test_abandoned_change_is_not_lost_for_those_that_follow() -> None:
    disk = SlowDisk()
    kv = opened(disk)
    abandoned = asyncio.create_task(kv.put("NS", "a", "1"))
    await asyncio.sleep(0)
    abandoned.cancel()
    second = asyncio.create_task(kv.put("NS", "b", "2"))
    await asyncio.sleep(0)
    await disk.release()
    await disk.release()
    await second
    assert kv.namespace("NS") == {"a": "1", "b": "2"}


@pytest.mark.asyncio
async def test_failed_disk_refuses_every_change_that_waited_and_keeps_none() -> None:
    disk = SlowDisk()
    kv = opened(disk)
    before = asyncio.create_task(kv.put("NS", "old", "0"))
    await asyncio.sleep(0)
    await disk.release()
    await before
    disk.fail = OSError(28, "No space left on device")
    changes = [asyncio.create_task(kv.put("NS", str(n), "x")) for n in range(3)]
    await asyncio.sleep(0)
    await disk.release()
    for change in changes:
        with pytest.raises(Refused, match="No space left") as refused:
            await change
        assert refused.value.reason is Reason.FAILED
    assert kv.namespace("NS") == {"old": "0"}
    disk.fail = None
    after = asyncio.create_task(kv.put("NS", "new", "1"))
    await asyncio.sleep(0)
    await disk.release()
    await after
    assert kv.namespace("NS") == {"old": "0", "new": "1"}


@pytest.mark.asyncio
async def test_disk_that_does_not_answer_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_module, "DISK_SECONDS_MAX", 0.01)
    kv = opened(SlowDisk())
    with pytest.raises(Refused, match="look at the disk"):
        await kv.put("NS", "key", "value")
    await asyncio.wait_for(kv.close(), 1)


@pytest.mark.asyncio
async def test_close_waits_for_the_change_under_way() -> None:
    disk = SlowDisk()
    kv = opened(disk)
    change = asyncio.create_task(kv.put("NS", "key", "value"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(kv.close())
    await asyncio.sleep(0)
    assert not closing.done()
    await disk.release()
    await closing
    assert change.done()


@pytest.mark.asyncio
async def test_limits_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_module, "KV_ENTRIES_MAX", 2)
    monkeypatch.setattr(kv_module, "KV_BYTES_MAX", 200)
    kv = opened(MemoryDisk())
    await kv.put("A", "1", "x")
    await kv.put("B", "1", "x")
    with pytest.raises(Refused, match="2 KV entries"):
        await kv.put("A", "2", "x")
    await kv.put("A", "1", "an entry that is there may change")
    with pytest.raises(Refused, match="200 bytes"):
        await kv.put("A", "1", "y" * 200)
    await kv.delete("B", "1")
    await kv.put("A", "2", "x")
    assert kv.namespace("A") == {"1": "an entry that is there may change", "2": "x"}


@pytest.mark.asyncio
@pytest.mark.parametrize(("namespace", "key"), [("", "key"), ("NS", "")])
async def test_nameless_entries_are_refused(namespace: str, key: str) -> None:
    with pytest.raises(Refused):
        await opened(MemoryDisk()).put(namespace, key, "value")


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"configTable":{"NS":{"key":1}}}', b"\xff"])
async def test_file_that_is_no_kv_configuration_stops_the_start_and_is_kept(data: bytes) -> None:
    disk = MemoryDisk()
    written = asyncio.get_running_loop().create_future()
    disk.replace(FILE, data, written.set_result)
    await written
    with pytest.raises(KvUnreadable, match="move it away"):
        opened(disk)
    assert disk.read_file(FILE) == data
