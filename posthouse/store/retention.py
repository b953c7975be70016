"""Retention: which of the oldest segments go, and when no more is taken because the disk is full.

Messages go by whole segments, the oldest first; the last one stays. Three rules send a segment away:
- age: what is in it is older than the broker keeps messages. Only in the hours for it, or when the disk fills up, and
  not while a topic that keeps longer has young enough messages in it;
- size: the log is larger than it may be. At any time, whatever its age;
- space: the disk is over the force level. At any time, whatever its age: better old messages than no new ones.
What waits in a segment for its time is carried forward first (`carrying`, called by the store's `trim`).
A topic that keeps shorter loses its old messages by its queues' min offsets; their bytes go with the segment.

`decide` is the rules and nothing else. `Retention` looks at the disk every second, more often when little is left, so
that it is not written full between two looks, and decides every ten, or at each look over the force level. Over the
full level sends are refused until the usage is below it again. A segment is as old as the begin of the next one:
nothing in it is younger.

A clock that was set must not delete: when wall time and monotonic time have moved apart, nothing goes by age. Size
and space do not ask the clock. Source of the numbers: RocketMQ 5.3 DefaultMessageStore.CleanCommitLogService.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import NamedTuple, Protocol

from posthouse.host import Host
from posthouse.host.clock import EpochMs
from posthouse.model.offsets import LogOffset, QueueOffset
from posthouse.model.refusal import Reason, Refused
from posthouse.model.topic import TopicConfig
from posthouse.store.config import HOUR_MS, TOPIC_AGE, StoreConfig
from posthouse.store.consume_queue import ConsumeQueue
from posthouse.store.log.segments import FOLDER, segment_name
from posthouse.store.run import QueueKey
from posthouse.store.topic_table import Topic, TopicTable

log = logging.getLogger(__name__)

MEASURE_PERIOD_S = 1.0
MEASURE_PERIOD_S_MIN = 0.02
WRITTEN_BYTES_PER_S = 512 * 1024 * 1024
"""How fast a disk may fill up: by this the next look is in time. A look costs a few microseconds."""
ROUND_PERIOD_S = 10.0
"""RocketMQ: cleanResourceInterval."""
ROUND_SEGMENTS_MAX = 10
"""Segments that one round sends away. RocketMQ: deleteFileBatchMax."""
PAUSE_S = 0.1
"""Between two of them: a large file takes the disk's time. RocketMQ: deleteCommitLogFilesInterval."""
TOPICS_PERIOD_S = 60.0
"""Between two looks at the topics that keep shorter."""
FIRST_AGE_S = 60.0
"""Nothing goes by age so soon after the start: a clock that is set right after it shows as one that jumped."""
CLOCK_APART_MS = HOUR_MS
_AGAIN_SHARE = 0.01
"""So far must the usage fall below a level before it is news when it is over it again."""


class DiskLevel(IntEnum):
    """How full the disk is, by the levels of StoreConfig that it is over."""

    FINE = 0
    CLEAN = 1
    FORCE = 2
    FULL = 3


class Rule(StrEnum):
    """Why a segment goes."""

    AGE = "age"
    SIZE = "size"
    SPACE = "space"


