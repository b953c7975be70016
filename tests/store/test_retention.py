"""Which segments go and which stay, as a table and as properties; then the runner over a store that is a script."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.host.real import RealNet, RealRandomness
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store.config import HOUR_MS, StoreConfig
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.log.engine import SegmentInfo
from posthouse.store.log.segments import segment_name
from posthouse.store.retention import (
    FIRST_AGE_S,
    ROUND_SEGMENTS_MAX,
    DiskLevel,
    Facts,
    Retention,
    Rule,
    decide,
    disk_level,
    is_older,
    topic_age_ms,
)
from posthouse.store.run import QueueKey
from posthouse.store.state_record import Kind
from posthouse.store.topic_table import Topic, TopicTable
from tests.store.disks import FaultyDisk, ManualClock
from tests.store.stores import open_store

NOW_MS = EpochMs(1_700_000_000_000)  # in Greenwich it is 22:13
ANY_HOUR = StoreConfig(retention_hours=())
AGE, SIZE, SPACE = Rule


def segments(*hours_ago: float, size: int = 100) -> list[SegmentInfo]:
    """Segments of `size` bytes that were begun so long ago, in the order of the log."""
    return [
        SegmentInfo(LogOffset(at * size), LogOffset((at + 1) * size), EpochMs(int(NOW_MS - hours * HOUR_MS)))
        for at, hours in enumerate(hours_ago)
    ]


OLD = segments(100, 90, 80, 70, 60)
"""With 72 hours two are too old: all of the third may be as young as the begin of the fourth."""
YOUNG = segments(5, 4, 3, 2, 1)


def facts(
    of: list[SegmentInfo],
    *,
    hour: int = 4,
    used: int = 0,
    held: Mapping[int, int] | None = None,
    trusted: bool = True,
) -> Facts:
    """`held`: by base, how many ms from now on. The disk has 1000 bytes."""
    held_until_ms = {LogOffset(base): NOW_MS + left_ms for base, left_ms in (held or {}).items()}
    return Facts(of, NOW_MS, hour, used, 1000, held_until_ms, trusted)


CASES: dict[str, tuple[Facts, dict[str, Any], list[Rule]]] = {
    "nothing is there": (facts([]), {}, []),
    "the last one stays, however old": (facts(segments(1000)), {}, []),
    "what is too old goes in its hour": (facts(OLD), {}, [AGE, AGE]),
    "at another hour it stays": (facts(OLD, hour=5), {}, []),
    "with several hours each will do": (facts(OLD, hour=23), {"retention_hours": (3, 23)}, [AGE, AGE]),
    "without hours every hour will do": (facts(OLD, hour=5), {"retention_hours": ()}, [AGE, AGE]),
    "exactly old enough is too old": (facts(segments(100, 72, 71)), {}, [AGE]),
    "a millisecond too young stays": (facts(segments(100, 72 - 1 / HOUR_MS, 71)), {}, []),
    "an age of the broker's own": (facts(OLD), {"retention_ms": 60 * HOUR_MS}, [AGE, AGE, AGE, AGE]),
    "a next one without a record says nothing of the age": (
        facts([*segments(100), SegmentInfo(LogOffset(100), LogOffset(100), EpochMs(0))]),
        {},
        [],
    ),
    "behind a young one nothing goes by age": (facts(segments(100, 10, 99, 98, 97)), {}, []),
    "over the clean level every hour will do": (facts(OLD, hour=5, used=751), {}, [AGE, AGE]),
    "at the clean level it is not over it": (facts(OLD, hour=5, used=750), {}, []),
    "over the clean level the young stay": (facts(YOUNG, used=850), {}, []),
    "over the force level the young go, as many as it takes": (facts(YOUNG, used=851), {}, [SPACE]),
    "over the force level more of them": (facts(YOUNG, used=1000), {}, [SPACE, SPACE]),
    "of small segments all but the last": (facts(segments(5, 4, 3, size=10), used=900), {}, [SPACE, SPACE]),
    "what is too old counts for the space": (facts(OLD, used=950), {}, [AGE, AGE]),
    "first by age, then for the space": (facts(segments(100, 90, 3, 2, 1), used=1000), {}, [AGE, SPACE]),
    "a log over its size loses the oldest": (facts(YOUNG, hour=5), {"retention_bytes": 300}, [SIZE, SIZE]),
    "a log of just its size stays": (facts(YOUNG), {"retention_bytes": 500}, []),
    "a byte over it one segment goes": (facts(YOUNG), {"retention_bytes": 499}, [SIZE]),
    "the last one stays, however large": (facts(YOUNG), {"retention_bytes": 1}, [SIZE] * 4),
    "a held one does not go by age": (facts(OLD, held={0: 1}), {}, []),
    "nor what is behind it": (facts(OLD, held={100: 1}), {}, [AGE]),
    "a hold that is over holds nothing": (facts(OLD, held={0: 0, 100: -1}), {}, [AGE, AGE]),
    "space goes over a hold": (facts(OLD, used=851, held={0: 1}), {}, [SPACE]),
    "what is behind a held one waits for the next round": (facts(OLD, used=900, held={0: 1}), {}, [SPACE]),
    "size goes over a hold": (facts(OLD, held={0: 1, 100: 1}), {"retention_bytes": 450}, [SIZE]),
    "a clock that was set deletes nothing": (facts(OLD, trusted=False), {}, []),
    "also over the clean level": (facts(OLD, used=800, trusted=False), {}, []),
    "space does not ask the clock": (facts(OLD, used=851, trusted=False), {}, [SPACE]),
    "size does not ask the clock": (facts(OLD, trusted=False), {"retention_bytes": 499}, [SIZE]),
    "a round has an end": (facts(segments(*range(200, 100, -1))), {}, [AGE] * ROUND_SEGMENTS_MAX),
}


@pytest.mark.parametrize("case", CASES)
def test_what_goes(case: str) -> None:
    given_facts, settings, expected = CASES[case]
    doomed = decide(given_facts, StoreConfig(**settings))
    assert [each.rule for each in doomed] == expected
    for each, segment, following in zip(doomed, given_facts.segments, given_facts.segments[1:], strict=False):
        assert each.segment == segment
        assert each.before == following.base


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    sizes = draw(st.lists(st.integers(1, 1000), max_size=15))
    base, found = draw(st.integers(0, 10_000)), []
    for size in sizes:
        begun_ms = draw(st.integers(0, 2 * NOW_MS) | st.integers(NOW_MS - 200 * HOUR_MS, NOW_MS))
        found.append(SegmentInfo(LogOffset(base), LogOffset(base + size), EpochMs(begun_ms)))
        base += size
    held = {each.base: NOW_MS + draw(st.integers(-HOUR_MS, HOUR_MS)) for each in found if draw(st.booleans())}
    total = draw(st.integers(0, 20_000))
    used = draw(st.integers(0, total))
    return Facts(found, NOW_MS, draw(st.integers(0, 23)), used, total, held, draw(st.booleans()))


any_config = st.builds(
    lambda keep_ms, keep_bytes, hours, levels: StoreConfig(
        retention_ms=keep_ms,
        retention_bytes=keep_bytes,
        retention_hours=tuple(hours),
        disk_clean_level=levels[0],
        disk_force_level=levels[1],
        disk_full_level=levels[2],
    ),
    st.integers(1, 200 * HOUR_MS),
    st.none() | st.integers(1, 15_000),
    st.lists(st.integers(0, 23), max_size=3),
    st.lists(st.floats(0.1, 0.99), min_size=3, max_size=3).map(sorted),
)


@given(any_facts(), any_config)
def test_what_goes_is_the_begin_of_the_log_and_never_its_last_segment(about: Facts, config: StoreConfig) -> None:
    gone = [each.segment for each in decide(about, config)]
    assert gone == list(about.segments[: len(gone)])
    assert len(gone) <= min(ROUND_SEGMENTS_MAX, max(0, len(about.segments) - 1))


@given(any_facts(), any_config)
def test_nothing_goes_by_age_that_is_young_or_held_or_not_to_be_timed(about: Facts, config: StoreConfig) -> None:
    for each in decide(about, config):
        if each.rule is Rule.AGE:
            (following,) = (other for other in about.segments if other.base == each.before)
            assert about.is_clock_trusted
            assert NOW_MS - following.begun_at_ms >= config.retention_ms
            assert about.held_until_ms.get(each.segment.base, 0) <= NOW_MS


@given(any_facts(), any_config)
def test_young_or_held_segments_go_only_as_long_as_size_or_space_ask_for_it(about: Facts, config: StoreConfig) -> None:
    gone_bytes = 0
    log_bytes = sum(each.end - each.base for each in about.segments)
    for each in decide(about, config):
        if each.rule is Rule.SIZE:
            assert config.retention_bytes is not None
            assert log_bytes - gone_bytes > config.retention_bytes
        elif each.rule is Rule.SPACE:
            assert (about.used_bytes - gone_bytes) / about.total_bytes > config.disk_force_level
        gone_bytes += each.segment.end - each.segment.base


@given(any_facts(), any_config)
def test_round_after_round_leaves_nothing_that_must_go(about: Facts, config: StoreConfig) -> None:
    rounds = 0
    while doomed := decide(about, config):
        gone = sum(each.segment.end - each.segment.base for each in doomed)
        about = replace(about, segments=about.segments[len(doomed) :], used_bytes=max(0, about.used_bytes - gone))
        rounds += 1
    assert rounds <= 2
    if config.retention_bytes is not None and len(about.segments) > 1:
        assert sum(each.end - each.base for each in about.segments) <= config.retention_bytes


@pytest.mark.parametrize(
    ("used", "level"),
    [
        (0, DiskLevel.FINE),
        (750, DiskLevel.FINE),
        (751, DiskLevel.CLEAN),
        (851, DiskLevel.FORCE),
        (900, DiskLevel.FORCE),
        (901, DiskLevel.FULL),
        (1000, DiskLevel.FULL),
    ],
)
def test_disk_is_at_a_level_when_it_is_over_it(used: int, level: DiskLevel) -> None:
    assert disk_level(used, 1000, StoreConfig()) is level


def test_disk_of_no_size_is_not_full() -> None:
    assert disk_level(0, 0, StoreConfig()) is DiskLevel.FINE


@pytest.mark.parametrize(("text", "age_ms"), [(None, None), ("-1", None), ("1", 1), ("3600000", HOUR_MS)])
def test_age_of_a_topic_is_its_attribute(text: str | None, age_ms: int | None) -> None:
    attributes = {} if text is None else {"reserve.time": text}
    assert topic_age_ms(TopicConfig("T", attributes=attributes)) == age_ms


# The runner


@dataclass
class ScriptedLog:
    segments: list[SegmentInfo]


@dataclass
class ScriptedStore:
    """Segments and queues as a test writes them down. `stored` are the times of each queue's messages, from 0 on."""

    log: ScriptedLog
    topics: TopicTable = field(default_factory=TopicTable)
    next_offsets: dict[int, dict[QueueKey, QueueOffset]] = field(default_factory=dict)
    stored: dict[ConsumeQueue, list[int]] = field(default_factory=dict)
    trimmed: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    error: OSError | None = None

    def topic(self, name: str, age_ms: int | None, *hours_ago: float) -> ConsumeQueue:
        """A topic with one queue that has messages of these ages."""
        attributes = {} if age_ms is None else {"reserve.time": str(age_ms)}
        body = TopicTable.set_body(TopicConfig(name, 1, 1, attributes=attributes))
        self.topics.decide(Kind.TOPIC_SET, body, LogOffset(len(self.topics.live) + 1))
        queue = self.topics.live[name].queue(0)
        self.stored[queue] = [int(NOW_MS - hours * HOUR_MS) for hours in hours_ago]
        queue.max_offset = QueueOffset(len(hours_ago))
        return queue

    def at(self, base: int, topic: Topic, next_offset: int) -> None:
        self.next_offsets.setdefault(base, {})[QueueKey(topic.id, 0)] = QueueOffset(next_offset)

    async def trim(self, before: LogOffset) -> None:
        if self.error is not None:
            raise self.error
        self.trimmed.append(before)
        self.log.segments = [each for each in self.log.segments if each.base >= before]

    def trim_queue(self, queue: ConsumeQueue, min_offset: QueueOffset) -> None:
        queue.min_offset = min_offset

    async def search(self, queue: ConsumeQueue, at_ms: EpochMs) -> QueueOffset:
        self.asked.append("search")
        times = self.stored[queue]
        return QueueOffset(next((at for at, time_ms in enumerate(times) if time_ms >= at_ms), len(times)))

    async def stored_at_ms(self, queue: ConsumeQueue, queue_offset: QueueOffset) -> EpochMs | None:
        return EpochMs(self.stored[queue][queue_offset])

    async def next_offsets_at(self, base: LogOffset) -> dict[QueueKey, QueueOffset]:
        self.asked.append(f"opening {base}")
        return self.next_offsets.get(base, {})


