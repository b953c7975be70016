"""What comes in and goes out: counted by topic, group and broker, and told for the last minute, hour and day."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.broker import stats as stats_module
from posthouse.broker.broker import Broker
from posthouse.broker.stats import SAMPLE_PERIOD_S, Stats, What
from posthouse.model.stats import Window, Windows
from tests.broker.brokers import message, pull, request, running, send
from tests.store.disks import ManualClock

pytestmark = pytest.mark.asyncio

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


class Now:
    s = 1000.0

    def __call__(self) -> float:
        return self.s


def new_stats() -> tuple[Stats, Now]:
    now = Now()
    return Stats(now, ManualClock(1000)), now


def live(stats: Stats, now: Now, seconds: int, each_second: int = 0) -> None:
    """Lets time go by with so many messages given in each second."""
    for _ in range(seconds // SAMPLE_PERIOD_S):
        for _ in range(SAMPLE_PERIOD_S):
            now.s += 1
            if each_second:
                stats.gave("G", "T", each_second, 10 * each_second)
        stats.sample()


def windows(stats: Stats, of_size: bool = False) -> Windows:
    found = stats.windows(What.GROUP_GET, ("T", "G"), of_size=of_size)
    assert found is not None
    return found


# Counting


async def test_messages_count_for_their_topic_when_they_are_visible() -> None:
    async with running() as broker:
        for topic in ("T", "U", "T"):
            await send(broker, message(topic, b"x" * 100))
        assert put_total(broker, "T") == 2
        assert put_total(broker, "U") == 1
        assert broker.stats.windows(What.TOPIC_PUT, ("V",)) is None
        assert broker.stats.put.messages == 3
        found = broker.stats.windows(What.TOPIC_PUT, ("T",), of_size=True)
        assert found is not None
        assert found.minute.total > 2 * 100
        assert broker.stats.put.size > found.minute.total


def put_total(broker: Broker, topic: str) -> int:
    found = broker.stats.windows(What.TOPIC_PUT, (topic,))
    assert found is not None
    return found.minute.total


async def test_messages_of_one_commit_are_one_go_for_each_topic() -> None:
    async with running() as broker:
        await send(broker, message("T"))
        await send(broker, message("U"))
        await asyncio.gather(*(send(broker, message(topic)) for topic in ("T", "T", "T", "U")))
        found = broker.stats.windows(What.TOPIC_PUT, ("T",))
        assert found is not None
        assert found.minute.total == 4
        assert found.minute.per_time == 2.0


async def test_what_a_pull_gives_counts_for_its_group_and_what_it_misses_for_nobody() -> None:
    async with running() as broker:
        for _ in range(3):
            await send(broker, message("T"))
        answer = await pull(broker, request("T", 1)).result()
        found = broker.stats.windows(What.GROUP_GET, ("T", "G"))
        size = broker.stats.windows(What.GROUP_GET, ("T", "G"), of_size=True)
        assert found is not None
        assert size is not None
        assert (found.minute.total, size.minute.total) == (2, answer.size)
        assert (broker.stats.given.messages, broker.stats.found_requests) == (2, 1)
        before = broker.stats.missed_requests
        await pull(broker, request("T", 3)).result()
        assert (broker.stats.given.messages, broker.stats.missed_requests) == (2, before + 1)


async def test_what_became_of_messages_counts_for_group_and_topic() -> None:
    stats, _ = new_stats()
    stats.sent_back("G", "T")
    stats.sent_back("G", "T")
    stats.dead_lettered("G", "T")
    stats.acked("G", "T", 5)
    totals = [stats.windows(what, ("T", "G")) for what in (What.SENT_BACK, What.DEAD_LETTERED, What.GROUP_ACK)]
    assert [found and found.minute.total for found in totals] == [2, 1, 5]
    everything = stats.windows(What.BROKER_ACK, ())
    assert everything is not None
    assert everything.minute.total == 5


async def test_sampling_lets_others_run_and_counts_who_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_module, "_SAMPLED_AT_ONCE", 10)
    stats, now = new_stats()
    for number in range(100):
        stats.gave("G", f"T{number}", 1, 1)
    now.s += 10
    sampling = asyncio.create_task(stats.sample_in_turns())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not sampling.done()
    stats.gave("G", "T", 3, 3)
    await sampling
    for _ in range(5):
        now.s += 10
        await stats.sample_in_turns()
    assert windows(stats).minute.total == 3
    now.s += 10
    await stats.sample_in_turns()
    now.s += 10
    await stats.sample_in_turns()
    assert windows(stats).minute.total == 0


# Windows


async def test_young_broker_tells_of_the_time_that_there_was() -> None:
    stats, now = new_stats()
    stats.gave("G", "T", 6, 60)
    assert windows(stats).minute == Window(6, 6.0, 6.0)
    now.s += 3
    assert windows(stats) == Windows(Window(6, 2.0, 6.0), Window(6, 2.0, 6.0), Window(6, 2.0, 6.0))


async def test_windows_are_a_minute_an_hour_and_a_day_long() -> None:
    stats, now = new_stats()
    live(stats, now, 2 * DAY_S, each_second=2)
    assert windows(stats).minute == Window(2 * MINUTE_S, 2.0, 2.0)
    assert windows(stats).hour.total in range(2 * HOUR_S, 2 * HOUR_S + 1200)
    assert windows(stats).hour.per_second == 2.0
    assert windows(stats).day.total in range(2 * DAY_S, 2 * DAY_S + 7200)
    assert windows(stats, of_size=True).minute.total == 20 * MINUTE_S
    live(stats, now, MINUTE_S)
    assert windows(stats).minute == Window(0, 0.0, 0.0)
    assert windows(stats).hour.total > 0


async def test_what_begins_late_had_nothing_before() -> None:
    stats, now = new_stats()
    live(stats, now, 10 * HOUR_S)
    now.s += 5
    stats.gave("G", "T", 60, 600)
    found = windows(stats)
    assert found.minute == Window(60, 60 / 65, 60.0)
    assert (found.hour.total, found.day.total) == (60, 60)
    live(stats, now, 30)
    assert windows(stats).minute.total == 60
    live(stats, now, 60)
    assert windows(stats).minute.total == 0
    assert windows(stats).hour.total == 60


async def test_rate_of_a_group_is_that_of_its_topics_together() -> None:
    stats, now = new_stats()
    stats.gave("G", "T", 10, 1)
    stats.gave("G", "U", 20, 1)
    stats.gave("H", "T", 40, 1)
    now.s += 10
    assert stats.consumed_per_second("G", ["T", "U", "V"]) == 3.0
    assert stats.per_second(What.GROUP_GET, ("T", "H")) == 4.0
    assert stats.per_second(What.TOPIC_PUT, ("T",)) == 0.0


# Forgetting


async def test_what_did_not_move_for_a_day_is_forgotten() -> None:
    stats, now = new_stats()
    stats.gave("G", "T", 1, 1)
    live(stats, now, DAY_S // 2)
    stats.gave("H", "T", 1, 1)
    live(stats, now, DAY_S // 2 + 2 * HOUR_S)
    assert stats.windows(What.GROUP_GET, ("T", "G")) is None
    assert stats.windows(What.GROUP_GET, ("T", "H")) is not None
    assert stats.given.messages == 2


async def test_deleted_topic_and_group_are_forgotten() -> None:
    async with running() as broker:
        await send(broker, message("T"))
        await pull(broker, request("T")).result()
        await broker.topics.delete("T")
        assert broker.stats.windows(What.TOPIC_PUT, ("T",)) is None
        assert broker.stats.windows(What.GROUP_GET, ("T", "G")) is None
        broker.stats.gave("G", "U", 1, 1)
        broker.stats.gave("H", "U", 1, 1)
        broker.stats.forget(group="G")
        assert broker.stats.windows(What.GROUP_GET, ("U", "G")) is None
        assert broker.stats.windows(What.GROUP_GET, ("U", "H")) is not None
        assert broker.stats.put.messages == 1


async def test_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(stats_module, "STATS_KEYS_MAX", 2)
    stats, _ = new_stats()
    for topic in ("T", "U", "V", "W", "V"):
        stats.gave("G", topic, 1, 1)
    assert [topic for topic in "TUVW" if stats.windows(What.GROUP_GET, (topic, "G"))] == ["T", "U"]
    assert stats.given.messages == 5
    assert len(caplog.records) == 1
