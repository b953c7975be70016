"""Looking into a store, and comparing it with its log: of a real broker with real files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import posthouse.testing
from posthouse.client.producer import Producer
from posthouse.endpoint.house import House
from posthouse.testing.sim.actor import make_body
from posthouse.testing.sim.history import Event
from posthouse.testing.sim.inspection import note_folds, note_store
from tests.sim.test_actor import EmptyStage


@dataclass
class Folder:
    path: Path
    lost: str = "nothing"

    def files(self) -> Mapping[str, bytes]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return {
            path.relative_to(self.path).as_posix(): path.read_bytes() for path in found if self.lost not in path.name
        }


@dataclass
class Broker:
    name: str
    house: House | None
    data: Folder


def folds(stage: EmptyStage, broker: Broker) -> Event:
    note_folds(stage, broker)
    return stage.history.events[-1]


@pytest.mark.asyncio
async def test_store_is_written_down_and_equals_its_log(tmp_path: Path) -> None:
    stage = EmptyStage()
    async with posthouse.testing.cluster(data=tmp_path) as cluster, Producer(cluster.nameservers) as producer:
        broker = Broker("broker-a", cluster.houses[0], Folder(tmp_path / "broker-a"))
        queue = (await producer.queues("letters"))[0]
        for message_id in ("a", "b"):
            await producer.send("letters", make_body(message_id, 20), queue=queue, tag="T")
        assert folds(stage, broker).details["different"] == []
        note_store(stage, broker)
        notes = {(event.what, event.details.get("name")): event.details for event in stage.history.events}
        assert notes["final topic", "letters"]["value"] == 4
        final = notes["final queue", None]
        assert (final["topic"], final["queue"], final["min"], final["max"]) == ("letters", 0, 0, 2)
        assert [[offset, message_id] for offset, message_id, *_ in final["messages"]] == [[0, "a"], [1, "b"]]


@pytest.mark.asyncio
async def test_difference_between_store_and_log_is_written_down(tmp_path: Path) -> None:
    stage = EmptyStage()
    async with posthouse.testing.cluster(data=tmp_path) as cluster, Producer(cluster.nameservers) as producer:
        await producer.send("letters", make_body("a", 20))
        broker = Broker("broker-a", cluster.houses[0], Folder(tmp_path / "broker-a", lost=".log"))
        details = folds(stage, broker).details
        assert details["count"] >= len(details["different"]) > 0
        assert any("the log says None" in text for text in details["different"])


def test_broker_that_is_down_has_nothing_to_compare(tmp_path: Path) -> None:
    stage = EmptyStage()
    note_folds(stage, Broker("broker-a", None, Folder(tmp_path)))
    assert stage.history.events == []
