"""The checkers of consumption: what became of every message in every group, and who had it when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from posthouse.model.names import TIMER_TOPICS
from posthouse.testing.sim.facts import Facts, Problem, Queue

LOCK_S: Final = 60.0
"""What a lock is good for."""


def groups_miss_nothing(facts: Facts) -> Iterator[Problem]:
    """What a group's offset has passed has an end: some member handled it, or it is a dead letter, or it waits for a
    reason that can be named (it is to be tried again, or somebody popped it). In the end the offset has passed all.
    """
    committed = _final_offsets(facts)
    for group, subscribe in facts.groups.items():
        handled, done = facts.handled.get(group, set()), facts.done.get(group, set())
        for queue, final in facts.finals.items():
            if queue.topic not in subscribe or facts.may_be_cut_off(queue.broker, 0):
                continue  # what was cut off had offsets that others have now, and members had passed them
            passed = committed.get((group, queue), 0)
            if passed > final.max_offset:
                text = f"the offset of group {group} in {queue} is {passed}; the queue ends at {final.max_offset}"
                yield Problem("groups_miss_nothing", text, (final.at,), queue._asdict())
            wanted = _wanted_tags(subscribe[queue.topic])
            waiting = _waiting(facts, group, queue.broker, committed)
            for offset, message_id in final.ids.items():
                send = facts.sends.get(message_id)
                matches = send is not None and (wanted is None or send.tag in wanted)
                if not matches or offset >= passed or (queue, offset) in handled or message_id in done:
                    continue
                if message_id in waiting or _may_be_lost_again(facts, group, message_id, queue.broker):
                    continue
                yield Problem(
                    "groups_miss_nothing",
                    f"group {group} is at {passed} in {queue}, and {message_id} at {offset} was not handled by any "
                    f"member, is no dead letter, and does not wait for anything",
                    (send.begun if send is not None else final.at, final.at),
                    {**queue._asdict(), "offset": offset, "id": message_id, "group": group},
                )


def _final_offsets(facts: Facts) -> dict[tuple[str, Queue], int]:
    return {
        (event.details["group"], Queue(event.who, event.details["topic"], event.details["queue"])): event.details[
            "offset"
        ]
        for _, event in facts.of("final offset")
    }


def _waiting(facts: Facts, group: str, broker: str, committed: dict[tuple[str, Queue], int]) -> set[str]:
    """Ids that have an end for a group other than that a member handled them, or will have one."""
    found = _in_timers(facts)
    for queue, final in facts.finals.items():
        if queue.topic == f"%DLQ%{group}":
            found.update(final.ids.values())
        elif queue.topic.startswith(f"%RETRY%{group}"):
            passed = committed.get((group, queue), 0)
            found.update(message_id for offset, message_id in final.ids.items() if offset >= passed)
    for _, event in facts.of("final in flight"):
        details = event.details
        if details["group"] == group:
            ids = facts.finals[Queue(event.who, details["topic"], details["queue"])].ids
            found.update(ids[offset] for offset in details["offsets"] if offset in ids)
    return found


def _may_be_lost_again(facts: Facts, group: str, message_id: str, broker: str) -> bool:
    """Whether a copy of it that was to be tried again may be lost.

    With a power cut, at the level that allows it; because its bytes were changed, so that it cannot be copied; or
    because retention has taken the copy.
    """
    tries = facts.failures.get((group, message_id), [])
    copies = f"%RETRY%{group}", f"%DLQ%{group}"
    trimmed = any(final.min_offset for queue, final in facts.finals.items() if queue.topic in copies)
    cut_off = any(facts.may_be_cut_off(other, at) for at, _ in tries for other in facts.final_brokers())
    return cut_off or (bool(tries) and (trimmed or _was_flipped(facts, broker)))


def _was_flipped(facts: Facts, broker: str) -> bool:
    return any(event.details.get("target") == broker for _, event in facts.of("bit flip"))


def retries_are_counted(facts: Facts) -> Iterator[Problem]:
    """A message is tried again only after a try that failed, with that many tries in its record; and it is a dead
    letter only after as many as the group allows, each of which failed.
    """
    for group, kind in facts.kinds.items():
        if kind.pops:
            continue
        for queue, final in facts.finals.items():
            if queue.topic == f"%RETRY%{group}":
                for offset, message_id in final.ids.items():
                    times = final.attempts[offset]
                    failed = [at for at, before in facts.failures.get((group, message_id), []) if before == times - 1]
                    allowed = kind.attempts is None or times <= kind.attempts
                    if message_id in facts.sends and not (failed and allowed):
                        text = f"{message_id} is in {queue} for try {times + 1} of {kind.attempts}, try {times} failed"
                        text += " not" if not failed else ""
                        yield Problem("retries_are_counted", text, (final.at,), {"group": group, "id": message_id})
            elif queue.topic == f"%DLQ%{group}":
                for message_id in final.ids.values():
                    failed = [before for _, before in facts.failures.get((group, message_id), [])]
                    missing = [times for times in range((kind.attempts or 0) + 1) if times not in failed]
                    if message_id in facts.sends and (kind.attempts is None or missing):
                        text = f"{message_id} is a dead letter of {group}; of its tries {missing} did not fail"
                        yield Problem("retries_are_counted", text, (final.at,), {"group": group, "id": message_id})


def later_is_kept(facts: Facts) -> Iterator[Problem]:
    """A message for later that was acknowledged comes, or waits in the end; and never before its time.

    By the times that the broker wrote down: they do not go back when its clock is set.
    """
    waiting = _in_timers(facts)
    places: dict[tuple[str, str], Queue] = {}
    for queue, final in facts.finals.items():
        for message_id in final.ids.values():
            places.setdefault((queue.topic, message_id), queue)
        for offset, early_ms in final.early.items():
            text = f"{final.ids[offset]} at {offset} of {queue} was stored {early_ms} ms before it was due"
            yield Problem("later_is_kept", text, (final.at,), queue._asdict())
    trimmed = {queue.topic for queue, final in facts.finals.items() if final.min_offset}
    for send in facts.sends.values():
        if not send.later or send.outcome != "ok" or (send.topic, send.message_id) in places:
            continue
        brokers = facts.final_brokers()
        excused = any(facts.may_be_cut_off(broker, send.begun) or _was_flipped(facts, broker) for broker in brokers)
        gone = send.topic in trimmed or facts.was_deleted_after(send.topic, send.begun) or excused
        if send.message_id not in waiting and not gone and brokers:
            text = f"{send.message_id} was taken for later, and in the end it neither came nor waits"
            yield Problem("later_is_kept", text, (send.begun, send.end), {"id": send.message_id, "topic": send.topic})


def _in_timers(facts: Facts) -> set[str]:
    """Ids of the messages that wait for their time."""
    pending = {
        (event.who, log_offset) for _, event in facts.of("final timers") for log_offset in event.details["log_offsets"]
    }
    return {
        message_id
        for queue, final in facts.finals.items()
        if queue.topic in TIMER_TOPICS
        for message_id, log_offset in zip(final.ids.values(), final.log_offsets, strict=True)
        if (queue.broker, log_offset) in pending
    }


def ordered_groups_keep_order(facts: Facts) -> Iterator[Problem]:
    """In an ordered group nobody handles a message before all that stand before it in its queue were handled.

    And no two members are at work in one queue. Only a broker that lost its power may have forgotten who holds its
    locks, so for a while after that it may be.
    """
    for group, kind in facts.kinds.items():
        if not kind.ordered:
            continue
        reached: dict[Queue, int] = {}
        for at, event in facts.of("handle", outcome="ok"):
            details = event.details
            queue, offset = Queue(details["broker"], details["topic"], details["queue"]), details["offset"]
            if details["group"] != group or queue.topic not in facts.groups[group]:
                continue
            about = {**queue._asdict(), "group": group}
            final = facts.finals.get(queue)
            first = max(reached.get(queue, 0), final.min_offset if final is not None else 0)
            if offset > first and not facts.may_be_cut_off(queue.broker, 0):
                text = f"{group} handled {details['id']} at {offset} of {queue}, and not yet {first}"
                yield Problem("ordered_groups_keep_order", text, (at,), about)
            reached[queue] = max(first, offset + 1)
        yield from _two_at_work(facts, group)


def _two_at_work(facts: Facts, group: str) -> Iterator[Problem]:
    """Handlings of one queue by two members at one time. One that never ended is of a member that was killed."""
    begun: dict[tuple[str, Queue], int] = {}
    for at, event in facts.of("handle"):
        details = event.details
        if details["group"] != group or "queue" not in details:
            continue
        queue = Queue(details["broker"], details["topic"], details["queue"])
        if event.outcome == "invoke":
            begun[event.who, queue] = at
            continue
        since = begun.pop((event.who, queue), at)
        for (other, place), other_at in begun.items():
            overlaps = other != event.who and place == queue and since < other_at < at
            if overlaps and not _died_lately(facts, queue.broker, at):
                text = f"{event.who} and {other} were at work in {queue} for {group} at one time"
                yield Problem("ordered_groups_keep_order", text, (since, other_at, at), {**queue._asdict()})


def _died_lately(facts: Facts, broker: str, at: int) -> bool:
    """Whether locks that the broker had granted may have been lost with its power, and believed by who has them."""
    now_s = facts.events[at].at_s
    cuts = (event.at_s for begun, event in facts.of("power cut") if event.details["target"] == broker and begun < at)
    return any(now_s - cut_s < LOCK_S for cut_s in cuts)


def popped_has_one_holder(facts: Facts) -> Iterator[Problem]:
    """Nobody is given a popped message before the time of who has it is over, by the clock of the broker.

    A power cut may take what the system had of the last second.
    """
    holders: dict[tuple[str, str, str], tuple[int, int, str]] = {}
    for at, event in sorted([*facts.of("pop", outcome="ok"), *facts.of("renew")]):
        details = event.details
        send = facts.sends.get(details["id"])
        if send is None or send.tries > 1:
            continue  # there may be two of it
        key = (details["group"], details["broker"], details["id"])
        before = holders.get(key)
        early = event.what == "pop" and before is not None and details["popped_ms"] < before[1]
        if before is not None and early and not _died_hard(facts, details["broker"], before[0], at):
            text = (
                f"{details['id']} was given to {event.who} at {details['popped_ms']} ms by {details['broker']}, "
                f"and {before[2]} had it until {before[1]} ms"
            )
            yield Problem("popped_has_one_holder", text, (before[0], at), {"id": details["id"]})
        holders[key] = (at, details["due_ms"], event.who)


def _died_hard(facts: Facts, broker: str, after: int, before: int) -> bool:
    """Whether the power of a broker was cut between two events, or its clock was set."""
    cuts = (at for at, event in facts.of("power cut", "clock jump") if event.details.get("target") == broker)
    return any(after < at < before for at in cuts)


def _wanted_tags(expression: str) -> set[str] | None:
    """None for every message."""
    return None if expression == "*" else {tag.strip() for tag in expression.split("||")}
