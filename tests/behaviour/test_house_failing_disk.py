"""A whole house on a disk that fails: an error at each of its operations in turn, no room for a while, slow syncs.

After an error of the log nothing is acknowledged any more, everybody is told why, and the next start has all that
was. After an error elsewhere the house goes on. A disk without room stops sends, and nothing else, as long as it
lasts.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from posthouse import Producer, PullConsumer
from posthouse.client.admin import Admin
from posthouse.client.errors import NoRoute, PosthouseError, SendFailed
from posthouse.endpoint.house import House, HouseConfig, StartError
from posthouse.host import Host
from posthouse.host.net import Address
from posthouse.link.errors import LinkError
from posthouse.store import retention
from posthouse.store.config import StoreConfig
from posthouse.store.log import local
from posthouse.store.log.engine import LogFailed
from tests.behaviour.conftest import free_port
from tests.endpoint.clients import C, R, client, house, send_ext
from tests.host.faulty import FaultInjectingDisk, disk_of, faulty_host, short_writes, slow_syncs
from tests.store.clean import assert_clean

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("no_pauses")]

T = TypeVar("T")

TOPIC = "orders"
BODY = bytes(2000)
ROUNDS, SENDS = 6, 5
AT_ONCE = 4
"""Houses that run at the same time: mostly they wait for the disk."""
FILE_BYTES_MAX, LONG_BODY = 1_000_000, bytes(20_000)
SMALL = StoreConfig(segment_bytes=12 * 1024, checkpoint_bytes=24 * 1024, retention_bytes=30 * 1024)
"""So that the 70 kB of the scenario are several segments, checkpoints and deletions."""


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)


@dataclass
class Acknowledged:
    """Bodies by (queue id, queue offset)."""

    messages: dict[tuple[int, int], bytes] = field(default_factory=dict)


def config(nameservers: tuple[Address, ...] = ()) -> HouseConfig:
    return HouseConfig(nameserver_port=0, broker_port=0, nameservers=nameservers, store=SMALL)


def nameserver_of(found: House) -> str:
    return str(found.nameserver_address)


async def send(producer: Producer, number: int, to: Acknowledged) -> None:
    """Raises PosthouseError."""
    body = b"%d " % number + BODY
    receipt = await producer.send(TOPIC, body)
    to.messages[receipt.queue.queue_id, receipt.queue_offset] = body


async def use(found: House, to: Acknowledged) -> None:
    """What clients do with a house: topic, sends, pulls, commits, KV entries; and old segments go."""
    broker, nameservers = found.broker, nameserver_of(found)
    assert broker is not None
    assert found.nameserver_address is not None
    async with (
        Admin(nameservers) as admin,
        Producer(nameservers, retries=0, send_timeout_ms=10_000) as producer,
        PullConsumer("readers", nameservers) as consumer,
        client(found.nameserver_address) as peer,
    ):
        await admin.create_topic(TOPIC, queues=2)
        queue = (await consumer.queues(TOPIC))[0]
        for number in range(0, ROUNDS * SENDS, SENDS):
            sends = [send(producer, each, to) for each in range(number, number + SENDS)]
            for outcome in await asyncio.gather(*sends, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            pulled = await consumer.pull(queue, await consumer.min_offset(queue))
            assert pulled.messages
            await consumer.commit(queue, pulled.next_offset)
            if number % (2 * SENDS) == 0:
                await broker.store.checkpoint()
        await broker.retention.round()
        await peer.ask(C.PUT_KV_CONFIG, {"namespace": "n", "key": "k", "value": "v"})
        await asyncio.gather(*(send(producer, 1000 + each, to) for each in range(SENDS)))


async def everything(nameservers: str) -> tuple[dict[tuple[int, int], bytes], list[int], int | None]:
    """The bodies that are there, the min offset of each queue, and the offset that the group has on queue 0."""
    there: dict[tuple[int, int], bytes] = {}
    minima: list[int] = []
    async with PullConsumer("readers", nameservers) as consumer:
        try:
            queues = await consumer.queues(TOPIC)
        except NoRoute:
            return {}, [0, 0], None
        for queue in queues:
            offset = await consumer.min_offset(queue)
            minima.append(offset)
            while (pulled := await consumer.pull(queue, offset)).messages:
                offset = pulled.next_offset
                there |= {(queue.queue_id, each.queue_offset): each.body for each in pulled.messages}
            assert offset == await consumer.max_offset(queue)
        return there, minima, await consumer.committed(queues[0])


async def look_at_what_is_left(data: Path, acknowledged: Acknowledged) -> None:
    """`check`, then a start on the plain disk with all that was acknowledged in it, then `check` again."""
    assert_clean(Host.real(str(data), read_only=True).disk)
    async with house(Host.real(str(data)), **vars_of(config())) as again:
        there, minima, offset = await everything(nameserver_of(again))
        kept = {place: body for place, body in acknowledged.messages.items() if place[1] >= minima[place[0]]}
        assert kept.items() <= there.items(), f"lost: {sorted(kept.keys() - there.keys())}"
        assert not kept or sum(map(len, there.values())) > SMALL.segment_bytes or minima == [0, 0]
        assert offset is None or offset <= max((at for queue_id, at in there if queue_id == 0), default=0) + 1
        async with Producer(nameserver_of(again)) as producer:
            await producer.send(TOPIC, b"on we go")
    assert_clean(Host.real(str(data), read_only=True).disk)


def vars_of(found: HouseConfig) -> dict[str, object]:
    return {name: getattr(found, name) for name in HouseConfig.__dataclass_fields__}


async def refuses_everything_that_is_written(found: House, why: str) -> None:
    """Every kind of write is answered with 14 and a remark that says why."""
    async with client(found.broker_address) as peer:
        for code, ext in (
            (C.SEND_MESSAGE_V2, send_ext(TOPIC)),
            (C.SEND_MESSAGE_V2, send_ext("a new topic".replace(" ", "-"))),
            (C.UPDATE_AND_CREATE_TOPIC, {"topic": "t", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6}),
        ):
            answer = await peer.ask(code, ext, b"x")
            assert answer.code == R.SERVICE_NOT_AVAILABLE, (code, answer.code, answer.remark)
            assert answer.remark is not None
            assert why in answer.remark


async def run_until_it_fails(data: Path, fail_at: int, does_it_anyway: bool) -> str | None:
    """One life of a house whose n-th operation fails, and what it left; the operation, None if it was never reached."""
    async with house(Host.real(), broker_port=None) as watch:
        return await run_watched(watch, data, fail_at, does_it_anyway)


async def run_watched(watch: House, data: Path, fail_at: int, does_it_anyway: bool) -> str | None:
    machine = faulty_host(data, fail_at=fail_at, does_it_anyway=does_it_anyway)
    disk, acknowledged = disk_of(machine), Acknowledged()
    assert watch.nameserver_address is not None
    found = House(machine, config((watch.nameserver_address,)))
    refusal = await start(found)
    if refusal:
        assert disk.met is not None
        assert "Input/output error" in refusal
        assert "\n" not in refusal
    else:
        was_refused = await use_or_refused(found, acknowledged)
        assert found.failed.done() or not was_refused, was_refused
        if found.failed.done():
            await refuses_everything_that_is_written(found, "takes no more writes")
        else:
            assert len(acknowledged.messages) == (ROUNDS + 1) * SENDS
        begun = time.monotonic()
        await found.close()
        assert time.monotonic() - begun < 3
        assert found.failed.done() == (disk.met is not None and is_final(disk.met))
        if found.failed.done():
            why = found.failed.exception()
            assert isinstance(why, LogFailed)
            assert "Input/output error" in str(why)
            assert str(data) in str(why)
    async with Admin(nameserver_of(watch)) as admin:
        with pytest.raises(NoRoute):
            await admin.topic_route(TOPIC)
    disk.lose_unsynced()
    await look_at_what_is_left(data, acknowledged)
    return disk.met


async def use_or_refused(found: House, to: Acknowledged) -> str:
    """What a client was told when it could not go on; "" if it could."""
    try:
        await use(found, to)
    except PosthouseError as error:
        return str(error)
    return ""


async def start(found: House) -> str:
    """Why it did not start; "" if it did."""
    try:
        await found.start()
    except StartError as error:
        return str(error)
    return ""


def is_final(operation: str) -> bool:
    """Whether an error of it means that nothing more can be acknowledged."""
    kind, _, name = operation.partition(" ")
    return name.startswith("log/") and kind != "remove"


async def sweep(run: Callable[[int], Awaitable[str | None]]) -> list[str]:
    """Runs with n = 1, 2, 3, ... until one says None, a few at a time; what the others said, without digits."""
    met: list[str] = []
    for first in range(1, 1000, AT_ONCE):
        numbers = range(first, first + AT_ONCE)
        outcomes = await asyncio.gather(*(run(n) for n in numbers), return_exceptions=True)
        for n, outcome in zip(numbers, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise AssertionError(f"operation {n} after {met[-3:]}: {outcome}") from outcome
            if outcome is not None:
                met.append(outcome.rstrip("-.0123456789logrunjs"))
        if None in outcomes:
            return met
    raise AssertionError("there is no end")


@pytest.mark.parametrize("does_it_anyway", [False, True], ids=["half-done", "done"])
async def test_an_error_at_any_operation_of_the_disk(tmp_path: Path, does_it_anyway: bool) -> None:
    met = await sweep(lambda n: run_until_it_fails(tmp_path / str(n), n, does_it_anyway))
    kinds = ("folder", "replace format", "create log/", "write log/", "sync log/", "remove log/")
    for kind in (*kinds, "replace queues/", "replace snapshots/", "remove queues/", "remove snapshots/"):
        assert any(each.startswith(kind) for each in met), (kind, met)


@pytest.mark.parametrize("does_it_anyway", [False, True], ids=["half-done", "done"])
async def test_an_error_at_any_operation_of_a_recovery(tmp_path: Path, does_it_anyway: bool) -> None:
    """The folder is that of a house that was killed, with a torn tail and the empty file of an interrupted roll."""
    acknowledged = await killed_house(tmp_path / "killed")

    async def run(n: int) -> str | None:
        data = tmp_path / str(n)
        shutil.copytree(tmp_path / "killed", data)
        machine = faulty_host(data, fail_at=n, does_it_anyway=does_it_anyway)
        disk = disk_of(machine)
        found = House(machine, config())
        refusal = await start(found)
        await found.close()
        if refusal:
            assert "Input/output error" in refusal
            assert "\n" not in refusal
        else:
            assert found.failed.done() == (disk.met is not None and is_final(disk.met))
        await look_at_what_is_left(data, acknowledged)
        return disk.met

    met = await sweep(run)
    for kind in ("truncate log/", "write again log/", "remove log/"):
        assert any(each.startswith(kind) for each in met), (kind, met)


async def killed_house(data: Path) -> Acknowledged:
    """Messages up to the middle of a segment, and what a kill may leave behind them."""
    acknowledged = Acknowledged()
    living = data.with_name("living")
    async with house(Host.real(str(living)), **vars_of(config())) as found:
        await use(found, acknowledged)
        assert found.broker is not None
        await found.broker.store.checkpoint()
        async with Producer(nameserver_of(found)) as producer:
            await send(producer, 2000, acknowledged)  # so that there is something behind the newest snapshot
        shutil.copytree(living, data)
    segments = sorted((data / "log").iterdir())
    with segments[-1].open("ab") as file:
        file.write(b"PHB1" + bytes(100))
    (data / "log" / f"{int(segments[-1].stem) + segments[-1].stat().st_size + 48:020d}.log").touch()
    return acknowledged


# No room


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks again as long as the answer is that there is no room."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return await ask()
        except PosthouseError as error:
            if "there is no room" not in str(error) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)


async def use_patiently(found: House, to: Acknowledged) -> None:
    """The same as `use`, by clients that try again."""
    nameservers = nameserver_of(found)
    async with (
        Producer(nameservers, retries=0, send_timeout_ms=10_000) as producer,
        PullConsumer("readers", nameservers) as consumer,
    ):
        queue = (await consumer.queues(TOPIC))[0]
        for number in range(0, ROUNDS * SENDS, SENDS):
            sends = [partial(send, producer, each, to) for each in range(number, number + SENDS)]
            await asyncio.gather(*(patiently(each) for each in sends))
            pulled = await patiently(lambda: consumer.pull(queue, 0))
            await consumer.commit(queue, pulled.next_offset)


async def run_with_a_full_disk(data: Path, full_at: int) -> str | None:
    """One life in which three operations from the n-th on find no room; what the first of them was."""
    machine = faulty_host(data)
    disk, acknowledged, met = disk_of(machine), Acknowledged(), ""

    def fill(what: str) -> None:
        nonlocal met
        if len(disk.operations) == full_at:
            disk.full_for, met = 3, what

    no_deletions = replace(config(), store=replace(SMALL, retention_bytes=None))
    async with house(Host.real(str(data)), **vars_of(no_deletions)) as before, client(before.broker_address) as peer:
        await peer.ok(C.UPDATE_AND_CREATE_TOPIC, {"topic": TOPIC, "readQueueNums": 2, "writeQueueNums": 2, "perm": 6})
    disk.on_operation = fill
    found = House(machine, no_deletions)
    while refusal := await start(found):
        assert disk.met is not None
        assert "No space left on device" in refusal
        found = House(machine, no_deletions)
    await asyncio.wait_for(use_patiently(found, acknowledged), 10)
    assert not found.failed.done()
    assert len(acknowledged.messages) == ROUNDS * SENDS
    there, _, offset = await everything(nameserver_of(found))
    assert acknowledged.messages.items() <= there.items()
    assert offset
    begun = time.monotonic()
    await found.close()
    assert time.monotonic() - begun < 3
    await look_at_what_is_left(data, acknowledged)
    return met or None


async def test_no_room_at_any_operation_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETRY_S", 0.02)
    met = await sweep(lambda n: run_with_a_full_disk(tmp_path / str(n), n))
    for kind in ("write log/", "create log/", "replace queues/", "replace snapshots/"):
        assert any(each.startswith(kind) for each in met), (kind, met)


@asynccontextmanager
async def filled_house(data: Path) -> AsyncIterator[tuple[House, FaultInjectingDisk, Acknowledged]]:
    """A house with ten messages, and then no room."""
    machine = faulty_host(data)
    disk, acknowledged = disk_of(machine), Acknowledged()
    async with house(machine, **vars_of(config())) as found, Producer(nameserver_of(found), retries=0) as producer:
        async with Admin(nameserver_of(found)) as admin, PullConsumer("readers", nameserver_of(found)) as consumer:
            await admin.create_topic(TOPIC, queues=2)
            await asyncio.gather(*(send(producer, each, acknowledged) for each in range(10)))
            await consumer.pull((await consumer.queues(TOPIC))[0], 0)  # the group is made
        disk.is_full = True
        with pytest.raises(SendFailed, match="no room for the log") as caught:
            await producer.send(TOPIC, b"held" + BODY)
        assert caught.value.code == R.SERVICE_NOT_AVAILABLE
        yield found, disk, acknowledged


async def test_a_disk_without_room_refuses_sends_and_serves_all_else_until_there_is_some(tmp_path: Path) -> None:
    async with filled_house(tmp_path) as (found, disk, acknowledged):
        nameservers = nameserver_of(found)
        async with (
            Producer(nameservers, retries=0) as producer,
            PullConsumer("readers", nameservers) as consumer,
            Admin(nameservers) as admin,
            client(found.broker_address) as peer,
        ):
            begun = time.monotonic()
            await refuses_everything_that_is_written(found, "no room")
            assert time.monotonic() - begun < 1, "a refusal does not wait"
            queues = await consumer.queues(TOPIC)
            there, _, _ = await everything(nameservers)
            assert there == acknowledged.messages, "what is held is not visible"
            for queue in queues:
                await consumer.commit(queue, 3)
                assert await consumer.committed(queue) == 3
                assert await consumer.search_offset(queue, 0) == 0
            await peer.beat(client_id="c")
            assert (await admin.topic_route(TOPIC)).brokers
            await asyncio.sleep(2.5)
            assert not found.failed.done()
            await refuses_everything_that_is_written(found, "no room")

            disk.is_full = False
            begun = time.monotonic()
            await patiently(lambda: send(producer, 100, acknowledged))
            assert time.monotonic() - begun < 3
            there, _, offset = await everything(nameservers)
            assert acknowledged.messages.items() <= there.items()
            assert [body for body in there.values() if body.startswith(b"held")] == [b"held" + BODY]
            assert offset == 3
    assert not found.failed.done()
    await look_at_what_is_left(tmp_path, acknowledged)


async def test_a_house_is_closed_at_once_while_there_is_no_room(tmp_path: Path) -> None:
    async with filled_house(tmp_path) as (found, _, acknowledged):
        begun = time.monotonic()
        await found.close()
        assert time.monotonic() - begun < 2
    await look_at_what_is_left(tmp_path, acknowledged)


async def test_a_house_starts_without_room_and_serves_what_it_has(tmp_path: Path) -> None:
    async with filled_house(tmp_path) as (found, _, acknowledged):
        await found.close()
    machine = faulty_host(tmp_path)
    disk_of(machine).is_full = True
    async with house(machine, **vars_of(config())) as again:
        there, _, _ = await everything(nameserver_of(again))
        assert acknowledged.messages.items() <= there.items()
        async with Producer(nameserver_of(again), retries=0) as producer:
            with pytest.raises(SendFailed, match="no room"):
                await producer.send(TOPIC, b"x")
            disk_of(machine).is_full = False
            await patiently(lambda: send(producer, 100, acknowledged))
    await look_at_what_is_left(tmp_path, acknowledged)


async def test_a_topic_that_waited_for_room_is_told_to_nameservers_when_there_is_some(tmp_path: Path) -> None:
    machine = faulty_host(tmp_path)
    async with house(machine, **vars_of(config())) as found, Admin(nameserver_of(found)) as admin:
        await asyncio.sleep(0.5)  # its first registrations are over
        disk_of(machine).is_full = True
        with pytest.raises(PosthouseError, match="no room"):
            await admin.create_topic(TOPIC, queues=2)
        disk_of(machine).is_full = False
        async with asyncio.timeout(4):
            await patiently(lambda: admin.create_topic(TOPIC, queues=2))


async def test_a_group_that_is_new_may_read_while_there_is_no_room(tmp_path: Path) -> None:
    async with filled_house(tmp_path) as (found, _, acknowledged):
        async with PullConsumer("a-new-group", nameserver_of(found)) as consumer:
            pulled = [await consumer.pull(queue, 0) for queue in await consumer.queues(TOPIC)]
        assert sum(len(each.messages) for each in pulled) == len(acknowledged.messages)


# Slow and short


async def test_slow_syncs_do_not_hold_up_the_loop(tmp_path: Path) -> None:
    latencies: list[float] = []
    with slow_syncs(0.5):
        async with (
            house(Host.real(str(tmp_path))) as found,
            Producer(nameserver_of(found), send_timeout_ms=10_000) as producer,
            client(found.broker_address) as peer,
        ):
            sends = [producer.send(TOPIC, BODY)]
            while len(latencies) < 150:
                sends.append(producer.send(TOPIC, BODY))
                begun = time.monotonic()
                await peer.beat()
                latencies.append(time.monotonic() - begun)
                await asyncio.sleep(0.01)
            assert not all(each.done() for each in sends), "the syncs were not slow"
            await asyncio.gather(*sends)
    assert statistics.median(latencies) < 0.05
    assert_clean(Host.real(str(tmp_path), read_only=True).disk)


async def test_short_writes_are_continued(tmp_path: Path) -> None:
    acknowledged = Acknowledged()
    with short_writes(1000) as asked:
        async with house(Host.real(str(tmp_path)), **vars_of(config())) as found:
            await use(found, acknowledged)
    assert sum(size > 1000 for size in asked) > 50
    assert len(acknowledged.messages) == (ROUNDS + 1) * SENDS
    await look_at_what_is_left(tmp_path, acknowledged)


# A file that cannot grow, in a process of its own


def serve(data: Path, port: int, file_bytes_max: int | None) -> subprocess.Popen[str]:
    """A house whose files cannot grow beyond a size: an error of the write that is not "no room"."""

    def limit() -> None:
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    command = [sys.executable, "-m", "posthouse", "serve", "--data", str(data), "--broker-port", str(port)]
    command += ["--nameserver-port", str(free_port())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limit)


async def listening(port: int) -> Address:
    address = Address("127.0.0.1", port)
    for _ in range(500):
        try:
            async with client(address):
                return address
        except OSError:
            await asyncio.sleep(0.02)
    raise AssertionError("the server is not there after ten seconds")


async def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and all that it said."""
    said, _ = await asyncio.wait_for(asyncio.to_thread(process.communicate), 20)
    return process.returncode, said


