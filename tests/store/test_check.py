"""What a check finds beyond damaged bytes, and that it changes nothing. Damaged bytes are in test_damage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from posthouse.codec.record import encode_record
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.store import check as checks
from posthouse.store.check import check_store
from posthouse.store.finding import Report, Severity
from posthouse.store.log.batch import HEADER_BYTES, encode_batch
from posthouse.store.state_record import Kind, encode_state_body, encode_state_record
from posthouse.store.topic_table import TopicTable
from tests.store.clean import assert_clean, check
from tests.store.damage import a_host, a_store, names, open_later, repaired
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.stores import HERE, message, open_store


def log_of(records: Sequence[bytes], *, base: int = 0) -> FaultyDisk:
    """A log of one frame that is as it was written, whatever is in it."""
    data, _ = encode_batch(LogOffset(base), 1, 0, 9, LogOffset(base), list(records), sum(map(len, records)))
    return FaultyDisk({"format": b"posthouse 2\n", f"log/{base:020d}.log": data})


def topic_record(at: int = HEADER_BYTES, name: str = "orders") -> bytes:
    body = encode_state_body(TopicTable.set_body(TopicConfig(name, 4, 4)))
    return encode_state_record(Kind.TOPIC_SET, body, LogOffset(at), EpochMs(1000))


def message_record(at: int, queue_offset: int, *, stored_at_ms: int = 2000, topic: str = "orders") -> bytes:
    return encode_record(
        message(topic, b"body"),
        topic=topic.encode(),
        properties=b"",
        queue_offset=QueueOffset(queue_offset),
        log_offset=LogOffset(at),
        stored_at_ms=EpochMs(stored_at_ms),
        store_host=HERE,
    )


def first_of(report: Report) -> str:
    return report.findings[0].what


def test_empty_folder_is_clean() -> None:
    assert_clean(FaultyDisk())


@pytest.mark.asyncio
async def test_figures_are_counted() -> None:
    disk = await a_store(messages=30)
    report = assert_clean(disk)
    figures = report.figures
    assert (figures.messages, figures.topics, figures.groups, figures.queues) == (60, 3, 1, 6)
    assert figures.segments == len(names(disk, "log")) > 2
    assert figures.log_bytes == sum(len(disk.files()[name]) for name in names(disk, "log")) == report.end
    assert figures.runs >= 1
    assert figures.snapshots == 2
    assert figures.records == figures.messages + figures.state_records
    assert report.findings == []


@pytest.mark.asyncio
async def test_check_changes_nothing_not_even_a_torn_tail() -> None:
    disk = await a_store(closed=False)
    disk.edit(names(disk, "log")[-1], lambda data: data.extend(b"torn"))
    files = disk.files()
    check(disk)
    assert disk.files() == files
    assert disk.changes == []


@pytest.mark.asyncio
async def test_progress_goes_from_nothing_to_all() -> None:
    disk = await a_store(messages=10)
    told: list[tuple[int, int]] = []
    report = check_store(a_host(disk), progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (report.figures.log_bytes, report.figures.log_bytes)


@pytest.mark.asyncio
async def test_entries_are_compared_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = await a_store(messages=30)
    monkeypatch.setattr(checks, "PORTION_MESSAGES", 7)
    assert_clean(disk)
    run = names(disk, "queues")[-1]
    disk.flip(run, len(disk.files()[run]) - 1)
    assert check(disk).is_damaged


@pytest.mark.asyncio
async def test_trimmed_store_is_clean_and_says_where_it_begins() -> None:
    disk, clock = FaultyDisk(), ManualClock()
    opened = open_later(disk, clock)
    for number in range(90):
        opened.put("orders", b"%d" % number * 9, number % 2)
        await opened.settled()
    kept = opened.store.log.segments[-2].base
    await opened.store.trim(kept)
    await opened.store.close()
    report = assert_clean(disk)
    assert report.first == kept
    assert f"the log begins at {kept}" in first_of(report)


def test_record_that_says_another_log_offset_is_found() -> None:
    start = topic_record()
    at = HEADER_BYTES + len(start)
    report = check(log_of([start, message_record(at + 1, 0)]))
    assert first_of(report) == f"the record here says that it is at log offset {at + 1}"
    assert report.is_damaged


def test_state_record_that_says_another_log_offset_is_found() -> None:
    assert "the record here says that it is at log offset 50" in first_of(check(log_of([topic_record(50)])))


def test_body_that_does_not_match_its_checksum_is_found() -> None:
    start = topic_record()
    record = message_record(HEADER_BYTES + len(start), 0).replace(b"body", b"bode")
    report = check(log_of([start, record]))
    assert first_of(report) == "the body of message 0 of orders, queue 0 does not match its checksum"


@pytest.mark.parametrize("queue_offsets", [(1,), (0, 0), (0, 2), (0, 1, 1)])
def test_queue_offsets_that_are_not_dense_are_found(queue_offsets: tuple[int, ...]) -> None:
    records = [topic_record()]
    for each in queue_offsets:
        records.append(message_record(HEADER_BYTES + sum(map(len, records)), each))
    report = check(log_of(records))
    assert f"this record cannot be applied: queue offset {queue_offsets[-1]} after " in first_of(report)
    assert report.is_damaged


def test_stored_times_that_go_back_are_a_warning() -> None:
    records = [topic_record()]
    for at_ms in (5000, 4000):
        records.append(message_record(HEADER_BYTES + sum(map(len, records)), len(records) - 1, stored_at_ms=at_ms))
    report = check(log_of(records))
    assert [each.severity for each in report.findings] == [Severity.WARNING]
    assert first_of(report) == "stored at 4000 ms, and a record before it at 5000 ms"
    assert not report.is_damaged


def test_message_of_a_topic_that_nobody_made_is_found() -> None:
    report = check(log_of([message_record(HEADER_BYTES, 0)]))
    assert "cannot be applied" in "".join(each.what for each in report.findings)
    assert "the broker does not start" in report.findings[-1].what


def test_records_that_do_not_fill_their_frame_are_found() -> None:
    report = check(log_of([b"\0\0\0\x30" + bytes(20)]))
    assert "records that do not fit" in first_of(report)
    assert report.is_damaged


def test_record_that_is_none_is_found() -> None:
    record = message_record(HEADER_BYTES, 0)
    report = check(log_of([record[:4] + b"????" + record[8:]]))
    assert "this record cannot be applied: record at" in first_of(report)


def test_state_record_of_a_newer_version_is_found() -> None:
    report = check(log_of([encode_state_record(9999, b"{}", LogOffset(HEADER_BYTES), EpochMs(5))]))  # type: ignore[arg-type]
    assert "a newer Posthouse wrote it" in first_of(report)


def test_log_that_begins_in_the_middle_without_an_opening_is_damage() -> None:
    disk = log_of([topic_record(4048)], base=4000)
    report = check(disk)
    assert any("does not begin with an opening" in each.what for each in report.findings)
    assert report.is_damaged


@pytest.mark.asyncio
async def test_opening_that_says_something_else_than_the_log_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from posthouse.store.folds import Folds

    truth = Folds.opening

    def wrong(folds: Folds) -> list[object]:
        bodies = truth(folds)
        for body in bodies:
            for topic in body.get("topics", ()):  # type: ignore[attr-defined]
                topic[2] = [(queue, offset - 1) for queue, offset in topic[2]]
        return bodies

    monkeypatch.setattr(Folds, "opening", wrong)
    disk = FaultyDisk()
    opened = open_store(disk, segment_bytes=1500)
    for number in range(30):
        opened.put("orders", b"%d" % number)
        await opened.settled()
    monkeypatch.undo()
    report = check(disk.kill())
    assert "the opening of this segment is not what the log before it says: queue 0 of topic orders" in first_of(report)


@pytest.mark.asyncio
async def test_many_findings_are_counted_and_not_all_listed() -> None:
    records = [topic_record()]
    for number in range(300):
        at_ms = 5000 - number
        records.append(message_record(HEADER_BYTES + sum(map(len, records)), number, stored_at_ms=at_ms))
    report = check(log_of(records))
    assert report.count(Severity.WARNING) == 299
    assert len(report.findings) == 200
    assert report.unlisted[Severity.WARNING] == 99


@pytest.mark.asyncio
async def test_messages_that_a_repair_could_not_save_are_counted() -> None:
    disk = await a_store()
    whole = check(disk).figures.messages
    gone = names(disk, "log")[2]
    files = disk.files()
    del files[gone]
    disk = FaultyDisk(files)
    await repaired(disk)
    figures = assert_clean(disk).figures
    assert figures.gaps == 1
    assert figures.lost_messages > 0
    assert figures.messages + figures.lost_messages == whole


@pytest.mark.asyncio
async def test_older_snapshot_whose_removal_a_power_cut_undid_is_only_noted() -> None:
    disk = FaultyDisk()
    for life in range(3):
        opened = open_later(disk)
        before = disk.files()
        opened.put("orders", b"%d" % life)
        await opened.settled()
        await opened.store.close()
    gone = before.keys() - disk.files().keys()
    back = {name: before[name] for name in gone if name.startswith("snapshots/")}
    assert len(back) == 1
    report = assert_clean(FaultyDisk(disk.files() | back))
    assert [each.file for each in report.findings] == list(back)


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(25))
async def test_what_a_power_cut_leaves_is_never_damage(seed: int) -> None:
    rng = random.Random(seed)
    disk, clock = FaultyDisk(), ManualClock()
    for _ in range(3):
        opened = open_store(disk, clock, segment_bytes=rng.choice((3000, 1 << 30)), checkpoint_bytes=1 << 30)
        for number in range(40):
            opened.put(rng.choice(("orders", "mails")), rng.randbytes(rng.randrange(200)), rng.randrange(3))
            if rng.random() < 0.05 and not disk.holding:
                await opened.settled()
                await opened.store.checkpoint()
            if rng.random() < 0.1 and number > 20:
                disk.hold()
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        disk = disk.crash(rng)
        report = assert_clean(disk)
        assert not report.refusal
