"""What must be true of every history, however many faults it has: one function for each promise of Posthouse.

The checkers know nothing of the code that they check: they look at what clients were told, and at what was there in
the end. `check` runs all of them; each later promise of the product adds its own here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from posthouse.testing.sim.consumption import (
    groups_miss_nothing,
    later_is_kept,
    ordered_groups_keep_order,
    popped_has_one_holder,
    retries_are_counted,
)
from posthouse.testing.sim.facts import Facts, Problem, Queue, Send, gather
from posthouse.testing.sim.history import History
from posthouse.testing.sim.progress import (
    brokers_start_again,
    committed_offsets_do_not_go_back,
    everything_recovers,
    folders_have_one_owner,
    folds_equal_their_rebuild,
    no_mistake_shows,
    state_changes_are_kept,
)

Checker = Callable[[Facts], Iterator[Problem]]
PROBLEMS_MAX: Final = 20
"""Of each checker: the first ones tell, the others only repeat them."""


def check(history: History) -> list[Problem]:
    """All that is wrong with a history; empty if nothing is."""
    facts = gather(history)
    found: list[Problem] = []
    for checker in CHECKERS.values():
        for count, problem in enumerate(checker(facts), 1):
            found.append(problem)
            if count == PROBLEMS_MAX:
                break
    return found


def acknowledged_is_readable(facts: Facts) -> Iterator[Problem]:
    """Every acknowledged message is in its queue at its offset in the end, unless retention or a deletion took it."""
    brokers = facts.final_brokers()
    for send in facts.sends.values():
        if send.place is None or send.place.broker not in brokers:
            continue  # a broker that could not be read at the end is another checker's affair
        final = facts.finals.get(send.place)
        if final is not None and (send.offset < final.min_offset or final.ids.get(send.offset) == send.message_id):
            continue
        if facts.was_deleted_after(send.topic, send.begun) or facts.may_be_cut_off(send.place.broker, send.begun):
            continue
        there = "the queue is empty" if final is None else f"there is {final.ids.get(send.offset, 'nothing')}"
        yield Problem(
            "acknowledged_is_readable",
            f"{send.message_id} was acknowledged at offset {send.offset} of {send.place}; at the end {there}",
            (send.begun, send.end) if final is None else (send.begun, send.end, final.at),
            _about(send),
        )


def queues_are_dense(facts: Facts) -> Iterator[Problem]:
    """Offsets of a queue have no holes, its records are in the log in the order of offsets, and every record is whole.

    Clients get what the store has: a pull gives every message between where it began and where it says to go on.
    """
    for queue, final in facts.finals.items():
        about = queue._asdict()
        wanted = list(range(final.min_offset, final.max_offset))
        if list(final.ids) != wanted:
            yield Problem(
                "queues_are_dense",
                f"{queue} should have {final.min_offset} to {final.max_offset - 1}, and has {_ranges(final.ids)}",
                (final.at,),
                about,
            )
        if final.min_offset and not final.log_first:
            text = f"{queue} begins at {final.min_offset}, though nothing of the log was deleted"
            yield Problem("queues_are_dense", text, (final.at,), about)
        if any(one >= other for one, other in zip(final.log_offsets, final.log_offsets[1:], strict=False)):
            yield Problem(
                "queues_are_dense", f"{queue}: its records are not in its order in the log", (final.at,), about
            )
        for offset, message_id in final.ids.items():
            if " " in message_id:
                text = f"{queue} at {offset}: {message_id}"
                yield Problem("queues_are_dense", text, (final.at,), {**about, "offset": offset})
    for at in facts.polls:
        details = facts.events[at].details
        offsets = [offset for offset, _ in details["messages"]]
        if not details["moved"] and offsets != list(range(details["asked"], details["next"])):
            queue = Queue(details["broker"], details["topic"], details["queue"])
            text = f"a pull of {queue} from {details['asked']} gave {offsets} and says to go on at {details['next']}"
            yield Problem("queues_are_dense", text, (at,), queue._asdict())


def order_is_kept(facts: Facts) -> Iterator[Problem]:
    """What was acknowledged before another message was sent stands before it, if both are in one queue."""
    by_queue: dict[Queue, list[Send]] = {}
    for send in facts.sends.values():
        gone = facts.was_deleted_after(send.topic, send.begun)
        if send.place is not None and not gone and not facts.may_be_cut_off(send.place.broker, send.begun):
            by_queue.setdefault(send.place, []).append(send)
    for queue, sends in by_queue.items():
        sends.sort(key=lambda send: send.offset)
        first: Send | None = None  # of those that stand behind: the one acknowledged first
        for send in reversed(sends):
            if first is not None and first.end < send.begun:
                yield Problem(
                    "order_is_kept",
                    f"{first.message_id} was acknowledged before {send.message_id} was sent, "
                    f"and stands behind it in {queue}: {first.offset} and {send.offset}",
                    (first.begun, first.end, send.begun, send.end),
                    _about(send),
                )
            if first is None or send.end < first.end:
                first = send


def what_was_seen_stays(facts: Facts) -> Iterator[Problem]:
    """Nothing is visible that was not committed: what anybody was ever shown in a place is there in the end.

    And nobody is shown what nobody sent, or what a client said had surely not been stored.
    """
    brokers = facts.final_brokers()
    flipped = {event.details["target"] for _, event in facts.of("bit flip")}
    for (queue, offset), seen in facts.sights.items():
        sights = seen
        about = {**queue._asdict(), "offset": offset, "id": sights[0].message_id}
        if flipped and queue.broker in flipped:  # what a client gets of changed bytes is not the broker's word
            sights = [
                sight
                for sight in sights
                if not facts.has_fault(queue.broker, sight.at, "bit flip") and " " not in sight.message_id
            ]
        for sight in sights:
            send = facts.sends.get(sight.message_id)
            if send is None and " " not in sight.message_id:
                text = f"{sight.message_id}, which nobody sent, was seen at offset {offset} of {queue}"
                yield Problem("what_was_seen_stays", text, (sight.at,), about)
            elif send is not None and send.outcome == "fail":
                text = f"{sight.message_id} is at offset {offset} of {queue}; the client said that it was not stored"
                yield Problem("what_was_seen_stays", text, (send.begun, send.end, sight.at), about)
        first = sights[0].at if sights else 0
        if not sights or facts.was_deleted_after(queue.topic, first) or facts.may_be_cut_off(queue.broker, first):
            continue
        ids = {sight.message_id: sight.at for sight in reversed(sights)}
        if len(ids) > 1:
            text = f"offset {offset} of {queue} was seen as {' and as '.join(sorted(ids))}"
            yield Problem("what_was_seen_stays", text, tuple(sorted(ids.values())), about)
        final = facts.finals.get(queue)
        before = any(final is None or sight.at <= final.at for sight in sights)  # it may have come since the last look
        gone = before and (final is None or offset >= final.max_offset)
        if gone and queue.broker in brokers:
            text = f"{sights[0].message_id} was seen at offset {offset} of {queue}, and is not there at the end"
            yield Problem("what_was_seen_stays", text, (sights[0].at,), about)


def acknowledged_is_visible(facts: Facts) -> Iterator[Problem]:
    """Who asks after a message was acknowledged sees it: the end of its queue never goes back behind it."""
    ends: dict[Queue, list[tuple[int, Send]]] = {}
    for send in sorted(facts.sends.values(), key=lambda send: send.end):
        if send.place is not None:
            so_far = ends.setdefault(send.place, [])
            if not so_far or send.offset > so_far[-1][1].offset:
                so_far.append((send.end, send))
    for at in facts.polls:
        details = facts.events[at].details
        queue = Queue(details["broker"], details["topic"], details["queue"])
        for end, send in reversed(ends.get(queue, [])):
            if end < details["since"]:
                gone = facts.was_deleted_after(queue.topic, send.begun) or facts.may_be_cut_off(
                    queue.broker, send.begun
                )
                if send.offset >= details["max"] and not gone:
                    yield Problem(
                        "acknowledged_is_visible",
                        f"{send.message_id} was acknowledged at offset {send.offset} of {queue}, "
                        f"and a pull that began later was told that the queue ends at {details['max']}",
                        (send.begun, end, at),
                        _about(send),
                    )
                break


def batches_are_whole(facts: Facts) -> Iterator[Problem]:
    """The messages of one request are stored together, side by side and in order, or not at all; likewise visible."""
    for queue, final in facts.finals.items():
        offset = final.min_offset
        while offset < final.max_offset:
            send = facts.sends.get(final.ids.get(offset, ""))
            batch = send.batch if send is not None and send.topic == queue.topic else ()
            if not batch:
                offset += 1
                continue
            begin = batch.index(send.message_id) if send is not None and offset == final.min_offset else 0
            wanted = batch[begin:]  # retention may have taken the first of them
            found = tuple(final.ids.get(offset + at, "nothing") for at in range(len(wanted)))
            if found != wanted:
                text = f"{queue} at {offset} has {list(found)} of the batch {list(batch)}"
                yield Problem("batches_are_whole", text, (facts.sends[batch[0]].begun, final.at), _about(send))
                offset += 1
                continue
            offset += len(wanted)
    for at in facts.polls:
        details = facts.events[at].details
        if facts.may_be_cut_off(details["broker"], at):  # then its offsets may have been given to others
            continue
        queue = Queue(details["broker"], details["topic"], details["queue"])
        final_ids = facts.finals[queue].ids if queue in facts.finals else {}
        before = facts.sends.get(final_ids.get(details["max"] - 1, ""))
        after = final_ids.get(details["max"], "")
        if before is not None and before.batch and after in before.batch[1:] and before.batch[-1] != before.message_id:
            text = f"a pull of {queue} was told that it ends at {details['max']}, inside a batch"
            yield Problem("batches_are_whole", text, (before.begun, at), _about(before))


def sent_once_is_stored_once(facts: Facts) -> Iterator[Problem]:
    """A message is stored in its topic at most as often as the client may have sent it."""
    places: dict[str, list[tuple[Queue, int]]] = {}
    for queue, final in facts.finals.items():
        for offset, message_id in final.ids.items():
            places.setdefault(message_id, []).append((queue, offset))
    for message_id, found in places.items():
        send = facts.sends.get(message_id)
        found = [(queue, offset) for queue, offset in found if send is not None and queue.topic == send.topic]
        if send is not None and len(found) > send.tries:
            where = ", ".join(f"{offset} of {queue}" for queue, offset in found)
            yield Problem(
                "sent_once_is_stored_once",
                f"{message_id} was sent at most {send.tries} times and is stored at {where}",
                (send.begun, *(facts.finals[queue].at for queue, _ in found)),
                _about(send),
            )


def _about(send: Send | None) -> dict[str, str | int]:
    assert send is not None
    place = send.place._asdict() if send.place is not None else {"topic": send.topic}
    return {"id": send.message_id, **place, "offset": send.offset}


def _ranges(offsets: dict[int, str]) -> str:
    """Offsets as text: "0-4, 6-9"."""
    found: list[list[int]] = []
    for offset in offsets:
        if found and offset == found[-1][1] + 1:
            found[-1][1] = offset
        else:
            found.append([offset, offset])
    return ", ".join(f"{first}-{last}" for first, last in found) or "nothing"


CHECKERS: Final[dict[str, Checker]] = {
    each.__name__: each
    for each in (
        acknowledged_is_readable,
        queues_are_dense,
        order_is_kept,
        what_was_seen_stays,
        acknowledged_is_visible,
        batches_are_whole,
        sent_once_is_stored_once,
        groups_miss_nothing,
        later_is_kept,
        ordered_groups_keep_order,
        retries_are_counted,
        popped_has_one_holder,
        committed_offsets_do_not_go_back,
        state_changes_are_kept,
        folds_equal_their_rebuild,
        folders_have_one_owner,
        brokers_start_again,
        no_mistake_shows,
        everything_recovers,
    )
}
