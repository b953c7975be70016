"""A history put in order for the checkers: sends by message, queues at the end, what was seen where, who died when.

Only what the history says is here; nothing is judged.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from posthouse.testing.sim.history import Event, History

DEATHS = frozenset({"kill", "power cut"})
"""What the nemesis does to a broker's process that takes what it had not written."""

NEVER = 1 << 60
"""An index after every event."""


class Problem(NamedTuple):
    """What a checker found: one sentence, the events that show it, and what it is about (id, topic, broker, ...)."""

    checker: str
    text: str
    at: tuple[int, ...]
    about: dict[str, Any]


class Queue(NamedTuple):
    """One queue of one topic on one broker."""

    broker: str
    topic: str
    queue: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.queue} on {self.broker}"


@dataclass(slots=True)
class Send:
    """One message that was to be sent. `place` and `offset` are where it was acknowledged.

    `end` is NEVER if nobody knows. `batch` are the ids that one request sent together, in order; empty if it was alone.
    """

    message_id: str
    topic: str
    tag: str
    tries: int
    begun: int
    batch: tuple[str, ...] = ()
    end: int = NEVER
    outcome: str = "unknown"
    place: Queue | None = None
    offset: int = -1
    later: bool = False
    """Whether it is for later; then `end` is when it was acknowledged, and it has no place."""


class Sight(NamedTuple):
    """Somebody saw a message in a place: in an answer, in a handler, or at the end."""

    at: int
    message_id: str


@dataclass(slots=True)
class Final:
    """A queue at the end, as the broker's store has it."""

    at: int
    min_offset: int
    max_offset: int
    ids: dict[int, str]
    log_offsets: list[int]
    attempts: dict[int, int]
    """How often a message was tried before, as its record says."""
    early: dict[int, int]
    """Messages that were stored in their topic before they were due, and how long, in ms."""
    log_first: int
    """The oldest byte of the log that is kept; 0 if retention has taken nothing."""


class GroupKind(NamedTuple):
    """How a group consumes. `attempts`: retries after which a message of it is a dead letter; None: no limit."""

    attempts: int | None
    ordered: bool
    pops: bool


@dataclass(slots=True)
class Write:
    """A change of a topic or group: it may be in effect from `begun` on, and is at `end` at the latest if `is_done`."""

    name: str
    value: int | None
    begun: int
    end: int = NEVER
    is_done: bool = False
    is_void: bool = False
    brokers: tuple[str, ...] = ()


@dataclass(slots=True)
class Facts:
    events: list[Event]
    sends: dict[str, Send] = field(default_factory=dict)
    finals: dict[Queue, Final] = field(default_factory=dict)
    sights: dict[tuple[Queue, int], list[Sight]] = field(default_factory=dict)
    polls: list[int] = field(default_factory=list)
    handled: dict[str, set[tuple[Queue, int]]] = field(default_factory=dict)
    done: dict[str, set[str]] = field(default_factory=dict)
    """The ids of what members of a group have handled, or acknowledged, wherever they had it from."""
    failures: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    """(group, id) to (event, how often it had been tried before) of each handling that failed."""
    kinds: dict[str, GroupKind] = field(default_factory=dict)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    writes: dict[str, dict[str, list[Write]]] = field(default_factory=dict)
    by_what: dict[str, list[int]] = field(default_factory=dict)
    deaths: dict[str, list[int]] = field(default_factory=dict)

    def of(self, *what: str, outcome: str | None = None) -> Iterator[tuple[int, Event]]:
        """The events of these kinds, in order of each kind."""
        for each in what:
            for at in self.by_what.get(each, ()):
                if outcome is None or self.events[at].outcome == outcome:
                    yield at, self.events[at]

    def final_brokers(self) -> set[str]:
        """The brokers whose stores were read at the end: a broker always has topics of its own."""
        return {event.who for _, event in self.of("final topic")}

    def was_deleted_after(self, topic: str, at: int) -> bool:
        """Whether a deletion of the topic may have taken effect after that event."""
        deletions = (write for write in self.writes.get("set topic", {}).get(topic, ()) if write.value is None)
        return any(not write.is_void and write.end > at for write in deletions)

    def has_fault(self, target: str, at: int, *kinds: str) -> bool:
        """Whether the nemesis has given one of these to that target and not taken it back by that event."""
        for kind in kinds:
            given = False
            for begun, event in self.of(kind):
                if begun < at and event.details.get("target") == target:
                    given = not event.details.get("ends")
            if given:
                return True
        return False

    def may_be_cut_off(self, broker: str, after: int) -> bool:
        """Whether a power cut after that event may have taken what was acknowledged with it.

        Only where an acknowledgement means no more than that the operating system has it: the world says so when it
        begins.
        """
        if not any(event.details.get("durability") == "os" for _, event in self.of("begin")):
            return False
        return any(at > after and event.details.get("target") == broker for at, event in self.of("power cut"))

    def next_death(self, broker: str, after: int) -> int | None:
        """The next event after that one with which the broker's process ended without having its way."""
        deaths = self.deaths.get(broker, [])
        found = bisect.bisect_right(deaths, after)
        return deaths[found] if found < len(deaths) else None


