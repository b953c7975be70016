"""Compares what is written down of the folds with the folds themselves, made from the log alone. For `check`.

Written down are: openings (where a segment begins), snapshots and runs (at checkpoints), and what a start makes of
them. Entries of queues and keys are compared in portions, then the folds let go of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from posthouse.host.disk import Disk, File
from posthouse.model.group import GroupConfig
from posthouse.model.offsets import LogOffset
from posthouse.store import run as runs
from posthouse.store import snapshot as snapshots
from posthouse.store.consume_queue import ENTRY_BYTES, ConsumeQueue, Stretch
from posthouse.store.finding import Report, Severity
from posthouse.store.folds import Folds
from posthouse.store.in_flight import Row
from posthouse.store.key_index import KEY_ENTRY_BYTES, KeyBlock, entry_numbers
from posthouse.store.opening import Part
from posthouse.store.run import QueueKey, Run
from posthouse.store.snapshot import Snapshot
from posthouse.store.strays import snapshot_files
from posthouse.store.timers import entries_of

_READ_BYTES = 4 * 1024 * 1024
_OFFSET_BITS = 32
_LOW = (1 << _OFFSET_BITS) - 1
_REBUILT = "the next start does without it and reads more of the log; nothing is lost"


class Comparison:
    """`read_snapshots`, then `open_runs`, then the comparisons while the log is read; `close` in the end."""

    def __init__(self, disk: Disk, report: Report) -> None:
        self._disk = disk
        self._report = report
        self._runs: list[Run] = []
        self._stretches: dict[QueueKey, list[tuple[Run, Stretch]]] = {}
        self._compared = LogOffset(0)
        self._wrong: set[str] = set()  # files that were complained of; one complaint is enough

    def _damage(self, file: str, at: LogOffset | None, what: str, means: str) -> None:
        self._report.add(Severity.DAMAGE, file, at, what, means, f"run `posthouse repair {self._disk.place}`")

    # Files

    def read_snapshots(self) -> dict[int, Snapshot]:
        """The valid ones, by log offset."""
        found: dict[int, Snapshot] = {}
        for name in snapshot_files(self._disk):
            file = f"{snapshots.FOLDER}/{name}"
            snapshot = snapshots.decode_snapshot(self._disk.read_file(file))
            if snapshot is None or snapshots.snapshot_name(snapshot.offset) != file:
                what = "this snapshot is not as it was written, or of a format that this version does not know"
                self._damage(file, None, what, _REBUILT)
            else:
                found[snapshot.offset] = snapshot
        self._report.figures.snapshots = len(found)
        return found

    def open_runs(self, named: Iterable[str], first: LogOffset) -> None:
        """The runs that snapshots name, but those that are older than the log."""
        self._compared = first
        for name in sorted(set(named)):
            end = runs.run_end(name)
            if end is None or end <= first:
                continue
            file = f"{runs.FOLDER}/{name}"
            run = runs.open_run(self._disk, name)
            if run is None:
                what = "this run is not as it was written"
                if name not in self._disk.list(runs.FOLDER):
                    what = "a snapshot names this run, and it is not there"
                self._damage(file, None, what, _REBUILT)
                continue
            self._report.figures.runs += 1
            self._runs.append(run)
            if self._sums_hold(run):
                for key, stretch in run.stretches.items():
                    self._stretches.setdefault(key, []).append((run, stretch))
            else:
                self._wrong.add(file)
                what = "the entries of this run are not as they were written"
                self._damage(
                    file, None, what, "some messages cannot be found by queue offset, tag or key, though they are there"
                )

    def _sums_hold(self, run: Run) -> bool:
        begin = run.file.size_bytes() - run.bytes_held
        middle = begin + run.entry_bytes
        return (
            _checksum(run.file, begin, run.entry_bytes) == run.entry_checksum
            and _checksum(run.file, middle, run.key_bytes) == run.key_checksum
        )

    def close(self) -> None:
        for run in self._runs:
            run.file.close()

    # Openings and snapshots

    def opening_differs(self, part: Part, folds: Folds) -> str:
        """What a part of an opening says otherwise than the folds before it; empty if nothing."""
        for topic_id, config, queues in part.topics:
            topic = folds.topics.by_id(topic_id)
            if topic is None or topic.config != config:
                return f"topic {config.name}"
            for queue_id, next_offset in queues:
                queue = topic.queues.get(queue_id)
                if queue is None or queue.max_offset != next_offset:
                    return f"queue {queue_id} of topic {config.name}"
        for group in part.groups:
            if folds.groups.live.get(group.name) != group:
                return f"group {group.name}"
        known = folds.locks.held() if part.locks else []
        for held in part.locks:
            if held not in known:
                return f"the locks of group {held.group}"
        for rule in part.rules:
            if folds.rules.live.get((rule.group, rule.topic)) != rule:
                return f"what group {rule.group} may do on topic {rule.topic}"
        return ""

    def compare_snapshot(self, snapshot: Snapshot, checksum: int, folds: Folds) -> None:
        """`folds` stand where the snapshot was made; `checksum` is that of the frame which ends there."""
        name, at = snapshots.snapshot_name(snapshot.offset), LogOffset(snapshot.offset)
        if snapshot.checksum != checksum:
            what = f"it follows a frame with checksum {snapshot.checksum:08x}; the log has {checksum:08x} there"
            self._damage(name, at, what, "it is of another log; a start that believes it refuses")
            return
        wrong = self._snapshot_differs(snapshot, folds)
        if wrong:
            self._damage(name, at, f"it is not what the log up to there says: {wrong}", "a start would believe it")

    def _snapshot_differs(self, snapshot: Snapshot, folds: Folds) -> str:
        queues = {(topic_id, queue_id): end for topic_id, queue_id, _, end in snapshot.queues if end}
        pairs = {
            "topics": (_sorted(msgspec.json.decode(snapshot.topics)), _sorted(folds.topics.snapshot())),
            "groups": (_groups(msgspec.json.decode(snapshot.groups)), _groups(folds.groups.snapshot())),
            "group offsets": (_full(msgspec.json.decode(snapshot.offsets)), _full(folds.offsets.snapshot())),
            "resets": (_full(msgspec.json.decode(snapshot.resets)), _full(folds.offsets.snapshot_resets())),
            "group rules": (_sorted(msgspec.json.decode(snapshot.rules)), _sorted(folds.rules.snapshot())),
            "queue locks": (_sorted(msgspec.json.decode(snapshot.locks)), _sorted(folds.locks.snapshot())),
            "what is in flight": (_rows(snapshot.in_flight), folds.in_flight.snapshot()),
            "what is due later": (sorted(entries_of(snapshot.timers)), folds.timers.entries()),
            "queues": (queues, _ends(folds)),
        }
        return ", ".join(what for what, (said, found) in pairs.items() if said != found)

    # Entries

    def compare_entries(self, folds: Folds, start: Folds | None, end: LogOffset) -> None:
        """What the folds have collected since the last time, up to `end`; they let go of it."""
        for topic in folds.topics.all():
            begun = start.topics.by_id(topic.id) if start is not None else None
            for queue in topic.queues.values():
                first, data = queue.tail()
                if not data:
                    continue
                if folds.gaps:
                    self._report.figures.lost_messages += _lost_in(data)
                key = QueueKey(topic.id, queue.queue_id)
                for run, stretch in self._stretches.get(key, ()):
                    self._compare_stretch(run, stretch, topic.config.name, key, first, data)
                other = begun.queues.get(queue.queue_id) if begun is not None else None
                if other is not None:
                    self._compare_tail(topic.config.name, other, first, data)
                queue.add_stretch(Stretch(first, len(data) // ENTRY_BYTES, _NOWHERE, 0))
        self._compare_keys(folds, end)

    def _compare_stretch(self, run: Run, stretch: Stretch, topic: str, key: QueueKey, first: int, data: bytes) -> None:
        begin, end = max(first, stretch.first), min(first + len(data) // ENTRY_BYTES, stretch.first + stretch.entries)
        if begin >= end or run.file.name in self._wrong:
            return
        position = stretch.position + (begin - stretch.first) * ENTRY_BYTES
        found = run.file.read_wait(position, (end - begin) * ENTRY_BYTES)
        if found != data[(begin - first) * ENTRY_BYTES : (end - first) * ENTRY_BYTES]:
            self._wrong.add(run.file.name)
            what = f"its entries of {topic}, queue {key.queue_id}, from {begin} to {end} are not what the log says"
            self._damage(run.file.name, None, what, "a start believes it, and pulls find other messages, or none")

    def _compare_tail(self, topic: str, other: ConsumeQueue, first: int, data: bytes) -> None:
        others_first, others = other.tail()
        begin = max(first, others_first)
        end = min(first + len(data) // ENTRY_BYTES, others_first + len(others) // ENTRY_BYTES)
        if begin < end and (
            others[(begin - others_first) * ENTRY_BYTES : (end - others_first) * ENTRY_BYTES]
            != data[(begin - first) * ENTRY_BYTES : (end - first) * ENTRY_BYTES]
        ):
            what = f"after a start, {topic}, queue {other.queue_id} is not what the log says from {begin} on"
            self._damage("", None, what, "pulls would find other messages, or none")

    def _compare_keys(self, folds: Folds, end: LogOffset) -> None:
        begin, self._compared = self._compared, end
        blocks = folds.keys.tail()
        expected = sorted(number for block in blocks for number in _absolute(block.start, block.data))
        folds.keys.place((), end)
        for run in self._runs:
            low, high = max(begin, run.start), min(end, run.end)
            if low >= high or run.file.name in self._wrong:
                continue
            found: list[int] = []
            for number, block in enumerate(run.keys):
                block_end = run.keys[number + 1].start if number + 1 < len(run.keys) else run.end
                if block.start < high and block_end > low:
                    found += _absolute(block.start, _block_data(block))
            found.sort()
            if _between(found, low, high) != _between(expected, low, high):
                self._wrong.add(run.file.name)
                what = f"its keys of log offsets {low} to {high} are not what the log says"
                self._damage(run.file.name, None, what, "some messages cannot be found by their key")

    # A start

    def compare_start(self, folds: Folds, start: Folds) -> None:
        """`start`: what a start has; `folds`: what the log says. Retention may let a queue begin later than the log."""
        pairs: dict[str, tuple[object, object]] = {
            "topics": (_sorted(start.topics.snapshot()), _sorted(folds.topics.snapshot())),
            "groups": (_groups(start.groups.snapshot()), _groups(folds.groups.snapshot())),
            "group offsets": (_full(start.offsets.snapshot()), _full(folds.offsets.snapshot())),
            "resets": (_full(start.offsets.snapshot_resets()), _full(folds.offsets.snapshot_resets())),
            "group rules": (_sorted(start.rules.snapshot()), _sorted(folds.rules.snapshot())),
            "queue locks": (_sorted(start.locks.snapshot()), _sorted(folds.locks.snapshot())),
            "what is in flight": (start.in_flight.snapshot(), folds.in_flight.snapshot()),
            "what is due later": (start.timers.entries(), folds.timers.entries()),
            "queues": (_ends(start), _ends(folds)),
        }
        wrong = [what for what, (said, found) in pairs.items() if said != found]
        begins = _begins(start)
        if any(begins.get(key, 0) < begin for key, begin in _begins(folds).items()):
            wrong.append("where queues begin")
        if wrong:
            what = f"what a start has is not what the log says: {', '.join(wrong)}"
            self._damage("", None, what, "a start would serve it")


class _Nowhere:
    """Stands for the file of entries that were let go of."""

    name = "nowhere"


_NOWHERE: Any = _Nowhere()


def _checksum(file: File, position: int, size: int) -> int:
    found, end = 0, position + size
    while position < end:
        data = file.read_wait(position, min(_READ_BYTES, end - position))
        if not data:
            break
        found = zlib.crc32(data, found)
        position += len(data)
    return found


def _lost_in(entries: bytes) -> int:
    """How many of them are of messages that were lost."""
    return sum(1 for at in range(8, len(entries), ENTRY_BYTES) if not any(entries[at : at + 4]))


def _block_data(block: KeyBlock) -> bytes:
    return block.file.read_wait(block.position, block.entries * KEY_ENTRY_BYTES)


def _absolute(start: int, data: bytes | bytearray) -> list[int]:
    """Key entries as log offset << 32 | hash."""
    return [(start + (each & _LOW)) << _OFFSET_BITS | each >> _OFFSET_BITS for each in entry_numbers(data)]


def _between(numbers: list[int], low: int, high: int) -> list[int]:
    return [each for each in numbers if low <= each >> _OFFSET_BITS < high]


def _sorted(items: Any) -> list[str]:
    return sorted(map(repr, msgspec.to_builtins(items)))


def _groups(items: Any) -> list[str]:
    """As values, so that what an older version wrote, without fields that came later, is the same."""
    return _sorted(msgspec.convert(items, list[GroupConfig]))


def _full(table: Any) -> Any:
    """Nested maps without the empty ones, which mean the same as none."""
    if not isinstance(table, dict):
        return table
    found = {key: _full(value) for key, value in table.items()}
    return {key: value for key, value in found.items() if value != {}}


def _rows(data: msgspec.Raw) -> list[Row]:
    return msgspec.json.decode(data, type=list[Row])


def _ends(folds: Folds) -> dict[tuple[int, int], int]:
    return {
        (topic.id, queue.queue_id): int(queue.max_offset)
        for topic in folds.topics.all()
        for queue in topic.queues.values()
        if queue.max_offset
    }


def _begins(folds: Folds) -> dict[tuple[int, int], int]:
    return {
        (topic.id, queue.queue_id): int(queue.min_offset)
        for topic in folds.topics.all()
        for queue in topic.queues.values()
        if queue.max_offset
    }
