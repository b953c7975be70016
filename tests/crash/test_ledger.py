"""The ledger of the kill loop finds every kind of loss, and is content with what is right."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from posthouse.host.clock import EpochMs
from posthouse.model.message import Endpoint, StoredMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from tests.crash.ledger import Found, Key, Ledger, Named, Queue, make_body

QUEUES = [Queue("topic-a", number) for number in range(2)]
Q = QUEUES[0]


def stored(key: Key, queue: Queue, queue_offset: int, body: bytes | None = None) -> StoredMessage:
    nowhere = Endpoint(bytes(4), 0)
    body = make_body(key, random.Random(repr(key))) if body is None else body
    return StoredMessage(
        queue.topic, queue.queue_id, QueueOffset(queue_offset), LogOffset(queue_offset * 100), body, {}, 0, 0,
        EpochMs(0), nowhere, EpochMs(0), nowhere, 0, LogOffset(0), 0, 0,
    )  # fmt: skip


def four_messages() -> tuple[Ledger, list[StoredMessage]]:
    """Sent, acknowledged and there: two alone and a batch of two."""
    ledger, queue = Ledger(), QUEUES[0]
    keys = [(0, 0, number) for number in range(4)]
    sent = [*ledger.add(keys[:1], queue), *ledger.add(keys[1:2], queue), *ledger.add(keys[2:], queue)]
    for number, each in enumerate(sent):
        ledger.acknowledge(each, (number, number * 100))
    ledger.commit(queue, 3)
    return ledger, [stored(key, queue, number) for number, key in enumerate(keys)]


def test_the_check_is_content_with_what_is_right() -> None:
    ledger, messages = four_messages()
    found = {QUEUES[0]: Found(0, messages, 4, 3)}
    assert ledger.check(found) == []
    assert ledger.check_again(found) == []
    assert ledger.check({QUEUES[0]: Found(4, [], 4, 3)}) == []
    assert (ledger.sent_messages, ledger.acknowledged_messages, ledger.found_messages) == (4, 4, 4)
    assert (ledger.lost_messages, ledger.gone_messages, ledger.unacknowledged_found) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: Found(0, m[:3], 3), "is lost"),
        (lambda m: Found(0, m[1:], 4), "where 0 was expected"),
        (lambda m: Found(0, m[:3], 3), "half there"),
        (lambda m: Found(0, [*m, stored((0, 0, 3), Q, 4)], 5), "a second time"),
        (lambda m: Found(0, [*m[:3], stored((0, 0, 3), Q, 3, m[3].body[:-1])], 4), "not as it was sent"),
        (lambda m: Found(0, [*m[:3], stored((0, 0, 3), Q, 3, b"")], 4), "not as it was sent"),
        (lambda m: Found(0, [*m[:3], stored((0, 9, 3), Q, 3)], 4), "never sent"),
        (lambda m: Found(0, [stored((0, 0, 1), Q, 0), stored((0, 0, 0), Q, 1), *m[2:]], 4), "comes after number 1"),
        (lambda m: Found(0, [stored((0, 0, 1), Q, 0), stored((0, 0, 0), Q, 1), *m[2:]], 4), "and is at"),
        (lambda m: Found(0, m, 5), "max offset is 5"),
        (lambda m: Found(0, m, 4, 5), "beyond the max offset"),
        (lambda m: Found(0, m, 4, 2), "never committed"),
        (lambda m: Found(0, m[1:], 4, min_offset=1), "without retention"),
    ],
)
def test_the_check_finds_every_kind_of_loss(change: object, words: str) -> None:
    ledger, messages = four_messages()
    assert callable(change)
    problems = ledger.check({Q: change(messages)})
    assert any(words in problem for problem in problems), problems


def test_the_check_finds_an_offset_that_goes_back_or_is_forgotten() -> None:
    ledger, messages = four_messages()
    ledger.commit(Q, 2)
    assert ledger.check({Q: Found(0, messages, 4, 3)}) == []
    assert "went back" in ledger.check({Q: Found(4, [], 4, 2)})[0]
    assert "forgotten" in ledger.check({Q: Found(4, [], 4, None)})[0]


def test_the_check_finds_what_disappears_later() -> None:
    ledger, messages = four_messages()
    assert ledger.check({Q: Found(0, messages, 4, 3)}) == []
    assert "no longer there" in ledger.check_again({Q: Found(0, messages[1:], 4, 3)})[0]
    swapped = [stored((0, 0, 1), Q, 0), *messages[1:]]
    assert "not what was found there" in ledger.check_again({Q: Found(0, swapped, 4, 3)})[0]


def test_the_check_finds_a_message_that_comes_back_after_it_was_checked() -> None:
    ledger, messages = four_messages()
    assert ledger.check({Q: Found(0, messages, 4, 3)}) == []
    again = stored((0, 0, 3), Q, 4)
    assert "was found before" in ledger.check({Q: Found(4, [again], 5, 3)})[0]


def test_what_a_consumer_was_given_must_stay() -> None:
    ledger, messages = four_messages()
    later = stored((0, 0, 4), Q, 4)
    ledger.add([(0, 0, 4)], Q)
    ledger.show(Q, later)
    problems = ledger.check({Q: Found(0, messages, 4, 3)})
    assert len(problems) == 1
    assert "was given to a consumer" in problems[0]


def test_what_a_consumer_is_given_must_have_been_sent() -> None:
    ledger, messages = four_messages()
    ledger.show(Q, stored((0, 9, 9), Q, 4))
    ledger.show(Q, stored((0, 0, 1), QUEUES[1], 1))
    ledger.show(Q, stored((0, 0, 1), Q, 1, b"changed"))
    problems = ledger.check({Q: Found(0, messages, 4, 3)})
    assert len(problems) == 2
    assert all("was not sent there" in problem for problem in problems)


def two_queues() -> tuple[Ledger, dict[Queue, list[StoredMessage]]]:
    """Four messages each, in turn: at log offsets 0, 200, 400, 600 of the one queue and 100, 300, 500, 700."""
    ledger = Ledger()
    messages: dict[Queue, list[StoredMessage]] = {queue: [] for queue in QUEUES}
    for at in range(4):
        for connection, queue in enumerate(QUEUES):
            key = (0, connection, at)
            log_offset = 200 * at + 100 * connection
            ledger.acknowledge(ledger.add([key], queue)[0], (at, log_offset))
            messages[queue].append(replace(stored(key, queue, at), log_offset=LogOffset(log_offset)))
    return ledger, messages


@pytest.mark.parametrize("checked_before", [False, True])
def test_the_check_takes_it_that_retention_took_whole_segments(checked_before: bool) -> None:
    ledger, messages = two_queues()
    first = 0
    if checked_before:
        assert ledger.check({queue: Found(0, messages[queue], 4) for queue in QUEUES}) == []
        first = 4
    found = {queue: Found(first, [] if first else messages[queue][2:], 4, min_offset=2) for queue in QUEUES}
    assert ledger.check(found, [0, 400], may_trim=True) == []
    assert ledger.gone_messages == (0 if checked_before else 4)
    again = {queue: Found(0, messages[queue][2:], 4, min_offset=2) for queue in QUEUES}
    assert ledger.check_again(again) == []
    ledger.forget_below(400)
    assert ledger.check_again(again) == []


@pytest.mark.parametrize(
    ("first", "second", "bases", "words"),
    [
        (2, 2, [0, 500], "no segment begins between them"),
        (2, 2, [0], "no segment begins between them"),
        (1, 3, [0, 200, 400, 600], "left the older one"),
    ],
)
def test_the_check_finds_that_retention_took_something_else(
    first: int, second: int, bases: list[int], words: str
) -> None:
    ledger, messages = two_queues()
    minima = dict(zip(QUEUES, (first, second), strict=True))
    found = {queue: Found(0, messages[queue][low:], 4, min_offset=low) for queue, low in minima.items()}
    assert any(words in problem for problem in ledger.check(found, bases, may_trim=True))


def test_the_check_finds_a_loss_behind_what_retention_took() -> None:
    ledger, messages = two_queues()
    found = {queue: Found(0, messages[queue][2:], 4, min_offset=2) for queue in QUEUES}
    found[QUEUES[1]].messages.pop(0)
    problems = ledger.check(found, [0, 400], may_trim=True)
    assert any("is lost" in problem for problem in problems)
    assert ledger.lost_messages == 1


def test_a_setting_is_the_acknowledged_one_or_the_one_under_way() -> None:
    ledger, topic, group = Ledger(), Named("topic", "t"), Named("group", "g")
    ledger.change(topic, (4,))
    ledger.changed(topic)
    ledger.change(topic, None)
    ledger.change(group, (3,))
    assert ledger.check_settings({topic: None, group: None}) == []
    assert ledger.check_settings({topic: None, group: None}) == []
    assert "is (4,), and should be None" in ledger.check_settings({topic: (4,), group: None})[0]
    assert "should be None" in ledger.check_settings({topic: (4,), group: (3,)})[0]
