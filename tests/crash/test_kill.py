"""kill -9 under load, again and again, on the real server with real files.

Each cycle: start, several connections that send with many requests in flight and commit offsets, SIGKILL at a random
moment, restart, and a check of everything that is there against everything that was acknowledged. The seed of the
random moments stands in the failure; `--cycles` says how often. The last tests prove that the check finds a loss.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.codec.remoting.batch import BatchEntry, encode_batch
from posthouse.codec.remoting.codes import RequestCode, ResponseCode
from posthouse.codec.remoting.command import Command
from posthouse.host.clock import EpochMs
from posthouse.model.ids import parse_offset_message_id
from posthouse.model.message import Endpoint, StoredMessage
from posthouse.model.offsets import LogOffset, QueueOffset
from tests.crash.ledger import Found, Key, Ledger, Queue, Sent, make_body
from tests.crash.server import ServerProcess
from tests.crash.wire import (
    Wire,
    commit_ext,
    committed_offset,
    dial,
    max_offset,
    pull_all,
    send_ext,
)

GROUP = "kill-loop"
QUEUES = [Queue(f"topic-{name}", number) for name in "abc" for number in range(4)]
CONNECTIONS = 5
IN_FLIGHT = 24


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    found = ServerProcess(tmp_path / "data")
    yield found
    found.kill()


class Sender:
    """One connection that keeps IN_FLIGHT requests under way until it is lost."""

    def __init__(self, ledger: Ledger, rng: random.Random, cycle: int, connection: int, wire: Wire) -> None:
        self._ledger, self._rng, self._wire = ledger, rng, wire
        self._keys = ((cycle, connection, number) for number in range(1 << 30))
        self._acknowledged: dict[Queue, int] = {}
        self.acknowledged = 0
        self.refused: list[tuple[int, str | None]] = []

    def begin(self) -> None:
        for _ in range(IN_FLIGHT):
            self._send()

    def _send(self) -> None:
        if self._wire.transport.is_closing():
            return
        queue = self._rng.choice(QUEUES)
        if self._rng.random() < 0.05:
            self._commit(queue)
        is_batch = self._rng.random() < 0.05
        keys = [next(self._keys) for _ in range(self._rng.randint(2, 6) if is_batch else 1)]
        sent = self._ledger.add(keys, queue)
        bodies = [make_body(key, self._rng) for key in keys]
        body = encode_batch(BatchEntry(each, "") for each in bodies) if is_batch else bodies[0]
        code = RequestCode.SEND_BATCH_MESSAGE if is_batch else RequestCode.SEND_MESSAGE_V2
        ext = send_ext(queue.topic, queue.queue_id, batch=is_batch)
        self._wire.give(code, ext, body, lambda answer: self._answered(sent, answer))

    def _answered(self, sent: list[Sent], answer: Command) -> None:
        if answer.code == ResponseCode.SUCCESS:
            ext = answer.ext_map()
            first = int(ext["queueOffset"])
            for number, (each, message_id) in enumerate(zip(sent, ext["msgId"].split(","), strict=True)):
                each.acknowledged_at = first + number, parse_offset_message_id(message_id)[1]
            self.acknowledged += len(sent)
            self._acknowledged[sent[0].queue] = first + len(sent)
        else:
            self.refused.append((answer.code, answer.remark))
        self._send()

    def _commit(self, queue: Queue) -> None:
        """As a consumer would that has read what this connection sent: offsets only grow."""
        offset = self._acknowledged.get(queue)
        if offset is not None and offset > max(self._ledger.committed.get(queue, {0})):
            self._ledger.commit(queue, offset)
            done = (lambda answer: None) if self._rng.random() < 0.5 else None
            ext = commit_ext(GROUP, queue.topic, queue.queue_id, offset)
            self._wire.give(RequestCode.UPDATE_CONSUMER_OFFSET, ext, b"", done)


async def load_and_kill(server: ServerProcess, ledger: Ledger, rng: random.Random, cycle: int) -> int:
    """How many messages were acknowledged before the server was dead."""
    wires = [await dial(server.broker) for _ in range(CONNECTIONS)]
    senders = [Sender(ledger, rng, cycle, number, wire) for number, wire in enumerate(wires)]
    for sender in senders:
        sender.begin()
    await asyncio.sleep(rng.uniform(0.05, 0.5))
    server.kill()
    async with asyncio.timeout(10):
        await asyncio.gather(*(wire.lost for wire in wires))
    assert not [refused for sender in senders for refused in sender.refused]
    return sum(sender.acknowledged for sender in senders)


async def look(wire: Wire, queue: Queue, first: int) -> Found:
    messages = await pull_all(wire, GROUP, queue.topic, queue.queue_id, first)
    end = await max_offset(wire, queue.topic, queue.queue_id)
    return Found(first, messages, end, await committed_offset(wire, GROUP, *queue))


async def look_at_all(server: ServerProcess, ledger: Ledger) -> dict[Queue, Found]:
    """Everything that has not been checked yet."""
    wire = await dial(server.broker)
    found = await asyncio.gather(*(look(wire, queue, ledger.checked.get(queue, 0)) for queue in QUEUES))
    wire.close()
    return dict(zip(QUEUES, found, strict=True))


async def look_again(server: ServerProcess, ledger: Ledger) -> list[str]:
    """Every queue from its beginning, one by one."""
    wire = await dial(server.broker)
    problems: list[str] = []
    for queue in QUEUES:
        problems += ledger.check_again({queue: await look(wire, queue, 0)})
    wire.close()
    return problems


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.asyncio
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    server: ServerProcess, cycles: int, measured: list[str]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    rng, ledger = random.Random(seed), Ledger()
    begin, starts, acknowledged = time.monotonic(), [], 0
    for cycle in range(cycles):
        starts.append(server.start().start_seconds)
        acknowledged += await load_and_kill(server, ledger, rng, cycle)
        starts.append(server.start().start_seconds)
        problems = ledger.check(await look_at_all(server, ledger))
        assert not problems, f"seed {seed}, cycle {cycle}: {len(problems)} problems: {problems[:5]}\n{server.log}"
        server.kill()
    server.start()
    problems = await look_again(server, ledger)
    assert not problems, f"seed {seed}, at the end: {len(problems)} problems: {problems[:5]}"
    assert server.stop() == 0
    assert acknowledged > 20 * cycles
    found = sum(sent.found_at is not None for sent in ledger.sent.values())
    starts_ms = [each * 1000 for each in starts]
    measured.append(
        f"kill loop: seed {seed}, {cycles} cycles in {time.monotonic() - begin:.0f} s: {len(ledger.sent)} messages "
        f"sent, {acknowledged} acknowledged, {found} found, {found - acknowledged} of them unacknowledged; "
        f"start: median {statistics.median(starts_ms):.0f} ms, longest {max(starts_ms):.0f} ms"
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.asyncio
async def test_a_planted_loss_is_found_by_the_same_check(server: ServerProcess) -> None:
    """Acknowledged bytes are cut off the end of the log while the server is stopped."""
    rng, ledger = random.Random(1), Ledger()
    server.start()
    assert await load_and_kill(server, ledger, rng, 0) > 100
    newest = sorted((server.data / "log").iterdir())[-1]
    os.truncate(newest, newest.stat().st_size * 2 // 3)
    server.start()
    problems = ledger.check(await look_at_all(server, ledger))
    assert any("was acknowledged" in problem and "is lost" in problem for problem in problems)
    assert "cut" in server.log, "the server does not say what it cut"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.asyncio
async def test_a_planted_edit_in_the_middle_is_refused_by_the_server_itself(server: ServerProcess) -> None:
    rng, ledger = random.Random(2), Ledger()
    server.start()
    await load_and_kill(server, ledger, rng, 0)
    newest = sorted((server.data / "log").iterdir())[-1]
    with open(newest, "r+b") as file:
        file.seek(newest.stat().st_size // 2)
        before = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((before[0] ^ 1,)))
    size = newest.stat().st_size
    with pytest.raises(AssertionError, match="the server ended at its start") as caught:
        server.start()
    assert newest.name in str(caught.value)
    assert "is damaged at log offset" in str(caught.value)
    assert newest.stat().st_size == size


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
        each.acknowledged_at = number, number * 100
    ledger.commit(queue, 3)
    return ledger, [stored(key, queue, number) for number, key in enumerate(keys)]


def test_the_check_is_content_with_what_is_right() -> None:
    ledger, messages = four_messages()
    found = {QUEUES[0]: Found(0, messages, 4, 3)}
    assert ledger.check(found) == []
    assert ledger.check_again(found) == []
    assert ledger.check({QUEUES[0]: Found(4, [], 4, 3)}) == []


Q = QUEUES[0]


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
