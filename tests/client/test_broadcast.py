"""Offsets in a file: the old ones or the new ones, and never those of another consumer."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from posthouse.client.broadcast import BroadcastOffsets
from posthouse.client.errors import OffsetsUnreadable
from posthouse.client.offsets import QueueBounds
from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model.group import ConsumeFrom
from posthouse.model.message import MessageQueue
from posthouse.model.offsets import QueueOffset
from tests.client.conftest import until

pytestmark = pytest.mark.asyncio

QUEUE = MessageQueue("t", "b", 3)
LAST = ConsumeFrom.CONSUME_FROM_LAST_OFFSET


class Ninety(QueueBounds):
    """Every queue ends at 90."""

    def __init__(self) -> None:
        pass

    async def begin(self, queue: MessageQueue, start: ConsumeFrom, at_ms: EpochMs) -> QueueOffset:
        return QueueOffset(90)


def offsets(folder: Path | None, host: Host | None = None) -> BroadcastOffsets:
    return BroadcastOffsets(host, "g", str(folder) if folder is not None else None, Ninety())


def content(folder: Path) -> object:
    return json.loads((folder / "offsets.json").read_bytes())


async def test_what_is_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    first = offsets(tmp_path)
    first.open()
    assert await first.begin(QUEUE, LAST, EpochMs(0)) == 90
    first.commit_soon({QUEUE: QueueOffset(7), QUEUE._replace(queue_id=4): QueueOffset(1)})
    await until(lambda: (tmp_path / "offsets.json").exists())
    assert content(tmp_path) == {
        "group": "g",
        "offsets": [
            {"topic": "t", "brokerName": "b", "queueId": 3, "offset": 7},
            {"topic": "t", "brokerName": "b", "queueId": 4, "offset": 1},
        ],
    }
    first.commit_soon({QUEUE: QueueOffset(8)})
    first.forget(QUEUE)
    await first.close()
    second = offsets(tmp_path)
    second.open()
    assert await second.begin(QUEUE, LAST, EpochMs(0)) == 8
    assert await second.begin(QUEUE._replace(queue_id=5), LAST, EpochMs(0)) == 90
    await second.commit(QUEUE, QueueOffset(2))  # an operator may move it back
    await second.close()
    third = offsets(tmp_path)
    third.open()
    assert await third.begin(QUEUE, LAST, EpochMs(0)) == 2
    await third.close()


async def test_a_host_of_the_program_keeps_the_file_on_its_own_disk() -> None:
    host = Host.real()  # its disk is memory
    one = offsets(None, host)
    one.open()
    await one.commit_all({QUEUE: QueueOffset(5)})
    assert one.place == "memory/broadcast/g/offsets.json"
    await one.close()
    assert one.place == ""
    again = offsets(None, host)
    again.open()
    assert await again.begin(QUEUE, LAST, EpochMs(0)) == 5
    await again.close()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"group":"g","offsets":[{"topic":"t"}]}', b"\xff"])
async def test_a_file_that_cannot_be_read_is_an_error_and_the_folder_is_free_again(
    tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / "offsets.json").write_bytes(damage)
    one = offsets(tmp_path)
    with pytest.raises(OffsetsUnreadable, match="give another `offsets_folder`, or remove the file"):
        one.open()
    await one.close()
    (tmp_path / "offsets.json").unlink()
    one.open()
    await one.close()


async def test_a_write_that_fails_is_logged_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = offsets(tmp_path)
    one.open()
    (tmp_path / "offsets.json").mkdir()  # nothing can be renamed to this
    with caplog.at_level(logging.WARNING):
        await one.commit(QUEUE, QueueOffset(1))
    assert "could not be written" in caplog.text
    (tmp_path / "offsets.json").rmdir()
    one.commit_soon({})
    await until(lambda: (tmp_path / "offsets.json").exists())
    await one.close()
