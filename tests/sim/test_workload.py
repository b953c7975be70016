"""What actors do in a world without faults: then everything that they do succeeds."""

from __future__ import annotations

from collections import Counter

import pytest

from posthouse.client.inbox import QueueInbox
from posthouse.model.names import TIMER_TOPICS
from posthouse.testing.sim.facts import Facts, gather
from posthouse.testing.sim.faults import Swarm
from posthouse.testing.sim.network import Weather
from posthouse.testing.sim.randomness import Stream
from posthouse.testing.sim.workload import draw_plan
from posthouse.testing.sim.world import World

PEACE = Swarm((), 1.0, 0.0, Weather(latency_s=0.0005, jitter_s=0.0001, chunking=0.0), (0.0005, 0.001), 4096)
SEEDS = range(6)


def run(seed: int, minutes: float = 0.5) -> Facts:
    world = World(seed, minutes, swarm=PEACE)
    try:
        verdict = world.run()
        assert [problem.text for problem in verdict.problems] == []
        return gather(world.history)
    finally:
        world.close()


@pytest.fixture(scope="module")
def peaceful() -> list[Facts]:
    return [run(seed) for seed in SEEDS]


def test_plan_follows_from_the_seed() -> None:
    plans = [draw_plan(Stream(seed), 60.0) for seed in range(20)]
    assert plans == [draw_plan(Stream(seed), 60.0) for seed in range(20)]
    assert len({str(plan) for plan in plans}) == len(plans)


def test_whatever_is_sent_in_peace_is_acknowledged(peaceful: list[Facts]) -> None:
    outcomes = Counter(
        event.details.get("error", event.outcome)
        for facts in peaceful
        for _, event in facts.of("send")
        if event.outcome != "invoke"
    )
    # A topic that is deleted and made again all the time is not there for every send.
    lost = {text for text in outcomes if text not in ("ok", "sent one way") and "topic churned" not in text}
    assert not lost
    assert outcomes["ok"] > 500


def test_all_styles_of_sending_are_used(peaceful: list[Facts]) -> None:
    sends = [event.details for facts in peaceful for _, event in facts.of("send", outcome="invoke")]
    assert {len(details["ids"]) > 1 for details in sends} == {True, False}
    assert {details["tries"] for details in sends} == {1, 3}
    assert {details["topic"] for details in sends} >= {"letters", "parcels"}
    ids = [message_id for details in sends for message_id in details["ids"]]
    assert len(ids) > 1000


def test_groups_handle_everything_and_members_come_and_go(peaceful: list[Facts]) -> None:
    for facts in peaceful:
        stored = {
            (queue, offset)
            for queue, final in facts.finals.items()
            for offset in final.ids
            if queue.topic in facts.groups["readers"]
        }
        # What a handler could not do comes again from another place, or waits for that at the end; and what was sent
        # for later may come when the group has caught up.
        undone = {facts.finals[queue].ids[offset] for queue, offset in stored - facts.handled["readers"]}
        excused = {message_id for of, message_id in facts.failures if of == "readers"}
        excused |= {send.message_id for send in facts.sends.values() if send.later}
        assert undone - facts.done["readers"] <= excused
    assert {"joins", "leaves"} <= {what for facts in peaceful for what in facts.by_what}


def test_all_ways_of_consuming_are_used(peaceful: list[Facts]) -> None:
    kinds = [kind for facts in peaceful for kind in facts.kinds.values()]
    assert {kind.pops for kind in kinds} == {kind.ordered for kind in kinds} == {True, False}
    seen = {what for facts in peaceful for what in facts.by_what}
    assert {"pop", "renew", "handle", "send later"} <= seen
    assert any(event.outcome == "fail" for facts in peaceful for _, event in facts.of("handle"))
    topics = {queue.topic for facts in peaceful for queue, final in facts.finals.items() if final.ids}
    assert {"%RETRY%stubborn", "%DLQ%stubborn", "%RETRY%poppers_letters", "SCHEDULE_TOPIC_XXXX"} <= topics


def test_keepers_commit_and_are_told_so(peaceful: list[Facts]) -> None:
    commits = [event for facts in peaceful for _, event in facts.of("commit") if event.outcome != "invoke"]
    assert len(commits) > 20
    assert {event.outcome for event in commits} == {"ok"}
    assert sum(1 for facts in peaceful for _ in facts.of("committed", outcome="ok")) > 20


def test_operators_change_topics_and_groups(peaceful: list[Facts]) -> None:
    done = Counter(event.outcome for facts in peaceful for _, event in facts.of("set topic", "set group"))
    assert done["ok"] > 20
    assert not done["unknown"]
    looks = [event.details["value"] for facts in peaceful for _, event in facts.of("look at topic")]
    assert len(set(looks)) > 5


def test_everything_is_read_at_the_end_by_a_client_too(peaceful: list[Facts]) -> None:
    for facts in peaceful:
        polled = {
            (event.details["broker"], event.details["topic"], event.details["queue"], offset, message_id)
            for _, event in facts.of("final poll")
            for offset, message_id in event.details["messages"]
        }
        stored = {
            (*queue, offset, message_id)
            for queue, final in facts.finals.items()
            for offset, message_id in final.ids.items()
        }
        assert {each for each in stored if each[1] not in TIMER_TOPICS} <= polled


def test_group_that_does_not_catch_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueInbox, "commit_offset", property(lambda self: 0))
    world = World(1, 0.2, swarm=PEACE)
    try:
        checkers = {problem.checker for problem in world.run().problems}
    finally:
        world.close()
    assert "everything_recovers" in checkers