async def test_failed_write_ends_the_process_and_the_next_start_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    port = free_port()
    process = serve(tmp_path / "data", port, FILE_BYTES_MAX)
    acknowledged: list[int] = []
    try:
        async with client(await listening(port)) as producer:
            codes: list[int] = []
            for number in range(2 * FILE_BYTES_MAX // len(LONG_BODY)):
                try:
                    answer = await producer.ask(C.SEND_MESSAGE_V2, send_ext("T"), b"%d " % number + LONG_BODY)
                except LinkError:
                    break  # the process has ended
                codes.append(answer.code)
                if answer.code == R.SUCCESS:
                    acknowledged.append(number)
        code, said = await end(process)
    finally:
        process.kill()
    assert 10 < len(acknowledged) < FILE_BYTES_MAX // len(LONG_BODY)
    assert codes[: len(acknowledged)] == [R.SUCCESS] * len(acknowledged), "an acknowledgement after a failure"
    assert set(codes[len(acknowledged) :]) <= {R.SERVICE_NOT_AVAILABLE}
    assert code != 0
    assert "takes no more writes" in said
    assert "Traceback" not in said

    process = serve(tmp_path / "data", port, None)
    try:
        async with client(await listening(port)) as both:
            offset, stored = 0, []
            while found := await both.messages("T", offset):
                stored += [int(each.body.split()[0]) for each in found]
                offset += len(found)
            assert stored[: len(acknowledged)] == acknowledged
            await both.send("T", b"on we go")
        process.send_signal(signal.SIGTERM)
        code, _ = await end(process)
        assert code == 0
    finally:
        process.kill()
    assert_clean(Host.real(str(tmp_path / "data"), read_only=True).disk)