class MeasuredDisk(FaultyDisk):
    def __init__(self) -> None:
        super().__init__()
        self.used = 100
        self.total = 1000
        self.error: OSError | None = None

    def usage(self) -> tuple[int, int]:
        if self.error is not None:
            raise self.error
        return self.used, self.total


class Running:
    """A retention that has been there for some time, and the world that it looks at."""

    def __init__(self, of: list[SegmentInfo], config: StoreConfig = ANY_HOUR, *, after_s: float = FIRST_AGE_S) -> None:
        self.disk = MeasuredDisk()
        self.clock = ManualClock(NOW_MS - int(after_s * 1000))
        self.now_s = 1000.0
        self.store = ScriptedStore(ScriptedLog(of))
        host = Host(self.clock, self.disk, RealNet(), RealRandomness())
        self.retention = Retention(self.store, host, config, monotonic_s=lambda: self.now_s)
        self.pass_time(after_s)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.clock.at_ms += int(seconds * 1000)

    async def round(self) -> list[int]:
        """Bases before which the log was trimmed by one more round."""
        before = len(self.store.trimmed)
        await self.retention.round()
        return self.store.trimmed[before:]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.store.retention.PAUSE_S", 0)


@pytest.mark.asyncio
async def test_round_deletes_one_segment_after_another_the_oldest_first() -> None:
    running = Running(OLD)
    assert await running.round() == [100, 200]
    assert await running.round() == []
    status = running.retention.status()
    assert (status.deleted_segments, status.deleted_bytes, status.warnings) == (2, 200, ())


