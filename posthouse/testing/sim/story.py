"""The story of a problem: of thousands of events the few that matter, so that a person can see what happened.

Told are the events that show the problem, what else happened to the same message or place, the faults that touch the
broker in question, and that broker's lives. The rest is only counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from posthouse.testing.sim.facts import Problem
from posthouse.testing.sim.history import Event, History

EVENTS_MAX: Final = 30
"""Of one story. Those nearest to the events that show the problem stay."""
_LIVES: Final = frozenset({"start", "exit", "bug", "second start"})
_LAST: Final = 10
"""Events told of a problem that no event shows."""
_LONG: Final = 160


def tell(history: History, problem: Problem) -> str:
    """The story, one event a line, oldest first; ">" marks the events that show the problem."""
    lines = [f"{problem.checker}: {problem.text}", ""]
    before = -1
    for at in _choose(history.events, problem):
        if at > before + 1:
            lines.append(f"{'':>14}... {at - before - 1} other events")
        mark = ">" if at in problem.at else " "
        lines.append(f"{mark} {describe(history.events[at])}")
        before = at
    return "\n".join(lines)


def describe(event: Event) -> str:
    """One event on one line."""
    shown = ((name, value) for name, value in event.details.items() if name not in ("of", "since"))
    details = "  ".join(f"{name}={_short(value)}" for name, value in shown)
    outcome = "" if event.outcome == "note" else f" {event.outcome}"
    return f"{event.at_s:>9.4f} s  {event.who:<14} {event.what}{outcome}  {details}".rstrip()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONG else text[:_LONG] + "…"


def _choose(events: list[Event], problem: Problem) -> list[int]:
    """The places of the events to tell, in order. Faults are told from the beginning on, the rest from near it."""
    if not problem.at:
        return list(range(max(0, len(events) - _LAST), len(events)))
    last = max(problem.at)
    found: list[int] = []
    told: set[str] = set()
    for at, event in enumerate(events[: last + 1]):
        if at in problem.at or _matters(event, problem):
            same = f"{event.who} {event.what} {event.outcome} {event.details.get('error')}"
            if event.outcome == "fail" and same in told and at not in problem.at:
                continue  # a start that fails is tried again and again
            told.add(same)
            found.append(at)
    others = sorted(set(found) - set(problem.at), key=lambda at: (_distance(at, problem.at), at))
    return sorted({*problem.at, *others[: max(0, EVENTS_MAX - len(problem.at))]})


def _distance(at: int, shown: Iterable[int]) -> int:
    return min(abs(at - each) for each in shown)


def _matters(event: Event, problem: Problem) -> bool:
    about, details = problem.about, event.details
    broker = about.get("broker")
    if event.who == "nemesis":
        return not broker or details.get("target") == broker
    if event.who == broker and event.what in _LIVES:
        return event.outcome != "invoke"
    message_id = about.get("id")
    if message_id is not None and _mentions(details, message_id):
        return True
    if about.get("name") is not None and details.get("name") == about["name"]:
        return event.who == broker or event.what.startswith("set ") or details.get("broker") == broker
    place = ("broker", "topic", "queue", "group")
    return event.what in ("commit", "committed") and all(about.get(name, 0) == details.get(name) for name in place)


def _mentions(details: dict[str, Any], message_id: Any) -> bool:
    """Whether an event is about the message: sends name it in `ids`, answers in `messages`, handlers as `id`."""
    if details.get("id") == message_id or message_id in details.get("ids", ()):
        return True
    return any(message_id in entry for entry in details.get("messages", ()))
