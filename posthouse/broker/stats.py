"""How much goes in and out: totals since the start, and what the last minute, hour and day brought.

Counting is cheap: a commit's messages are counted together, an answer's once. Every SAMPLE_PERIOD_S each tally is
looked at, and the windows are differences of such samples; what was not there at the begin of a window was 0 then.
A tally that has not moved for a day is forgotten, and so is that of a topic or group that is deleted.

Nothing of it is stored: a restart begins at 0. Source: RocketMQ 5.3 BrokerStatsManager, StatsItem.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto

from posthouse.host.clock import Clock
from posthouse.model.limits import STATS_KEYS_MAX
from posthouse.model.stats import Window, Windows
from posthouse.store.message_store import Put
from posthouse.store.topic_table import Topic

log = logging.getLogger(__name__)

SAMPLE_PERIOD_S = 10
_SCALES = ((1, 7), (60, 7), (360, 25))
"""Of the minute, the hour and the day: sample periods between two samples, and samples kept."""


COMMIT_MS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 10_000)
"""Times from append to commit are counted up to and with each of these, and above the last."""


_SAMPLED_AT_ONCE = 500
"""Tallies sampled in one turn of the loop: some 0.2 ms."""


class What(Enum):
    """Each is kept per key: topic, (topic, group), or the broker as a whole."""

    TOPIC_PUT = auto()
    GROUP_GET = auto()
    GROUP_ACK = auto()
    SENT_BACK = auto()
    DEAD_LETTERED = auto()
    BROKER_PUT = auto()
    BROKER_GET = auto()
    BROKER_ACK = auto()


Key = tuple[str, ...]
"""(topic,) or (topic, group); () for the broker."""


class Tally:
    """Messages, their bytes, and in how many goes they came."""

    __slots__ = ("messages", "samples", "size", "times")

    def __init__(self) -> None:
        self.messages = 0
        self.size = 0
        self.times = 0
        self.samples: tuple[deque[tuple[int, int, int]], ...] = tuple(deque(maxlen=kept) for _, kept in _SCALES)

    def add(self, messages: int, size: int) -> None:
        self.messages += messages
        self.size += size
        self.times += 1

    @property
    def now(self) -> tuple[int, int, int]:
        return self.messages, self.size, self.times


class Stats:
    def __init__(self, monotonic_s: Callable[[], float], clock: Clock) -> None:
        self._now_s = monotonic_s
        self._clock = clock
        self._tallies: dict[What, dict[Key, Tally]] = {what: {} for what in What}
        self._sampled_at_s: tuple[deque[float], ...] = tuple(deque(maxlen=kept) for _, kept in _SCALES)
        self._rounds = 0
        self._is_full = False
        self.put = self._tallies[What.BROKER_PUT][()] = Tally()
        self.given = self._tallies[What.BROKER_GET][()] = Tally()
        self._acked = self._tallies[What.BROKER_ACK][()] = Tally()
        self.found_requests = 0
        self.missed_requests = 0
        self.commit_counts = [0] * (len(COMMIT_MS) + 1)
        """Messages by the time from append to commit, which is that of the oldest of their commit."""
        self.commit_ms_max = 0
        self.sample()

    # Counting

    def arrived(self, puts: Sequence[Put]) -> None:
        """Messages that have just become visible, of one commit; there is one at least."""
        commit_ms = max(0, self._clock.now_ms() - puts[0].stored_at_ms)
        self.commit_counts[bisect_left(COMMIT_MS, commit_ms)] += len(puts)
        if commit_ms > self.commit_ms_max:
            self.commit_ms_max = commit_ms
        by_topic = self._tallies[What.TOPIC_PUT]
        total = size = messages = 0
        topic = puts[0].topic
        for put in puts:
            if put.topic is not topic:
                self._count_puts(by_topic, topic, messages, size)
                total += size
                messages = size = 0
                topic = put.topic
            messages += 1
            size += put.size
        self._count_puts(by_topic, topic, messages, size)
        self.put.add(len(puts), total + size)

    def _count_puts(self, by_topic: dict[Key, Tally], topic: Topic, messages: int, size: int) -> None:
        key = (topic.config.name,)
        (by_topic.get(key) or self._new(by_topic, key)).add(messages, size)

    def gave(self, group: str, topic: str, messages: int, size: int) -> None:
        """An answer with messages has gone to a consumer. `size` in bytes of records."""
        self._add(What.GROUP_GET, (topic, group), messages, size)
        self.given.add(messages, size)
        self.found_requests += 1

    def missed(self) -> None:
        """A consumer asked and there was nothing."""
        self.missed_requests += 1

    def acked(self, group: str, topic: str, messages: int) -> None:
        self._add(What.GROUP_ACK, (topic, group), messages, 0)
        self._acked.add(messages, 0)

    def sent_back(self, group: str, topic: str) -> None:
        """A message that was not consumed will come again."""
        self._add(What.SENT_BACK, (topic, group), 1, 0)

    def dead_lettered(self, group: str, topic: str) -> None:
        self._add(What.DEAD_LETTERED, (topic, group), 1, 0)

    def _add(self, what: What, key: Key, messages: int, size: int) -> None:
        tallies = self._tallies[what]
        (tallies.get(key) or self._new(tallies, key)).add(messages, size)

    def _new(self, tallies: dict[Key, Tally], key: Key) -> Tally:
        """Over the limit the new one is counted for nobody to see."""
        tally = Tally()
        if len(tallies) < STATS_KEYS_MAX:
            tallies[key] = tally
        elif not self._is_full:
            self._is_full = True
            log.warning("statistics are kept for %d topics or groups of a kind; more are not counted", STATS_KEYS_MAX)
        return tally

    def commit_ms(self, share: float) -> int:
        """No more than this was the time to commit of that share of all messages; as fine as COMMIT_MS."""
        wanted = share * sum(self.commit_counts)
        for limit, count in zip(COMMIT_MS, self.commit_counts, strict=False):
            wanted -= count
            if wanted <= 0:
                return limit
        return self.commit_ms_max

    # Windows

    def sample(self) -> None:
        """Takes one sample of everything."""
        for _ in self._sampling():
            pass

    async def sample_in_turns(self) -> None:
        """The same, letting others run in between; called every SAMPLE_PERIOD_S."""
        for _ in self._sampling():
            await asyncio.sleep(0)

    def _sampling(self) -> Iterator[None]:
        """Yields now and then. Who is counted for the first time meanwhile was 0 at this sample, as it was before."""
        due = [scale for scale, (periods, _) in enumerate(_SCALES) if self._rounds % periods == 0]
        self._rounds += 1
        now_s = self._now_s()
        for scale in due:
            self._sampled_at_s[scale].append(now_s)
        for tallies in self._tallies.values():
            for number, tally in enumerate(list(tallies.values()), 1):
                now = tally.now
                for scale in due:
                    tally.samples[scale].append(now)
                if number % _SAMPLED_AT_ONCE == 0:
                    yield
        if _DAY in due:
            self._forget_idle()

    def _forget_idle(self) -> None:
        for tallies in self._tallies.values():
            for key, tally in list(tallies.items()):
                samples = tally.samples[_DAY]
                if key and len(samples) == samples.maxlen and samples[0] == tally.now:
                    del tallies[key]

    def forget(self, *, topic: str | None = None, group: str | None = None) -> None:
        """A topic or a group is deleted."""
        for tallies in self._tallies.values():
            for key in [key for key in tallies if topic in key[:1] or group in key[1:]]:
                del tallies[key]

    def windows(self, what: What, key: Key, *, of_size: bool = False) -> Windows | None:
        """The last minute, hour and day as far as this broker has lived; None if nothing was ever counted there."""
        tally = self._tallies[what].get(key)
        if tally is None:
            return None
        minute, hour, day = (self._window(tally, scale, int(of_size)) for scale in range(len(_SCALES)))
        return Windows(minute, hour, day)

    def per_second(self, what: What, key: Key) -> float:
        """Messages a second over the last minute."""
        tally = self._tallies[what].get(key)
        return 0.0 if tally is None else self._window(tally, 0, 0).per_second

    def consumed_per_second(self, group: str, topics: Iterable[str]) -> float:
        return sum(self.per_second(What.GROUP_GET, (topic, group)) for topic in topics)

    def _window(self, tally: Tally, scale: int, field: int) -> Window:
        sampled_at_s, samples = self._sampled_at_s[scale], tally.samples[scale]
        was = samples[0] if len(samples) == len(sampled_at_s) else (0, 0, 0)
        total = tally.now[field] - was[field]
        times = tally.now[2] - was[2]
        elapsed_s = max(self._now_s() - sampled_at_s[0], 1.0)
        return Window(total, total / elapsed_s, total / times if times else 0.0)


_DAY = 2