@pytest.mark.asyncio
async def test_hour_is_that_of_the_clock_on_the_wall() -> None:
    assert await Running(OLD, StoreConfig(retention_hours=(21,))).round() == []
    assert await Running(OLD, StoreConfig(retention_hours=(22,))).round() == [100, 200]


@pytest.mark.usefixtures("fast")
@pytest.mark.asyncio
async def test_who_asks_for_it_has_what_is_too_old_deleted_at_once_and_at_another_hour() -> None:
    running = Running(OLD, StoreConfig(retention_hours=(21,)))
    task = await running_task(running)
    assert running.store.trimmed == []
    running.retention.clean_now()
    await some_looks()
    assert running.store.trimmed == [100, 200]
    running.store.log.segments = list(OLD)
    running.pass_time(60)
    await some_looks()
    assert len(running.store.trimmed) == 2, "asked once, done once"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
async def test_settings_that_are_changed_count_from_the_next_round_on() -> None:
    running = Running(OLD, StoreConfig(retention_hours=(21,)))
    running.retention.use(ANY_HOUR)
    assert await running.round() == [100, 200]


@pytest.mark.asyncio
async def test_between_two_deletions_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.store.retention.PAUSE_S", 0.02)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await Running(segments(100, 99, 98, 97, 96)).round() == [100, 200, 300, 400]
    assert loop.time() - begun >= 0.06