class Segment(Protocol):
    """What is to be known of a segment. `begun_at_ms`: when its first record was stored; 0: it has none yet."""

    @property
    def base(self) -> LogOffset: ...

    @property
    def end(self) -> LogOffset: ...

    @property
    def begun_at_ms(self) -> EpochMs: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision is made of. `segments` are in the order of the log.

    `held_until_ms`: by the base of a segment, until when it has messages that a topic keeps longer than the broker.
    """

    segments: Sequence[Segment]
    now_ms: EpochMs
    hour: int
    used_bytes: int
    total_bytes: int
    held_until_ms: Mapping[LogOffset, int] = field(default_factory=dict)
    is_clock_trusted: bool = True


class Doomed(NamedTuple):
    """A segment that goes now. The log begins at `before` when it is gone."""

    segment: Segment
    before: LogOffset
    rule: Rule


def decide(facts: Facts, config: StoreConfig) -> list[Doomed]:
    """The segments that go now, oldest first, at most ROUND_SEGMENTS_MAX.

    No more than the rules ask for: it is reckoned that each gives back its own size. By age nothing goes that is behind
    one that stays, or that only size or space sent away: of that it is not known what it is held for.
    """
    log_bytes = sum(segment.end - segment.base for segment in facts.segments)
    used_bytes = facts.used_bytes
    by_age = facts.is_clock_trusted and (
        not config.retention_hours
        or facts.hour in config.retention_hours
        or disk_level(used_bytes, facts.total_bytes, config) >= DiskLevel.CLEAN
    )
    doomed: list[Doomed] = []
    for segment, following in pairwise(facts.segments):
        by_age = by_age and _is_too_old(facts, segment, following, config)
        if by_age:
            rule = Rule.AGE
        elif config.retention_bytes is not None and log_bytes > config.retention_bytes:
            rule = Rule.SIZE
        elif disk_level(used_bytes, facts.total_bytes, config) >= DiskLevel.FORCE:
            rule = Rule.SPACE
        else:
            break
        doomed.append(Doomed(segment, following.base, rule))
        if len(doomed) == ROUND_SEGMENTS_MAX:
            break
        size = segment.end - segment.base
        log_bytes -= size
        used_bytes -= size
    return doomed


def _is_too_old(facts: Facts, segment: Segment, following: Segment, config: StoreConfig) -> bool:
    is_held = facts.held_until_ms.get(segment.base, 0) > facts.now_ms
    return not is_held and is_older(following, config.retention_ms, facts.now_ms)


def is_older(following: Segment, age_ms: int, now_ms: EpochMs) -> bool:
    """Whether all that comes before `following` has at least that age."""
    return 0 < following.begun_at_ms <= now_ms - age_ms


def disk_level(used_bytes: int, total_bytes: int, config: StoreConfig) -> DiskLevel:
    share = used_bytes / max(total_bytes, 1)
    return DiskLevel(sum(share > level for level in _levels(config)))


def _levels(config: StoreConfig) -> tuple[float, float, float]:
    return config.disk_clean_level, config.disk_force_level, config.disk_full_level


def topic_age_ms(config: TopicConfig) -> int | None:
    """How long the topic keeps its messages; None: as long as the broker."""
    text = config.attributes.get(TOPIC_AGE, "")
    return int(text) if text.isdecimal() else None


class SegmentedLog(Protocol):
    @property
    def segments(self) -> Sequence[Segment]: ...


class RetainedStore(Protocol):
    """What retention uses of the store."""

    @property
    def log(self) -> SegmentedLog: ...

    @property
    def topics(self) -> TopicTable: ...

    async def trim(self, before: LogOffset) -> None:
        """Segments that end at or below `before` go, and the queues' min offsets with them."""

    def trim_queue(self, queue: ConsumeQueue, min_offset: QueueOffset) -> None: ...

    async def search(self, queue: ConsumeQueue, at_ms: EpochMs) -> QueueOffset:
        """The first message stored at or after `at_ms`, max offset if none."""

    async def stored_at_ms(self, queue: ConsumeQueue, queue_offset: QueueOffset) -> EpochMs | None: ...

    async def next_offsets_at(self, base: LogOffset) -> Mapping[QueueKey, QueueOffset]:
        """Where each queue stood when the segment with that base began; queues without a message are not in it."""


class RetentionStatus(NamedTuple):
    """`used_share` of the disk is 0 when it could not be measured. Deleted: since the start, by this process."""

    level: DiskLevel
    used_share: float
    deleted_segments: int
    deleted_bytes: int
    warnings: tuple[str, ...]


class _Hold(NamedTuple):
    """What held the oldest segment back when it was last looked at."""

    base: LogOffset
    topics: tuple[tuple[int, int], ...]
    until_ms: int


