"""kill -9 under load, again and again, on the real server with real files.

Each cycle: start; a check of all that is there against all that was acknowledged; load, with segments that are
rolled, checkpoints and retention on the way; SIGKILL at a random moment, sometimes after a SIGTERM, sometimes again
while it recovers; `posthouse check` over what is left. The seed of the random moments stands in the failure;
`--cycles` says how often. The last tests prove that the check finds a loss.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from posthouse.host import Host
from posthouse.store.check import check_store
from posthouse.store.finding import Severity
from tests.crash.ledger import Found, Ledger, Named, Queue, Setting
from tests.crash.load import GROUP, NAMES, QUEUES, Actor, Changer, Reader, Sender
from tests.crash.server import ServerProcess
from tests.crash.wire import (
    Wire,
    committed_offset,
    dial,
    group_config,
    max_offset,
    min_offset,
    pull_all,
    topic_config,
)

SENDERS = 4
SEGMENT_BYTES = 1024 * 1024
LOG_BYTES_KEPT = 4 * SEGMENT_BYTES
COMMAND_EVERY_CYCLES = 20
"""The check is the library's function; now and then it is the command, in a process of its own."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    found = ServerProcess(tmp_path / "data")
    yield found
    found.kill()


async def load_and_kill(
    server: ServerProcess, ledger: Ledger, rng: random.Random, cycle: int, *, stops_first: bool = False
) -> int:
    """How many messages were acknowledged before the server was dead. `stops_first`: it is killed while it stops."""
    before = ledger.acknowledged_messages
    wires = [await dial(server.broker) for _ in range(SENDERS + 3)]
    actors: list[Actor] = [Sender(ledger, rng, wire, cycle, number) for number, wire in enumerate(wires[:SENDERS])]
    actors += [Reader(ledger, rng, wires[-3], QUEUES[::2]), Reader(ledger, rng, wires[-2], QUEUES[1::2])]
    actors.append(Changer(ledger, rng, wires[-1]))
    for actor in actors:
        actor.begin()
    await asyncio.sleep(rng.uniform(0.03, 0.3))
    if stops_first:
        await asyncio.to_thread(server.stop_and_kill, rng.uniform(0, 0.1))
    server.kill()
    async with asyncio.timeout(10):
        await asyncio.gather(*(wire.lost for wire in wires))
    _check_refusals(actors, stops_first)
    return ledger.acknowledged_messages - before


def _check_refusals(actors: Sequence[Actor], is_stopping: bool) -> None:
    refused = [(code, remark) for actor in actors for code, remark in actor.refused]
    if is_stopping:
        refused = [(code, remark) for code, remark in refused if "is stopping" not in (remark or "")]
    assert not refused, refused[:5]


async def look(wire: Wire, queue: Queue, first: int) -> Found:
    messages = await pull_all(wire, GROUP, queue.topic, queue.queue_id, first)
    end = await max_offset(wire, *queue)
    return Found(first, messages, end, await committed_offset(wire, GROUP, *queue))


async def minima(wire: Wire) -> list[int]:
    """The min offsets of all queues at one moment: retention may be at work."""
    while True:
        first = await asyncio.gather(*(min_offset(wire, *queue) for queue in QUEUES))
        if first == await asyncio.gather(*(min_offset(wire, *queue) for queue in QUEUES)):
            return first


async def look_at_all(server: ServerProcess, ledger: Ledger) -> dict[Queue, Found]:
    """Everything that has not been checked yet."""
    wire = await dial(server.broker)
    found = await asyncio.gather(*(look(wire, queue, ledger.checked.get(queue, 0)) for queue in QUEUES))
    for each, low in zip(found, await minima(wire), strict=True):
        each.min_offset = low
    wire.close()
    return dict(zip(QUEUES, found, strict=True))


async def look_at_settings(server: ServerProcess) -> dict[Named, Setting]:
    wire = await dial(server.broker)
    found: dict[Named, Setting] = {}
    for named in NAMES:
        if named.kind == "topic":
            topic = await topic_config(wire, named.name)
            found[named] = None if topic is None else (topic.write_queues,)
        else:
            group = await group_config(wire, named.name)
            found[named] = None if group is None else (group.retry_max_times,)
    wire.close()
    return found


async def look_again(server: ServerProcess, ledger: Ledger) -> list[str]:
    """Every queue from its beginning, one by one; nothing may be deleted meanwhile."""
    wire = await dial(server.broker)
    problems: list[str] = []
    for queue in QUEUES:
        low = await min_offset(wire, *queue)
        found = await look(wire, queue, low)
        found.min_offset = low
        problems += ledger.check_again({queue: found})
    wire.close()
    return problems