@pytest.mark.asyncio
async def test_nothing_goes_by_age_in_the_first_minute() -> None:
    running = Running(OLD, after_s=59)
    short = running.store.topic("short", HOUR_MS, 5, 4)
    assert await running.round() == []
    assert short.min_offset == 0
    running.pass_time(1)
    assert await running.round() == [100, 200]
    assert short.min_offset == 2


@pytest.mark.asyncio
async def test_in_the_first_minute_space_and_size_count() -> None:
    running = Running(OLD, after_s=0)
    running.disk.used = 951
    assert await running.round() == [100, 200]
    running = Running(OLD, StoreConfig(retention_bytes=400), after_s=0)
    assert await running.round() == [100]


@pytest.mark.asyncio
async def test_deletion_for_space_is_a_warning_and_that_by_age_is_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await Running(segments(100, 90, 3)).round()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "INFO",
        "the segment at 0 (100 bytes) is deleted because of its age",
    )
    caplog.clear()
    running = Running(YOUNG)
    running.disk.used = 851
    await running.round()
    assert [(each.levelname, each.getMessage()) for each in caplog.records][-1] == (
        "WARNING",
        "the segment at 0 (100 bytes) is deleted because of the space on the disk, although its messages are young",
    )


# The clock


@pytest.mark.parametrize("jump_hours", [24 * 365, 1.01, -1.01, -24])
@pytest.mark.asyncio
async def test_clock_that_was_set_deletes_nothing_and_says_so_once(
    jump_hours: float, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(YOUNG if jump_hours > 0 else OLD)
    short = running.store.topic("short", HOUR_MS, 5, 4)
    running.clock.at_ms += int(jump_hours * HOUR_MS)
    for _ in range(3):
        assert await running.round() == []
        running.pass_time(100)
    assert short.min_offset == 0
    (record,) = caplog.records
    assert f"the clock has moved {jump_hours:+.1f} hours" in record.getMessage()
    assert "no messages are deleted for their age until it is back" in record.getMessage()
    assert running.retention.status().warnings == (record.getMessage(),)


@pytest.mark.asyncio
async def test_clock_that_is_back_is_believed_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running = Running(OLD)
    running.clock.at_ms += 2 * HOUR_MS
    assert await running.round() == []
    running.clock.at_ms -= 2 * HOUR_MS
    assert await running.round() == [100, 200]
    assert "the clock is back" in caplog.text
    assert running.retention.status().warnings == ()
    running.clock.at_ms += 2 * HOUR_MS
    await running.round()
    assert caplog.text.count("the clock has moved") == 2


@pytest.mark.asyncio
async def test_clock_that_is_put_right_a_little_is_believed() -> None:
    running = Running(OLD)
    running.clock.at_ms += HOUR_MS
    assert await running.round() == [100, 200]


@pytest.mark.asyncio
async def test_time_that_goes_by_is_no_jump() -> None:
    running = Running(YOUNG)
    running.pass_time(69 * 3600)
    assert await running.round() == [100, 200]


@pytest.mark.asyncio
async def test_after_a_jump_space_and_size_still_count() -> None:
    running = Running(OLD)
    running.clock.at_ms += 24 * 365 * HOUR_MS
    running.disk.used = 851
    assert await running.round() == [100]


# The disk


@pytest.mark.asyncio
async def test_over_the_full_level_sends_are_refused_until_it_is_below_it() -> None:
    running = Running(YOUNG[:1])
    running.retention.measure()
    running.retention.check_writable()
    running.disk.used = 901
    running.retention.measure()
    with pytest.raises(Refused) as refused:
        running.retention.check_writable()
    assert refused.value.reason is Reason.NOT_WRITABLE
    for said in ("a faulty disk", "90.1% used", "over 90%", "--disk-full-level", "--retention-hours", "make room"):
        assert said in refused.value.remark
    running.disk.used = 900
    running.retention.measure()
    running.retention.check_writable()


@pytest.mark.asyncio
async def test_level_is_told_once_when_it_is_passed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running = Running(YOUNG[:1])

    def told_at(used: int) -> list[tuple[str, str]]:
        caplog.clear()
        running.disk.used = used
        for _ in range(3):
            running.retention.measure()
        return [(each.levelname, each.getMessage()) for each in caplog.records]

    assert told_at(700) == []
    assert told_at(751) == [
        ("WARNING", "the disk of a faulty disk is 75.1% used: messages that are too old are deleted at any hour")
    ]
    assert told_at(760) == []
    assert told_at(901) == [
        ("WARNING", "the disk of a faulty disk is 90.1% used: the oldest messages are deleted, and no more are taken")
    ]
    assert told_at(899) == told_at(905) == told_at(891) == [], "back and forth over a level is no news"
    ((level, text),) = told_at(880)
    assert level == "INFO"
    assert text.startswith("the disk of a faulty disk is 88.0% used again: the oldest messages are deleted, even")
    assert told_at(100) == [("INFO", "the disk of a faulty disk is 10.0% used again: all is well")]
    assert [level for level, _ in told_at(950)] == ["WARNING"]


@pytest.mark.asyncio
async def test_status_has_the_level_and_a_warning_while_it_is_high() -> None:
    running = Running(YOUNG[:1])
    running.disk.used = 860
    running.retention.measure()
    status = running.retention.status()
    assert (status.level, status.used_share) == (DiskLevel.FORCE, 0.86)
    (warning,) = status.warnings
    assert "86.0% used" in warning
    running.disk.used = 100
    running.retention.measure()
    assert running.retention.status().warnings == ()


@pytest.mark.asyncio
async def test_disk_that_cannot_be_measured_keeps_no_rule_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    running = Running(OLD)
    running.disk.used = 950
    running.retention.measure()
    caplog.clear()
    running.disk.error = OSError(errno.EIO, "broken")
    assert await running.round() == [100, 200], "ages count all the same"
    running.retention.check_writable()
    assert caplog.text.count("cannot be had") == 1
    assert "broken" in " ".join(running.retention.status().warnings)
    running.disk.error, running.disk.used = None, 100
    running.retention.measure()
    assert running.retention.status().warnings == ()


@pytest.mark.asyncio
async def test_files_that_are_still_there_are_not_deleted_for_twice() -> None:
    running = Running(YOUNG)
    running.disk.used = 851
    running.disk.open(segment_name(LogOffset(0)), create=True)
    assert await running.round() == [100]
    assert await running.round() == [], "the disk has not come to remove the first one, so its usage is as before"
    running.disk.used = 960
    assert await running.round() == [200], "that one is not enough any more"
    running.disk.remove(segment_name(LogOffset(0)))
    running.disk.used = 850
    assert await running.round() == []
    running.disk.used = 851
    assert await running.round() == [300]


# Topics that keep shorter or longer


@pytest.mark.asyncio
async def test_topic_that_keeps_shorter_loses_its_old_messages_and_no_other_does() -> None:
    running = Running(YOUNG)
    short = running.store.topic("short", 3 * HOUR_MS, 5, 4, 3, 2, 1)
    plain = running.store.topic("plain", None, 100, 1)
    same = running.store.topic("same", -1, 100, 1)
    longer = running.store.topic("longer", 200 * HOUR_MS, 190, 1)
    assert await running.round() == []
    assert short.min_offset == 2
    assert plain.min_offset == same.min_offset == longer.min_offset == 0


@pytest.mark.asyncio
async def test_short_topic_is_looked_at_every_minute_and_searched_only_when_something_is_too_old() -> None:
    running = Running(YOUNG)
    short = running.store.topic("short", 3 * HOUR_MS, 2.999, 2)
    for _ in range(5):
        await running.round()
        running.pass_time(10)
    assert (running.store.asked, short.min_offset) == ([], 0)
    running.pass_time(10)
    await running.round()
    assert (running.store.asked, short.min_offset) == (["search"], 1)


@pytest.mark.asyncio
async def test_short_topic_may_lose_all_it_has() -> None:
    running = Running(YOUNG)
    short = running.store.topic("short", 1, 5, 4)
    for _ in range(2):
        await running.round()
        running.pass_time(60)
    assert short.min_offset == short.max_offset == 2
    assert running.store.asked == ["search"]


@pytest.mark.asyncio
async def test_topic_that_keeps_longer_holds_the_segments_that_have_young_messages_of_it() -> None:
    running = Running(OLD)
    running.store.topic("long", 95 * HOUR_MS, 99, 85)
    topic = running.store.topics.live["long"]
    for base, next_offset in ((100, 1), (200, 2), (300, 2)):
        running.store.at(base, topic, next_offset)
    assert await running.round() == [100], "its message there is 99 hours old"
    assert await running.round() == []
    running.pass_time(10 * 3600)
    assert await running.round() == [200, 300], "its last message is as old as it keeps them, the third is too old too"


@pytest.mark.asyncio
async def test_hold_is_found_once_and_looked_at_again_when_it_is_over_or_topics_change() -> None:
    running = Running(OLD)
    running.store.topic("long", 95 * HOUR_MS, 92)
    topic = running.store.topics.live["long"]
    running.store.at(100, topic, 1)
    running.store.at(200, topic, 1)
    for _ in range(3):
        assert await running.round() == []
    assert running.store.asked == ["opening 0", "opening 100"]
    topic.config = TopicConfig("long", 1, 1, attributes={"reserve.time": str(91 * HOUR_MS)})
    assert await running.round() == [100, 200]
    assert running.store.asked[2:] == ["opening 0", "opening 100", "opening 100", "opening 200"]


@pytest.mark.asyncio
async def test_long_topic_without_a_message_in_the_segment_holds_nothing() -> None:
    running = Running(OLD)
    running.store.topic("long", 1000 * HOUR_MS, 200, 61)
    topic = running.store.topics.live["long"]
    for base in (0, 100, 200, 300):
        running.store.at(base, topic, 1)
    assert await running.round() == [100, 200]


@pytest.mark.asyncio
async def test_messages_below_the_min_offset_hold_nothing() -> None:
    running = Running(OLD)
    queue = running.store.topic("long", 1000 * HOUR_MS, 95, 61)
    queue.min_offset = QueueOffset(1)
    topic = running.store.topics.live["long"]
    for base in (100, 200, 300):
        running.store.at(base, topic, 1)
    assert await running.round() == [100, 200]


@pytest.mark.asyncio
async def test_segment_is_held_when_it_is_not_known_what_is_in_it() -> None:
    running = Running(OLD)
    running.store.topic("long", 1000 * HOUR_MS, 95)
    running.store.at(0, running.store.topics.live["long"], 1)  # and nothing at 100: that opening was damaged
    assert await running.round() == []


@pytest.mark.asyncio
async def test_space_goes_over_what_a_topic_keeps() -> None:
    running = Running(OLD)
    running.store.topic("long", 1000 * HOUR_MS, 95)
    running.store.at(100, running.store.topics.live["long"], 1)
    running.disk.used = 851
    assert await running.round() == [100]


# The task


async def some_looks() -> None:
    for _ in range(20):
        await asyncio.sleep(0.001)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.store.retention.MEASURE_PERIOD_S", 0.001)
    monkeypatch.setattr("posthouse.store.retention.MEASURE_PERIOD_S_MIN", 0.001)


async def running_task(running: Running) -> asyncio.Task[None]:
    task = asyncio.create_task(running.retention.run())
    await some_looks()
    return task


@pytest.mark.usefixtures("fast")
@pytest.mark.asyncio
async def test_task_decides_at_once_then_every_ten_seconds_and_when_the_disk_gets_fuller() -> None:
    running = Running(YOUNG)
    task = await running_task(running)
    running.disk.used = 840
    running.store.log.segments = segments(100, 90, 80, 70, 60)
    running.retention._config = ANY_HOUR
    await some_looks()
    assert running.store.trimmed == [100, 200], "a level was passed"
    running.store.log.segments = list(OLD)
    running.pass_time(9)
    await some_looks()
    assert len(running.store.trimmed) == 2
    running.pass_time(1)
    await some_looks()
    assert len(running.store.trimmed) == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("fast")
@pytest.mark.asyncio
async def test_disk_that_fills_up_is_noticed_between_rounds() -> None:
    running = Running(YOUNG[:1])
    task = await running_task(running)
    running.disk.used = 950
    await some_looks()
    with pytest.raises(Refused):
        running.retention.check_writable()
    running.disk.used = 100
    await some_looks()
    running.retention.check_writable()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("used_gib", "total_gib", "pause_s"),
    [(10, 100, 1.0), (89.9, 100, 0.2), (89.999, 100, 0.02), (90, 100, 1.0), (95, 100, 1.0), (0, 0.0625, 0.1125)],
)
@pytest.mark.asyncio
async def test_looks_come_closer_as_the_room_that_is_left_gets_small(
    used_gib: float, total_gib: float, pause_s: float
) -> None:
    running = Running(YOUNG[:1])
    running.disk.used, running.disk.total = int(used_gib * (1 << 30)), int(total_gib * (1 << 30))
    running.retention.measure()
    assert running.retention._pause_s() == pytest.approx(pause_s, rel=0.01)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), Refused(Reason.FAILED, "broken")])
