"""The checkers of what is not a message: offsets, state, folds, owners, and that life goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from posthouse.testing.sim.facts import Facts, Problem, Queue, Write
from posthouse.testing.sim.history import Event

OFFSETS_MAY_BE_LOST_S: Final = 10.0
"""Committed offsets are in the log within a second and on disk soon after; a slow disk may need some more seconds."""


def no_mistake_shows(facts: Facts) -> Iterator[Problem]:
    """No assertion fails and nothing raises what it does not say; and every actor comes to an end."""
    for at, event in facts.of("bug", "actors do not end"):
        text = f"{event.who}: {event.what}: {event.details.get('error', event.details.get('count'))}"
        yield Problem("no_mistake_shows", text, (at,), {"broker": event.who})


def committed_offsets_do_not_go_back(facts: Facts) -> Iterator[Problem]:
    """A group of one who only goes forward is never told a smaller offset than one that was acknowledged.

    Offsets are written down within a second: a crash may take the last of them, and only those. And a commit without
    an answer may still arrive, so it is a possible answer for ever.
    """
    commits: dict[tuple[str, Queue], list[tuple[int, Event, bool]]] = {}
    for at, event in facts.of("commit"):
        if event.outcome in ("ok", "unknown"):
            commits.setdefault(_group_place(event), []).append((at, event, event.outcome == "ok"))
    told: dict[tuple[str, Queue], list[int]] = {}
    for _, event in facts.of("commit", outcome="invoke"):
        told.setdefault(_group_place(event), []).append(event.details["offset"])
    reads = [(at, event) for at, event in facts.of("committed", outcome="ok")]
    reads += [(at, event) for at, event in facts.of("final offset") if _group_place(event) in told]
    for at, event in reads:
        place, found = _group_place(event), event.details["offset"] or 0
        if found > max(told.get(place, [0])):
            text = f"group {place[0]} is told offset {found} in {place[1]}, which nobody committed"
            yield Problem("committed_offsets_do_not_go_back", text, (at,), {**place[1]._asdict(), "group": place[0]})
        for end, commit, is_ok in commits.get(place, []):
            wanted = commit.details["offset"]
            if not is_ok or end >= event.details.get("since", at) or found >= wanted:
                continue
            if _may_be_lost(facts, place[1].broker, commit.details["of"], at):
                continue
            if any(not ok and other.details["offset"] == found for _, other, ok in commits[place]):
                continue
            text = f"group {place[0]} committed {wanted} in {place[1]}, and is told {found} later"
            yield Problem(
                "committed_offsets_do_not_go_back", text, (end, at), {**place[1]._asdict(), "group": place[0]}
            )
            break


def _may_be_lost(facts: Facts, broker: str, begun: int, at: int) -> bool:
    """Whether a crash before event `at` may have taken a commit that was begun with event `begun`.

    Begun, not acknowledged: the broker may have crashed while its answer was on the way.
    """
    death = facts.next_death(broker, begun)
    if death is None or death > at:
        return False
    if facts.events[death].at_s - facts.events[begun].at_s <= OFFSETS_MAY_BE_LOST_S:
        return True
    hindered = (event for begun, event in facts.of("slow disk", "disk full") if begun < death)
    return any(event.details.get("target") == broker for event in hindered)  # a commit of then may still be under way


def _group_place(event: Event) -> tuple[str, Queue]:
    details = event.details
    return details["group"], Queue(details.get("broker", event.who), details["topic"], details["queue"])


def state_changes_are_kept(facts: Facts) -> Iterator[Problem]:
    """An acknowledged change of a topic or group is in effect on every broker that was asked, until the next one.

    Only of topics to which nobody sends: a message to a topic that a broker does not have may make it.
    """
    sent_to = {send.topic for send in facts.sends.values()}
    for broker in sorted(facts.final_brokers()):
        last_at = max(at for at, event in facts.of("final topic") if event.who == broker)
        for what in ("topic", "group"):
            finals = {e.details["name"]: e.details["value"] for _, e in facts.of(f"final {what}") if e.who == broker}
            for name, writes in facts.writes.get(f"set {what}", {}).items():
                if name in sent_to:
                    continue
                here = [
                    write for write in writes if not write.is_void and (broker in write.brokers or not write.is_done)
                ]
                yield from _check_register(facts, f"{what} {name}", broker, here, last_at, finals.get(name), last_at)
                if what == "topic":
                    for at, event in facts.of("look at topic", outcome="ok"):
                        details = event.details
                        if (details["broker"], details["name"]) == (broker, name):
                            since, value = details["since"], details["value"]
                            yield from _check_register(facts, f"topic {name}", broker, here, since, value, at)


def _check_register(
    facts: Facts, what: str, broker: str, writes: list[Write], since: int, found: Any, at: int
) -> Iterator[Problem]:
    """Whether a read that began after event `since` and ended with `at` may have found that value."""
    settled = [write for write in writes if write.is_done and write.end < since]
    newest = max((write.begun for write in settled), default=-1)
    possible: list[int | None] = [] if settled else [None]
    possible += [write.value for write in writes if write.begun < at and write.end > newest]
    if found not in possible:
        shown = sorted({str(value) for value in possible})
        yield Problem(
            "state_changes_are_kept",
            f"{what} on {broker} is {found}; what was acknowledged and what may be since is {', '.join(shown)}",
            (*(write.begun for write in settled[-1:]), at),
            {"broker": broker, "name": what.split()[1]},
        )


def folds_equal_their_rebuild(facts: Facts) -> Iterator[Problem]:
    """What a store holds is what its log says: queues, topics, groups and offsets, after each start and at the end."""
    for at, event in facts.of("folds"):
        if event.details["different"] and not facts.has_fault(event.who, at, "bit flip"):
            text = (
                f"{event.who} differs from its log in {event.details['count']} things: {event.details['different'][0]}"
            )
            yield Problem("folds_equal_their_rebuild", text, (at,), {"broker": event.who})


def folders_have_one_owner(facts: Facts) -> Iterator[Problem]:
    """A second process on a folder in use is refused."""
    for at, event in facts.of("second start", outcome="ok"):
        text = f"a second process opened the folder of {event.who} while the first was using it"
        yield Problem("folders_have_one_owner", text, (at,), {"broker": event.who})


def brokers_start_again(facts: Facts) -> Iterator[Problem]:
    """Whatever a crash left, the next start takes it.

    Only a disk that fails now, has no room, or has changed old data may be refused, and a folder that another uses.
    """
    for at, event in facts.of("start", outcome="fail"):
        error = event.details.get("error", "")
        excused = facts.has_fault(event.who, at, "bit flip", "sync fails", "write fails", "disk full")
        if not excused and "another process is using" not in error:
            yield Problem("brokers_start_again", f"{event.who} does not start: {error}", (at,), {"broker": event.who})


def everything_recovers(facts: Facts) -> Iterator[Problem]:
    """When all faults are healed, everything works again: every queue takes messages, and groups catch up."""
    for at, event in facts.of("no recovery"):
        details = event.details
        text = f"faults were healed, and {event.who} still cannot {details['doing']}: {details.get('behind', '')}"
        yield Problem("everything_recovers", text, (at,), {"broker": details.get("broker", "")})
    if not facts.final_brokers():
        yield Problem("everything_recovers", "the world ended before everything was read", (), {})
