"""The comparisons themselves, on folds that differ in one thing. On whole stores: test_check, test_damage."""

from __future__ import annotations

import pytest

from posthouse.model.group import GroupConfig
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.topic import TopicConfig
from posthouse.store.comparison import Comparison
from posthouse.store.finding import Report
from posthouse.store.folds import Folds
from posthouse.store.opening import decode_part
from posthouse.store.state_record import Kind
from tests.store.damage import a_store, names
from tests.store.disks import FaultyDisk


def folds_with(*, topic: str = "orders", group: str = "billing", offset: int = 3, entries: int = 2) -> Folds:
    folds = Folds()
    folds.topics.fill(7, TopicConfig(topic, 4, 4))
    folds.groups.fill(GroupConfig(group))
    folds.offsets.apply(Kind.OFFSETS, {group: {topic: {0: offset}}}, LogOffset(9))
    queue = folds.topics.live[topic].queue(0)
    for number in range(entries):
        queue.apply(QueueOffset(number), LogOffset(100 * number), 90, 0)
    return folds


def wrong(folds: Folds, start: Folds) -> str:
    report = Report("here")
    Comparison(FaultyDisk(), report).compare_start(folds, start)
    return "; ".join(each.what for each in report.findings)


def test_equal_folds_do_not_differ() -> None:
    assert wrong(folds_with(), folds_with()) == ""


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (folds_with(topic="mails"), "topics"),
        (folds_with(group="other"), "groups"),
        (folds_with(offset=4), "group offsets"),
        (folds_with(entries=3), "queues"),
    ],
)
def test_start_that_has_something_else_is_told(other: Folds, what: str) -> None:
    assert what in wrong(folds_with(), other)


def test_queue_may_begin_later_than_the_log_but_not_earlier() -> None:
    trimmed = folds_with()
    trimmed.topics.live["orders"].queue(0).trim(QueueOffset(1))
    assert wrong(folds_with(), trimmed) == ""
    assert "where queues begin" in wrong(trimmed, folds_with())


def test_entries_in_memory_that_differ_are_told_and_let_go_of() -> None:
    report = Report("here")
    comparison = Comparison(FaultyDisk(), report)
    folds, start = folds_with(), folds_with(entries=0)
    start.topics.live["orders"].queue(0).apply(QueueOffset(0), LogOffset(1), 90, 0)
    comparison.compare_entries(folds, start, LogOffset(500))
    assert "orders, queue 0 is not what the log says from 0 on" in report.findings[0].what
    assert folds.topics.live["orders"].queue(0).tail() == (2, b"")


def test_opening_is_compared_with_the_folds_before_it() -> None:
    comparison = Comparison(FaultyDisk(), Report("here"))
    folds = folds_with()
    (part,) = [decode_part(body) for body in folds.opening() if "topics" in body]  # type: ignore[operator]
    assert comparison.opening_differs(part, folds) == ""
    assert comparison.opening_differs(part, folds_with(entries=1)) == "queue 0 of topic orders"
    assert comparison.opening_differs(part, folds_with(topic="mails")) == "topic orders"


@pytest.mark.asyncio
async def test_checksums_of_runs_are_looked_at() -> None:
    disk = await a_store(messages=20)
    run = names(disk, "queues")[-1]
    for back in (1, 600):
        damaged = FaultyDisk(disk.files())
        damaged.flip(run, len(damaged.files()[run]) - back)
        report = Report("here")
        Comparison(damaged, report).open_runs([run.removeprefix("queues/")], LogOffset(0))
        assert [each.what for each in report.findings] == ["the entries of this run are not as they were written"]