@pytest.mark.usefixtures("fast")
@pytest.mark.asyncio
async def test_deletion_that_fails_is_logged_and_tried_in_the_next_round(
    error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(OLD)
    running.store.error = error
    task = await running_task(running)
    assert running.store.trimmed == []
    assert caplog.text.count("cannot be deleted: ") == 1
    assert "broken" in caplog.text
    running.store.error = None
    running.pass_time(10)
    await some_looks()
    assert running.store.trimmed == [100, 200]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
async def test_when_segments_are_leaving_a_full_disk_the_next_look_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(YOUNG)
    running.disk.used = 950
    running.disk.open(segment_name(LogOffset(0)), create=True)
    assert await running.round() == [100]
    monkeypatch.setattr("posthouse.store.retention.PAUSE_S", 0.1)
    assert running.retention._pause_s() == 0.1


# Over a store as it is


class Kept:
    """A store that gets a message of 10 KiB in each of its topics every hour, in segments of about six hours."""

    def __init__(self, disk: FaultyDisk, attributes: dict[str, dict[str, str]], config: StoreConfig) -> None:
        self.clock = ManualClock()
        self.opened = open_store(disk, self.clock, segment_bytes=60 * 1024 * len(attributes))
        self.now_s = 0.0
        host = Host(self.clock, disk, RealNet(), RealRandomness())
        self.retention = Retention(self.opened.store, host, config, monotonic_s=lambda: self.now_s)
        self.topics = tuple(attributes)
        for name, those in attributes.items():
            self.opened.change(Kind.TOPIC_SET, TopicTable.set_body(TopicConfig(name, 1, 1, attributes=those)))

    async def pass_hours(self, hours: int) -> None:
        for _ in range(hours):
            for name in self.topics:
                self.opened.put(name, bytes(10 * 1024))
            await self.opened.settled()
            self.clock.at_ms += HOUR_MS
            self.now_s += 3600

    def kept_hours(self, name: str) -> int:
        """How many of the newest messages are there; each can be read."""
        queue = self.opened.store.topics.live[name].queue(0)
        found = self.opened.read(name, begin=queue.min_offset)
        assert [each.queue_offset for each in found] == list(range(queue.min_offset, queue.max_offset))
        return len(found)


@pytest.mark.asyncio
async def test_each_topic_of_a_store_keeps_what_it_says_and_a_restart_brings_nothing_back() -> None:
    disk = FaultyDisk()
    attributes = {"plain": {}, "short": {"reserve.time": str(5 * HOUR_MS)}}
    kept = Kept(disk, attributes, StoreConfig(retention_ms=24 * HOUR_MS, retention_hours=()))
    await kept.pass_hours(60)
    for _ in range(2):
        await kept.retention.round()
    assert 24 <= kept.kept_hours("plain") <= 24 + 2 * 6
    assert kept.kept_hours("short") == 5
    assert kept.retention.status().deleted_segments > 2
    store = kept.opened.store
    bounds = {name: store.topics.live[name].queue(0).min_offset for name in attributes}
    assert len(disk.list("log")) == len(store.log.segments)
    await store.close()
    again = open_store(disk, kept.clock)
    assert {name: again.store.topics.live[name].queue(0).min_offset for name in attributes} == bounds
    await again.store.close()


@pytest.mark.asyncio
async def test_topic_that_keeps_longer_keeps_the_segments_of_a_store_as_long_as_it_has_messages_there() -> None:
    attributes = {"plain": {}, "long": {"reserve.time": str(48 * HOUR_MS)}}
    kept = Kept(FaultyDisk(), attributes, StoreConfig(retention_ms=6 * HOUR_MS, retention_hours=()))
    await kept.pass_hours(90)
    await kept.retention.round()
    assert 48 <= kept.kept_hours("long") <= 48 + 2 * 6
    kept.topics = ("plain",)
    await kept.pass_hours(49)
    for _ in range(3):
        await kept.retention.round()
    assert kept.kept_hours("long") == 0
    assert 6 <= kept.kept_hours("plain") <= 6 + 4 * 6
    await kept.opened.store.close()


def test_age_is_that_of_the_next_segments_begin() -> None:
    (next_one,) = segments(72)
    assert is_older(next_one, 72 * HOUR_MS, NOW_MS)
    assert not is_older(next_one, 72 * HOUR_MS + 1, NOW_MS)
