"""Broadcast: every consumer gets every message, remembers in its own file how far it is, and drops what fails."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from posthouse import PushConsumer
from posthouse.client.errors import OffsetsUnreadable
from posthouse.client.received import ReceivedMessage
from tests.behaviour.conftest import Server, until
from tests.behaviour.test_client_push import FIRST, Got, make_topic, send_numbers

pytestmark = pytest.mark.asyncio


def listener(server: Server, name: str, handler: object, folder: Path | None) -> PushConsumer:
    return PushConsumer(
        f"g-{name}",
        server.nameserver,
        subscribe=name,
        handler=handler,  # type: ignore[arg-type]
        broadcast=True,
        from_where=FIRST,
        offsets_folder=str(folder) if folder is not None else None,
    )


async def test_every_consumer_gets_every_message_once(server: Server, name: str, tmp_path: Path) -> None:
    await make_topic(server, name, 3)
    one, two = Got(), Got()
    async with (
        listener(server, name, one, tmp_path / "one") as first,
        listener(server, name, two, tmp_path / "two") as second,
    ):
        sent = await send_numbers(server, name, range(60))
        await until(lambda: len(one.messages) == len(two.messages) == 60)
        assert len(first.assigned) == len(second.assigned) == 3  # and no retry topic
    assert set(one.bodies) == set(two.bodies) == sent


async def test_a_consumer_goes_on_where_its_file_says(server: Server, name: str, tmp_path: Path) -> None:
    await make_topic(server, name, 2)
    got, later = Got(), Got()
    async with listener(server, name, got, tmp_path) as consumer:
        assert consumer.offsets_file == str(tmp_path / "offsets.json")
        await send_numbers(server, name, range(20))
        await until(lambda: len(got.messages) == 20)
    kept = json.loads((tmp_path / "offsets.json").read_bytes())
    assert kept["group"] == f"g-{name}"
    assert sum(each["offset"] for each in kept["offsets"]) == 20
    more = await send_numbers(server, name, range(20, 30))
    async with listener(server, name, later, tmp_path):
        await until(lambda: len(later.messages) >= 10)
    assert sorted(later.bodies) == sorted(more)


async def test_a_failed_message_is_dropped_with_a_line_in_the_log(
    server: Server, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await make_topic(server, name, 1)
    seen: list[bytes] = []

    def handle(message: ReceivedMessage) -> None:
        seen.append(message.body)
        if message.body == b"1":
            raise RuntimeError("no")

    with caplog.at_level(logging.WARNING, "posthouse"):
        async with listener(server, name, handle, tmp_path):
            await send_numbers(server, name, range(3))
            await until(lambda: len(seen) == 3)
    assert "is dropped, as a broadcast consumer has no retries" in caplog.text
    kept = json.loads((tmp_path / "offsets.json").read_bytes())
    assert [each["offset"] for each in kept["offsets"]] == [3]


async def test_consumers_of_one_machine_get_a_file_each(
    server: Server, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    await make_topic(server, name, 1)
    async with listener(server, name, Got(), None) as one, listener(server, name, Got(), None) as two:
        assert one.offsets_file == str(tmp_path / "posthouse" / "broadcast" / f"g-{name}" / "0" / "offsets.json")
        assert two.offsets_file == str(tmp_path / "posthouse" / "broadcast" / f"g-{name}" / "1" / "offsets.json")
    async with listener(server, name, Got(), None) as again:
        assert again.offsets_file.endswith("/0/offsets.json")


async def test_a_folder_is_not_shared_and_a_damaged_file_is_not_guessed_at(
    server: Server, name: str, tmp_path: Path
) -> None:
    await make_topic(server, name, 1)
    async with listener(server, name, Got(), tmp_path):
        with pytest.raises(OffsetsUnreadable, match="another process is using"):
            await listener(server, name, Got(), tmp_path).start()
    (tmp_path / "offsets.json").write_bytes(b"{")
    with pytest.raises(OffsetsUnreadable, match="remove the file to begin where"):
        await listener(server, name, Got(), tmp_path).start()
    (tmp_path / "offsets.json").unlink()
    async with listener(server, name, Got(), tmp_path) as consumer:
        assert consumer.offsets_file
