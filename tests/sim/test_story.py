"""The story of a problem: what is in it, what is left out."""

from __future__ import annotations

from posthouse.testing.sim.checkers import check
from posthouse.testing.sim.facts import Problem
from posthouse.testing.sim.story import EVENTS_MAX, describe, tell
from tests.sim.tales import Tale


def lost_message() -> Tale:
    """`a` is acknowledged and then lost with a power cut, while much else happens."""
    tale = Tale()
    tale.add("broker-a", "start", "ok", life=1)
    for at in range(100):
        tale.not_sent(tale.send(f"other.{at}", topic="parcels"), "unknown")
    tale.sent(tale.send("a"), 0)
    tale.fault("power cut", lost_pages=3)
    tale.add("nemesis", "power cut", "note", target="broker-b", lost_pages=0)
    tale.add("broker-a", "start", "ok", life=2)
    tale.end()
    return tale


def test_story_has_the_message_the_faults_and_the_lives_of_its_broker_and_nothing_else() -> None:
    tale = lost_message()
    problem = next(problem for problem in check(tale.history) if problem.about.get("id") == "a")
    lines = tell(tale.history, problem).splitlines()
    assert lines[0] == f"acknowledged_is_readable: {problem.text}"
    told = [line.split(" s  ")[1].split() for line in lines[2:] if " s  " in line]
    assert [words[0] for words in told] == [
        "broker-a", "producer-1", "producer-1", "nemesis", "broker-a", "broker-a",
    ]  # fmt: skip
    assert "... 200 other events" in lines[3]
    assert not any("broker-b" in line for line in lines)


def test_events_that_show_the_problem_are_marked() -> None:
    tale = lost_message()
    problem = next(problem for problem in check(tale.history) if problem.about.get("id") == "a")
    marked = [line for line in tell(tale.history, problem).splitlines() if line.startswith(">")]
    assert [line.split()[3:6] for line in marked] == [
        ["producer-1", "send", "invoke"], ["producer-1", "send", "ok"], ["broker-a", "final", "queue"],
    ]  # fmt: skip


def test_story_is_short_and_keeps_what_is_near() -> None:
    tale = Tale()
    for _ in range(10 * EVENTS_MAX):
        tale.fault("kill")
    at = tale.add("broker-a", "bug", "note", error="x")
    lines = tell(tale.history, Problem("no_mistake_shows", "x", (at,), {"broker": "broker-a"})).splitlines()
    assert sum(" s  " in line for line in lines) == EVENTS_MAX
    assert lines[-1].startswith(">")


def test_start_that_fails_again_and_again_is_told_once() -> None:
    tale = Tale()
    for _ in range(20):
        tale.add("broker-a", "start", "fail", error="damaged")
    problem = check(tale.history)[0]
    assert problem.at == (0,)
    last = problem._replace(at=(19,))
    assert sum("start fail" in line for line in tell(tale.history, last).splitlines()) == 2


def test_problem_that_no_event_shows_is_told_by_the_last_events() -> None:
    tale = lost_message()
    story = tell(tale.history, Problem("everything_recovers", "nothing was read", (), {}))
    assert "final queue" in story.splitlines()[-1]


def test_long_values_are_cut() -> None:
    tale = Tale()
    at = tale.add("broker-a", "bug", "note", error="x" * 1000)
    assert len(describe(tale.history.events[at])) < 250