def gather(history: History) -> Facts:
    """Goes through the history once."""
    facts = Facts(history.events)
    for at, event in enumerate(history.events):
        facts.by_what.setdefault(event.what, []).append(at)
        reader = _READERS.get(event.what)
        if reader is not None:
            reader(facts, at, event)
        if event.who == "nemesis" and event.what in DEATHS and not event.details.get("ends"):
            facts.deaths.setdefault(str(event.details.get("target")), []).append(at)
        elif event.what == "bug" or (event.what == "exit" and _has_lost(facts, at, event)):
            facts.deaths.setdefault(event.who, []).append(at)
    return facts


def _has_lost(facts: Facts, at: int, event: Event) -> bool:
    """Whether a program that ended by itself could not write what was due."""
    return bool(event.details.get("error")) or facts.has_fault(event.who, at, "disk full")


def _place(event: Event) -> Queue:
    details = event.details
    return Queue(details.get("broker", event.who), details["topic"], details["queue"])


def _see(facts: Facts, queue: Queue, offset: int, message_id: str, at: int) -> None:
    facts.sights.setdefault((queue, offset), []).append(Sight(at, message_id))


def _read_send_begin(facts: Facts, at: int, event: Event) -> None:
    details = event.details
    ids = details["ids"]
    tags = details.get("tags") or [details.get("tag", "")] * len(ids)
    batch = tuple(ids) if len(ids) > 1 else ()
    for message_id, tag in zip(ids, tags, strict=True):
        facts.sends[message_id] = Send(message_id, details["topic"], tag, details["tries"], at, batch)


def _read_send(facts: Facts, at: int, event: Event) -> None:
    details = event.details
    if event.outcome == "invoke":
        _read_send_begin(facts, at, event)
    elif event.outcome == "ok":
        place = _place(event)
        for message_id, offset in details["messages"]:
            send = facts.sends[message_id]
            send.end, send.outcome, send.place, send.offset = at, "ok", place, offset
            _see(facts, place, offset, message_id, at)
    else:
        for message_id in details["ids"]:
            send = facts.sends[message_id]
            send.outcome = event.outcome
            send.end = at if event.outcome == "fail" else NEVER


def _read_send_later(facts: Facts, at: int, event: Event) -> None:
    if event.outcome == "invoke":
        _read_send_begin(facts, at, event)
    for message_id in event.details["ids"]:
        send = facts.sends[message_id]
        send.later, send.outcome = True, event.outcome if event.outcome != "invoke" else "unknown"
        send.end = at if event.outcome in ("ok", "fail") else NEVER


def _read_poll(facts: Facts, at: int, event: Event) -> None:
    if event.outcome == "ok":
        facts.polls.append(at)
        place = _place(event)
        for offset, message_id in event.details["messages"]:
            _see(facts, place, offset, message_id, at)


def _read_handle(facts: Facts, at: int, event: Event) -> None:
    if event.outcome == "ok":
        place, offset = _place(event), event.details["offset"]
        facts.handled.setdefault(event.details["group"], set()).add((place, offset))
        facts.done.setdefault(event.details["group"], set()).add(event.details["id"])
        _see(facts, place, offset, event.details["id"], at)
    elif event.outcome == "fail":
        key = event.details["group"], event.details["id"]
        facts.failures.setdefault(key, []).append((at, event.details["times"]))


def _read_pop(facts: Facts, at: int, event: Event) -> None:
    _see(facts, _place(event), event.details["offset"], event.details["id"], at)


def _read_final(facts: Facts, at: int, event: Event) -> None:
    details, place = event.details, _place(event)
    messages = details["messages"]
    facts.finals[place] = Final(
        at,
        details["min"],
        details["max"],
        {offset: message_id for offset, message_id, *_ in messages},
        [log_offset for _, _, log_offset, *_ in messages],
        {offset: attempts for offset, _, _, attempts, _ in messages},
        {offset: early_ms for offset, *_, early_ms in messages if early_ms > 0},
        details.get("log_first", details["min"]),
    )
    for offset, message_id, *_ in messages:
        _see(facts, place, offset, message_id, at)


def _read_group(facts: Facts, at: int, event: Event) -> None:
    details = event.details
    facts.groups[details["group"]] = details["subscribe"]
    facts.kinds[details["group"]] = GroupKind(
        details.get("attempts"), details.get("ordered", False), details.get("pops", False)
    )


def _read_write(facts: Facts, at: int, event: Event) -> None:
    details = event.details
    writes = facts.writes.setdefault(event.what, {}).setdefault(details["name"], [])
    if event.outcome == "invoke":
        writes.append(Write(details["name"], details["value"], at))
        return
    begun = details["of"]
    write = next(write for write in reversed(writes) if write.begun == begun)
    write.brokers = tuple(details["brokers"])
    write.is_void = event.outcome == "fail"
    if event.outcome == "ok":
        write.end, write.is_done = at, True


_READERS = {
    "send": _read_send,
    "send later": _read_send_later,
    "poll": _read_poll,
    "final poll": _read_poll,
    "handle": _read_handle,
    "pop": _read_pop,
    "final queue": _read_final,
    "group": _read_group,
    "set topic": _read_write,
    "set group": _read_write,
}
