"""Looks into brokers from inside, without a client: what a store holds, against what its log says.

Both go into the history as plain values; the checkers never meet a store.
"""

from __future__ import annotations

from typing import Any

from posthouse.model.names import TIMER_TOPICS
from posthouse.store.in_flight import offsets_of
from posthouse.store.message_store import MessageStore
from posthouse.testing.sim.actor import id_of
from posthouse.testing.sim.logbook import Folds, differences, fold, log_bytes, read_log, read_message
from posthouse.testing.sim.stage import Node, Stage

_SHOWN = 5
"""Differences that are written down; the first ones say enough."""


def note_folds(stage: Stage, node: Node) -> None:
    """Compares the folds of a broker that runs with the log that is on its disk, up to the committed end."""
    house = node.house
    if house is None or house.broker is None:
        return
    store = house.broker.store
    end = store.log.committed_offset
    try:
        live = live_folds(store)
        rebuilt = fold(read_log(*log_bytes(node.data.files(), store.log.first_offset), until=end))
        different = differences(live, rebuilt)
    except Exception as error:  # the log or a fold is such that it cannot even be read
        different = [f"cannot be compared: {error!r}"]
    stage.history.add(
        stage.loop_time(), node.name, "folds", "note", end=end, different=different[:_SHOWN], count=len(different)
    )


def live_folds(store: MessageStore) -> Folds:
    """What the store has of all that is committed."""
    topics: Any = store.topics.snapshot()
    groups: Any = store.groups.snapshot()
    offsets: Any = store.offsets.snapshot()
    queues: dict[str, list[list[int]]] = {}
    starts: dict[str, int] = {}
    for topic in store.topics.all():
        for queue in topic.queues.values():
            entries: list[list[int]] = []
            while queue.min_offset + len(entries) < queue.max_offset:
                at = type(queue.min_offset)(queue.min_offset + len(entries))
                found = queue.read_wait(at, queue.max_offset - at)
                assert found, f"queue {queue.queue_id} of {topic.config.name} has nothing at {at}"
                entries += ([entry.log_offset, entry.size, entry.tag_hash] for entry in found)
            if entries:
                queues[f"{topic.config.name}/{queue.queue_id}"] = entries
                starts[f"{topic.config.name}/{queue.queue_id}"] = queue.min_offset
    return Folds(
        {config["name"]: [topic_id, config["write_queues"], config["perm"]] for topic_id, config in topics},
        queues,
        {config["name"]: [config["retry_max_times"]] for config in groups},
        {
            f"{group}/{topic}/{queue}": offset
            for group, by_topic in offsets.items()
            for topic, by_queue in by_topic.items()
            for queue, offset in by_queue.items()
        },
        starts,
        [],
        {},
        _in_flight(store),
        {str(each.log_offset): each.due_ms for each in store.folds.timers.entries()},
    )


def _in_flight(store: MessageStore) -> dict[str, dict[int, int]]:
    rows: Any = store.in_flight.snapshot()
    return {
        f"{row.group}/{row.topic}/{row.queue_id}": {
            int(offset): at_ms + invisible_ms for at_ms, invisible_ms, flat in row.popped for offset in offsets_of(flat)
        }
        for row in rows
        if row.popped
    }


def note_store(stage: Stage, node: Node) -> None:
    """Writes down all that a broker's store has: topics, groups, offsets, and every message of every queue."""
    house = node.house
    assert house is not None, f"{node.name} is down at the end"
    assert house.broker is not None
    store, now_s, history = house.broker.store, stage.loop_time(), stage.history
    folds = live_folds(store)
    for name, config in sorted(folds.topics.items()):
        history.add(now_s, node.name, "final topic", "note", name=name, value=config[1])
    for name, config in sorted(folds.groups.items()):
        history.add(now_s, node.name, "final group", "note", name=name, value=config[0])
    for key, offset in sorted(folds.offsets.items()):
        group, of_topic, queue = key.split("/")
        history.add(
            now_s, node.name, "final offset", "note", group=group, topic=of_topic, queue=int(queue), offset=offset
        )
    for key, entries in sorted(folds.in_flight.items()):
        group, of_topic, queue = key.split("/")
        history.add(
            now_s,
            node.name,
            "final in flight",
            "note",
            group=group,
            topic=of_topic,
            queue=int(queue),
            offsets=sorted(entries),
        )
    history.add(now_s, node.name, "final timers", "note", log_offsets=sorted(map(int, folds.timers)))
    for name, topic in sorted(store.topics.live.items()):
        for queue_id in sorted(topic.queues):
            _note_queue(stage, node.name, store, name, queue_id)


def _note_queue(stage: Stage, broker: str, store: MessageStore, topic: str, queue_id: int) -> None:
    """A queue's messages as [offset, id, log offset, attempts, ms before its time].

    A record that cannot be read is [offset, why, ...].
    """
    queue = store.topics.live[topic].queue(queue_id)
    found: list[list[Any]] = []
    at = queue.min_offset
    while at < queue.max_offset:
        entries = queue.read_wait(at, queue.max_offset - at)
        for entry in entries:
            record = store.log.read_wait(entry.log_offset, entry.size)
            try:
                message = read_message(record, entry.log_offset)
                right = (message.topic, message.queue, message.offset) == (topic, queue_id, at)
                attempts = message.reconsume_times
                delivered = message.replaces and topic not in TIMER_TOPICS
                early_ms = message.due_ms - message.stored_at_ms if delivered else 0
                text = id_of(message.body) if right else f"another's record: {message[:3]}"
            except Exception as error:
                text, attempts, early_ms = f"no record: {error!r}", 0, 0
            found.append([at, text, entry.log_offset, attempts, max(0, early_ms)])
            at = type(at)(at + 1)
        if not entries:
            break
    stage.history.add(
        stage.loop_time(),
        broker,
        "final queue",
        "note",
        topic=topic,
        queue=queue_id,
        min=queue.min_offset,
        max=queue.max_offset,
        log_first=store.log.first_offset,
        messages=found,
    )
