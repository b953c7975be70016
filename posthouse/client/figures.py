"""How fast a consumer goes, by topic: over the last minute, and for failures over the last hour.

Counted in steps of ten seconds and of ten minutes; that costs a few additions for each pull and each handled message.
Source: RocketMQ 5.3 ConsumerStatsManager.
"""

from __future__ import annotations

from posthouse.model.client_status import ConsumeRates

STEPS = 6
STEP_SECONDS = 10.0
LONG_STEP_SECONDS = 600.0


class Window:
    """Counts and sums over the last STEPS steps. Times are the loop's, in seconds."""

    __slots__ = ("_counts", "_step", "_step_s", "_sums")

    def __init__(self, step_s: float = STEP_SECONDS) -> None:
        self._step_s = step_s
        self._step = 0
        self._counts = [0] * STEPS
        self._sums = [0.0] * STEPS

    def add(self, now: float, count: int, amount: float = 0.0) -> None:
        self._turn(now)
        at = self._step % STEPS
        self._counts[at] += count
        self._sums[at] += amount

    def total(self, now: float) -> tuple[int, float]:
        """(count, sum) of what is young enough."""
        self._turn(now)
        return sum(self._counts), sum(self._sums)

    def _turn(self, now: float) -> None:
        step = int(now / self._step_s)
        if step == self._step:
            return
        for passed in range(max(self._step + 1, step - STEPS + 1), step + 1):
            self._counts[passed % STEPS] = 0
            self._sums[passed % STEPS] = 0.0
        self._step = step


class _TopicFigures:
    __slots__ = ("consumed", "failed", "failed_long", "pulled", "pulls")

    def __init__(self) -> None:
        self.pulls = Window()
        self.pulled = Window()
        self.consumed = Window()
        self.failed = Window()
        self.failed_long = Window(LONG_STEP_SECONDS)


class Figures:
    """Of one consumer."""

    def __init__(self) -> None:
        self._topics: dict[str, _TopicFigures] = {}

    def pulled(self, topic: str, count: int, took_s: float, now: float) -> None:
        """A pull that brought `count` messages. How long an empty one was held says nothing, so it does not count."""
        figures = self._of(topic)
        figures.pulls.add(now, 1, took_s)
        figures.pulled.add(now, count)

    def handled(self, topic: str, count: int, took_s: float, ok: bool, now: float) -> None:
        """A call of the handler with `count` messages."""
        figures = self._of(topic)
        if ok:
            figures.consumed.add(now, count, took_s * count)
        else:
            figures.failed.add(now, count, took_s * count)
            figures.failed_long.add(now, count)

    def rates(self, now: float) -> dict[str, ConsumeRates]:
        span_s = STEPS * STEP_SECONDS
        found = {}
        for topic, figures in self._topics.items():
            pulls, pull_s = figures.pulls.total(now)
            ok, ok_s = figures.consumed.total(now)
            bad, bad_s = figures.failed.total(now)
            found[topic] = ConsumeRates(
                pull_ms=pull_s * 1000 / max(pulls, 1),
                pulled_per_second=figures.pulled.total(now)[0] / span_s,
                consume_ms=(ok_s + bad_s) * 1000 / max(ok + bad, 1),
                consumed_per_second=ok / span_s,
                failed_per_second=bad / span_s,
                failed_in_hour=figures.failed_long.total(now)[0],
            )
        return found

    def _of(self, topic: str) -> _TopicFigures:
        figures = self._topics.get(topic)
        if figures is None:
            figures = self._topics[topic] = _TopicFigures()
        return figures