class Retention:
    """`run` is a task for as long as the store is open. `check_writable` is asked before every send."""

    def __init__(
        self,
        store: RetainedStore,
        host: Host,
        config: StoreConfig,
        *,
        monotonic_s: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._disk = host.disk
        self._clock = host.clock
        self._config = config
        self._now_s = monotonic_s or asyncio.get_running_loop().time
        self._started_at_s = self._now_s()
        self._started_at_ms = host.clock.now_ms()
        self._topics_due_s = self._started_at_s
        self._hold: _Hold | None = None
        self._refusal: str | None = None
        self._level = DiskLevel.FINE
        self._told_level = DiskLevel.FINE
        self._used_bytes = 0
        self._total_bytes = 0
        self._measure_error: str | None = None
        self._clock_warning: str | None = None
        self._leaving: dict[str, int] = {}  # files of segments that went, with their sizes: they may be there still
        self._deleted_segments = 0
        self._deleted_bytes = 0
        self._any_hour = False

    def use(self, config: StoreConfig) -> None:
        """Settings that were changed: they count from the next look on."""
        self._config = config

    def clean_now(self) -> None:
        """What is too old goes at the next look, whatever the hour."""
        self._any_hour = True

    async def run(self) -> None:
        """Looks and deletes until it is cancelled. What the disk does not let it do is tried in the next round."""
        due_s = self._now_s()
        while True:
            got_fuller = self.measure()
            if got_fuller or self._level >= DiskLevel.FORCE or self._now_s() >= due_s or self._any_hour:
                due_s = self._now_s() + ROUND_PERIOD_S
                try:
                    await self.round()
                except (OSError, Refused) as error:
                    log.error("old messages in %s cannot be deleted: %s; it is tried again", self._disk.place, error)
            await asyncio.sleep(self._pause_s())

    async def round(self) -> None:
        """One decision, carried out. Raises OSError, Refused."""
        self.measure()
        is_trusted = self._is_clock_trusted()
        if is_trusted and self._now_s() >= self._topics_due_s:
            await self._trim_short_topics()
            self._topics_due_s = self._now_s() + TOPICS_PERIOD_S
        segments = list(self._store.log.segments)
        now_ms = self._clock.now_ms()
        facts = Facts(
            segments,
            now_ms,
            self._clock.hour_of_day(now_ms),
            max(0, self._used_bytes - self._leaving_bytes()),
            self._total_bytes,
            await self._find_held(segments, now_ms) if is_trusted else {},
            is_trusted,
        )
        config, self._any_hour = replace(self._config, retention_hours=()) if self._any_hour else self._config, False
        for number, doomed in enumerate(decide(facts, config)):
            if number:
                await asyncio.sleep(PAUSE_S)
            await self._delete(doomed)
            self.measure()

    async def _delete(self, doomed: Doomed) -> None:
        size = doomed.segment.end - doomed.segment.base
        log.log(
            logging.WARNING if doomed.rule is Rule.SPACE else logging.INFO,
            "the segment at %d (%d bytes) is deleted because of %s",
            doomed.segment.base,
            size,
            _REASONS[doomed.rule],
        )
        await self._store.trim(doomed.before)
        self._leaving[segment_name(doomed.segment.base)] = size
        self._deleted_segments += 1
        self._deleted_bytes += size

    # The disk

    def check_writable(self) -> None:
        """Raises Refused(NOT_WRITABLE) while the disk is over the full level."""
        if self._refusal is not None:
            raise Refused(Reason.NOT_WRITABLE, self._refusal)

    def measure(self) -> bool:
        """Looks at the disk: from now on sends are taken, or refused. True if it is over one more level."""
        try:
            self._used_bytes, self._total_bytes = self._disk.usage()
            self._measure_error = None
        except OSError as error:
            self._used_bytes = self._total_bytes = 0
            if self._measure_error is None:
                log.warning("the usage of the disk cannot be had: %s; no rule about it is kept", error)
            self._measure_error = f"the usage of the disk of {self._disk.place} cannot be had: {error}"
        before, self._level = self._level, disk_level(self._used_bytes, self._total_bytes, self._config)
        self._refusal = self._full_remark() if self._level is DiskLevel.FULL else None
        self._tell_level()
        return self._level > before

    def _leaving_bytes(self) -> int:
        """What the disk gives back when the files of deleted segments are gone: else each round would delete more."""
        if self._leaving:
            there = {f"{FOLDER}/{name}" for name in self._disk.list(FOLDER)}
            self._leaving = {name: size for name, size in self._leaving.items() if name in there}
        return sum(self._leaving.values())

    def _pause_s(self) -> float:
        """Until the next look: before the full level can be passed by much."""
        room = self._config.disk_full_level * self._total_bytes - self._used_bytes
        if room <= 0:  # sends are refused already
            return PAUSE_S if self._leaving else MEASURE_PERIOD_S
        return min(MEASURE_PERIOD_S, max(MEASURE_PERIOD_S_MIN, room / WRITTEN_BYTES_PER_S))

    @property
    def _used_share(self) -> float:
        return self._used_bytes / max(self._total_bytes, 1)

    def _full_remark(self) -> str:
        return (
            f"{self._usage_text()}, and over {self._config.disk_full_level:.0%} this broker takes no more messages "
            "(--disk-full-level); make room on that disk, or keep less (--retention-hours, --retention-size); "
            "messages can still be consumed, and sends are taken again as soon as there is room"
        )

    def _usage_text(self) -> str:
        return f"the disk of {self._disk.place} is {self._used_share:.1%} used"

    def _tell_level(self) -> None:
        """Once when a level is passed, and once when that is over."""
        told = self._told_level
        if self._level > told:
            log.warning("%s: %s", self._usage_text(), _CONSEQUENCES[self._level])
            self._told_level = self._level
        elif self._level < told and self._used_share < _levels(self._config)[told - 1] - _AGAIN_SHARE:
            log.info("%s again: %s", self._usage_text(), _CONSEQUENCES[self._level])
            self._told_level = self._level

    # The clock

    def _is_clock_trusted(self) -> bool:
        """Whether ages mean something. A clock that was set is told of once."""
        elapsed_ms = (self._now_s() - self._started_at_s) * 1000
        apart_ms = self._clock.now_ms() - self._started_at_ms - elapsed_ms
        if abs(apart_ms) > CLOCK_APART_MS:
            if self._clock_warning is None:
                self._clock_warning = (
                    f"the clock has moved {apart_ms / HOUR_MS:+.1f} hours since the start beside the time that went by "
                    "(it was set, or the machine slept): no messages are deleted for their age until it is back, or "
                    "until the broker is started again"
                )
                log.warning("%s", self._clock_warning)
            return False
        if self._clock_warning is not None:
            log.info("the clock is back: messages are deleted for their age again")
            self._clock_warning = None
        return elapsed_ms >= FIRST_AGE_S * 1000

    # Topics that keep shorter or longer

    async def _trim_short_topics(self) -> None:
        for topic in list(self._store.topics.live.values()):
            age_ms = topic_age_ms(topic.config)
            if age_ms is not None and age_ms < self._config.retention_ms:
                since_ms = EpochMs(self._clock.now_ms() - age_ms)
                for queue in list(topic.queues.values()):
                    await self._trim_queue(queue, since_ms)
                await asyncio.sleep(0)  # reads from memory do not wait, and there may be thousands of topics

    async def _trim_queue(self, queue: ConsumeQueue, since_ms: EpochMs) -> None:
        if queue.min_offset == queue.max_offset:
            return
        oldest_ms = await self._store.stored_at_ms(queue, queue.min_offset)
        if oldest_ms is None or oldest_ms < since_ms:
            first = await self._store.search(queue, since_ms)
            if first > queue.min_offset:
                self._store.trim_queue(queue, first)

    async def _find_held(self, segments: Sequence[Segment], now_ms: EpochMs) -> dict[LogOffset, int]:
        """Of the segments that are too old for the broker, until when topics that keep longer hold them.

        Stops at the first one that is held, as nothing behind it goes by age before it.
        """
        longer = [
            (topic, age_ms)
            for topic in self._store.topics.live.values()
            if (age_ms := topic_age_ms(topic.config)) is not None and age_ms > self._config.retention_ms
        ]
        held: dict[LogOffset, int] = {}
        if not longer:
            return held
        key = tuple((topic.id, age_ms) for topic, age_ms in longer)
        for segment, following in list(pairwise(segments))[:ROUND_SEGMENTS_MAX]:
            if not is_older(following, self._config.retention_ms, now_ms):
                break
            known = self._hold
            if known is None or known[:2] != (segment.base, key) or known.until_ms <= now_ms:
                until_ms = await self._find_hold(segment, following, longer, now_ms)
                known = _Hold(segment.base, key, until_ms)
            held[segment.base] = known.until_ms
            if known.until_ms > now_ms:
                self._hold = known
                break
        return held

    async def _find_hold(
        self, segment: Segment, following: Segment, longer: list[tuple[Topic, int]], now_ms: EpochMs
    ) -> int:
        """Until when some topic keeps a message of the segment; 0: none does. The first one that is found is enough."""
        young = [(topic, age_ms) for topic, age_ms in longer if not is_older(following, age_ms, now_ms)]
        if not young:
            return 0
        first = await self._store.next_offsets_at(segment.base)
        after = await self._store.next_offsets_at(following.base)
        for topic, age_ms in young:
            for queue_id, queue in list(topic.queues.items()):
                key = QueueKey(topic.id, queue_id)
                begin, end = first.get(key, 0), after.get(key, 0)
                if end < begin:  # the second of the two was damaged: what is not known is not deleted
                    return following.begun_at_ms + age_ms
                if end > max(begin, queue.min_offset):
                    stored_at_ms = await self._store.stored_at_ms(queue, QueueOffset(end - 1))
                    if stored_at_ms is not None and stored_at_ms + age_ms > now_ms:
                        return stored_at_ms + age_ms
        return 0

    def status(self) -> RetentionStatus:
        warnings = [
            f"{self._usage_text()}: {_CONSEQUENCES[self._level]}" if self._level else None,
            self._measure_error,
            self._clock_warning,
        ]
        return RetentionStatus(
            self._level,
            self._used_share,
            self._deleted_segments,
            self._deleted_bytes,
            tuple(filter(None, warnings)),
        )


_REASONS = {
    Rule.AGE: "its age",
    Rule.SIZE: "the size of the log",
    Rule.SPACE: "the space on the disk, although its messages are young",
}

_CONSEQUENCES = {
    DiskLevel.FINE: "all is well",
    DiskLevel.CLEAN: "messages that are too old are deleted at any hour",
    DiskLevel.FORCE: "the oldest messages are deleted, even those that are not too old",
    DiskLevel.FULL: "the oldest messages are deleted, and no more are taken",
}