class KillLoop:
    """One folder through many lives, and what was counted on the way."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self.server = server
        self.rng, self.ledger = random.Random(seed), Ledger()
        self.counts: Counter[str] = Counter()
        self.starts_ms: list[float] = []
        self.check_seconds = 0.0
        self._may_trim = False

    async def cycle(self, number: int) -> None:
        trims = self._choose_life()
        self._may_trim = self._may_trim or trims
        self.starts_ms.append(self.server.start().start_seconds * 1000)
        await self.compare()
        self._may_trim = trims
        end = self.bases()[-1]
        stops_first = self.rng.random() < 0.15
        acknowledged = await load_and_kill(self.server, self.ledger, self.rng, number, stops_first=stops_first)
        self.counts["lives"] += acknowledged > 0
        self.counts["killed while it stopped"] += stops_first
        self.counts["rolls"] += sum(base > end for base in self.bases())
        while self.rng.random() < 0.25:
            trims = self._choose_life()
            self._may_trim = self._may_trim or trims
            served = await asyncio.to_thread(self.server.start_and_kill, self.rng.uniform(0, 0.05))
            self.counts["killed while it started"] += not served
        self.check(by_command=number % COMMAND_EVERY_CYCLES == 0)

    def _choose_life(self) -> bool:
        """How the server is started next; whether it deletes what is over a size."""
        rng, server = self.rng, self.server
        server.module = rng.choice(("posthouse", "tests.crash.often"))
        options = ["--segment-size", str(SEGMENT_BYTES), "--durability", rng.choice(("disk", "disk", "os"))]
        trims = rng.random() < 0.7
        if trims:
            options += ["--retention-size", str(LOG_BYTES_KEPT)]
        server.options = tuple(options)
        return trims

    def bases(self) -> list[int]:
        """Where the segments begin that are there."""
        folder = self.server.data / "log"
        return sorted(int(path.stem) for path in folder.glob("*.log")) if folder.is_dir() else [0]

    async def compare(self) -> None:
        """What the server has against what it must have. What it trims meanwhile begins at a segment all the same."""
        before = self.bases()
        self.ledger.forget_below(before[0])
        found = await look_at_all(self.server, self.ledger)
        after = self.bases()
        if self._may_trim:
            self.counts["lives with deletions"] += after[0] > before[0] or any(
                each.min_offset > self.ledger.trimmed_before.get(queue, 0) for queue, each in found.items()
            )
        problems = self.ledger.check(found, sorted({*before, *after}), may_trim=self._may_trim)
        problems += self.ledger.check_settings(await look_at_settings(self.server))
        assert not problems, f"{len(problems)} problems: {problems[:5]}"

    def check(self, *, by_command: bool) -> None:
        """`posthouse check` over the folder of the dead server."""
        data = str(self.server.data)
        begin = time.monotonic()
        report = check_store(Host.real(data, read_only=True))
        self.check_seconds += time.monotonic() - begin
        wrong = [each for each in report.findings if each.severity is not Severity.NOTE]
        assert not wrong, f"posthouse check: {wrong[:5]}"
        self.counts["checks"] += 1
        self.counts["checks that met a torn tail"] += any("interrupted" in each.what for each in report.findings)
        self.counts["checks that met a half roll"] += any("empty segment" in each.what for each in report.findings)
        self.counts["checks that met a trimmed log"] += report.first > 0
        if by_command:
            command = [sys.executable, "-m", "posthouse", "check", data]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "No damage." in done.stdout

    def figures(self, cycles: int, seconds: float) -> list[str]:
        ledger, counts, starts = self.ledger, self.counts, self.starts_ms
        return [
            f"kill loop: {cycles} cycles in {seconds:.0f} s: {ledger.sent_messages} messages sent, "
            f"{ledger.acknowledged_messages} acknowledged, {ledger.lost_messages} lost; {ledger.found_messages} read "
            f"back, {ledger.unacknowledged_found} of them unacknowledged; {ledger.gone_messages} acknowledged ones "
            f"deleted before that by retention; {ledger.shown_messages} given to consumers before a kill",
            f"  start: median {statistics.median(starts):.0f} ms, longest {max(starts):.0f} ms; "
            f"check: {self.check_seconds / max(1, counts['checks']):.2f} s on average; "
            + ", ".join(f"{what}: {count}" for what, count in counts.items()),
        ]


@pytest.mark.timeout(3600)
@pytest.mark.asyncio
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    server: ServerProcess, cycles: int, measured: list[str]
) -> None:
    seed = int(os.environ.get("POSTHOUSE_KILL_SEED", random.SystemRandom().getrandbits(32)))
    loop = KillLoop(server, seed)
    begin, number = time.monotonic(), 0
    try:
        for number in range(cycles):
            await loop.cycle(number)
        server.module, server.options = "posthouse", ()
        server.start()
        await loop.compare()
        problems = await look_again(server, loop.ledger)
        assert not problems, f"{len(problems)} problems at the end: {problems[:5]}"
        assert server.stop() == 0
        loop.check(by_command=True)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, cycle {number}: {error}\n{server.log[-4000:]}") from error
    assert loop.counts["lives"] > cycles // 2, "a life in which nothing was acknowledged proves nothing"
    assert loop.counts["rolls"] > cycles // 4, "too few rolls to prove anything"
    if cycles >= 20:
        assert loop.counts["lives with deletions"]
        assert loop.counts["killed while it started"]
    measured += [f"seed {seed}", *loop.figures(cycles, time.monotonic() - begin)]


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
